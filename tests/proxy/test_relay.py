"""The order of things in one exchange: what is settled, when, and that it is once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from policies.contract import Exchange
from proxy import relay
from tests.kits.backend import Call, backend, hello, silent
from tests.kits.client import Broken, connect, fetch, request
from tests.kits.gate import Gate, gate
from tests.kits.stream import until


def _settling(g: Gate, phase: Any) -> None:
    """Put a settle phase into every plan."""
    for plan in g.app.runtime.plans.values():
        plan.settle = (phase,)


async def test_a_bug_of_ours_is_a_500_that_is_reported_and_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*args: Any) -> None:
        raise ZeroDivisionError("with a secret in it")

    reported: list[tuple[str, BaseException]] = []
    async with backend(hello) as b, gate(b.url) as g:
        g.app.relay.report = lambda rid, error: reported.append((rid, error))
        with monkeypatch.context() as patch:
            patch.setattr(relay, "answer", broken)
            reply = await fetch(g.port, request())
        assert (reply.status, b"internal_error" in reply.body, b"secret" in reply.body) == (500, True, False)
        x = await g.settled()
        assert (x.status, x.fault) == (500, "internal")
        assert [(rid, type(e)) for rid, e in reported] == [(x.id, ZeroDivisionError)]
        await g.idle()
        assert (await fetch(g.port, request())).status == 200, "the next one is served"


async def test_a_bug_after_the_head_breaks_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(work: Any, reply: Any) -> None:
        work.conn.begin(200, b"OK", [], None)
        work.conn.write(b"half")
        raise ZeroDivisionError

    async with backend(hello) as b, gate(b.url) as g, connect(g.port) as client:
        g.app.relay.report = lambda rid, error: None
        monkeypatch.setattr(relay, "answer", broken)
        await client.send(request())
        with pytest.raises(Broken):
            await client.reply()
        assert (await g.settled()).fault == "internal"


@pytest.mark.parametrize("ending", ["reply", "refused", "502", "gone before", "gone during", "cut"])
async def test_each_exchange_settles_once(ending: str) -> None:
    async def script(call: Call) -> None:
        if ending == "reply":
            await call.reply(b"ok")
        elif ending == "502":
            call.close()
        elif ending == "gone before":
            await call.gone()
        else:
            await call.begin_chunked()
            await call.chunk(b"a")
            if ending == "cut":
                call.close()
            else:
                await call.gone()

    settled: list[str] = []

    async def settle(x: Exchange) -> None:
        assert x.ended is not None
        await asyncio.sleep(0)
        settled.append(x.id)

    limits = {"limits": {"body": "1B"}} if ending == "refused" else {}
    async with backend(script) as b, gate(b.url, **limits) as g, connect(g.port) as client:
        _settling(g, settle)
        await client.send(request("POST", "/v1/x", b"{}"))
        if ending == "gone before":
            await b.called()
            client.close()
        elif ending == "gone during":
            await client.head()
            await client.chunk()
            client.reset()
        else:
            try:
                await client.reply("POST")
            except Broken:
                assert ending == "cut"
        x = await g.settled()
        await until(lambda: settled)
        await g.idle()
        assert settled == [x.id] and len(g.exchanges) == 1
        assert g.app.runtime.in_flight == 0 and g.app.runtime.backends["local"].in_flight == 0


async def test_a_settle_that_has_begun_is_finished_when_the_client_leaves() -> None:
    begun, go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def settle(x: Exchange) -> None:
        begun.set()
        await go.wait()
        done.set()

    async with backend(hello) as b, gate(b.url) as g, connect(g.port) as client:
        _settling(g, settle)
        assert (await client.ask(request())).status == 200, "the reply does not wait for it"
        await begun.wait()
        client.reset()
        await until(lambda: not g.app.server.connections)
        go.set()
        await until(done.is_set)


async def test_the_next_request_on_a_connection_does_not_wait_for_the_settling_of_the_last() -> None:
    go = asyncio.Event()

    async def settle(x: Exchange) -> None:
        await go.wait()

    async with backend(hello) as b, gate(b.url) as g, connect(g.port) as client:
        _settling(g, settle)
        for _ in range(3):
            assert (await client.ask(request())).status == 200
        go.set()
        await g.settled(3)


async def test_what_an_exchange_knows_at_its_end() -> None:
    body = b'{"usage":{"prompt_tokens":3,"completion_tokens":4},"choices":[]}'
    json = [(b"Content-Type", b"application/json")]
    async with backend(lambda call: call.reply(body, fields=json)) as b, gate(b.url) as g, connect(g.port) as client:
        asked = b'{"model":"m","messages":[]}'
        await client.ask(request("POST", "/v1/chat/completions?x=1", asked, [*json, (b"X-Request-Id", b"mine")]))
        x = await g.settled()
        assert (x.id, x.method, x.path, x.query) == ("mine", "POST", "/v1/chat/completions", "x=1")
        assert (x.route, x.dialect, x.tier, x.status, x.fault) == ("chat", "chat", "watched", 200, None)
        assert (x.bytes_in, x.bytes_out) == (len(asked), len(body))
        assert x.usage is not None and (x.usage.prompt, x.usage.completion) == (3, 4)
        assert x.started <= (x.first_byte or 0) <= (x.ended or 0)
        (attempt,) = x.attempts
        assert (attempt.backend, attempt.status, attempt.kind) == ("local", 200, None)
        assert x.client == "127.0.0.1" and x.committed


async def test_leases_count_what_is_in_flight() -> None:
    async with backend(silent) as b, gate(b.url) as g:
        at = g.app.runtime.backends["local"]
        async with connect(g.port) as one, connect(g.port) as two:
            await one.send(request())
            await two.send(request())
            await until(lambda: at.in_flight == 2)
            one.close()
            await until(lambda: at.in_flight == 1)
        await until(lambda: at.in_flight == 0)
