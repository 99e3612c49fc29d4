"""Limits at their edges: official clients that are refused, routes without JSON, upgrades, conditions, reloads, shadow mode,
hostile values, replies that are cut."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import openai
import pytest

from policies.rate_limit import RateLimit
from tests.kits.backend import Call, backend
from tests.kits.client import connect, fetch, request
from tests.kits.fronts import front
from tests.kits.gate import Gate, gate
from tests.kits.stream import until
from tests.laws.test_limits_laws import counters, said

JSON = (b"Content-Type", b"application/json")
MESSAGES: Any = [{"role": "user", "content": "Hello"}]


def rule(*limits: str, name: str = "limits", **more: Any) -> dict[str, Any]:
    return {"use": "rate_limit", "name": name, "limits": list(limits), **more}


def policy(*rules: dict[str, Any]) -> str:
    return json.dumps({"policies": list(rules)})


def chat(*fields: tuple[bytes, bytes], **more: Any) -> bytes:
    doc = {"model": "demo", "messages": MESSAGES, **more}
    return request("POST", "/v1/chat/completions", json.dumps(doc).encode(), [JSON, *fields])


async def hello(call: Call) -> None:
    await call.reply(b'{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}', fields=[JSON])


async def left(g: Gate, name: str = "limits") -> list[float]:
    """What is left of each limit of a policy; slots too."""
    await g.idle()
    limits = next(s.policy for s in g.app.runtime.steps if s.policy.name == name)
    assert isinstance(limits, RateLimit) and limits._store is not None and limits._leases == {}
    return [state.remaining for state in (await limits._store.read(counters(limits, ""))).parts]


# -- official clients


def made(kind: Any, g: Gate) -> Any:
    """A client with its own retries: two."""
    base = g.url + ("/v1" if kind is openai.AsyncOpenAI else "")
    return kind(base_url=base, api_key="k")


async def ask(client: Any, **more: Any) -> Any:
    if isinstance(client, openai.AsyncOpenAI):
        return await client.chat.completions.create(model="demo", messages=MESSAGES, **{"max_tokens": 20, **more})
    return await client.messages.create(model="demo", messages=MESSAGES, **{"max_tokens": 20, **more})


CLIENTS = [openai.AsyncOpenAI, anthropic.AsyncAnthropic]


@pytest.mark.parametrize("kind", CLIENTS)
async def test_official_clients_wait_and_succeed(kind: Any) -> None:
    async with front("empty", policy_yaml=policy(rule("5 requests/second burst 1"))) as f, made(kind, f.gate) as client:
        for _ in range(3):
            await ask(client)
        statuses = [x.status for x in f.gate.exchanges]
        assert statuses.count(200) == 3 and 429 in statuses


@pytest.mark.parametrize("kind", CLIENTS)
async def test_official_clients_wait_for_a_slot(kind: Any) -> None:
    async with front("empty", policy_yaml=policy(rule("1 concurrent"))) as f, made(kind, f.gate) as client:
        async with await ask(client, stream=True) as running:
            second = asyncio.create_task(ask(client))
            await until(lambda: [x.status for x in f.gate.exchanges] == [429])
            async for _ in running:
                pass
        await second
        assert [x.status for x in f.gate.exchanges] == [429, 200, 200]


@pytest.mark.parametrize("kind", CLIENTS)
async def test_official_clients_do_not_try_again_what_can_never_fit(kind: Any) -> None:
    async with front("empty", policy_yaml=policy(rule("100 tokens/minute"))) as f, made(kind, f.gate) as client:
        with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)) as refused:
            await ask(client, max_tokens=5000)
        assert refused.value.response.headers["x-should-retry"] == "false" and "can ever give" in str(refused.value)
        await f.gate.settled()


# -- what is refused, and what it is told


async def test_a_caller_is_told_the_limit_that_keeps_it_away_for_longest() -> None:
    limits = ("1 requests/second", "1 requests/hour", "1 concurrent", "40 tokens/day")
    async with backend(hello) as b, gate(b.url, policy(rule(*limits))) as g:
        assert (await fetch(g.port, chat(max_tokens=1))).status == 200
        await g.idle()
        late = await fetch(g.port, chat(max_tokens=1))
        assert b"1 requests per hour" in late.body and int(late.value(b"retry-after") or 0) > 3000
        never = await fetch(g.port, chat(max_tokens=5000))
        assert b"than the limit of 40 tokens per day can ever give" in never.body
        assert never.value(b"x-should-retry") == b"false" and never.value(b"retry-after") is None


async def test_what_a_second_policy_refuses_costs_nothing_at_the_first() -> None:
    both = policy(rule("10 requests/day", "1000 tokens/day", "5 concurrent", name="first"), rule("1 requests/day", name="second"))
    async with backend(hello) as b, gate(b.url, both) as g:
        assert [(await fetch(g.port, chat(max_tokens=9))).status for _ in range(4)] == [200, 429, 429, 429]
        await g.idle()
        assert await left(g, "second") == [0]
        assert await left(g, "first") == [9, 985, 5]


async def test_the_field_with_the_least_left_is_told() -> None:
    three = policy(*[rule(f"{n} requests/day", name=f"of-{n}") for n in (10, 3, 7)])
    async with backend(hello) as b, gate(b.url, three) as g:
        reply = await fetch(g.port, chat())
        assert reply.value(b"x-ratelimit-limit-requests") == b"3" and reply.value(b"x-ratelimit-remaining-requests") == b"2"


# -- routes and methods


@pytest.mark.parametrize("limits", [("4 requests/day",), ("4 requests/day", "1M tokens/day", "3 concurrent by model")])
async def test_every_route_and_method_counts(limits: tuple[str, ...]) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x--\r\n'
    kind = (b"Content-Type", b"multipart/form-data; boundary=x")
    asked = [
        request("POST", "/v1/audio/transcriptions", form, [kind]), request("POST", "/v1/files", form, [kind]),
        request("GET", "/v1/models"), request("HEAD", "/v1/models"), request("OPTIONS", "/v1/chat/completions"),
        request("DELETE", "/v1/files/f-1"),
    ]  # fmt: skip
    async with backend(hello) as b, gate(b.url, policy(rule(*limits))) as g:
        assert [(await fetch(g.port, raw)).status for raw in asked] == [200] * 4 + [429] * 2
        assert len(b.calls) == 4
        assert (await left(g))[0] == 0


async def test_an_upgraded_connection_holds_its_slot_until_it_ends() -> None:
    async def upgrade(call: Call) -> None:
        await call.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        call.closing = True
        while data := await call.stream.some(3600):
            await call.send(data)

    fields = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
              (b"Sec-WebSocket-Version", b"13")]  # fmt: skip
    asking = request("GET", "/v1/realtime?model=m", None, fields)
    async with backend(upgrade) as b, gate(b.url, policy(rule("1 concurrent", "10 tokens/day"))) as g:
        async with connect(g.port) as client:
            await client.send(asking)
            assert (await client.final_head()).status == 101
            await client.send(b"ping")
            assert await client.exactly(4) == b"ping"
            assert (await fetch(g.port, asking)).status == 429
        await until(lambda: len(g.exchanges) == 2)
        assert await left(g) == [1, 10]


# -- conditions, reloads, shadow mode


async def test_a_limit_for_some_models() -> None:
    async with backend(hello) as b, gate(b.url, policy(rule("1 requests/day", when={"models": ["big-*"]}))) as g:
        models = ["big-1", "small", "big-2", "small"]
        assert [(await fetch(g.port, chat(model=m))).status for m in models] == [200, 200, 429, 200]
        assert [(await fetch(g.port, chat(model="big-1"))).value(b"x-ratelimit-remaining-requests")] == [b"0"]
        assert (await fetch(g.port, chat(model="small"))).value(b"x-ratelimit-remaining-requests") is None


async def test_counts_outlive_a_reload_and_slots_too() -> None:
    go = asyncio.Event()

    async def wait(call: Call) -> None:
        if json.loads(call.body).get("stream"):
            await call.begin_sse()
            await go.wait()
            await call.chunk(b"data: [DONE]\n\n")
            await call.end_chunked()
        else:
            await hello(call)

    async with backend(wait) as b, gate(b.url, policy(rule("3 requests/day", "1 concurrent streams"))) as g:
        assert [(await fetch(g.port, chat())).status for _ in range(2)] == [200, 200]
        running = asyncio.create_task(fetch(g.port, chat(stream=True)))
        await b.called(3)
        g.configure(b.url, policy(rule("5 requests/day", "2 concurrent streams")))
        assert await g.app.reload()
        first = await fetch(g.port, chat())
        assert first.value(b"x-ratelimit-remaining-requests") == b"1", "three of the five were spent before"
        limits = next(s.policy for s in g.app.runtime.steps if isinstance(s.policy, RateLimit))
        assert limits._store is not None
        assert [s.remaining for s in (await limits._store.read(counters(limits, ""))).parts] == [1, 1]
        go.set()
        assert (await running).status == 200
        await until(lambda: len(g.exchanges) == 4)
        assert await left(g) == [1, 2], "the slot of the old policy's request is free"


async def test_shadow_mode_shows_callers_nothing() -> None:
    shadow = rule("1 requests/day", "10 tokens/day", "1 concurrent", name="shadow", mode="shadow", on_overrun="cut")
    async with backend(hello) as b, gate(b.url, policy(shadow, rule("9 requests/day"))) as g:
        for n in (8, 7, 6):
            reply = await fetch(g.port, chat(max_tokens=5000))
            assert reply.status == 200
            assert reply.value(b"x-ratelimit-limit-requests") == b"9"
            assert reply.value(b"x-ratelimit-remaining-requests") == b"%d" % n
            assert reply.value(b"x-ratelimit-limit-tokens") is None
        assert await left(g, "shadow") == [1, 10, 1], "none of it was taken: the tokens would have been refused"
        assert {f.action for x in g.exchanges for f in x.findings} == {"refuse", "would_refuse"}


# -- hostile values

HOSTILE: list[dict[str, Any]] = [
    {"max_tokens": 1 << 62}, {"max_tokens": -5}, {"max_tokens": 10.5}, {"max_tokens": "100"}, {"max_tokens": None},
    {"max_tokens": True}, {"max_tokens": [1]}, {"n": 10**9}, {"n": -1}, {"n": "4"}, {"best_of": 1e9}, {"model": "m" * 10_000},
    {"model": 7}, {"model": None}, {"model": "a\x00b"}, {"stream": "yes"}, {"stream_options": 3},
    {"messages": None}, {"messages": [[]] * 50}, {"prompt": [[1]] * 3},
]  # fmt: skip


@pytest.mark.parametrize("more", HOSTILE, ids=lambda more: repr(more)[:30])
async def test_hostile_values_are_no_way_around(more: dict[str, Any]) -> None:
    limits = ("3 requests/day", "100k tokens/day", "1M completion_tokens/day by model", "1k USD/day", "2 concurrent by model")
    text = policy(rule(*limits, prices={"*": {"input": 1, "output": 2}}))
    async with backend(hello) as b, gate(b.url, text) as g:
        codes = [(await fetch(g.port, chat(**more))).status for _ in range(4)]
        assert codes == [200, 200, 200, 429], "no value breaks it, none is free of charge"
        requests, tokens, _, money, _ = await left(g)
        assert requests == 0 and tokens == 100_000 - 3 * 15 and money == pytest.approx(1000 - 3 * 20e-6)


async def test_a_bound_that_no_limit_can_give_is_refused_before_it_is_sent() -> None:
    async with backend(hello) as b, gate(b.url, policy(rule("100k tokens/day"))) as g:
        bounds = ({"max_tokens": 2**31 - 1}, {"max_tokens": 200, "n": 1024}, {"max_tokens": 1, "max_completion_tokens": 200_000})
        for more in bounds:
            reply = await fetch(g.port, chat(**more))
            assert reply.status == 429 and reply.value(b"x-should-retry") == b"false"
        assert not b.calls and await left(g) == [100_000]


@pytest.mark.parametrize("counts", [-1, 1 << 60, 1.5, "9", None, True])
async def test_counts_of_a_backend_that_make_no_sense(counts: Any) -> None:
    async def nonsense(call: Call) -> None:
        await call.reply(json.dumps({"usage": {"prompt_tokens": counts, "completion_tokens": counts}}).encode(), fields=[JSON])

    async with backend(nonsense) as b, gate(b.url, policy(rule("1000 tokens/day", "1 concurrent"))) as g:
        assert (await fetch(g.port, chat(max_tokens=10))).status == 200
        tokens, slots = await left(g)
        assert 0 <= tokens <= 1000 and slots == 1


# -- replies that are cut


async def test_a_cut_reply_ends_as_one_that_reached_its_bound() -> None:
    cut = rule("12 completion_tokens/day by route", on_overrun="cut")
    async with front("empty", policy_yaml=policy(cut)) as f:
        client = f.client()
        # the first reply of each teaches what is usual: two tokens; then ten are left for a reply without a bound
        await client.chat.completions.create(model="demo", messages=MESSAGES, max_tokens=2)
        chunks = [c async for c in await client.chat.completions.create(model="demo", messages=MESSAGES, stream=True)]
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text and "imit" not in text

        await client.completions.create(model="demo", prompt="Hello", max_tokens=2)
        pieces = [c async for c in await client.completions.create(model="demo", prompt="Hello", max_tokens=None, stream=True)]
        assert [p.choices[0].finish_reason for p in pieces if p.choices][-1] == "length"

        await client.responses.create(model="demo", input="Hello", max_output_tokens=2)
        events = [e async for e in await client.responses.create(model="demo", input="Hello", stream=True)]
        assert events[-1].type == "response.incomplete"
        assert events[-1].response.incomplete_details.reason == "max_output_tokens"
        await until(lambda: len(f.gate.exchanges) == 6)
        assert [x.fault is not None for x in f.gate.exchanges] == [False, True] * 3


async def test_a_cut_message_ends_with_max_tokens() -> None:
    def event(kind: str, **more: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()

    async def babble(call: Call) -> None:
        await call.begin_sse()
        message = {"id": "m", "type": "message", "role": "assistant", "model": "demo", "content": [], "stop_reason": None,
                   "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 1}}  # fmt: skip
        await call.chunk(event("message_start", message=message))
        await call.chunk(event("content_block_start", index=0, content_block={"type": "text", "text": ""}))
        for n in range(200):
            delta = {"type": "text_delta", "text": f"w{n:03}"}  # a token each
            await call.chunk(event("content_block_delta", index=0, delta=delta))
        await call.gone()

    async with backend(babble) as b, gate(b.url, policy(rule("20 completion_tokens/day", on_overrun="cut"))) as g:
        client = anthropic.AsyncAnthropic(base_url=g.url, api_key="k", max_retries=0)
        async with client.messages.stream(model="demo", max_tokens=10, messages=MESSAGES) as stream:
            message = await stream.get_final_message()
        await client.close()
        assert message.stop_reason == "max_tokens"
        assert message.content[0].type == "text" and message.content[0].text.count("w") == 20
        await g.idle()


async def test_a_limit_in_money_cuts_too() -> None:
    async def babble(call: Call) -> None:
        await call.begin_sse()
        await call.chunk(*[said(f"w{n:03}") for n in range(300)])  # a token each
        await call.gone()

    priced = rule("1 USD/day", on_overrun="cut", prices={"*": {"input": 0, "output": 10_000}})  # a cent each
    async with backend(babble) as b, gate(b.url, policy(priced)) as g:
        reply = await fetch(g.port, chat(stream=True, max_tokens=10))
        assert reply.body.count(b"w0") == 100 and b'"finish_reason":"length"' in reply.body and b"w100" not in reply.body
        await until(lambda: len(g.exchanges) == 1)
        assert (await fetch(g.port, chat(stream=True, max_tokens=10))).status == 429


async def test_a_whole_reply_is_not_cut_once_it_has_been_paid_for() -> None:
    async def long(call: Call) -> None:
        doc = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 100}, "finish_reason": "stop"}]}
        await call.reply(json.dumps({**doc, "usage": {"prompt_tokens": 1, "completion_tokens": 100}}).encode(), fields=[JSON])

    async with backend(long) as b, gate(b.url, policy(rule("20 completion_tokens/day", on_overrun="cut"))) as g:
        reply = await fetch(g.port, chat(max_tokens=10))
        assert json.loads(reply.body)["choices"][0]["finish_reason"] == "stop" and b"word word" in reply.body
        await g.idle()
        assert (await fetch(g.port, chat(max_tokens=10))).status == 429
