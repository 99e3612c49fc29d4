"""Replies that mean harm, or a backend gone mad: a 502 or a broken body, never a second reply, never a poisoned pool."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from tests.kits.backend import Call, backend, raw_reply
from tests.kits.client import Broken, Client, Reply, connect, request
from tests.kits.gate import gate
from tests.kits.stream import chunked, until

OK = b"HTTP/1.1 200 OK\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


@dataclass(frozen=True)
class Vector:
    """status: the client's; None: either 502 or ``body``. broken: the body must break off after ``body``."""

    raw: bytes
    status: int | None = 502
    body: bytes = b""
    broken: bool = False
    method: str = "GET"


def _chunks(body: bytes, sane: bytes = b"") -> Vector:
    return Vector(OK + b"Transfer-Encoding: chunked\r\n\r\n" + body, 200, sane, broken=True)


VECTORS = {
    "CL and TE": Vector(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + EVIL),
    "TE and CL": Vector(OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + EVIL),
    "differing CL": Vector(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok" + EVIL),
    "CL list": Vector(OK + b"Content-Length: 2, 2\r\n\r\nok" + EVIL),
    "CL -1": Vector(OK + b"Content-Length: -1\r\n\r\nok" + EVIL),
    "CL overflow": Vector(OK + b"Content-Length: 18446744073709551618\r\n\r\nok" + EVIL),
    "CL empty": Vector(OK + b"Content-Length: \r\n\r\nok"),
    "TE xchunked": Vector(OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + EVIL),
    "TE gzip, chunked": Vector(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "TE twice": Vector(OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "TE identity": Vector(OK + b"Transfer-Encoding: identity\r\n\r\nok"),
    "NUL in a value": Vector(OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n"),
    "bare CR in a value": Vector(OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n"),
    "an empty name": Vector(OK + b": a\r\nContent-Length: 0\r\n\r\n"),
    "a space before the colon": Vector(OK + b"Content-Length : 2\r\n\r\nok"),
    "no colon": Vector(OK + b"nonsense\r\n\r\n"),
    "garbage": Vector(bytes(range(256)) * 4),
    "HTTP/0.9": Vector(b"<html>hello</html>\r\n"),
    "another protocol": Vector(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "TLS": Vector(b"\x15\x03\x01\x00\x02\x02\x46"),
    "a request": Vector(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a status of letters": Vector(b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n"),
    "a status of two digits": Vector(b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    "a status of four digits": Vector(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    "status 000": Vector(b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n"),
    "status 099": Vector(b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"),
    "HTTP/3.0": Vector(b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "HTTP/9.9": Vector(b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "101 unasked": Vector(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + EVIL),
    "101 unasked, no upgrade": Vector(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + EVIL),
    "100 interim replies": Vector(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 100 + EVIL),
    "an interim reply with a body": Vector(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\nevil" + EVIL),
    "2,000 fields": Vector(OK + b"".join(b"X-%d: y\r\n" % i for i in range(2000)) + b"Content-Length: 0\r\n\r\n"),
    "a field of 5 MB": Vector(OK + b"X: " + b"a" * 5_000_000),
    "a reason of 5 MB": Vector(b"HTTP/1.1 200 " + b"a" * 5_000_000),
    "Connection hides the length": Vector(OK + b"Connection: content-length\r\nContent-Length: 2\r\n\r\nok"),
    "a folded field": Vector(OK + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", None, b"ok"),
    "bare LF": Vector(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", None, b"ok"),
    "surplus after the body": Vector(OK + b"Content-Length: 2\r\n\r\nok" + EVIL, 200, b"ok"),
    "surplus after the last chunk": Vector(
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + EVIL, 200, b"ok"
    ),
    "a body with 204": Vector(b"HTTP/1.1 204 No Content\r\n\r\n" + EVIL, 204),
    "a body with 204 and a length": Vector(b"HTTP/1.1 204 No Content\r\nContent-Length: 45\r\n\r\n" + EVIL, 204),
    "a body with 304": Vector(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 45\r\n\r\n" + EVIL, 304),
    "a body for HEAD": Vector(OK + b"Content-Length: 45\r\n\r\n" + EVIL, 200, method="HEAD"),
    "a chunked body for HEAD": Vector(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(EVIL), 200, method="HEAD"),
    "an upgrade offered with 200": Vector(
        OK + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"
    ),
    "chunk size 0x": _chunks(b"0x2\r\nok\r\n0\r\n\r\n"),
    "chunk size -1": _chunks(b"-1\r\nok\r\n0\r\n\r\n"),
    "chunk size overflow": _chunks(b"2\r\nok\r\n10000000000000002\r\nok\r\n0\r\n\r\n", b"ok"),
    "chunk without its end": _chunks(b"2\r\nokX\r\n0\r\n\r\n", b"ok"),
    "chunk size empty": _chunks(b"2\r\nok\r\n\r\n\r\n", b"ok"),
    "a trailer flood": _chunks(b"2\r\nok\r\n0\r\n" + b"X: y\r\n" * 3000 + b"\r\n", b"ok"),
    "a trailer of 5 MB": _chunks(b"2\r\nok\r\n0\r\nX: " + b"a" * 5_000_000, b"ok"),
    "a trailer with CL": _chunks(b"2\r\nok\r\n0\r\nContent-Length: 3\r\n\r\n", b"ok"),
}  # fmt: skip


@pytest.mark.parametrize("step", [0, 1], ids=["whole", "bytewise"])
@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
async def test_vector(vector: Vector, step: int) -> None:
    async def script(call: Call) -> None:
        if call.target == b"/after":
            await call.reply(b"fine")
            return
        await call.trickle(vector.raw, size)
        await over.wait()

    size = len(vector.raw) if not step else 1 if len(vector.raw) < 5000 else len(vector.raw) // 1000
    over = asyncio.Event()
    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request(vector.method, "/first"))
        await _check(vector, client)
        over.set()
        await g.idle()
        async with connect(g.port) as other:
            assert (await other.ask(request("GET", "/after"))).body == b"fine", "the next request is not poisoned"
        assert [c.target for c in b.calls] == [b"/first", b"/after"], "no retry"


async def _check(vector: Vector, client: Client) -> None:
    reply = await client.final_head()
    if vector.broken:
        with pytest.raises(Broken) as broken:
            await client.body(reply, vector.method)
        assert (reply.status, broken.value.partial) == (vector.status, vector.body)
        return
    await client.body(reply, vector.method)
    if vector.status == 502 or (vector.status is None and reply.status == 502):
        _is_our_502(reply)
    else:
        assert (reply.status, reply.body) == (vector.status or 200, vector.body)
    assert not client.buffer, "one request, one reply"


def _is_our_502(reply: Reply) -> None:
    assert reply.status == 502
    assert reply.value(b"content-type") == b"application/json"
    assert b'"code":"bad_gateway"' in reply.body


@pytest.mark.parametrize("tail", [b"X: y\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_a_head_that_never_ends_is_cut_off(tail: bytes) -> None:
    async def script(call: Call) -> None:
        await call.send(OK if tail.startswith(b"X") else b"")
        while not call.stream.eof:
            await call.send(tail * 100)
        call.closing = True

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request())
        _is_our_502(await client.reply())


async def test_many_tiny_chunks_cost_little() -> None:
    """65,536 chunks of one byte in large writes: the body is joined per read, not per chunk."""
    wire = OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 65_536 + b"0\r\n\r\n"
    async with backend(raw_reply(wire)) as b, gate(b.url) as g, connect(g.port) as client:
        reply = await client.ask(request())
        assert len(reply.body) == 65_536
        assert len(reply.pieces) < 2000


async def test_bytes_on_an_idle_connection_are_not_the_next_reply() -> None:
    async def script(call: Call) -> None:
        await call.reply(b"first" if call.index == 0 else b"second")
        if call.index == 0:
            await now.wait()
            await call.send(EVIL)

    now = asyncio.Event()
    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        assert (await client.ask(request())).body == b"first"
        await g.settled()
        now.set()
        await until(lambda: g.backend_connections() == (0, 0))
        assert (await client.ask(request())).body == b"second"


async def test_bytes_before_any_request_are_not_a_reply() -> None:
    """A backend that speaks first: the connection is dropped, not used."""
    async with backend(raw_reply(b"")) as b:
        await b.stop_listening()

        class Rude(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                transport.write(EVIL)  # type: ignore[attr-defined]

        server = await asyncio.get_running_loop().create_server(Rude, "127.0.0.1", 0)
        try:
            async with gate(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as g:
                await until(lambda: g.backend_connections() == (0, 0))
        finally:
            server.close()


def test_there_are_enough_of_them() -> None:
    assert len(VECTORS) >= 20
