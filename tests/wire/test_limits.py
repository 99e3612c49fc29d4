"""What a client may cost: time for heads and bodies, sizes, connections, requests sent ahead."""

from __future__ import annotations

import asyncio

import pytest

from tests.kits.backend import Call, backend, hello, silent
from tests.kits.client import Broken, connect, fetch, request
from tests.kits.gate import gate
from tests.kits.stream import chunked, until


async def _length(call: Call) -> None:
    await call.reply(b"%d" % await call.drain_body(timeout=20))


# -- time


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nX: aaaa"])
async def test_a_head_that_does_not_end_is_a_408(sent: bytes) -> None:
    async with backend(hello) as b, gate(b.url, limits={"head_timeout": "10s"}) as g, connect(g.port) as client:
        await client.trickle(sent)
        await until(lambda: any(c._parsing for c in g.app.server.connections))
        g.advance(9.9)
        await asyncio.sleep(0)
        assert not client.received
        g.advance(0.2)
        reply = await client.reply()
        assert (reply.status, reply.closes) == (408, True)
        assert await client.to_end() == b""
        assert not b.calls


async def test_a_head_that_drips_in_gets_no_more_time() -> None:
    async with backend(hello) as b, gate(b.url, limits={"head_timeout": "10s"}) as g, connect(g.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        for i in range(40):
            if client.received:
                break
            await client.trickle(b"X-%d: y\r\n" % i)
            g.advance(0.5)
        assert (await client.reply()).status == 408


async def test_a_connection_without_a_byte_is_closed() -> None:
    async with backend(hello) as b, gate(b.url, limits={"head_timeout": "10s"}) as g, connect(g.port) as client:
        await until(lambda: g.app.server.connections)
        g.advance(9)
        assert g.app.server.connections
        g.advance(2)
        assert await client.to_end() == b""


async def test_an_idle_connection_is_kept_for_its_time() -> None:
    limits = {"head_timeout": "10s", "keepalive": "75s"}
    async with backend(hello) as b, gate(b.url, limits=limits) as g, connect(g.port) as client:
        for _ in range(3):
            assert (await client.ask(request())).status == 200
            g.advance(70)
        assert (await client.ask(request())).status == 200
        g.advance(76)
        assert await client.to_end() == b""


async def test_the_second_head_has_its_limit_too() -> None:
    limits = {"head_timeout": "10s", "keepalive": "75s"}
    async with backend(hello) as b, gate(b.url, limits=limits) as g, connect(g.port) as client:
        await client.ask(request())
        g.advance(60)
        await client.trickle(b"GET / HT")
        g.advance(9)
        await client.trickle(b"TP/1.1\r\n")
        assert not client.buffer
        g.advance(2)
        assert (await client.reply()).status == 408


@pytest.mark.parametrize("framing", [(b"Content-Length", b"1000000"), (b"Transfer-Encoding", b"chunked")])
async def test_a_body_slower_than_its_rate_is_a_408(framing: tuple[bytes, bytes]) -> None:
    async with backend(_length, read_body=False) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/files", None, [framing]) + b"5\r\nhello\r\n")
        call = await b.called()
        g.advance(9)
        await asyncio.sleep(0)
        assert not client.received
        g.advance(2)
        reply = await client.reply("POST")
        assert (reply.status, reply.closes) == (408, True)
        await call.stream.gone()
        assert not call.complete, "the backend does not take the beginning for the whole"
        assert (await g.settled()).fault == "body_timeout"


async def test_a_body_at_its_rate_may_take_for_ever() -> None:
    limits = {"body_rate": "100B", "body_grace": "10s"}
    async with backend(_length, read_body=False) as b, gate(b.url, limits=limits) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/files", None, [(b"Content-Length", b"100000")]))
        await b.called()
        for _ in range(100):
            await client.send(b"x" * 1000)
            await until(lambda: not g.app.server.connections or _size(g) % 1000 == 0)
            g.advance(5)
        assert (await client.reply("POST")).body == b"100000"


def _size(g: object) -> int:
    return sum(c.current.size for c in g.app.server.connections if c.current)  # type: ignore[attr-defined]


async def test_a_body_that_nobody_reads_yet_has_its_limit() -> None:
    """Queued behind a request that runs, then slow: the limit begins with its turn."""
    go = asyncio.Event()

    async def script(call: Call) -> None:
        if call.target == b"/slow":
            await go.wait()
        await call.reply(b"ok")

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("GET", "/slow") + request("POST", "/x", None, [(b"Content-Length", b"10")]) + b"ab")
        await b.called()
        g.advance(100)
        assert not client.received
        go.set()
        assert (await client.reply()).body == b"ok"
        await until(lambda: _size(g) == 2)
        g.advance(11)
        assert (await client.reply("POST")).status == 408


async def test_a_client_that_reads_nothing_is_dropped() -> None:
    async def script(call: Call) -> None:
        await call.begin_chunked()
        while not call.stream.eof:
            await call.send(chunked(b"x" * 100_000, end=False), timeout=20)
        call.closing = True

    async with (
        backend(script) as b,
        gate(b.url, limits={"write_timeout": "60s"}) as g,
        connect(g.port, rcvbuf=16_384) as client,
    ):
        client.stop_reading()
        await client.send(request("GET", "/stream"))
        call = await b.called()
        await until(lambda: any(c.write_paused for c in g.app.server.connections))
        g.advance(59)
        await asyncio.sleep(0)
        assert not call.stream.eof
        g.advance(2)
        await until(lambda: call.stream.eof)
        assert (await g.settled()).fault in ("client_gone", "slow_reader")


async def test_a_finished_reply_that_nobody_reads_does_not_stay_for_ever() -> None:
    """The reply is written and the connection to be closed, but the client takes nothing."""
    async with (
        backend(lambda call: call.reply(b"x" * 12_000_000)) as b,
        gate(b.url, limits={"write_timeout": "60s"}) as g,
        connect(g.port, rcvbuf=16_384) as client,
    ):
        client.stop_reading()
        await client.send(request("GET", "/x", None, [(b"Connection", b"close")]))
        await until(lambda: any(c.write_paused for c in g.app.server.connections))
        g.advance(61)
        await until(lambda: not g.app.server.connections)


# -- sizes


async def test_limits_of_the_head() -> None:
    limits = {"head": "2KB", "fields": 10, "target": "500B"}
    async with backend(hello) as b, gate(b.url, limits=limits) as g:
        assert (await fetch(g.port, request("GET", "/" + "a" * 499))).status == 200
        assert (await fetch(g.port, request("GET", "/" + "a" * 500))).status == 414
        assert (await fetch(g.port, request("GET", "/", None, [(b"X-%d" % i, b"") for i in range(9)]))).status == 200
        assert (await fetch(g.port, request("GET", "/", None, [(b"X-%d" % i, b"") for i in range(10)]))).status == 431
        assert (await fetch(g.port, request("GET", "/", None, [(b"X", b"a" * 1900)]))).status == 200
        assert (await fetch(g.port, request("GET", "/", None, [(b"X", b"a" * 2000)]))).status == 431
        assert len(b.calls) == 3


async def test_an_announced_body_over_the_limit_is_refused_at_once() -> None:
    async with backend(hello) as b, gate(b.url, limits={"body": "10KB"}) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/files", None, [(b"Content-Length", b"10241")]))
        reply = await client.reply("POST")
        assert (reply.status, reply.closes) == (413, True)
        assert await client.to_end() == b""
        assert not b.calls
        x = await g.settled()
        assert (x.status, x.fault) == (413, "request_too_large")


@pytest.mark.parametrize("step", [0, 1000])
async def test_a_chunked_body_is_cut_off_at_the_limit(step: int) -> None:
    async def script(call: Call) -> None:
        await call.read_body()
        await call.reply(b"read")

    body = chunked(*[b"x" * 1000] * 11)
    async with backend(script, read_body=False) as b, gate(b.url, limits={"body": "10000B"}) as g:
        async with connect(g.port) as client:
            raw = request("POST", "/v1/files", None, [(b"Transfer-Encoding", b"chunked")]) + body
            await client.trickle(raw, step or len(raw))
            reply = await client.reply("POST")
            assert reply.status == 413
            assert reply.closes or not step, "what is not read yet cannot be waited for"
        await g.idle()
        assert not any(c.complete for c in b.calls)
        exact = request("POST", "/v1/files", None, [(b"Transfer-Encoding", b"chunked")]) + chunked(*[b"x" * 1000] * 10)
        assert (await fetch(g.port, exact)).body == b"read"


async def test_an_unread_body_does_not_reset_the_refusal_away() -> None:
    """The client is still sending when it is refused; it must be able to read the answer all the same."""
    async with backend(hello) as b, gate(b.url, limits={"body": "10KB"}) as g:
        for _ in range(10):
            async with connect(g.port) as client:
                await client.send(request("POST", "/v1/files", None, [(b"Content-Length", b"3000000")]))
                upload = asyncio.ensure_future(client.send(*[b"x" * 50_000] * 60))
                reply = await client.reply("POST")
                assert reply.status == 413
                upload.cancel()
                await asyncio.wait([upload])


async def test_a_lingering_connection_ends_by_itself() -> None:
    async with backend(hello) as b, gate(b.url, limits={"body": "10KB"}) as g, connect(g.port) as client:
        client.half_open = True
        await client.send(request("POST", "/v1/files", None, [(b"Content-Length", b"20000")]))
        assert (await client.reply("POST")).status == 413
        await client.to_end()
        assert g.app.server.connections, "it is still read from"
        g.advance(3)
        await until(lambda: not g.app.server.connections)


# -- numbers


async def test_one_connection_too_many_is_a_503() -> None:
    async with (
        backend(hello) as b,
        gate(b.url, limits={"connections": 3}) as g,
        connect(g.port) as one,
        connect(g.port) as two,
        connect(g.port) as three,
    ):
        for client in (one, two, three):
            assert (await client.ask(request())).status == 200
        async with connect(g.port) as four:
            await four.send(request())
            reply = await four.reply()
            assert (reply.status, reply.closes, reply.value(b"retry-after")) == (503, True, b"1")
        three.close()
        await until(lambda: len(g.app.server.connections) <= 2)
        assert (await fetch(g.port, request())).status == 200
        assert len(b.calls) == 4


async def test_one_backend_connection_too_many_is_a_503() -> None:
    async with (
        backend(silent) as b,
        gate({"local": {"url": b.url, "max_connections": 2}}) as g,
        connect(g.port) as one,
        connect(g.port) as two,
    ):
        await one.send(request())
        await two.send(request())
        await b.called(2)
        reply = await fetch(g.port, request())
        assert (reply.status, b"backend_unavailable" in reply.body) == (503, True)


@pytest.mark.parametrize("upgrade", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"], ids=["plain", "h2c"])
async def test_a_flood_of_requests_sent_ahead(upgrade: bytes) -> None:
    """Thousands in one write: some are served, in order, the rest refused; no recursion, no pile in memory."""
    one = b"GET / HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n"
    async with backend(hello) as b, gate(b.url) as g, connect(g.port) as client:
        client.transport.write(one * 8000)
        served = 0
        while (reply := await client.reply()).status == 200:
            served += 1
            assert len(g.app.server.tasks) <= 1
        assert (reply.status, reply.closes) == (400, True)
        assert 100 <= served <= 1000
        await until(lambda: len(b.calls) == served)
        assert await _ends(client)


async def _ends(client: object) -> bool:
    try:
        return await client.to_end() == b""  # type: ignore[attr-defined]
    except Broken as e:
        return not e.partial


async def test_requests_sent_ahead_by_a_client_that_does_not_read_are_not_made() -> None:
    async with (
        backend(lambda call: call.reply(b"x" * 200_000)) as b,
        gate(b.url) as g,
        connect(g.port, rcvbuf=16_384) as client,
    ):
        client.stop_reading()
        for _ in range(100):
            await client.send(request("GET", "/"))
        last = -1
        while last != len(b.calls):
            last = len(b.calls)
            await asyncio.sleep(0.1)
        assert last < 60, "not one reply for each: nobody reads them"
        assert g.buffered() < 1_000_000
        client.go_on_reading()
        for _ in range(100):
            assert len((await client.reply()).body) == 200_000
        assert len(b.calls) == 100


async def test_hundreds_of_slow_heads_do_not_slow_the_others() -> None:
    async with backend(hello) as b, gate(b.url) as g:
        clients = [connect(g.port) for _ in range(300)]
        slow = await asyncio.gather(*(c.__aenter__() for c in clients))
        for client in slow:
            client.transport.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        for _ in range(20):
            assert (await fetch(g.port, request())).status == 200
        g.advance(11)
        for client in slow:
            assert (await client.reply()).status == 408
        await asyncio.gather(*(c.__aexit__(None, None, None) for c in clients))
