"""Limits over real sockets: what callers are told, what is settled in the end, whatever becomes of a request."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import openai
import pytest

from policies.rate_limit import RateLimit
from policies.store import Lease, Part
from tests.kits.backend import Call, backend
from tests.kits.client import connect, fetch, request
from tests.kits.fronts import front
from tests.kits.gate import Gate, gate
from tests.kits.stream import until

JSON = (b"Content-Type", b"application/json")


def policy(*limits: str, **more: Any) -> str:
    return json.dumps({"policies": [{"use": "rate_limit", "name": "limits", "limits": list(limits), **more}]})


def chat(**more: Any) -> bytes:
    doc = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], **more}
    return request("POST", "/v1/chat/completions", json.dumps(doc).encode(), [JSON])


def chunk(**more: Any) -> bytes:
    doc = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "demo", **more}
    return b"data: " + json.dumps(doc).encode() + b"\n\n"


def said(text: str) -> bytes:
    return chunk(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}])


COUNTS = {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35}


async def stands(g: Gate) -> list[float]:
    """What is left of each limit that is no slot."""
    (limits,) = [s.policy for s in g.app.runtime.steps if isinstance(s.policy, RateLimit)]
    return [state.remaining for state in (await limits._store.read(_parts(limits))).parts]  # type: ignore[union-attr]


def _parts(limits: RateLimit) -> list[Part]:
    from policies.limits.meter import Cost
    from tests.kits.policy_kit import exchange

    _, parts = limits._default.parts(exchange(client="127.0.0.1", stream=True), Cost(0, 0), "reader", time.time())
    return [p._replace(cost=0.0) if not isinstance(p, Lease) else p for p in parts]


async def test_a_limit_is_told_and_held() -> None:
    async with front("empty", policy_yaml=policy("3 requests/hour")) as f:
        for left in (2, 1, 0):
            reply = await fetch(f.gate.port, chat())
            assert reply.status == 200
            assert reply.value(b"x-ratelimit-limit-requests") == b"3"
            assert reply.value(b"x-ratelimit-remaining-requests") == b"%d" % left
        reply = await fetch(f.gate.port, chat())
        assert reply.status == 429
        error = json.loads(reply.body)["error"]
        assert error["code"] == "rate_limit_exceeded" and error["type"] == "rate_limit_error"
        assert "3 requests per hour" in error["message"] and "127.0.0.1" not in error["message"]
        after = int(reply.value(b"retry-after") or 0)
        assert 1190 <= after <= 1200 and after - 1 <= int(reply.value(b"retry-after-ms") or 0) / 1000 <= after
        assert reply.value(b"x-ratelimit-remaining-requests") == b"0"
        messages = await fetch(f.gate.port, request("POST", "/v1/messages", b'{"messages":[],"max_tokens":1}', [JSON]))
        assert messages.status == 429 and json.loads(messages.body)["error"]["type"] == "rate_limit_error"


async def test_requests_without_a_body_count_too() -> None:
    async with front("empty", policy_yaml=policy("2 requests/hour", "1k tokens/hour")) as f:
        codes = [(await fetch(f.gate.port, request("GET", "/v1/models"))).status for _ in range(3)]
        assert codes == [200, 200, 429]


async def test_the_openai_client_backs_off_and_succeeds() -> None:
    async with front("empty", policy_yaml=policy("5 requests/second burst 1")) as f:
        client = openai.AsyncOpenAI(base_url=f.gate.url + "/v1", api_key="k")  # its own retries: two
        for _ in range(3):
            await client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello"}])
        await client.close()
        assert 429 in [x.status for x in f.gate.exchanges] and [x.status for x in f.gate.exchanges].count(200) == 3


async def test_tokens_are_set_aside_and_settled_by_the_backends_count() -> None:
    async def count(call: Call) -> None:
        await call.reply(json.dumps({"choices": [], "usage": COUNTS}).encode(), fields=[JSON])

    async with backend(count) as b, gate(b.url, policy("1000 tokens/day")) as g:
        body = chat(max_tokens=100)
        reply_head = await fetch(g.port, body)
        sent = len(body.partition(b"\r\n\r\n")[2])
        assert reply_head.value(b"x-ratelimit-remaining-tokens") == str(int(1000 - 100 - sent * 0.25)).encode()
        await g.idle()
        assert await stands(g) == [965]
        big = await fetch(g.port, chat(max_tokens=5000))
        assert big.status == 429 and big.value(b"x-should-retry") == b"false" and big.value(b"retry-after") is None
        assert b"than the limit of 1,000 tokens per day can ever give" in big.body
        full = await fetch(g.port, chat(max_tokens=950))
        assert full.status == 429 and full.value(b"retry-after") is not None
        assert await stands(g) == [965], "a refused request spends nothing"


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("usage", ["empty", "watched"])
async def test_the_count_of_a_stream_is_asked_for_and_kept_from_who_did_not_ask(asks: bool, usage: str) -> None:
    async def stream(call: Call) -> None:
        asked = json.loads(call.body)
        assert asked["stream_options"] == {"include_usage": True}
        await call.begin_sse()
        await call.chunk(*[said("Hel"), said("lo"), chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])])
        await call.chunk(*[chunk(choices=[], usage=COUNTS), b"data: [DONE]\n\n"])
        await call.end_chunked()

    async with backend(stream) as b, gate(b.url, policy("1000 tokens/day"), usage=usage == "watched") as g:
        options = {"stream_options": {"include_usage": True}} if asks else {}
        reply = await fetch(g.port, chat(stream=True, **options))
        assert reply.body.endswith(b"data: [DONE]\n\n") and said("Hel") in reply.body
        assert (b'"prompt_tokens"' in reply.body) is asks
        await g.idle()
        assert await stands(g) == [965]


async def test_the_count_is_not_asked_for_where_that_is_unwanted() -> None:
    async def stream(call: Call) -> None:
        assert "stream_options" not in json.loads(call.body)
        await call.begin_sse()
        await call.chunk(*[said("a"), said("b"), said("c"), b"data: [DONE]\n\n"])
        await call.end_chunked()

    async with backend(stream) as b, gate(b.url, policy("1000 completion_tokens/day", ask_usage=False)) as g:
        await fetch(g.port, chat(stream=True, max_tokens=500))
        await g.idle()
        assert await stands(g) == [997], "events that passed"


async def test_what_a_client_that_leaves_has_not_used_comes_back() -> None:
    async def stream(call: Call) -> None:
        await call.begin_sse()
        await call.chunk(*[said("a"), said("b")])
        await call.gone()

    async with backend(stream) as b, gate(b.url, policy("1000 completion_tokens/day", "1 concurrent")) as g:
        async with connect(g.port) as client:
            client.transport.write(chat(stream=True, max_tokens=500))
            await client.head()
            await client.until(said("b")[-20:])
            assert (await fetch(g.port, chat())).status == 429, "the one slot is taken"
        await g.idle()
        assert (await stands(g))[0] == 998
        limits = next(s.policy for s in g.app.runtime.steps if isinstance(s.policy, RateLimit))
        assert limits._leases == {}


@pytest.mark.parametrize("how", ["500", "reset", "refused later", "no backend"])
async def test_what_failed_has_cost_no_tokens(how: str) -> None:
    async def fail(call: Call) -> None:
        if how == "500":
            await call.reply(b'{"error":{}}', status=500, fields=[JSON])
        else:
            call.reset()

    text = json.loads(policy("1000 tokens/day", "5 requests/hour", "1 concurrent"))
    if how == "refused later":
        text["policies"].append({"use": "request_guard", "max_tokens": 10})
    async with backend(fail) as b, gate("http://127.0.0.1:9" if how == "no backend" else b.url, json.dumps(text)) as g:
        reply = await fetch(g.port, chat(max_tokens=100))
        assert reply.status >= 400
        await g.idle()
        left = await stands(g)
        assert left[0] == 1000 and left[2] == 1
        assert left[1] == pytest.approx(5 if how == "refused later" else 4, abs=0.01)


async def test_slots_are_held_to_the_last_byte() -> None:
    go = asyncio.Event()

    async def wait(call: Call) -> None:
        await call.begin_sse()
        await call.chunk(*[said("a")])
        await go.wait()
        await call.chunk(*[b"data: [DONE]\n\n"])
        await call.end_chunked()

    async with backend(wait) as b, gate(b.url, policy("2 concurrent streams", "50 requests/hour")) as g:
        running = [asyncio.create_task(fetch(g.port, chat(stream=True))) for _ in range(2)]
        await until(lambda: g.in_flight >= 4)
        third = await fetch(g.port, chat(stream=True))
        assert third.status == 429 and third.value(b"retry-after") == b"1"
        assert b"2 concurrent streams" in third.body
        go.set()
        assert {r.status for r in await asyncio.gather(*running)} == {200}
        await g.idle()
        assert (await fetch(g.port, chat(stream=True))).status == 200


async def test_a_reply_that_outgrows_its_limit_is_cut_where_asked_for() -> None:
    async def babble(call: Call) -> None:
        await call.begin_sse()
        await call.chunk(*[said(f"word {n:03} ") for n in range(300)])
        await call.chunk(*[b"data: [DONE]\n\n"])
        await call.end_chunked()

    limits = ("100 completion_tokens/hour",)
    async with backend(babble) as b:
        async with gate(b.url, policy(*limits, on_overrun="cut")) as g:
            reply = await fetch(g.port, chat(stream=True, max_tokens=20))
            assert reply.body.endswith(b"data: [DONE]\n\n") and b"word 010" in reply.body and b"word 100" not in reply.body
            x = await g.settled()
            assert x.fault is not None
        async with gate(b.url, policy(*limits)) as g:
            reply = await fetch(g.port, chat(stream=True, max_tokens=20))
            assert b"word 299" in reply.body
            await g.idle()
            assert (await fetch(g.port, chat(stream=True, max_tokens=1))).status == 429, "what was used is charged"


async def test_tiers_and_callers_count_apart() -> None:
    keys = [{"name": "alice", "key": "ka"}, {"name": "bob", "key": "kb", "tier": "pro"}]
    text = json.loads(policy("1 requests/hour", tiers={"pro": ["3 requests/hour"]}))
    text["callers"] = {"keys": keys}
    async with front("empty", policy_yaml=json.dumps(text)) as f:
        async def codes(key: bytes, n: int) -> list[int]:
            asking = request("GET", "/v1/models", fields=[(b"Authorization", b"Bearer " + key)])
            return [(await fetch(f.gate.port, asking)).status for _ in range(n)]

        assert await codes(b"ka", 2) == [200, 429]
        assert await codes(b"kb", 4) == [200, 200, 200, 429]


async def test_shadow_mode_only_tells() -> None:
    async with front("empty", policy_yaml=policy("1 requests/hour", mode="shadow")) as f:
        assert [(await fetch(f.gate.port, chat())).status for _ in range(3)] == [200, 200, 200]
        assert [finding.action for finding in f.gate.exchanges[-1].findings] == ["refuse", "would_refuse"]


async def test_an_image_is_no_prompt_of_its_size() -> None:
    async with front("empty", policy_yaml=policy("2k tokens/hour")) as f:
        url = "data:image/png;base64," + "A" * 100_000
        parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
        body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": parts}], "max_tokens": 50}).encode()
        reply = await fetch(f.gate.port, request("POST", "/v1/chat/completions", body, [JSON]))
        assert reply.status == 200
        assert int(reply.value(b"x-ratelimit-remaining-tokens") or 0) > 1900
