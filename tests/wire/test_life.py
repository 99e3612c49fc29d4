"""A process's life under traffic: the drain at its end, and a new policy file in the middle."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.connection import ClientConnection
from tests.kits.backend import Call, backend, hello
from tests.kits.client import Broken, Client, connect, fetch, request
from tests.kits.gate import Gate, gate
from tests.kits.stream import until

CHAT = request("POST", "/v1/chat/completions", b'{"model":"m","stream":true}', [(b"Content-Type", b"application/json")])


# -- drain


async def test_a_drain_under_load_loses_nothing() -> None:
    """Clients in a closed loop, with keep-alive and without; each request that was begun on an open connection gets its
    reply, and connections end with a reply that says so."""
    answered = cut = 0
    stopping = asyncio.Event()

    async def one(port: int, reuse: bool) -> None:
        nonlocal answered, cut
        while True:
            try:
                async with connect(port) as client:
                    while True:
                        await client.send(request("POST", "/v1/x", b"{}"))
                        reply = await client.reply("POST")
                        assert (reply.status, reply.body) == (200, b"ok")
                        answered += 1
                        if reply.closes or not reuse:
                            break
            except ConnectionRefusedError:
                assert stopping.is_set()
                return
            except (Broken, ConnectionError) as e:
                if getattr(e, "partial", b"") or not stopping.is_set():
                    cut += 1
                    return

    async with backend(lambda call: call.reply(b"ok")) as b, gate(b.url) as g:
        clients = [asyncio.ensure_future(one(g.port, i % 2 == 0)) for i in range(20)]
        await until(lambda: answered > 200)
        stopping.set()
        assert await g.app.stop(5), "nothing had to be cut off"
        await asyncio.gather(*clients)
        assert cut == 0
        assert len(b.calls) == answered == len(g.exchanges)
        assert not any(x.fault for x in g.exchanges)


async def test_streams_run_on_through_the_drain() -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.begin_sse()
        await call.chunk(b"data: 1\n\n")
        await go.wait()
        await call.chunk(b"data: 2\n\n")
        await call.end_chunked()

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client, connect(g.port) as idle:
        await idle.send(b"")
        await client.send(CHAT)
        reply = await client.head()
        assert await client.chunk() == b"data: 1\n\n"
        stop = asyncio.ensure_future(g.app.stop(10))
        await until(lambda: not g.app.server.listening)
        with pytest.raises(ConnectionRefusedError):
            await fetch(g.port, request())
        assert await idle.to_end() == b"", "idle connections are closed"
        assert not stop.done()
        go.set()
        assert await client.body(reply, "POST") == b"data: 2\n\n"
        assert await stop
        assert await client.to_end() == b""


async def test_replies_during_the_drain_end_their_connections() -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await go.wait()
        await call.reply(b"ok")

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(CHAT)
        await b.called()
        stop = asyncio.ensure_future(g.app.stop(10))
        await until(lambda: g.app.server.draining)
        go.set()
        reply = await client.reply("POST")
        assert (reply.body, reply.closes) == (b"ok", True)
        assert await client.to_end() == b""
        assert await stop


async def test_what_does_not_end_in_time_is_cut_off_visibly() -> None:
    async def script(call: Call) -> None:
        await call.begin_sse()
        await call.chunk(b"data: 1\n\n")
        await call.gone()

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client, connect(g.port) as waiting:
        await client.send(CHAT)
        reply = await client.head()
        assert await client.chunk() == b"data: 1\n\n"
        assert not await g.app.stop(0.1)
        with pytest.raises(Broken):
            await client.body(reply, "POST")
        assert (await g.settled()).fault in ("draining", "client_gone")
        assert await waiting.to_end() == b""


async def test_a_head_on_its_way_when_the_drain_begins_is_served() -> None:
    async with backend(hello) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(CHAT[:30])
        await until(lambda: any(c._parsing for c in g.app.server.connections))
        stop = asyncio.ensure_future(g.app.stop(10))
        await until(lambda: g.app.server.draining)
        await client.send(CHAT[30:])
        reply = await client.reply("POST")
        assert (reply.status, reply.closes) == (200, True)
        assert await stop


async def test_requests_sent_ahead_at_the_drain_are_not_half_done() -> None:
    """The first is answered and says that it is the last; those behind it were not begun, so a client may repeat them."""
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await go.wait()
        await call.reply(call.target)

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(b"".join(request("GET", f"/{i}") for i in range(5)))
        await b.called()
        stop = asyncio.ensure_future(g.app.stop(10))
        await until(lambda: g.app.server.draining)
        go.set()
        reply = await client.reply()
        assert (reply.body, reply.closes) == (b"/0", True)
        assert await client.to_end() == b""
        client.close()
        assert await stop
        assert len(b.calls) == 1


# -- reload


def _said(value: str) -> dict[str, Any]:
    return {"policies": [{"use": "headers", "response": {"set": {"X-Policy": value}}}]}


async def _policy(client: Client) -> bytes | None:
    return (await client.ask(request())).value(b"x-policy")


async def test_a_new_policy_is_live_at_once_and_running_requests_keep_theirs() -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        if call.target == b"/slow":
            await go.wait()
        await call.reply(b"ok")

    async with (
        backend(script) as b,
        gate(b.url, **_said("old")) as g,
        connect(g.port) as client,
        connect(g.port) as slow,
    ):
        assert await _policy(client) == b"old"
        await slow.send(request("GET", "/slow"))
        await b.called(2)
        g.configure(b.url, **_said("new"))
        assert await g.app.reload()
        assert await _policy(client) == b"new", "on the same connection"
        go.set()
        assert (await slow.reply()).value(b"x-policy") == b"old"
        assert await _policy(slow) == b"new"
        assert b.accepted <= 3, "an unchanged backend keeps its connections"


@pytest.mark.parametrize(
    "text",
    [b"", b"version: 1\n", b"\xff\xfe", b"version: 1\nbackends: {a: {url: 'ftp://x'}}\n", b"{", b"version: 2\n",
     b"version: 1\nbackends: {a: {url: 'http://x'}}\npolicies: [{use: nothing}]\n"],
)  # fmt: skip
async def test_a_bad_file_keeps_the_old_policy_and_shouts(text: bytes) -> None:
    async with backend(hello) as b, gate(b.url, **_said("old")) as g, connect(g.port) as client:
        assert await _policy(client) == b"old"
        g.text = text
        assert not await g.app.reload()
        assert await _policy(client) == b"old"
        assert g.app.failed_reload is not None
        lines = await g.log_lines(3)
        assert any(line["event"] == "policy_rejected" for line in lines)
        g.configure(b.url, **_said("new"))
        assert await g.app.reload()
        assert await _policy(client) == b"new"
        assert g.app.failed_reload is None


async def test_an_unchanged_file_changes_nothing() -> None:
    async with backend(hello) as b, gate(b.url, **_said("old")) as g:
        before = g.app.runtime
        assert await g.app.reload()
        assert g.app.runtime is before


async def test_backends_change_with_the_file() -> None:
    async with (
        backend(lambda c: c.reply(b"one")) as one,
        backend(lambda c: c.reply(b"two")) as two,
        gate(one.url) as g,
        connect(g.port) as client,
    ):
        assert (await client.ask(request())).body == b"one"
        g.configure(two.url)
        assert await g.app.reload()
        assert (await client.ask(request())).body == b"two"
        assert (await client.ask(request())).body == b"two"
        g.app._ticks = 9
        await until(lambda: not g.app._retired)
        await until(lambda: one.open == 0), "connections to a backend that is no more are closed"


async def test_new_limits_are_live() -> None:
    async with backend(hello) as b, gate(b.url) as g:
        big = request("POST", "/v1/x", b"x" * 5000)
        assert (await fetch(g.port, big)).status == 200
        g.configure(b.url, limits={"body": "1KB"})
        assert await g.app.reload()
        assert (await fetch(g.port, big)).status == 413


async def test_many_reloads_under_traffic() -> None:
    async def one(g: Gate, over: asyncio.Event) -> None:
        async with connect(g.port) as client:
            while not over.is_set():
                assert await _policy(client) in (b"a", b"b")

    async with backend(hello) as b, gate(b.url, **_said("a")) as g:
        over = asyncio.Event()
        clients = [asyncio.ensure_future(one(g, over)) for _ in range(5)]
        for i in range(20):
            g.configure(b.url, **_said("ab"[i % 2]))
            assert await g.app.reload()
        over.set()
        await asyncio.gather(*clients)
        assert not any(x.fault for x in g.exchanges)
        g.app._ticks = 9
        await until(lambda: not g.app._retired)


async def test_a_changed_file_of_phrases_is_a_changed_policy(tmp_path: Path) -> None:
    """Its path stays the same, and so does the policy file."""
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("bluebird\n")
    rules = [{"name": "names", "phrases_file": str(phrases)}]
    text = json.dumps({"policies": [{"use": "output_moderation", "rules": rules}]})
    said = b'{"choices":[{"index":0,"message":{"content":"bluebird and nightjar"}}]}'

    async def tell(call: Call) -> None:
        await call.reply(said, fields=[(b"Content-Type", b"application/json")])

    async with backend(tell) as b, gate(b.url, text) as g:
        assert str(phrases) in g.app.runtime.config.files, "watched with the policy file"
        asking = request("POST", "/v1/chat/completions", b'{"messages":[]}', [(b"Content-Type", b"application/json")])
        assert b"[REDACTED] and nightjar" in (await fetch(g.port, asking)).body
        before = g.app.runtime
        assert await g.app.reload() and g.app.runtime is before, "nothing has changed"
        phrases.write_text("nightjar\n")
        assert await g.app.reload() and g.app.runtime is not before
        assert b"bluebird and [REDACTED]" in (await fetch(g.port, asking)).body


async def test_a_connection_that_is_gone_leaves_nothing_for_the_collector() -> None:
    """One that has lived for long would else stay in memory: full collections are rare by design."""
    async with backend(hello) as b, gate(b.url) as g:
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                assert (await fetch(g.port, request())).status == 200
            await until(lambda: not g.app.server.connections)
            await asyncio.sleep(0)
            left = sum(type(o) is ClientConnection for o in gc.get_objects())
            assert left <= 1, "all but what a task of the last one may still hold"
        finally:
            gc.enable()
