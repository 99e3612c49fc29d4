"""headgate as an upstream of nginx, with the configuration file that the project ships."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from policies.contract import Kind
from tests.kits.backend import Backend, Call, backend, hello
from tests.kits.client import Broken, Client, connect, request
from tests.kits.fronts import KEY, front
from tests.kits.gate import gate
from tests.kits.nginx import nginx
from tests.kits.process import Process, serve
from tests.kits.stream import DEADLINE, chunked, until, values

pytestmark = pytest.mark.wire

ASK: list[Any] = [{"role": "user", "content": "What does a weir do?"}]
CHAT = request("POST", "/v1/chat/completions", json.dumps({"model": "demo", "stream": True}).encode())


@pytest.mark.parametrize("name", ["empty", "policies"])
async def test_the_openai_client(tmp_path: Path, name: str) -> None:
    async with front(name) as at, nginx(tmp_path, at.gate.port) as server:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as c:
            raw = await c.chat.completions.with_raw_response.create(model="demo", messages=ASK)
            assert len(raw.headers.get_list("x-request-id")) == 1
            plain = raw.parse().choices[0].message.content
            stream = await c.chat.completions.create(model="demo", messages=ASK, stream=True)
            assert "".join([e.choices[0].delta.content or "" async for e in stream]) == plain
            with pytest.raises(openai.NotFoundError):
                await c.chat.completions.create(model="other", messages=ASK)
            with pytest.raises((openai.APIConnectionError, openai.APIError)):  # a cut stream stays a broken one
                async for _ in await c.chat.completions.create(model="demo;cut=4", messages=ASK, stream=True):
                    pass
            assert (await c.models.retrieve("demo/with/slashes")).id == "demo/with/slashes"
        await at.gate.settled(5)
        assert [x.fault for x in at.gate.exchanges] == [None, None, None, Kind.BACKEND_CUT, None]


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

    async with backend(lock_step) as b, gate(b.url) as g, nginx(tmp_path, g.port) as server, connect(server.port) as client:
        await client.send(CHAT)
        reply = await client.final_head()
        assert reply.status == 200 and reply.chunked
        for piece in pieces:
            assert await client.chunk() == piece
            turn.release()
        assert await client.chunk() == b""


@pytest.mark.parametrize("when", ["before the head", "in silence", "in mid-stream"])
async def test_a_client_that_leaves_is_seen_at_the_backend(tmp_path: Path, when: str) -> None:
    gone: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def script(call: Call) -> None:
        if when != "before the head":
            await call.begin_sse()
            await call.chunk(b"data: 0\n\n")
        if when == "in mid-stream":
            with contextlib.suppress(ConnectionError, Broken):
                while not call.stream.eof:
                    await call.chunk(b"data: 1\n\n")
                    await asyncio.sleep(0)
        gone.set_result(await call.gone())

    async with backend(script) as b, gate(b.url) as g, nginx(tmp_path, g.port) as server:
        async with connect(server.port) as client:
            await client.send(CHAT)
            call = await b.called()
            if when != "before the head":
                await client.until(b"data: 0\n\n")
            left = asyncio.get_running_loop().time()
        assert await asyncio.wait_for(gone, DEADLINE) - left < 1.0
        assert call.complete
        assert (await g.settled()).fault is Kind.CLIENT_GONE


async def test_a_websocket(tmp_path: Path) -> None:
    async with front("watched") as at, nginx(tmp_path, at.gate.port) as server:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{server.url}/v1/realtime?model=demo", protocols=("realtime",)) as socket,
        ):
            assert socket.protocol == "realtime"
            assert (await socket.receive_json(timeout=DEADLINE))["type"] == "session.created"
            await socket.send_json({"type": "session.update", "session": {}})
            assert (await socket.receive_json(timeout=DEADLINE))["type"] == "session.updated"
        assert (await at.gate.settled()).tier == "tunnel"


@pytest.mark.parametrize("framed", ["length", "chunks"])
async def test_large_uploads_and_downloads(tmp_path: Path, framed: str) -> None:
    data = hashlib.sha256(b"seed").digest() * 1_000_000  # 32 MB

    async def script(call: Call) -> None:
        await call.reply(call.body)

    async with backend(script) as b, gate(b.url) as g, nginx(tmp_path, g.port) as server:
        async with connect(server.port) as client:
            if framed == "length":
                raw = request("POST", "/v1/files", data)
            else:
                parts = [data[i : i + 1_000_000] for i in range(0, len(data), 1_000_000)]
                raw = request("POST", "/v1/files", fields=[(b"Transfer-Encoding", b"chunked")]) + chunked(*parts)
            reply = await client.ask(raw, timeout=20)
            assert reply.status == 200 and reply.body == data
        assert b.calls[0].body == data


async def test_what_the_backend_sees_of_a_request(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        b = await stack.enter_async_context(backend(hello))
        g = await stack.enter_async_context(gate({"local": {"url": b.url, "host": "keep"}}))
        server = await stack.enter_async_context(nginx(tmp_path, g.port))
        targets = [b"/v1/models/a%2Fb%2fc", b"//v1//models?", b"/v1/models?a=+&b=%20;c"]
        async with connect(server.port) as client:
            for target in targets:
                reply = await client.ask(request("GET", target, fields=[(b"X-Forwarded-For", b"203.0.113.9")]))
                assert reply.status == 200
                assert len(reply.values(b"x-request-id")) == 1
        assert [call.target for call in b.calls] == targets
        fields = b.calls[0].fields
        assert values(fields, b"x-forwarded-for") == [b"203.0.113.9, 127.0.0.1, 127.0.0.1"]
        assert values(fields, b"x-forwarded-proto") == [b"http"]
        assert values(fields, b"host") == [b"gate.test"]
        assert not values(fields, b"upgrade") and b"connection" not in {k.lower() for k, _ in fields}
        assert len(g.app.server.connections) == 1, "nginx keeps its connection to headgate"


async def test_long_heads_both_ways(tmp_path: Path) -> None:
    """A long key, and the field that vLLM's replies grow with the batch."""
    long = b"m" * 30_000

    async def script(call: Call) -> None:
        await call.reply(b"{}", fields=[(b"metadata", long)])

    async with backend(script) as b, gate(b.url) as g, nginx(tmp_path, g.port) as server:
        async with connect(server.port) as client:
            key = b"Bearer " + b"k" * 12_000
            reply = await client.ask(request(target=b"/v1/models?" + b"q" * 12_000, fields=[(b"Authorization", key)]))
            assert reply.status == 200 and reply.value(b"metadata") == long
        assert b.calls[0].value(b"authorization") == key


async def test_two_headgates_of_which_one_is_killed(tmp_path: Path) -> None:
    """Streams spread over both; those of the killed one break visibly, all else goes on."""
    turn = asyncio.Event()

    async def script(call: Call) -> None:
        if call.method == b"GET":
            await hello(call)
            return
        await call.begin_sse()
        await call.chunk(b"data: 0\n\n")
        await turn.wait()
        await call.chunk(b"data: [DONE]\n\n")
        await call.end_chunked()

    async with contextlib.AsyncExitStack() as stack:
        b: Backend = await stack.enter_async_context(backend(script))
        gates: list[Process] = [await stack.enter_async_context(serve("--backend", b.url)) for _ in range(2)]
        server = await stack.enter_async_context(nginx(tmp_path, *(g.port for g in gates)))
        clients: list[Client] = []
        for _ in range(6):
            client = await stack.enter_async_context(connect(server.port))
            await client.send(CHAT)
            assert (await client.final_head()).status == 200
            assert await client.chunk() == b"data: 0\n\n"
            clients.append(client)
        assert len(b.calls) == 6
        # each gate holds three streams: least_conn counts the ones that are open
        gates[0].kill()
        await gates[0].ended()
        await until(lambda: sum(c.eof for c in clients) == 3)
        assert sum(s.eof for s in b.streams) >= 3, "the work of the killed one has ended too"
        turn.set()
        ended = 0
        for client in clients:
            try:
                while await client.chunk():
                    pass
                ended += 1
            except Broken:
                pass
        assert ended == 3
        async with connect(server.port) as client:
            for i in range(40):
                reply = await client.ask(CHAT if i % 2 else request("GET", "/v1/models"))
                assert reply.status == 200
        assert await gates[1].stop() == 0
