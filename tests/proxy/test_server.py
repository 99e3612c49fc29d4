"""The listening side: tasks that are kept, the drain, clients that leave unseen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.connection import ClientConnection
from proxy.incoming import Incoming
from proxy.server import Server
from proxy.settings import ServerLimits
from proxy.worker import bind
from tests.kits.client import Broken, connect, request
from tests.kits.stream import until

Handler = Callable[[ClientConnection, Incoming], Coroutine[Any, Any, None]]


async def _answer(conn: ClientConnection, incoming: Incoming) -> None:
    conn.respond(200, b"OK", [], incoming.target)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[tuple[Server, int]]:
    server = Server(
        handler, ServerLimits(), clock=time.monotonic, new_id=lambda: "made", on_refused=lambda fault, rid, client: None
    )
    sockets = bind("127.0.0.1:0")
    port = sockets[0].getsockname()[1]
    await server.listen(sockets)
    try:
        yield server, port
    finally:
        await server.drain(0)


async def test_requests_are_tasks_that_are_forgotten_when_done() -> None:
    async with serving(_answer) as (server, port), connect(port) as client:
        assert server.listening
        for i in range(3):
            assert (await client.ask(request("GET", f"/{i}"))).body == b"/%d" % i
        await until(lambda: not server.tasks)
        assert len(server.connections) == 1


async def test_the_drain_waits_for_what_runs() -> None:
    go = asyncio.Event()

    async def wait(conn: ClientConnection, incoming: Incoming) -> None:
        await go.wait()
        await _answer(conn, incoming)

    async with serving(wait) as (server, port), connect(port) as client, connect(port) as idle:
        await client.send(request())
        await until(lambda: server.tasks)
        drain = asyncio.ensure_future(server.drain(10))
        assert await idle.to_end() == b""
        assert not server.listening and not drain.done()
        go.set()
        assert (await client.reply()).closes
        assert await drain


async def test_the_drain_cuts_off_what_does_not_end() -> None:
    cancelled = asyncio.Event()

    async def never(conn: ClientConnection, incoming: Incoming) -> None:
        conn.begin(200, b"OK", [], None)
        conn.write(b"abc")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    for hurry in (False, True):
        cancelled.clear()
        async with serving(never) as (server, port), connect(port) as client:
            await client.send(request())
            reply = await client.head()
            drain = asyncio.ensure_future(server.drain(3600 if hurry else 0.05))
            await until(lambda: server.draining)
            if hurry:
                server.hurry()
            assert not await drain
            assert cancelled.is_set() and not server.tasks
            with pytest.raises(Broken) as broken:
                await client.body(reply)
            assert broken.value.partial == b"abc"


async def test_a_client_that_leaves_unread_is_found() -> None:
    gone = asyncio.Event()

    async def unread(conn: ClientConnection, incoming: Incoming) -> None:
        conn.pause_reading(True)
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()

    async with serving(unread) as (server, port), connect(port) as client:
        await client.send(request())
        await until(lambda: server.unread)
        server.look()
        assert server.connections, "it is still there"
        client.close()
        await asyncio.sleep(0.01)
        assert not gone.is_set(), "nothing tells by itself"
        server.look()
        await until(gone.is_set)
        assert not server.unread and not server.connections
