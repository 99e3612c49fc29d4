"""Streamed replies: every chunking, line end and encoding comes out as it went in, and each piece at once."""

from __future__ import annotations

import asyncio
import gzip
import itertools

import pytest

from tests.kits.backend import Call, backend
from tests.kits.client import Broken, connect, request
from tests.kits.gate import gate
from tests.kits.stream import chunked, until
from tests.wire.exchange import pair

_JSON = (
    '{"id":"c","choices":[{"index":0,"delta":{"content":"é€𝄞 \u2028 \u0085"}}],"n":1.0,"big":12345678901234567890123}'
)
SSE: dict[str, bytes] = {
    "lf": b"".join(b"data: %b\n\n" % _JSON.encode() for _ in range(3)) + b"data: [DONE]\n\n",
    "crlf": b"data: a\r\n\r\nevent: x\r\ndata: b\r\n\r\ndata: [DONE]\r\n\r\n",
    "cr": b"data: a\r\revent: x\rdata: b\r\rdata: [DONE]\r\r",
    "mixed": b"data: a\n\r\ndata: b\r\n\ndata: c\r\r\n",
    "comments": b": hello\n\n:\n\n: keep-alive\ndata: x\n: between\ndata: y\n\n",
    "named events": b"event: response.created\ndata: {}\n\nid: 7\nretry: 10\ndata: {}\n\n",
    "bom": b"\xef\xbb\xbfdata: x\n\n",
    "no end": b"data: x\n\ndata: never closed",
    "not utf-8": b"data: \xff\xfe\xc3\n\n",
    "no space, no colon": b"data:x\ndata\nx\n\n\n\n",
    "an error inside": b'data: {"error":{"message":"m","type":"t","param":null,"code":500}}\n\ndata: [DONE]\n\n',
}


def _pieces(body: bytes, how: str) -> list[bytes]:
    if how == "whole":
        return [body]
    if how == "per event":
        parts = body.split(b"\n\n")
        return [p + b"\n\n" for p in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
    return [body[i : i + 1] for i in range(len(body))]


@pytest.mark.parametrize("usage", [False, True], ids=["opaque", "watched"])
@pytest.mark.parametrize("how", ["whole", "per event", "per byte"])
@pytest.mark.parametrize("body", SSE.values(), ids=SSE)
async def test_event_streams_cross_byte_for_byte(body: bytes, how: str, usage: bool) -> None:
    async def script(call: Call) -> None:
        await call.sse(_pieces(body, how))

    async with pair(script, usage=usage) as p:
        for route in ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/unknown"):
            _, seen = await p.same(request("POST", route, b'{"stream":true,"model":"m"}'))
            assert seen.reply.body == body


@pytest.mark.parametrize("how", ["whole", "per byte"])
async def test_an_encoded_stream_stays_encoded(how: str) -> None:
    body = gzip.compress(SSE["lf"])

    async def script(call: Call) -> None:
        assert call.value(b"accept-encoding") == b"gzip"
        await call.begin_chunked([(b"Content-Type", b"text/event-stream"), (b"Content-Encoding", b"gzip")])
        await call.chunk(*_pieces(body, how))
        await call.end_chunked()

    async with pair(script) as p:
        fields = [(b"Accept-Encoding", b"gzip")]
        _, seen = await p.same(request("POST", "/v1/chat/completions", b'{"stream":true}', fields))
        assert gzip.decompress(seen.reply.body) == SSE["lf"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_chunk_framing_itself_may_come_in_any_pieces(size: int) -> None:
    wire = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"5;ext=1\r\ndata:\r\n003\r\n x\n\r\nA\r\n0123456789\r\n"
        + chunked(b"\n\n", trailers=b"X-Late: 1\r\n")
    )

    async def script(call: Call) -> None:
        await call.trickle(wire, size)

    async with pair(script) as p:
        _, seen = await p.same(request("POST", "/v1/chat/completions", b"{}"))
        assert seen.reply.body == b"data: x\n0123456789\n\n"
        assert seen.reply.trailers == [(b"X-Late", b"1")]


async def test_lock_step_each_piece_arrives_before_the_next_is_made() -> None:
    turn: asyncio.Queue[None] = asyncio.Queue()

    async def script(call: Call) -> None:
        await call.begin_sse()
        for i in range(50):
            await turn.get()
            await call.chunk(b"data: %d\n\n" % i)
        await turn.get()
        await call.end_chunked()

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/chat/completions", b'{"stream":true}'))
        assert (await client.head()).status == 200, "the head comes before the first piece"
        for i in range(50):
            turn.put_nowait(None)
            assert await client.chunk() == b"data: %d\n\n" % i
        turn.put_nowait(None)
        assert await client.chunk() == b""


async def test_lock_step_upwards_too() -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(call: Call) -> None:
        async for piece in call.body_pieces():
            got.put_nowait(piece)
        await call.reply(b"done")

    async with backend(script, read_body=False) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/files", None, [(b"Transfer-Encoding", b"chunked")]))
        for i in range(30):
            piece = b"piece %d" % i
            await client.send(chunked(piece, end=False))
            assert await asyncio.wait_for(got.get(), 5) == piece
        await client.send(chunked())
        assert (await client.reply("POST")).body == b"done"
        await client.send(request("POST", "/v1/files", None, [(b"Content-Length", b"9")]))
        for part in (b"abc", b"def", b"ghi"):
            await client.send(part)
            assert await asyncio.wait_for(got.get(), 5) == part
        assert (await client.reply("POST")).body == b"done"


async def test_both_directions_at_once() -> None:
    """A backend may answer while it still reads: an echo in lock-step."""

    async def script(call: Call) -> None:
        await call.begin_chunked()
        async for piece in call.body_pieces():
            await call.chunk(piece.upper())
        await call.end_chunked()

    async with backend(script, read_body=False) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("POST", "/x", None, [(b"Transfer-Encoding", b"chunked")]))
        assert (await client.head()).status == 200
        for word in (b"one", b"two", b"three"):
            await client.send(chunked(word, end=False))
            assert await client.chunk() == word.upper()
        await client.send(chunked())
        assert await client.chunk() == b""


async def test_many_streams_do_not_mix() -> None:
    async def script(call: Call) -> None:
        await call.begin_sse()
        for i in range(20):
            await call.chunk(b"data: %b-%d\n\n" % (call.target[1:], i))
            await asyncio.sleep(0)
        await call.end_chunked()

    async def one(port: int, name: str) -> None:
        async with connect(port) as client:
            for _ in range(3):
                reply = await client.ask(request("POST", f"/{name}", b"{}"))
                assert reply.body == b"".join(b"data: %b-%d\n\n" % (name.encode(), i) for i in range(20))

    async with backend(script) as b, gate(b.url) as g:
        await asyncio.gather(*(one(g.port, f"s{i}") for i in range(40)))
        await g.settled(120)
        assert g.backend_connections()[1] <= 41, "connections are used again"


async def test_a_slow_reader_slows_the_backend_and_costs_little_memory() -> None:
    piece = b"x" * 65_536
    sent = 0

    async def script(call: Call) -> None:
        nonlocal sent
        await call.begin_chunked()
        for _ in range(400):  # 26 MB
            await call.send(chunked(piece, end=False), timeout=30)
            sent += len(piece)
        await call.end_chunked()

    async with backend(script, sndbuf=65_536) as b, gate(b.url) as g, connect(g.port, rcvbuf=65_536) as client:
        client.stop_reading()
        await client.send(request("POST", "/v1/chat/completions", b"{}"))
        call = await b.called()
        most = await _stalled(lambda: sent, g.buffered)
        assert call.stream.blocked, "the backend's send waits"
        assert sent < 12_000_000, "what the kernel's buffers take, not the whole reply"
        assert most < 1_000_000, "user memory stays small"
        client.go_on_reading()
        reply = await client.reply("POST", timeout=20)
        assert len(reply.body) == 400 * len(piece)
        await g.settled()


async def test_a_backend_that_reads_slowly_slows_the_client() -> None:
    go_on = asyncio.Event()
    sent = 0

    async def script(call: Call) -> None:
        call.stream.stop_reading()
        await go_on.wait()
        call.stream.go_on_reading()
        size = await call.drain_body(timeout=20)
        await call.reply(b"%d" % size)

    async def upload(client: object) -> None:
        nonlocal sent
        for _ in range(400):
            await c.send(b"y" * 65_536, timeout=30)
            sent += 65_536

    async with backend(script, read_body=False, rcvbuf=65_536) as b, gate(b.url) as g, connect(g.port) as c:
        await c.send(request("POST", "/v1/files", None, [(b"Content-Length", b"%d" % (400 * 65_536))]))
        task = asyncio.ensure_future(upload(c))
        await b.called()
        most = await _stalled(lambda: sent, g.buffered)
        assert sent < 16_000_000
        assert most < 1_500_000
        go_on.set()
        await task
        assert (await c.reply("POST", timeout=20)).body == b"%d" % (400 * 65_536)


async def _stalled(count: object, size: object) -> int:
    """Wait until a counter has not moved for a while; the most bytes that were buffered meanwhile."""
    most, last, same = 0, -1, 0
    while same < 25:
        await asyncio.sleep(0.01)
        now = count()  # type: ignore[operator]
        same, last = (same + 1, last) if now == last and now else (0, now)
        most = max(most, size())  # type: ignore[operator]
    return most


async def test_a_paused_stream_goes_on_for_the_next_request_on_the_connection() -> None:
    """A connection that was paused for a slow reader is not left paused in the pool."""
    body = b"z" * 12_000_000

    async def script(call: Call) -> None:
        await call.reply(body)

    async with backend(script) as b, gate(b.url) as g:
        for n in range(1, 6):
            async with connect(g.port, rcvbuf=32_768) as client:
                client.stop_reading()
                await client.send(request("GET", "/big"))
                await b.called(n)
                await until(lambda: any(c.write_paused for c in g.app.server.connections))
                client.go_on_reading()
                assert len((await client.reply(timeout=10)).body) == len(body)
        await g.settled(5)
        assert b.accepted <= 2, "the backend's connection was used again"


@pytest.mark.parametrize("length", [65_536 - 60, 65_536 - 10, 65_536 - 5, 65_536 - 1, 65_536, 65_537])
async def test_the_last_chunk_crossing_the_write_limit_does_not_stop_the_pooled_connection(length: int) -> None:
    """The end of a reply may be what makes the client's side pause; the backend's connection is in the pool by then."""

    async def script(call: Call) -> None:
        if call.index:
            await call.reply(b"second")
            return
        await call.begin_chunked()
        await call.send(chunked(b"a" * 4_000_000, b"b" * length))

    async with backend(script) as b, gate(b.url) as g, connect(g.port, rcvbuf=32_768) as client:
        client.stop_reading()
        await client.send(request("GET", "/first"))
        await b.called()
        await until(lambda: any(c.write_paused for c in g.app.server.connections))
        client.go_on_reading()
        assert len((await client.reply(timeout=10)).body) == 4_000_000 + length
        async with connect(g.port) as other:
            assert (await other.ask(request("GET", "/second"))).body == b"second"


async def test_a_stream_cut_by_the_backend_is_broken_for_the_client() -> None:
    async def script(call: Call) -> None:
        await call.begin_sse()
        await call.chunk(b"data: 1\n\n")
        call.close()

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/chat/completions", b'{"stream":true}'))
        with pytest.raises(Broken) as broken:
            await client.reply("POST")
        first, told = broken.value.partial.split(b"\n\n", 1)
        assert first == b"data: 1"
        # watched: between two events there is room to say why; the body is broken all the same
        assert told.startswith(b'data: {"error":{"message":"The backend broke off') and b"[DONE]" not in told
        x = await g.settled()
        assert x.fault == "backend_cut"


async def test_in_the_opaque_tier_nothing_is_added_to_a_broken_stream() -> None:
    async def script(call: Call) -> None:
        await call.begin_sse()
        await call.chunk(b"data: 1\n\n")
        call.close()

    async with backend(script) as b, gate(b.url, usage=False) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/chat/completions", b'{"stream":true}'))
        with pytest.raises(Broken) as broken:
            await client.reply("POST")
        assert broken.value.partial == b"data: 1\n\n"


def test_the_chunkings_are_what_they_say() -> None:
    for body, how in itertools.product(SSE.values(), ["whole", "per event", "per byte"]):
        assert b"".join(_pieces(body, how)) == body
