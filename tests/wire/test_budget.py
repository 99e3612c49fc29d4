"""Budgets over real sockets: money set aside, settled, warned of and refused; the account at the admin port."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from prometheus_client import parser

from policies.budget import Budget
from policies.limits.meter import Cost
from proxy import config
from proxy.admin import build_admin, start_admin
from proxy.status import Status
from proxy.worker import bind
from tests.kits.backend import Call, backend
from tests.kits.client import Reply, connect, fetch, request
from tests.kits.gate import Gate, gate
from tests.kits.policy_kit import exchange
from tests.kits.store_kit import RedisServer
from tests.kits.stream import until

JSON = (b"Content-Type", b"application/json")
PRICES = {"demo": {"input": 100, "output": 400, "cached": 10}}
USED = {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35, "prompt_tokens_details": {"cached_tokens": 10}}
COST = (20 * 100 + 10 * 10 + 5 * 400) / 1e6  # of one reply with USED: 0.0041
KEYS = {"keys": [{"name": "alice", "key": "ka", "tenant": "acme"}, {"name": "bob", "key": "kb", "tenant": "acme"}]}


def policy(*limits: str, more: dict[str, Any] | None = None, **options: Any) -> str:
    entry = {"use": "budget", "name": "money", "limits": list(limits), "prices": PRICES, **options}
    return json.dumps({"policies": [entry], **(more or {})})


def chat(key: bytes = b"", **more: Any) -> bytes:
    doc = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 10, **more}
    fields = [JSON, (b"Authorization", b"Bearer " + key)] if key else [JSON]
    return request("POST", "/v1/chat/completions", json.dumps(doc).encode(), fields)


def chunk(**more: Any) -> bytes:
    doc = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "demo", **more}
    return b"data: " + json.dumps(doc).encode() + b"\n\n"


async def count(call: Call) -> None:
    await call.reply(json.dumps({"choices": [], "usage": USED}).encode(), fields=[JSON])


def budget(g: Gate) -> Budget:
    (found,) = [s.policy for s in g.app.runtime.steps if isinstance(s.policy, Budget)]
    return found


async def left(g: Gate, **who: Any) -> list[float]:
    """What is left of each budget."""
    await g.idle()
    made = budget(g)
    assert made._store is not None
    _, parts = made._counting.parts(exchange(**{"client": "127.0.0.1", **who}), Cost(0, 0), "", made.deps.wall())
    return [state.remaining for state in (await made._store.read([p._replace(cost=0.0) for p in parts])).parts]  # type: ignore[union-attr]


@contextlib.asynccontextmanager
async def admin(g: Gate) -> AsyncIterator[aiohttp.ClientSession]:
    sockets = bind("127.0.0.1:0")
    runner = await start_admin(build_admin(Status(g.app)), sockets)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{sockets[0].getsockname()[1]}") as session:
        yield session
    await runner.cleanup()


async def page(session: aiohttp.ClientSession, asked: str = "/usage") -> Any:
    async with session.get(asked) as reply:
        assert reply.status == 200
        return await reply.json()


def error(reply: Reply) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(reply.body)["error"]
    return found


async def test_a_budget_is_spent_warned_of_and_stops() -> None:
    # three replies fit; a request reserves some 20 + 10 * 4 ten-thousandths
    async with backend(count) as b, gate(b.url, policy("1 USD/month", "0.016 USD/day by caller", soft=0.5)) as g:
        told = []
        for _ in range(3):
            reply = await fetch(g.port, chat())
            assert reply.status == 200
            told.append(reply.value(b"x-headgate-budget"))
            await g.idle()
        assert told[:2] == [None, None]
        assert (told[2] or b"").startswith(b'limit="0.016 USD per day", used=0.512, reset=')
        assert await left(g) == [pytest.approx(1 - 3 * COST), pytest.approx(0.016 - 3 * COST)]
        stop = await fetch(g.port, chat())
        assert stop.status == 429 and stop.value(b"x-should-retry") == b"false" and stop.value(b"retry-after") is None
        assert error(stop)["code"] == error(stop)["type"] == "insufficient_quota"
        assert "0.016 USD per day" in error(stop)["message"] and "127.0.0.1" not in error(stop)["message"]
        assert (stop.value(b"x-headgate-budget") or b"").startswith(b'limit="0.016 USD per day", used=0.769')
        assert await left(g) == [pytest.approx(1 - 3 * COST), pytest.approx(0.016 - 3 * COST)], "all or none"
        findings = [(f.kind, f.action) for x in g.exchanges for f in x.findings]
        assert findings == [("money", "warn"), ("money", "refuse"), ("insufficient_quota", "refuse")]


async def test_the_openai_client_does_not_try_again() -> None:
    async with backend(count) as b, gate(b.url, policy("0.001 USD/month")) as g:
        client = openai.AsyncOpenAI(base_url=g.url + "/v1", api_key="k")  # its own retries: two
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello"}])
        await client.close()
        assert caught.value.code == "insufficient_quota" and len(g.exchanges) == 1 and not b.calls


async def test_a_stream_is_settled_by_the_chunk_that_headgate_asked_for() -> None:
    async def stream(call: Call) -> None:
        assert json.loads(call.body)["stream_options"] == {"include_usage": True}
        await call.begin_sse()
        await call.chunk(chunk(choices=[{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]))
        await call.chunk(chunk(choices=[], usage=USED), b"data: [DONE]\n\n")
        await call.end_chunked()

    async with backend(stream) as b, gate(b.url, policy("1 USD/month")) as g:
        reply = await fetch(g.port, chat(stream=True))
        assert b"usage" not in reply.body
        assert await left(g) == [pytest.approx(1 - COST)]


@pytest.mark.parametrize("how", ["500", "reset", "no backend", "refused later", "cancelled"])
async def test_what_came_to_nothing_costs_nothing(how: str) -> None:
    async def fail(call: Call) -> None:
        if how == "500":
            await call.reply(b'{"error":{}}', status=500, fields=[JSON])
        elif how == "reset":
            call.reset()
        else:
            await call.gone()

    text = json.loads(policy("1 USD/month", "1k tokens/day"))
    if how == "refused later":
        text["policies"].append({"use": "request_guard", "max_tokens": 5})
    async with backend(fail) as b, gate("http://127.0.0.1:9" if how == "no backend" else b.url, json.dumps(text)) as g:
        if how == "cancelled":
            async with connect(g.port) as client:
                client.transport.write(chat())
                await until(lambda: bool(b.calls))
                assert (await budget(g)._store.read(budget(g)._counting.parts(  # type: ignore[union-attr]
                    exchange(), Cost(0, 0), "", budget(g).deps.wall())[1])).parts[0].remaining < 1, "set aside"
        else:
            assert (await fetch(g.port, chat())).status >= 400
        assert await left(g) == [pytest.approx(1), pytest.approx(1000)]
        async with admin(g) as session:
            (account,) = (await page(session))["policies"]
            assert account["lines"] == []


async def test_the_account_by_tenant_caller_and_model_and_its_metrics() -> None:
    async with backend(count) as b, gate(b.url, policy("1 USD/month", more={"callers": KEYS})) as g, admin(g) as session:
        for key, n in ((b"ka", 2), (b"kb", 1)):
            for _ in range(n):
                assert (await fetch(g.port, chat(key))).status == 200
        await fetch(g.port, chat(b"ka", model="made\x1fup"))
        await g.idle()
        shown = await page(session)
        (account,) = shown["policies"]
        assert shown["worker"] is None and account["limits"] == ["1 USD/month"]
        rows = {(line["caller"], line["model"]): line for line in account["lines"]}
        assert rows["alice", "demo"] == {
            "tenant": "acme", "caller": "alice", "model": "demo", "requests": 2, "prompt_tokens": 60, "cached_tokens": 20,
            "completion_tokens": 10, "money": pytest.approx(2 * COST),
        }  # fmt: skip
        assert next(line for (_, model), line in rows.items() if model.startswith("made?up~"))["money"] == 0
        assert account["total"]["money"] == pytest.approx(3 * COST) and account["total"]["requests"] == 4
        assert (await page(session, "/usage?month=2001-01"))["policies"][0]["lines"] == []
        async with session.get("/usage?format=csv&by=caller") as reply:
            text = await reply.text()
        assert text.splitlines()[1].split(",")[3:] == ['"acme"', '"alice"', "3", "90", "30", "15", f"{2 * COST:g}"]
        assert "ka" not in text.split('"') and "Hello" not in text
        async with session.get("/metrics") as reply:
            rows_ = [s for f in parser.text_string_to_metric_families(await reply.text()) for s in f.samples]
        (spend,) = [s for s in rows_ if s.name == "headgate_spend_total"]
        assert spend.labels == {"policy": "money", "tenant": "acme", "currency": "USD"}
        assert spend.value == pytest.approx(3 * COST)
        assert {s.labels["mode"]: s.value for s in rows_ if s.name == "headgate_store_mode"}["memory"] == 1


async def test_budget_and_account_outlive_a_reload() -> None:
    async with backend(count) as b, gate(b.url, policy("0.02 USD/month")) as g, admin(g) as session:
        await fetch(g.port, chat())
        await g.idle()
        before, was = await page(session), budget(g)
        g.configure(b.url, policy("0.5 USD/month"))
        assert await g.app.reload() and budget(g) is not was
        assert await left(g) == [pytest.approx(0.5 - COST)]
        after = await page(session)
        assert after["policies"][0]["lines"] == before["policies"][0]["lines"] != []
        await fetch(g.port, chat())
        await g.idle()
        assert (await page(session))["policies"][0]["total"]["requests"] == 2


async def test_models_without_a_price_can_be_refused() -> None:
    async with backend(count) as b, gate(b.url, policy("1 USD/month", unpriced="refuse")) as g:
        reply = await fetch(g.port, chat(model="other"))
        assert reply.status == 403 and error(reply)["param"] == "model" and "other" not in error(reply)["message"]
        assert (await fetch(g.port, chat(model=None))).status == 403
        assert (await fetch(g.port, request("GET", "/v1/models"))).status == 200
        assert (await fetch(g.port, chat())).status == 200


async def test_shadow_mode_only_tells() -> None:
    async with backend(count) as b, gate(b.url, policy("0.005 USD/month", mode="shadow", soft=0.1)) as g, admin(g) as session:
        replies = [await fetch(g.port, chat()) for _ in range(3)]
        assert [r.status for r in replies] == [200, 200, 200] and all(r.value(b"x-headgate-budget") is None for r in replies)
        await g.idle()
        assert {f.shadow for x in g.exchanges for f in x.findings} == {True}
        assert (await page(session))["policies"][0]["total"]["requests"] == 3


async def test_workers_that_count_for_themselves_say_whose_account_it_is() -> None:
    more = {"workers": 2, "store": {"url": "memory", "approximate": True}}
    async with backend(count) as b, gate(b.url, policy("1 USD/month", more=more)) as g, admin(g) as session:
        await fetch(g.port, chat())
        await g.idle()
        shown = await page(session)
        assert shown["worker"] == 0 and shown["policies"][0]["total"]["requests"] == 1


def test_the_example_of_the_docs_loads() -> None:
    text = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    example = text.partition("```yaml\n")[2].partition("```")[0]
    for url in ("redis://127.0.0.1:1/0", "memory"):
        env = {"REDIS_URL": url, "ALICE_KEY": "a" * 20, "BOB_KEY": "b" * 20}
        loaded = config.load("policy.yaml", text=("backends: {a: {url: 'http://h'}}\n" + example).encode(), env=env)
        assert [spec.entry.use for spec in loaded.policies] == ["rate_limit", "budget"]


@pytest.mark.wire
@pytest.mark.deadline(60)
async def test_two_headgates_have_one_budget_and_one_account_also_over_an_outage(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        more = {"store": {"url": redis.url, "replicas": 2, "timeout": 0.5}}
        text = policy("0.05 USD/month", more=more)
        async with backend(count) as b, gate(b.url, text) as one, gate(b.url, text) as two, admin(two) as session:
            for g in (one, two):
                assert (await fetch(g.port, chat())).status == 200
            assert await left(one) == await left(two) == [pytest.approx(0.05 - 2 * COST)]
            redis.send(signal.SIGSTOP)
            try:
                for g in (one, two):
                    assert (await fetch(g.port, chat())).status == 200
                    await g.idle()
                async with session.get("/usage") as reply:
                    assert reply.status == 503
            finally:
                redis.send(signal.SIGCONT)
            stores = [g.app.runtime.store for g in (one, two)]
            await until(lambda: all(s.state().up and not s.owed for s in stores))  # type: ignore[attr-defined]
            shown = await page(session)
            assert shown["worker"] is None and shown["policies"][0]["total"]["requests"] == 4
            assert (await left(one))[0] <= 0.05 - 4 * COST + 1e-9
            codes = [(await fetch(g.port, chat())).status for g in (one, two) for _ in range(6)]
            assert 200 in codes and codes[-1] == 429
            assert all(name in " ".join(redis.cli("KEYS", "*")) for name in ("headgate:money}:c:ledger:", "headgate:money}:w:"))
            assert "acme" not in " ".join(redis.cli("KEYS", "*"))
