"""A raw byte stream over a socket, for scripted clients and backends: exact bytes, a deadline on every wait."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from typing import cast

#: Seconds that any single wait of a test may take.
DEADLINE = 5.0


class Broken(Exception):
    """The stream ended before what was asked for. partial: the bytes that came. reset: by RST instead of FIN."""

    def __init__(self, partial: bytes, reset: bool) -> None:
        super().__init__(f"{'reset' if reset else 'closed'} after {partial[-200:]!r}")
        self.partial = partial
        self.reset = reset


async def until(condition: Callable[[], object], timeout: float = DEADLINE) -> None:
    """Poll a condition that has no event of its own."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.002)


class Stream(asyncio.Protocol):
    """What comes in is kept until it is read; what is written leaves at once."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.buffer = bytearray()
        self.received = 0
        self.eof = False  # the other side has ended its sending, or is gone
        self.reset_by_peer = False
        self.gone_at: float | None = None  # loop time
        self.half_open = False
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.received += len(data)
        self._changed.set()

    def eof_received(self) -> bool:
        self.eof = True
        self._note_gone()
        self._changed.set()
        return self.half_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.eof = True
        self.reset_by_peer = exc is not None
        self._note_gone()
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _note_gone(self) -> None:
        if self.gone_at is None:
            self.gone_at = asyncio.get_running_loop().time()

    # -- reading

    async def _more(self, timeout: float) -> None:
        if self.eof:
            partial = bytes(self.buffer)
            self.buffer.clear()
            raise Broken(partial, self.reset_by_peer)
        self._changed.clear()
        async with asyncio.timeout(timeout):
            await self._changed.wait()

    async def until(self, mark: bytes, timeout: float = DEADLINE) -> bytes:
        """Everything up to and with ``mark``."""
        start = 0
        while (at := self.buffer.find(mark, start)) < 0:
            start = max(0, len(self.buffer) - len(mark))
            await self._more(timeout)
        return self._cut(at + len(mark))

    async def exactly(self, n: int, timeout: float = DEADLINE) -> bytes:
        while len(self.buffer) < n:
            await self._more(timeout)
        return self._cut(n)

    async def some(self, timeout: float = DEADLINE, most: int | None = None) -> bytes:
        """What is there, at least one byte and at most ``most``; b"" at a clean end."""
        while not self.buffer:
            if self.eof and not self.reset_by_peer:
                return b""
            await self._more(timeout)
        return self._cut(len(self.buffer) if most is None else min(most, len(self.buffer)))

    async def to_end(self, timeout: float = DEADLINE) -> bytes:
        """Everything until the other side closes; Broken when it resets."""
        while not self.eof:
            await self._more(timeout)
        if self.reset_by_peer:
            await self._more(timeout)
        return self._cut(len(self.buffer))

    async def gone(self, timeout: float = DEADLINE) -> float:
        """Wait until the other side has closed or reset; returns the loop's time of that. What it sent is dropped."""
        while not self.eof:
            self._changed.clear()
            async with asyncio.timeout(timeout):
                await self._changed.wait()
            self.buffer.clear()
        assert self.gone_at is not None
        return self.gone_at

    def _cut(self, n: int) -> bytes:
        data = bytes(self.buffer[:n])
        del self.buffer[:n]
        return data

    def stop_reading(self) -> None:
        """Leave the socket unread, so that the kernel's buffers fill."""
        self.transport.pause_reading()

    def go_on_reading(self) -> None:
        self.transport.resume_reading()

    # -- writing

    async def send(self, *pieces: bytes, timeout: float = DEADLINE) -> None:
        """Write the pieces, each as a write of its own that the kernel has taken before the next."""
        for piece in pieces:
            if self.transport.is_closing():
                raise ConnectionResetError
            self.transport.write(piece)
            await self.taken(timeout)

    async def taken(self, timeout: float = DEADLINE) -> None:
        """Wait until the kernel has taken all that was written."""
        await asyncio.sleep(0)  # uvloop writes at the end of a turn
        async with asyncio.timeout(timeout):
            await self._writable.wait()

    async def trickle(self, data: bytes, size: int = 1) -> None:
        """Write ``size`` bytes at a time, with turns of the loop in between for the reader."""
        for i in range(0, len(data), size):
            if self.eof:
                return
            self.transport.write(data[i : i + size])
            for _ in range(3):
                await asyncio.sleep(0)

    @property
    def blocked(self) -> bool:
        """Something that was written has not been taken by the kernel."""
        return not self._writable.is_set()

    # -- ends

    def close(self) -> None:
        self.transport.close()

    def half_close(self) -> None:
        self.half_open = True
        if not self.transport.is_closing():
            self.transport.write_eof()

    def reset(self) -> None:
        """Close with RST."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


Fields = list[tuple[bytes, bytes]]


def parse_head(raw: bytes) -> tuple[bytes, Fields]:
    """Start line and fields of a head, strictly: CRLF, no fold, no space around names."""
    assert raw.endswith(b"\r\n\r\n"), raw[-20:]
    start, *rest = raw[:-4].split(b"\r\n")
    assert b"\n" not in raw.replace(b"\r\n", b"") and b"\r" not in raw.replace(b"\r\n", b""), raw
    fields: Fields = []
    for line in rest:
        name, colon, value = line.partition(b":")
        assert colon and name and not set(name) & set(b" \t"), line
        fields.append((name, value.strip(b" \t")))
    return start, fields


def values(fields: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """All values of a field, in order."""
    return [v for k, v in fields if k.lower() == name.lower()]


async def read_chunk(stream: Stream, timeout: float = DEADLINE) -> tuple[bytes, bytes]:
    """One chunk as (size line, data); data is b"" for the last one, whose trailers are left to read."""
    line = await stream.until(b"\r\n", timeout)
    size = int(line[:-2].partition(b";")[0], 16)
    if size == 0:
        return line, b""
    data = await stream.exactly(size + 2, timeout)
    assert data.endswith(b"\r\n"), data[-20:]
    return line, data[:-2]


async def read_trailers(stream: Stream, timeout: float = DEADLINE) -> Fields:
    raw = b""
    while not raw.endswith(b"\r\n\r\n") and raw != b"\r\n":
        raw += await stream.until(b"\r\n", timeout)
    return [] if raw == b"\r\n" else parse_head(b"x\r\n" + raw)[1]


def chunked(*pieces: bytes, trailers: bytes = b"", end: bool = True) -> bytes:
    """A body in the chunked coding, one chunk per piece. trailers: whole lines."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces if p)
    return body + (b"0\r\n%b\r\n" % trailers if end else b"")
