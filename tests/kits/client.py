"""A raw HTTP/1.1 client: sends bytes as given, shows each piece of a reply as it came, waits with deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.kits.stream import DEADLINE, Broken, Fields, Stream, parse_head, read_chunk, read_trailers, values

__all__ = ["DEADLINE", "Broken", "Client", "Reply", "connect", "fetch", "request"]


@dataclass
class Reply:
    """A reply as it came. pieces: the data of each chunk, or the body in one. interims: the 1xx before it."""

    line: bytes
    fields: Fields
    body: bytes = b""
    pieces: list[bytes] = field(default_factory=list)
    trailers: Fields = field(default_factory=list)
    interims: list[Reply] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.line.split(b" ", 2)[1])

    def values(self, name: bytes) -> list[bytes]:
        return values(self.fields, name)

    def value(self, name: bytes) -> bytes | None:
        found = self.values(name)
        assert len(found) < 2, found
        return found[0] if found else None

    @property
    def chunked(self) -> bool:
        return self.value(b"transfer-encoding") == b"chunked"

    @property
    def closes(self) -> bool:
        return self.value(b"connection") == b"close"


class Client(Stream):
    """One connection to a server."""

    async def head(self, timeout: float = DEADLINE) -> Reply:
        """The next head, a 1xx too."""
        return Reply(*parse_head(await self.until(b"\r\n\r\n", timeout)))

    async def final_head(self, timeout: float = DEADLINE) -> Reply:
        """The next head that is not a 1xx; those are in ``interims``."""
        interims = []
        while 100 <= (reply := await self.head(timeout)).status < 200 and reply.status != 101:
            interims.append(reply)
        reply.interims = interims
        return reply

    async def reply(self, method: str = "GET", timeout: float = DEADLINE) -> Reply:
        """A whole reply, by its framing. Raises Broken when it breaks off."""
        reply = await self.final_head(timeout)
        await self.body(reply, method, timeout)
        return reply

    async def body(self, reply: Reply, method: str = "GET", timeout: float = DEADLINE) -> bytes:
        """The rest of a reply whose head has been read."""
        try:
            await self._body(reply, method, timeout)
        except Broken as e:
            raise Broken(b"".join(reply.pieces) + e.partial, e.reset) from None
        reply.body = b"".join(reply.pieces)
        return reply.body

    async def _body(self, reply: Reply, method: str, timeout: float) -> None:
        if method == "HEAD" or reply.status in (101, 204, 304):
            return
        if reply.chunked:
            assert not reply.values(b"content-length"), reply.fields
            while data := (await read_chunk(self, timeout))[1]:
                reply.pieces.append(data)
            reply.trailers = await read_trailers(self, timeout)
        elif (length := reply.value(b"content-length")) is not None:
            if int(length):
                reply.pieces.append(await self.exactly(int(length), timeout))
        else:
            reply.pieces.append(await self.to_end(timeout))

    async def chunk(self, timeout: float = DEADLINE) -> bytes:
        """The next chunk's data; b"" for the last one."""
        return (await read_chunk(self, timeout))[1]

    async def ask(self, raw: bytes, method: str = "", timeout: float = DEADLINE) -> Reply:
        """Send a request and read its reply; the method is taken from the request."""
        await self.send(raw, timeout=timeout)
        return await self.reply(method or raw.partition(b" ")[0].decode(), timeout)


@contextlib.asynccontextmanager
async def connect(port: int, *, rcvbuf: int | None = None) -> AsyncIterator[Client]:
    """A connection to a local port, dropped at the end."""
    sock = socket.socket()
    try:
        if rcvbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            await loop.sock_connect(sock, ("127.0.0.1", port))
            _, client = await loop.create_connection(Client, sock=sock)
    except BaseException:
        sock.close()
        raise
    try:
        yield client
    finally:
        client.transport.abort()


async def fetch(port: int, raw: bytes, method: str = "", timeout: float = DEADLINE) -> Reply:
    """One request on a connection of its own."""
    async with connect(port) as client:
        return await client.ask(raw, method, timeout)


def request(
    method: str = "GET",
    target: str | bytes = "/v1/models",
    body: bytes | None = None,
    fields: Fields | None = None,
    *,
    host: bytes = b"gate.test",
    version: bytes = b"1.1",
) -> bytes:
    """A request's bytes; Content-Length is added for a body."""
    path = target.encode("latin-1") if isinstance(target, str) else target
    given = [(b"Host", host), *(fields or [])]
    if body is not None:
        given.append((b"Content-Length", b"%d" % len(body)))
    lines = b"".join(b"%b: %b\r\n" % f for f in given)
    return b"%b %b HTTP/%b\r\n%b\r\n%b" % (method.encode(), path, version, lines, body or b"")
