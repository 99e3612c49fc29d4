"""A backend's places and the queue in front of them, over real sockets: who is served when, and who is refused how."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.kits.backend import Backend, Call, backend, hello
from tests.kits.client import Client, connect, request
from tests.kits.gate import Gate, gate
from tests.kits.stream import Fields, until

JSON: Fields = [(b"Content-Type", b"application/json")]


class Slow:
    """A backend's script that answers when it is told to. order: what callers call themselves, as they come in."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.running: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        self.now = self.most = 0

    async def __call__(self, call: Call) -> None:
        self.order.append((call.value(b"x-me") or b"").decode())
        self.now += 1
        self.most = max(self.most, self.now)
        done = asyncio.Event()
        self.running.put_nowait(done)
        try:
            await done.wait()
        finally:
            self.now -= 1
        await call.reply(b"{}", fields=JSON)

    async def finish(self, n: int = 1) -> None:
        """Let the oldest requests that run go."""
        for _ in range(n):
            (await asyncio.wait_for(self.running.get(), 10)).set()


def ask(me: str, *more: tuple[bytes, bytes], target: str = "/v1/chat/completions") -> bytes:
    fields = [*JSON, (b"X-Me", me.encode()), (b"X-Forwarded-For", me.encode()), *more]
    return request("POST", target, b'{"model":"m","messages":[]}', fields)


def policy(b: Backend, max_in_flight: int = 1, **queue: Any) -> dict[str, Any]:
    """Callers are told apart by the address that a trusted proxy (the test) gives."""
    return {"local": {"url": b.url, "max_in_flight": max_in_flight, "queue": {"fair_by": "address", **queue}}}


PROXIED: dict[str, Any] = {"callers": {"trusted_proxies": ["127.0.0.1"], "anonymous": {}}}


def places(g: Gate, name: str = "local") -> tuple[int, int]:
    """(taken, waiting)"""
    found = g.app.runtime.backends[name].places
    assert found is not None
    return found.busy, found.waiting


@contextlib.asynccontextmanager
async def clients(g: Gate, *raw: bytes) -> AsyncIterator[list[Client]]:
    """Each request on a connection of its own, in the order given: one waits (or is in work) before the next is sent."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for one in raw:
            before = sum(places(g))
            made.append(await stack.enter_async_context(connect(g.port)))
            await made[-1].send(one)
            await until(lambda was=before: sum(places(g)) > was)  # type: ignore[misc]
        yield made


async def replies(some: list[Client]) -> list[int]:
    return [(await c.reply("POST")).status for c in some]


async def test_callers_take_turns_at_the_backend() -> None:
    slow = Slow()
    asked = [ask("10.0.0.1") for _ in range(12)] + [ask("10.0.0.2") for _ in range(2)] + [ask("10.0.0.3")]
    async with backend(slow) as b, gate(policy(b, 2), **PROXIED) as g, clients(g, *asked) as all_of_them:
        assert places(g) == (2, 13)
        await slow.finish(len(asked))
        assert await replies(all_of_them) == [200] * len(asked)
        assert [me[-1] for me in slow.order] == list("11" "12312" "11111111")
        assert slow.most == 2
        await until(lambda: places(g) == (0, 0))


async def test_classes_get_their_shares() -> None:
    slow = Slow()
    queue = {"priority": "header:x-priority", "classes": {"interactive": 3, "batch": 1}}
    asked = [ask(kind, (b"X-Priority", kind.encode())) for kind in ["batch"] * 10 + ["interactive"] * 10]
    async with backend(slow) as b, gate(policy(b, 1, **queue)) as g, clients(g, *asked) as all_of_them:
        held = g.app.runtime.backends["local"].places
        assert held is not None and held.lengths() == {"*": 0, "interactive": 10, "batch": 9}
        await slow.finish()
        for _ in range(12):  # one by one, so that each turn takes about as long
            await until(lambda: not slow.running.empty())
            await slow.finish()
        got = Counter(slow.order[1:13])
        assert got["interactive"] >= 8 and got["batch"] >= 2, slow.order
        await slow.finish(len(asked) - 13)
        assert await replies(all_of_them) == [200] * len(asked)


async def test_full_is_a_503_that_says_when_to_come_again() -> None:
    slow = Slow()
    async with backend(slow) as b, gate(policy(b, 1, size=2)) as g, clients(g, *[ask("a")] * 3) as three:
        async with connect(g.port) as client:
            reply = await client.ask(ask("a"))
            assert (reply.status, reply.value(b"retry-after")) == (503, b"1")
            error = json.loads(reply.body)["error"]
            assert (error["type"], error["code"], error["param"]) == ("service_unavailable_error", "overloaded", None)
            reply = await client.ask(ask("a", target="/v1/messages"))
            assert json.loads(reply.body)["error"]["type"] == "overloaded_error", "the connection goes on, and in its own shape"
        await slow.finish(3)
        assert await replies(three) == [200] * 3
    assert (slow.most, len(slow.order)) == (1, 3)


async def test_a_busy_backend_can_still_be_looked_at() -> None:
    slow = Slow()

    async def script(call: Call) -> None:
        await (hello(call) if call.method == b"GET" else slow(call))

    async with backend(script) as b, gate({"local": {"url": b.url, "max_in_flight": 1}}) as g, clients(g, ask("a")) as one:
        async with connect(g.port) as client:
            assert (await client.ask(request())).status == 200
            assert (await client.ask(ask("b"))).status == 503, "without a queue nobody waits"
        await slow.finish()
        assert await replies(one) == [200]


async def test_deadlines() -> None:
    slow = Slow()
    async with backend(slow) as b, gate(policy(b, 1, timeout="60s")) as g:
        async with clients(g, ask("a"), ask("b"), ask("c", (b"X-Request-Timeout", b"20"))) as (first, patient, hasty):
            g.advance(21)
            reply = await hasty.reply("POST")
            assert (reply.status, json.loads(reply.body)["error"]["code"]) == (503, "overloaded")
            assert reply.value(b"retry-after") is not None
            assert places(g) == (1, 1)
            g.advance(40)
            assert (await patient.reply("POST")).status == 503
            await slow.finish()
            assert (await first.reply("POST")).status == 200
        assert slow.order == ["a"]
        lines = {line["fault"]: line for line in await g.log_lines(3) if line.get("fault")}
        assert set(lines) == {"queue_timeout"} and lines["queue_timeout"]["queued_s"] >= 60


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_a_client_that_leaves_is_out_of_the_queue(how: str) -> None:
    slow = Slow()
    async with backend(slow) as b, gate(policy(b, 1, size=2)) as g:
        async with clients(g, ask("a"), ask("b"), ask("c")) as (first, gone, third):
            getattr(gone, how)()
            await until(lambda: places(g) == (1, 1))
            async with clients(g, ask("d")) as (fourth,):
                await slow.finish(3)
                assert await replies([first, third, fourth]) == [200] * 3
        assert slow.order == ["a", "c", "d"]
        faults = [x.fault for x in g.exchanges if x.queued is not None and x.queued.outcome == "gone"]
        assert faults == ["client_gone"]


async def test_a_place_is_held_to_the_last_byte_of_a_stream() -> None:
    parts: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def script(call: Call) -> None:
        await call.begin_sse()
        await call.chunk(b'data: {"choices":[]}\n\n')
        go = asyncio.Event()
        parts.put_nowait(go)
        await go.wait()
        await call.chunk(b"data: [DONE]\n\n")
        await call.end_chunked()

    async with backend(script) as b, gate(policy(b, 1)) as g, clients(g, ask("a"), ask("b")) as (one, two):
        await one.final_head()
        await one.chunk()
        assert (places(g), len(b.calls)) == ((1, 1), 1)
        (await parts.get()).set()
        await until(lambda: len(b.calls) == 2)
        assert places(g) == (1, 0)
        two.reset()
        await until(lambda: places(g) == (0, 0))


async def test_a_websocket_holds_its_place_until_it_is_closed() -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await call.gone()

    upgrade = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")]
    raw = request("GET", "/v1/realtime", None, [*upgrade, (b"Sec-WebSocket-Key", b"AAAAAAAAAAAAAAAAAAAAAA==")])
    async with backend(script) as b, gate(policy(b, 1)) as g, clients(g, raw, raw) as (one, two):
        assert (await one.head()).status == 101
        assert places(g) == (1, 1)
        one.close()
        assert (await two.head()).status == 101
        assert places(g) == (1, 0)


async def test_the_other_backend_first_and_then_whichever_is_free() -> None:
    slow, other = Slow(), Slow()
    async with (
        backend(slow) as one,
        backend(other) as two,
        gate({n: {"url": at.url, "max_in_flight": 1, "queue": {}} for n, at in (("one", one), ("two", two))}) as g,
        contextlib.AsyncExitStack() as stack,
    ):
        made = [await stack.enter_async_context(connect(g.port)) for _ in range(3)]
        for n, client in enumerate(made):
            await client.send(ask(str(n)))
            await until(lambda n=n: len(slow.order) + len(other.order) + places(g, "one")[1] == n + 1)  # type: ignore[misc]
        assert (slow.order, other.order) == (["0"], ["1"])
        await other.finish()
        await until(lambda: other.order == ["1", "2"])
        assert places(g, "one") == (1, 0)
        await slow.finish()
        await other.finish()
        assert await replies(made) == [200] * 3


async def test_a_backend_that_dies_frees_its_places() -> None:
    async def script(call: Call) -> None:
        call.reset()

    async with backend(script) as b, gate(policy(b, 1)) as g, contextlib.AsyncExitStack() as stack:
        made = [await stack.enter_async_context(connect(g.port)) for _ in range(5)]
        for client in made:
            await client.send(ask("a"))
        assert await replies(made) == [502] * 5
        await until(lambda: places(g) == (0, 0))


async def test_who_waits_for_100_continue_is_told_while_it_waits() -> None:
    slow = Slow()
    body = b'{"model":"m","messages":[]}'
    raw = request("POST", "/v1/chat/completions", body, [*JSON, (b"Expect", b"100-continue")])
    async with backend(slow) as b, gate(policy(b, 1)) as g, clients(g, ask("a"), raw[: -len(body)]) as (first, second):
        assert (await second.head()).status == 100
        await second.send(body)
        assert places(g) == (1, 1)
        await slow.finish(2)
        assert await replies([first, second]) == [200, 200]


async def test_a_drain_serves_who_waits_and_answers_who_still_does_at_its_end() -> None:
    slow = Slow()
    async with backend(slow) as b, gate(policy(b, 1)) as g, clients(g, *[ask(me) for me in "abc"]) as (first, second, third):
        stopping = asyncio.create_task(g.app.stop(1.5))
        await until(lambda: g.app.server.draining)
        await slow.finish()
        assert (await first.reply("POST")).status == 200
        await until(lambda: slow.order == ["a", "b"])
        reply = await third.reply("POST")
        assert (reply.status, json.loads(reply.body)["error"]["code"], reply.closes) == (503, "draining", True)
        assert await stopping is False, "the second was cut off"
        await second.gone()


async def test_a_reload_with_more_places_lets_more_in() -> None:
    slow = Slow()
    async with backend(slow) as b, gate(policy(b, 1)) as g, clients(g, *[ask(me) for me in "abcd"]) as four:
        g.configure(policy(b, 2, size=7))
        assert await g.app.reload()
        await until(lambda: slow.order == ["a", "b"])
        assert places(g) == (2, 2)
        g.configure({"local": {"url": b.url}})
        assert await g.app.reload()
        await until(lambda: len(slow.order) == 4)
        await slow.finish(4)
        assert await replies(four) == [200] * 4
        await until(lambda: g.app.runtime.in_flight == 0)


async def test_what_the_metrics_and_the_admin_port_say() -> None:
    slow = Slow()
    queue = {"size": 2, "priority": "header:x-priority", "classes": {"batch": 1}}
    async with backend(slow) as b, gate(policy(b, 1, **queue)) as g:
        batch = (b"X-Priority", b"batch")
        async with clients(g, ask("a"), ask("b"), ask("c", batch)) as three:
            async with connect(g.port) as client:
                assert (await client.ask(ask("c", batch))).status == 503
            g.app._ticks = 9
            g.app._tick()
            text = g.metrics.exposition()[0].decode()
            assert 'headgate_queue_length{backend="local"} 2.0' in text
            assert 'headgate_queue_refused_total{backend="local",class="batch",outcome="full"} 1.0' in text
            await slow.finish(3)
            assert await replies(three) == [200] * 3
        await g.idle()
        text = g.metrics.exposition()[0].decode()
        for group in ("batch", "*"):
            assert f'headgate_queue_wait_seconds_count{{backend="local",class="{group}"}} 1.0' in text
        assert 'outcome="served"' not in text.partition("headgate_queue_refused_total")[2]
