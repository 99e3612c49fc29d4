"""A scripted backend on a raw socket: it keeps the exact bytes of each request and sends exactly what a test says.

async def script(call: Call) -> None:
    await call.reply(b"hello")

async with backend(script) as b:
    ... b.url, b.calls
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from tests.kits.stream import (
    DEADLINE,
    Broken,
    Fields,
    Stream,
    chunked,
    parse_head,
    read_chunk,
    read_trailers,
    until,
    values,
)

Script = Callable[["Call"], Awaitable[None]]


def head(status: int = 200, fields: Fields | None = None, reason: bytes = b"OK", *more: tuple[bytes, bytes]) -> bytes:
    """A reply's head, nothing added."""
    lines = b"".join(b"%b: %b\r\n" % f for f in [*(fields or []), *more])
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines)


class Call:
    """One request as it came in, and the ways to answer it."""

    def __init__(self, stream: Stream, raw_head: bytes, index: int) -> None:
        self.stream = stream
        self.index = index  # among all calls of the backend
        self.raw_head = raw_head
        start, self.fields = parse_head(raw_head)
        self.method, self.target, self.version = start.split(b" ", 2)
        self.raw_body = b""
        self.body = b""
        self.trailers: Fields = []
        self.complete = False
        self.closing = False

    def value(self, name: bytes) -> bytes | None:
        """The one value of a field; an assertion when it is repeated."""
        found = values(self.fields, name)
        assert len(found) < 2, found
        return found[0] if found else None

    # -- the request's body

    async def read_body(self, timeout: float = DEADLINE) -> bytes:
        async for _ in self.body_pieces(timeout):
            pass
        return self.body

    async def body_pieces(self, timeout: float = DEADLINE) -> AsyncIterator[bytes]:
        """The body piece by piece as it comes, by its framing."""
        if values(self.fields, b"transfer-encoding") == [b"chunked"]:
            assert not values(self.fields, b"content-length"), "both framings"
            while True:
                line, data = await read_chunk(self.stream, timeout)
                self.raw_body += line + (data + b"\r\n" if data else b"")
                if not data:
                    break
                self.body += data
                yield data
            self.trailers = await read_trailers(self.stream, timeout)
        else:
            left = int(self.value(b"content-length") or 0)
            while left:
                data = await self.stream.some(timeout, most=left)
                if not data:
                    raise Broken(self.body, reset=False)
                left -= len(data)
                self.body += data
                self.raw_body += data
                yield data
        self.complete = True

    async def drain_body(self, timeout: float = DEADLINE) -> int:
        """Read a body without keeping it; returns its length."""
        size = 0
        async for piece in self.body_pieces(timeout):
            size += len(piece)
            self.body = self.raw_body = b""
        return size

    # -- the reply

    async def send(self, *pieces: bytes, timeout: float = DEADLINE) -> None:
        await self.stream.send(*pieces, timeout=timeout)

    async def trickle(self, data: bytes, size: int = 1) -> None:
        await self.stream.trickle(data, size)

    async def reply(
        self, body: bytes = b"", status: int = 200, fields: Fields | None = None, reason: bytes = b"OK"
    ) -> None:
        """A whole reply with Content-Length."""
        await self.send(head(status, fields, reason, (b"Content-Length", b"%d" % len(body))) + body)

    async def begin_chunked(self, fields: Fields | None = None, status: int = 200) -> None:
        await self.send(head(status, fields, b"OK", (b"Transfer-Encoding", b"chunked")))

    async def begin_sse(self) -> None:
        await self.begin_chunked([(b"Content-Type", b"text/event-stream; charset=utf-8")])

    async def chunk(self, *pieces: bytes) -> None:
        """Each piece as a chunk and a write of its own."""
        for piece in pieces:
            await self.send(chunked(piece, end=False))

    async def end_chunked(self, trailers: bytes = b"") -> None:
        await self.send(chunked(trailers=trailers))

    async def sse(self, events: Iterable[bytes]) -> None:
        """A whole event stream, one chunk and one write per event."""
        await self.begin_sse()
        await self.chunk(*events)
        await self.end_chunked()

    async def until_eof(self, body: bytes, fields: Fields | None = None, version: bytes = b"1.1") -> None:
        """A reply that ends with the connection."""
        await self.send(head(200, fields).replace(b"HTTP/1.1", b"HTTP/" + version, 1) + body)
        self.close()

    # -- ends

    async def gone(self, timeout: float = DEADLINE) -> float:
        """Wait until the other side has closed; the loop's time of that."""
        self.closing = True
        return await self.stream.gone(timeout)

    def close(self) -> None:
        self.closing = True
        self.stream.close()

    def reset(self) -> None:
        self.closing = True
        self.stream.reset()

    def half_close(self) -> None:
        self.closing = True
        self.stream.half_close()


class Backend:
    """calls: every request whose head was read. broken: what came on connections that ended within a request.
    accepted: connections, the idle ones that a gate opens to see whether anybody is there included."""

    def __init__(self, script: Script, read_body: bool) -> None:
        self.script = script
        self.read_body = read_body
        self.calls: list[Call] = []
        self.broken: list[bytes] = []
        self.streams: set[Stream] = set()
        self.accepted = 0
        self.port = 0
        self.errors: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """Connections that stand now."""
        return sum(not s.eof for s in self.streams)

    async def start(self, rcvbuf: int | None, sndbuf: int | None, port: int = 0) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option, size in ((socket.SO_RCVBUF, rcvbuf), (socket.SO_SNDBUF, sndbuf)):
            if size is not None:
                sock.setsockopt(socket.SOL_SOCKET, option, size)
        sock.bind(("127.0.0.1", port))
        self.port = sock.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(lambda: _Accepted(self), sock=sock)

    def take(self, stream: Stream) -> None:
        self.accepted += 1
        self.streams.add(stream)
        task = asyncio.get_running_loop().create_task(self._serve(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: Stream) -> None:
        try:
            while not stream.eof:
                try:
                    raw = await stream.until(b"\r\n\r\n", timeout=3600)
                except Broken as e:
                    if e.partial:
                        self.broken.append(e.partial)
                    return
                call = Call(stream, raw, len(self.calls))
                self.calls.append(call)
                if self.read_body:
                    await call.read_body()
                await self.script(call)
                if call.closing:
                    return
        except Broken as e:
            self.broken.append(e.partial)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as e:
            self.errors.append(e)
            stream.reset()
        finally:
            if stream.transport is not None and not stream.half_open:
                stream.close()

    async def called(self, n: int = 1) -> Call:
        """Wait until ``n`` requests have come; the last of them."""
        await until(lambda: len(self.calls) >= n or self.errors)
        self.check()
        return self.calls[n - 1]

    def check(self) -> None:
        """Raise what went wrong in a script."""
        if self.errors:
            raise self.errors[0]

    async def stop_listening(self) -> None:
        assert self._server is not None
        self._server.close()
        await asyncio.sleep(0)

    async def stop(self) -> None:
        await self.stop_listening()
        for task in list(self._tasks):
            task.cancel()
        for stream in self.streams:
            stream.transport.abort()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=DEADLINE)


class _Accepted(Stream):
    def __init__(self, owner: Backend) -> None:
        super().__init__()
        self._owner = owner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._owner.take(self)


@contextlib.asynccontextmanager
async def backend(
    script: Script, *, read_body: bool = True, rcvbuf: int | None = None, sndbuf: int | None = None, port: int = 0
) -> AsyncIterator[Backend]:
    """A running backend. read_body: read a request's whole body before the script is called. rcvbuf, sndbuf: sizes of
    the kernel's buffers in bytes. What goes wrong in a script is raised at the end."""
    made = Backend(script, read_body)
    await made.start(rcvbuf, sndbuf, port)
    try:
        yield made
    finally:
        await made.stop()
    made.check()


@contextlib.asynccontextmanager
async def full_listener() -> AsyncIterator[int]:
    """The port of a listener that takes no more connections: its queue is full, so that connecting hangs (Linux)."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            try:
                await asyncio.wait_for(loop.sock_connect(sock, listener.getsockname()), 0.05)
            except TimeoutError:
                break
        yield listener.getsockname()[1]


def raw_reply(data: bytes, *, close: bool = False, reset: bool = False, trickle: bool = False) -> Script:
    """A script that sends fixed bytes."""

    async def script(call: Call) -> None:
        if trickle:
            await call.trickle(data)
        else:
            await call.send(data)
        if close:
            call.close()
        elif reset:
            call.reset()

    return script


async def silent(call: Call) -> None:
    """A script that never answers."""
    await call.gone(3600)


async def hello(call: Call) -> None:
    await call.reply(b'{"object":"list","data":[]}', fields=[(b"Content-Type", b"application/json")])
