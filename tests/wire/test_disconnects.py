"""Whoever leaves: a client that goes costs the backend nothing more; a backend that goes never looks like a clean end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.kits.backend import Backend, Call, backend, full_listener, hello, raw_reply, silent
from tests.kits.client import Broken, Client, connect, fetch, request
from tests.kits.gate import Gate, gate
from tests.kits.stream import chunked, until

#: Seconds after which the backend's connection must be closed when the client has left.
GONE = 0.1
CHAT = request("POST", "/v1/chat/completions", b'{"stream":true}', [(b"Content-Type", b"application/json")])
Leave = Callable[[Client], None]
LEAVE: dict[str, Leave] = {"closes": Client.close, "resets": Client.reset}


async def _leave(client: Client, leave: Leave, call: Call, g: Gate, *, fault: str = "client_gone") -> None:
    """Leave; the backend's connection must be closed at once, everything given back, and one settle."""
    left = asyncio.get_running_loop().time()
    leave(client)
    assert await call.gone() - left < GONE
    x = await g.settled()
    assert x.fault == fault
    await g.idle()
    assert g.backend_connections()[0] == 0


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
async def test_client_leaves_before_the_head(leave: Leave) -> None:
    async def script(call: Call) -> None:
        await done.wait()

    done = asyncio.Event()
    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(CHAT)
        call = await b.called()
        await _leave(client, leave, call, g)
        assert (g.exchanges[0].status, g.exchanges[0].committed) == (0, False)
        done.set()


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
async def test_client_leaves_in_a_silence_of_the_stream(leave: Leave) -> None:
    async def script(call: Call) -> None:
        await call.begin_sse()
        await call.chunk(b"data: 1\n\n")
        await done.wait()

    done = asyncio.Event()
    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(CHAT)
        await client.head()
        assert await client.chunk() == b"data: 1\n\n"
        await _leave(client, leave, b.calls[0], g)
        assert (g.exchanges[0].status, g.exchanges[0].committed) == (200, True)
        done.set()


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
async def test_client_leaves_in_the_middle_of_the_stream(leave: Leave) -> None:
    async def script(call: Call) -> None:
        await call.begin_sse()
        while not call.stream.eof:
            await call.chunk(b"data: more\n\n")
            await asyncio.sleep(0.001)
        call.closing = True

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(CHAT)
        await client.head()
        for _ in range(5):
            await client.chunk()
        left = asyncio.get_running_loop().time()
        leave(client)
        await until(lambda: b.calls[0].stream.gone_at)
        assert (b.calls[0].stream.gone_at or 0) - left < GONE
        assert (await g.settled()).fault == "client_gone"


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
@pytest.mark.parametrize("framing", [(b"Content-Length", b"1000"), (b"Transfer-Encoding", b"chunked")])
async def test_client_leaves_during_its_upload(leave: Leave, framing: tuple[bytes, bytes]) -> None:
    async def script(call: Call) -> None:
        await call.stream.exactly(5)
        await done.wait()

    done = asyncio.Event()
    async with backend(script, read_body=False) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/files", None, [framing]) + b"5\r\nhello\r\n")
        call = await b.called()
        await until(lambda: call.stream.received > len(call.raw_head))
        await _leave(client, leave, call, g)
        done.set()


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
async def test_client_leaves_while_the_backend_does_not_read_its_upload(leave: Leave) -> None:
    """The client's socket is left unread then, so its end is not told by reading: the sweep looks for it."""

    async def script(call: Call) -> None:
        call.stream.stop_reading()
        await done.wait()
        call.stream.go_on_reading()
        await call.gone()

    done = asyncio.Event()
    async with backend(script, read_body=False, rcvbuf=16_384) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/files", None, [(b"Content-Length", b"100000000")]))
        await b.called()
        while not g.app.server.unread:
            await client.send(b"x" * 65_536)
        leave(client)
        assert (await g.settled()).fault == "client_gone"
        await g.idle()
        done.set()


async def test_client_leaves_with_requests_sent_ahead() -> None:
    async def script(call: Call) -> None:
        await call.gone()

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("GET", "/1") + request("GET", "/2") + request("GET", "/3"))
        call = await b.called()
        await _leave(client, Client.close, call, g)
        assert len(b.calls) == 1, "those that were waiting are not sent"


async def test_client_leaves_while_connecting_to_the_backend() -> None:
    async with full_listener() as port:
        local = {"url": f"http://127.0.0.1:{port}", "timeouts": {"connect": "300ms"}}
        async with gate({"local": local}) as g, connect(g.port) as client:
            await client.send(CHAT)
            await until(lambda: g.in_flight)
            client.close()
            assert (await g.settled()).fault == "client_gone"
            await g.idle()
            assert (await fetch(g.port, CHAT)).status == 504, "the connect has a limit of its own"


async def test_client_leaves_at_every_moment_and_nothing_leaks() -> None:
    """Leave after n turns of the loop, for every n that can matter."""

    async def script(call: Call) -> None:
        await call.begin_sse()
        await call.chunk(b"data: 1\n\n", b"data: 2\n\n")
        await call.end_chunked()

    async with backend(script) as b, gate(b.url) as g:
        for turns in range(60):
            async with connect(g.port) as client:
                client.transport.write(CHAT)
                for _ in range(turns):
                    await asyncio.sleep(0)
                client.reset() if turns % 2 else client.close()
        await g.idle()
        ids = [x.id for x in g.exchanges]
        assert len(ids) == len(set(ids)), "each settles once"
        assert (await fetch(g.port, CHAT)).body == b"data: 1\n\ndata: 2\n\n"
        assert b.open <= 62


# -- the backend leaves


CUTS: dict[str, tuple[bytes, bytes]] = {
    "content-length short": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", b"hello"),
    "no last chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"hello"),
    "inside a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", b"hello"),
    "inside a chunk's size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1", b"hello"),
    "inside the last chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", b"hello"),
    "inside the trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n",
        b"hello",
    ),
    "a bad chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n", b"hello"),
    "a chunk without its end": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        b"hello",
    ),
    "an event stream": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
        b"data: 1\n\n",
    ),
    "an event stream with a length": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\ndata: 1\n\n",
        b"data: 1\n\n",
    ),
    "an event stream inside an event": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata: \r\n",
        b"data: ",
    ),
    "right after the head": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b""),
}


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("end", ["close", "reset", "half close"])
@pytest.mark.parametrize(("wire", "body"), CUTS.values(), ids=CUTS)
async def test_a_cut_reply_is_a_broken_body_for_the_client(wire: bytes, body: bytes, end: str, version: bytes) -> None:
    async def script(call: Call) -> None:
        await call.send(wire)
        await passed.wait()
        {"close": call.close, "reset": call.reset, "half close": call.half_close}[end]()

    passed = asyncio.Event()
    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(CHAT.replace(b"HTTP/1.1", b"HTTP/" + version, 1))
        reply = await client.head()
        assert reply.status == 200
        passed.set()
        with pytest.raises(Broken) as broken:
            await client.body(reply, "POST")
        partial = broken.value.partial
        if b"event-stream" in wire:
            partial, event, error = partial.partition(b'data: {"error":')
            assert not event or (reply.value(b"content-length") is None and error.endswith(b"}\n\n"))
        assert body.startswith(partial), "nothing but the backend's bytes"
        if reply.value(b"content-length") is None and version == b"1.0":
            assert broken.value.reset, "where the end of the connection is the end of the body only a reset tells"
        else:
            assert partial == body, "what came before the cut is passed"
        x = await g.settled()
        assert (x.status, x.fault) == (200, "backend_cut")
        await g.idle()
        assert g.backend_connections() == (0, 0)


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_reset_of_a_body_without_a_length_is_broken_too(version: bytes) -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await passed.wait()
        call.reset()

    passed = asyncio.Event()
    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(CHAT.replace(b"HTTP/1.1", b"HTTP/" + version, 1))
        reply = await client.head()
        passed.set()
        with pytest.raises(Broken):
            await client.body(reply, "POST")
        assert (await g.settled()).fault == "backend_cut"


async def _status(g: Gate, raw: bytes = CHAT) -> int:
    reply = await fetch(g.port, raw)
    assert reply.value(b"content-type") == b"application/json" and b'"error"' in reply.body
    return reply.status


@pytest.mark.parametrize("end", [Call.close, Call.reset, Call.half_close])
@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 103 Hints\r\n\r\n"]
)
async def test_a_backend_that_goes_before_its_head_is_a_502(sent: bytes, end: Callable[[Call], None]) -> None:
    async def script(call: Call) -> None:
        if sent:
            await call.send(sent)
        end(call)

    async with backend(script) as b, gate(b.url) as g:
        await asyncio.sleep(0)
        assert await _status(g) == 502
        x = await g.settled()
        assert x.fault in ("backend_reset", "backend_protocol")
        await g.idle()


async def test_a_backend_that_is_not_there_is_a_502_at_once() -> None:
    async with backend(hello) as b:
        url = b.url
    async with gate(url) as g:
        started = asyncio.get_running_loop().time()
        assert await _status(g) == 502
        assert asyncio.get_running_loop().time() - started < 2.0  # no waiting for a timeout; some milliseconds on an idle machine
        assert (await g.settled()).fault == "backend_connect"


async def test_a_backend_that_comes_back_is_used_again() -> None:
    async with backend(hello) as first:
        port = first.port
    async with gate(f"http://127.0.0.1:{port}") as g, connect(g.port) as client:
        assert (await client.ask(CHAT)).status == 502
        async with backend(hello, port=port):
            assert (await client.ask(CHAT)).status == 200


def _timeouts(b: Backend, **given: str) -> dict[str, object]:
    return {"local": {"url": b.url, "timeouts": given}}


async def _late(g: Gate, client: Client, seconds: float) -> None:
    """Nothing has happened just before the limit; at the limit it does."""
    g.advance(seconds - 1)
    await asyncio.sleep(0)
    assert not client.received and not g.exchanges
    g.advance(1.1)


async def test_a_silent_backend_is_a_504_at_the_configured_time() -> None:
    async with backend(silent) as b, gate(_timeouts(b, first_byte="60s")) as g, connect(g.port) as client:
        await client.send(CHAT)
        call = await b.called()
        await _late(g, client, 60)
        reply = await client.reply("POST")
        assert (reply.status, reply.value(b"x-should-retry")) == (504, b"false")
        assert await call.gone()
        assert (await g.settled()).fault == "backend_timeout"


async def test_a_head_that_drips_in_does_not_put_the_limit_off() -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\n")
        for i in range(1000):
            await asyncio.sleep(0)
            if call.stream.eof:
                break
            await call.send(b"X-%d: y\r\n" % i)
            g.advance(0.5)
        await call.gone()

    async with backend(script) as b, gate(_timeouts(b, first_byte="60s")) as g:
        assert await _status(g) == 504


async def test_the_first_byte_limit_does_not_run_during_the_upload() -> None:
    async def script(call: Call) -> None:
        await call.read_body()
        await call.reply(b"ok")

    async with (
        backend(script, read_body=False) as b,
        gate(_timeouts(b, first_byte="60s"), limits={"body_grace": "1h"}) as g,
        connect(g.port) as client,
    ):
        await client.send(request("POST", "/v1/files", None, [(b"Content-Length", b"2")]) + b"a")
        await b.called()
        g.advance(600)
        await client.send(b"b")
        assert (await client.reply("POST")).status == 200


async def test_a_stream_that_falls_silent_is_cut_at_the_idle_limit() -> None:
    async def script(call: Call) -> None:
        await call.begin_sse()
        await call.chunk(b"data: 1\n\n")
        await call.gone()

    async with backend(script) as b, gate(_timeouts(b, idle="60s")) as g, connect(g.port) as client:
        await client.send(CHAT)
        reply = await client.head()
        assert await client.chunk() == b"data: 1\n\n"
        g.sweep()  # it has been heard
        g.advance(59)
        assert not g.exchanges
        g.advance(2)
        with pytest.raises(Broken):
            await client.body(reply, "POST")
        assert (await g.settled()).fault == "backend_idle"
        await g.idle()


async def test_a_stream_that_goes_on_is_never_cut() -> None:
    async def script(call: Call) -> None:
        await call.begin_sse()
        for _ in range(20):
            await turn.get()
            await call.chunk(b"data: 1\n\n")
        await call.end_chunked()

    turn: asyncio.Queue[None] = asyncio.Queue()
    async with backend(script) as b, gate(_timeouts(b, idle="60s", first_byte="60s")) as g, connect(g.port) as client:
        await client.send(CHAT)
        await client.head()
        for _ in range(20):
            g.advance(50)
            turn.put_nowait(None)
            assert await client.chunk() == b"data: 1\n\n"
            g.sweep()
        assert await client.chunk() == b""


async def test_a_slow_reader_is_not_a_silent_backend() -> None:
    async def script(call: Call) -> None:
        await call.begin_chunked()
        for _ in range(100):
            await call.send(chunked(b"x" * 100_000, end=False), timeout=20)
        await call.end_chunked()

    async with backend(script) as b:
        limits = {"write_timeout": "1h"}
        async with gate(_timeouts(b, idle="60s"), limits=limits) as g, connect(g.port, rcvbuf=16_384) as client:
            client.stop_reading()
            await client.send(CHAT)
            await until(lambda: any(c.write_paused for c in g.app.server.connections))
            g.advance(600)
            client.go_on_reading()
            assert len((await client.reply("POST", timeout=10)).body) == 10_000_000


async def test_an_upload_that_the_backend_does_not_take_ends_in_a_504() -> None:
    async def script(call: Call) -> None:
        call.stream.stop_reading()
        await done.wait()
        call.stream.go_on_reading()
        await call.gone()

    done = asyncio.Event()
    async with (
        backend(script, read_body=False, rcvbuf=16_384) as b,
        gate(_timeouts(b, first_byte="60s")) as g,
        connect(g.port) as client,
    ):
        await client.send(request("POST", "/v1/files", None, [(b"Content-Length", b"90000000")]))
        while not g.app.server.unread:
            await client.send(b"x" * 65_536)
        g.advance(59)
        await asyncio.sleep(0)
        assert not client.received
        g.advance(2)
        assert (await client.reply("POST")).status == 504
        done.set()


# -- pooled connections


async def _warm(g: Gate, n: int) -> None:
    """One finished exchange, whose connection is then in the pool."""
    assert (await fetch(g.port, request("GET", "/warm"))).status == 200
    await g.settled(n)
    assert g.backend_connections() == (0, 1)


@pytest.mark.parametrize("end", [Call.close, Call.reset])
async def test_a_pooled_connection_that_was_closed_costs_no_request(end: Callable[[Call], None]) -> None:
    """The backend closes right after its reply, and says nothing of it."""

    async def script(call: Call) -> None:
        await call.reply(call.target)
        end(call)

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        for i in range(40):
            reply = await client.ask(request("POST", f"/{i}", b"{}"))
            assert reply.body == b"/%d" % i
        assert [c.target for c in b.calls] == [b"/%d" % i for i in range(40)], "none was sent twice"


async def test_a_pooled_connection_that_dies_as_the_request_goes_out_is_retried_once() -> None:
    """The backend has closed, but its FIN is not here yet when the request goes out: nothing was taken, so it may be
    sent again."""

    async def script(call: Call) -> None:
        if call.target == b"/warm":
            await call.reply(b"ok")
            b.streams.discard(call.stream)
            call.stream.transport.abort()  # in the same turn as the client's next request
            call.closing = True
        else:
            await call.reply(b"fresh")

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("GET", "/warm") + request("POST", "/once", b"{}"))
        assert (await client.reply()).body == b"ok"
        assert (await client.reply()).body == b"fresh"
        assert [c.target for c in b.calls] == [b"/warm", b"/once"]


async def test_a_post_that_was_read_is_never_sent_twice() -> None:
    """On a pooled connection: the backend read the request and closed without a word. It may have acted on it."""

    async def script(call: Call) -> None:
        if call.target == b"/warm":
            await call.reply(b"ok")
        else:
            call.close()

    async with backend(script) as b, gate(b.url) as g:
        await _warm(g, 1)
        assert await _status(g, request("POST", "/act", b"{}")) == 502
        assert [c.target for c in b.calls] == [b"/warm", b"/act"]
        assert (await g.settled(2)).fault == "backend_reset"


async def test_a_get_is_retried_only_on_a_fresh_connection_and_once() -> None:
    async def script(call: Call) -> None:
        if call.target == b"/warm":
            await call.reply(b"ok")
        else:
            call.close()

    async with backend(script) as b, gate(b.url) as g:
        await _warm(g, 1)
        assert await _status(g, request("GET", "/x")) == 502
        assert 2 <= len(b.calls) <= 3


async def test_no_retry_on_a_fresh_connection() -> None:
    async with backend(_close) as b, gate({"local": {"url": b.url, "keepalive": "0s"}}) as g:
        assert await _status(g) == 502
        assert len(b.calls) == 1


async def _close(call: Call) -> None:
    call.close()


async def test_no_retry_once_a_byte_of_the_reply_is_here() -> None:
    async def script(call: Call) -> None:
        if call.target == b"/warm":
            await call.reply(b"ok")
        else:
            await call.send(b"H")
            call.close()

    async with backend(script) as b, gate(b.url) as g:
        await _warm(g, 1)
        assert await _status(g, request("GET", "/x")) == 502
        assert len(b.calls) == 2


async def test_idle_backend_connections_are_closed_before_the_backend_does() -> None:
    async with backend(hello) as b, gate({"local": {"url": b.url, "keepalive": "4s"}}) as g:
        await _warm(g, 1)
        g.advance(3.9)
        assert g.backend_connections() == (0, 1)
        g.advance(0.2)
        assert g.backend_connections() == (0, 0)
        await until(lambda: b.open == 0)


async def test_raw_reply_helper_is_strict() -> None:
    """The kit itself: a reset shows as a reset."""
    async with (
        backend(raw_reply(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", reset=True)) as b,
        connect(b.port) as c,
    ):
        await c.send(request())
        with pytest.raises(Broken) as broken:
            await c.reply()
        assert broken.value.reset
