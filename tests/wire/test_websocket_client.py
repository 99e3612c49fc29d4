"""A browser-like WebSocket client on /v1/realtime through headgate: handshake, frames both ways, and every kind of end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from tests.kits.fronts import FRONTS, KEY, Front, front
from tests.kits.gate import Gate, gate
from tests.kits.stream import DEADLINE, until

#: What browsers send, which can set no header: the key travels as a sub-protocol.
ASKED = ("realtime", f"openai-insecure-api-key.{KEY}", "openai-beta.realtime-v1")


@pytest.fixture(params=FRONTS)
async def at(request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    async with front(request.param) as made:
        yield made


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def frames(socket: aiohttp.ClientWebSocketResponse, last: str) -> list[Any]:
    """The frames up to the one of type ``last``."""
    found: list[Any] = []
    async with asyncio.timeout(DEADLINE):
        while not found or found[-1]["type"] != last:
            found.append(await socket.receive_json())
    return found


async def test_a_conversation(at: Front, session: aiohttp.ClientSession) -> None:
    said = "Open the gate, ünïcode ☃. " * 500
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": said}]}
    async with session.ws_connect(
        f"{at.gate.url}/v1/realtime?model=demo&x=%2F", protocols=ASKED, origin="https://app.example"
    ) as socket:
        assert socket.protocol == "realtime"
        opened = await socket.receive_json()
        assert (opened["type"], opened["session"]["model"]) == ("session.created", "demo")
        await socket.send_json({"type": "conversation.item.create", "item": item})
        await frames(socket, "conversation.item.created")
        await socket.send_json({"type": "response.create"})
        seen = await frames(socket, "response.done")
        assert "".join(f["delta"] for f in seen if f["type"] == "response.text.delta") == said
        assert at.gate.app.server.tasks and not at.gate.exchanges
    x = await at.gate.settled()
    assert (x.status, x.tier, x.route, x.fault) == (101, "tunnel", "realtime", None)
    assert x.bytes_in > len(said) and x.bytes_out > len(said)
    await at.gate.idle()


@pytest.mark.parametrize(
    ("query", "knobs", "status"),
    [("model=other", "", 404), ("model=demo%3Bfail%3D429", "", 429), ("model=demo", "bogus", 400)],
)
async def test_a_refusal_of_the_backend_passes_with_its_body(
    at: Front, session: aiohttp.ClientSession, query: str, knobs: str, status: int
) -> None:
    fields = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
              "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "x-demo": knobs}  # fmt: skip
    answers = []
    for url in (at.twin.url, at.gate.url):
        async with session.get(f"{url}/v1/realtime?{query}", headers=fields) as reply:
            answers.append((reply.status, await reply.json()))
    assert answers[0] == answers[1]
    assert answers[1][0] == status
    assert (await at.gate.settled()).tier == "opaque"


async def test_without_an_upgrade_it_is_a_plain_request(at: Front, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{at.gate.url}/v1/realtime") as reply:
        assert reply.status == 426


async def test_a_route_that_cannot_be_read_is_not_upgraded(session: aiohttp.ClientSession) -> None:
    policies = "policies: [{use: request_guard, control_characters: refuse}]"
    async with gate("http://127.0.0.1:9", policies) as g:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(f"{g.url}/v1/realtime")
        assert caught.value.status == 403


# -- against a server that does what a test says


Talk = Callable[[web.WebSocketResponse], Awaitable[None]]


@contextlib.asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[tuple[Gate, list[web.WebSocketResponse]]]:
    """headgate before a WebSocket server; the sockets that it has had."""
    sockets: list[web.WebSocketResponse] = []

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        sockets.append(socket)
        await talk(socket)
        return socket

    app = web.Application()
    app.router.add_get("/v1/realtime", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with gate(f"http://127.0.0.1:{runner.addresses[0][1]}") as g:
            yield g, sockets
    finally:
        await runner.cleanup()


async def echo(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)


async def test_text_bytes_and_large_messages(session: aiohttp.ClientSession) -> None:
    async with talking(echo) as (g, _):
        for compress in (0, 15):
            async with session.ws_connect(f"{g.url}/v1/realtime", max_msg_size=0, compress=compress) as socket:
                big = os.urandom(6_000_000)
                for i in range(200):
                    await socket.send_str(f"{i} ☃")
                await socket.send_bytes(big)
                for i in range(200):
                    assert await socket.receive_str(timeout=DEADLINE) == f"{i} ☃"
                assert await socket.receive_bytes(timeout=DEADLINE) == big
        await g.settled(2)


async def test_close_codes_pass_both_ways(session: aiohttp.ClientSession) -> None:
    async def leave(socket: web.WebSocketResponse) -> None:
        message = await socket.receive()
        if message.type is WSMsgType.TEXT:
            await socket.close(code=4001, message=b"session expired")

    async with talking(leave) as (g, sockets):
        socket = await session.ws_connect(f"{g.url}/v1/realtime", autoclose=False)
        await socket.send_str("bye?")
        message = await socket.receive(timeout=DEADLINE)
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4001, "session expired")
        await socket.close()
        other = await session.ws_connect(f"{g.url}/v1/realtime")
        await other.close(code=4002, message=b"enough")
        await until(lambda: len(sockets) == 2 and sockets[1].close_code == 4002)
        await g.settled(2)
        await g.idle()


async def test_a_backend_that_drops_the_connection_is_no_clean_close(session: aiohttp.ClientSession) -> None:
    async def drop(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        assert socket._req is not None and socket._req.transport is not None
        socket._req.transport.abort()

    async with talking(drop) as (g, _):
        socket = await session.ws_connect(f"{g.url}/v1/realtime")
        await socket.send_str("x")
        message = await socket.receive(timeout=DEADLINE)
        assert message.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
        assert socket.close_code == 1006
        await g.settled()
        await g.idle()


async def test_a_client_that_drops_the_connection_is_gone_for_the_backend(session: aiohttp.ClientSession) -> None:
    async with talking(echo) as (g, sockets):
        socket = await session.ws_connect(f"{g.url}/v1/realtime")
        await socket.send_str("x")
        assert await socket.receive_str(timeout=DEADLINE) == "x"
        transport = socket.get_extra_info("socket")
        assert transport is not None
        socket._response.connection.transport.abort()  # type: ignore[union-attr]
        await until(lambda: sockets[0].closed, timeout=1)
        assert sockets[0].close_code == 1006
        await g.settled()
        await g.idle()


async def test_a_silent_socket_stays_open_past_every_limit_and_ends_with_the_drain(
    session: aiohttp.ClientSession,
) -> None:
    async with talking(echo) as (g, _):
        socket = await session.ws_connect(f"{g.url}/v1/realtime")
        await socket.send_str("x")
        assert await socket.receive_str(timeout=DEADLINE) == "x"
        g.advance(7200)
        await socket.send_str("y")
        assert await socket.receive_str(timeout=DEADLINE) == "y"
        await g.stop(0)
        message = await socket.receive(timeout=DEADLINE)
        assert message.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
        await g.settled()
