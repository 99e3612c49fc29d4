"""headgate behind HAProxy: the calls that matter, with the two options that streams need."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from policies.contract import Kind
from tests.kits.backend import Call, backend
from tests.kits.client import connect, request
from tests.kits.fronts import front
from tests.kits.gate import gate
from tests.kits.nginx import haproxy
from tests.kits.stream import DEADLINE

pytestmark = pytest.mark.wire

CHAT = request("POST", "/v1/chat/completions", json.dumps({"model": "demo", "stream": True}).encode())


async def test_each_piece_passes_at_once(tmp_path: Path) -> None:
    """The backend sends piece k+1 only after the client has piece k."""
    turn = asyncio.Semaphore(0)
    pieces = [b"data: %d\n\n" % i for i in range(20)]

    async def lock_step(call: Call) -> None:
        await call.begin_sse()
        for piece in pieces:
            await call.chunk(piece)
            await turn.acquire()
        await call.end_chunked()

    async with backend(lock_step) as b, gate(b.url) as g, haproxy(tmp_path, g.port) as server, connect(server.port) as client:
        await client.send(CHAT)
        assert (await client.final_head()).status == 200
        for piece in pieces:
            assert await client.chunk() == piece
            turn.release()
        assert await client.chunk() == b""


@pytest.mark.parametrize("when", ["before the head", "in silence"])
async def test_a_client_that_leaves_is_seen_at_the_backend(tmp_path: Path, when: str) -> None:
    gone: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def script(call: Call) -> None:
        if when == "in silence":
            await call.begin_sse()
            await call.chunk(b"data: 0\n\n")
        gone.set_result(await call.gone())

    async with backend(script) as b, gate(b.url) as g, haproxy(tmp_path, g.port) as server:
        async with connect(server.port) as client:
            await client.send(CHAT)
            await b.called()
            if when == "in silence":
                await client.until(b"data: 0\n\n")
        await asyncio.wait_for(gone, DEADLINE)
        assert (await g.settled()).fault is Kind.CLIENT_GONE


async def test_a_call_an_upload_and_a_websocket(tmp_path: Path) -> None:
    async with front("policies") as at, haproxy(tmp_path, at.gate.port) as server:
        async with aiohttp.ClientSession(base_url=server.url) as session:
            ask = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}
            async with session.post("/v1/chat/completions", json=ask) as reply:
                assert reply.status == 200 and (await reply.json())["choices"]
            form = aiohttp.FormData({"purpose": "batch"})
            form.add_field("file", b"x" * 5_000_000, filename="a")
            async with session.post("/v1/files", data=form) as reply:
                assert (await reply.json())["bytes"] == 5_000_000
            async with session.ws_connect("/v1/realtime?model=demo") as socket:
                assert (await socket.receive_json(timeout=DEADLINE))["type"] == "session.created"
        await at.gate.settled(3)
