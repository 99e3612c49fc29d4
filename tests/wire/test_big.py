"""Large bodies pass in pieces: what they cost in memory does not depend on their size."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kits.backend import Call, backend
from tests.kits.client import connect, request
from tests.kits.gate import Gate, gate
from tests.kits.stream import chunked, read_chunk

MB = 1_000_000
PIECE = os.urandom(250_000)


def _resident() -> int:
    """This process's resident memory in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.asynccontextmanager
async def bounded(g: Gate, memory: int) -> AsyncIterator[None]:
    """Fail when headgate's own buffers pass 1.5 MB, or the whole process (both ends too) grows by ``memory`` bytes."""
    before = _resident()
    most = [0, 0]

    async def watch() -> None:
        while True:
            most[0] = max(most[0], g.buffered() + sum(c.current.held for c in g.app.server.connections if c.current))
            most[1] = max(most[1], _resident() - before)
            await asyncio.sleep(0.01)

    task = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        task.cancel()
    assert most[0] < 1.5 * MB, f"{most[0]} bytes buffered"
    assert most[1] < memory, f"grew by {most[1]} bytes"


def _digest(total: int) -> bytes:
    made = hashlib.sha256()
    for _ in range(total // len(PIECE)):
        made.update(PIECE)
    return made.hexdigest().encode()


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_request_of_50_mb(framing: str) -> None:
    total = 50 * MB

    async def script(call: Call) -> None:
        seen = hashlib.sha256()
        async for piece in call.body_pieces(timeout=20):
            seen.update(piece)
            call.body = call.raw_body = b""
        await call.reply(seen.hexdigest().encode())

    field = (b"Content-Length", b"%d" % total) if framing == "length" else (b"Transfer-Encoding", b"chunked")
    async with backend(script, read_body=False) as b, gate(b.url) as g, connect(g.port) as client:
        async with bounded(g, 60 * MB):
            await client.send(request("POST", "/v1/chat/completions", None, [field]))
            for _ in range(total // len(PIECE)):
                await client.send(PIECE if framing == "length" else chunked(PIECE, end=False), timeout=20)
            if framing == "chunked":
                await client.send(chunked())
            assert (await client.reply("POST", timeout=20)).body == _digest(total)
        assert (await g.settled()).bytes_in == total


@pytest.mark.parametrize("framing", ["length", "chunked", "until the end"])
async def test_a_reply_of_100_mb(framing: str) -> None:
    total = 100 * MB

    async def script(call: Call) -> None:
        if framing == "chunked":
            await call.begin_chunked()
        else:
            length = b"Content-Length: %d\r\n" % total if framing == "length" else b""
            await call.send(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        for _ in range(total // len(PIECE)):
            await call.send(chunked(PIECE, end=False) if framing == "chunked" else PIECE, timeout=20)
        if framing == "chunked":
            await call.end_chunked()
        elif framing == "until the end":
            call.close()

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        async with bounded(g, 80 * MB):
            await client.send(request("GET", "/v1/files/f/content"))
            reply = await client.head()
            seen, left = hashlib.sha256(), total
            while left:
                data = (await read_chunk(client, 20))[1] if reply.chunked else await client.some(20, most=left)
                assert data
                seen.update(data)
                left -= len(data)
            assert seen.hexdigest().encode() == _digest(total)
        assert (await g.settled()).bytes_out == total
