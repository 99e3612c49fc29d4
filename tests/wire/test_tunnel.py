"""Upgrades to WebSocket at the level of bytes: the handshake, both directions, refusals, ends, backpressure."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

from tests.kits.backend import Call, backend, hello
from tests.kits.client import Broken, Client, connect, request
from tests.kits.gate import Gate, gate
from tests.kits.stream import Fields, Stream, until
from tests.wire.exchange import end_to_end, pair

ASK: Fields = [
    (b"Connection", b"keep-alive, Upgrade"), (b"upgrade", b"WebSocket"), (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"Origin", b"http://app.example"),
    (b"Sec-WebSocket-Protocol", b"realtime, openai-insecure-api-key.sk-test"),
    (b"Sec-WebSocket-Extensions", b"permessage-deflate; client_max_window_bits"),
]  # fmt: skip
HANDSHAKE = request("GET", "/v1/realtime?model=gpt%2Frealtime&x=", None, ASK)
ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: realtime\r\n\r\n"
)


async def _echo(call: Call) -> None:
    await call.send(ACCEPT)
    while data := await call.stream.some():
        await call.send(data)
    call.close()


async def _open(client: Client) -> None:
    await client.send(HANDSHAKE)
    assert (await client.head()).status == 101


async def test_the_handshake_crosses_and_nothing_is_lost() -> None:
    async with backend(_echo) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(HANDSHAKE)
        reply = await client.head()
        assert reply.line == b"HTTP/1.1 101 Switching Protocols"
        assert {k.lower(): v for k, v in reply.fields} == {
            b"upgrade": b"websocket", b"connection": b"Upgrade", b"sec-websocket-protocol": b"realtime",
            b"sec-websocket-accept": b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", b"x-request-id": _id(reply.fields),
        }  # fmt: skip
        call = b.calls[0]
        assert call.target == b"/v1/realtime?model=gpt%2Frealtime&x="
        crossed = end_to_end(call.fields, b"host", b"x-forwarded-for", b"x-request-id")
        assert crossed == [f for f in ASK if f[0] not in (b"Connection", b"upgrade")]
        assert (call.value(b"connection"), call.value(b"upgrade")) == (b"Upgrade", b"websocket")
        for data in (b"\x81\x85\x00\x00\x00\x00hello", bytes(range(256)), b"\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"):
            await client.send(data)
            assert await client.exactly(len(data)) == data
        client.close()
        x = await g.settled()
        assert (x.status, x.tier, x.fault) == (101, "tunnel", None)
        assert len(b.calls) == 1


def _id(fields: Fields) -> bytes:
    return dict(fields)[b"X-Request-Id"]


async def test_bytes_right_behind_the_handshake_are_not_lost() -> None:
    async def script(call: Call) -> None:
        await call.send(ACCEPT + b"first from the backend")
        assert await call.stream.exactly(24) == b"first of all, and second"
        await call.send(b" and second")
        await call.gone()

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(HANDSHAKE + b"first of all,")
        await client.send(b" and second")
        assert (await client.head()).status == 101
        assert await client.exactly(33) == b"first from the backend and second"


async def test_a_handshake_behind_another_request_waits_for_its_turn() -> None:
    async def script(call: Call) -> None:
        if call.target == b"/first":
            await call.reply(b"one")
        else:
            await _echo(call)

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("GET", "/first") + HANDSHAKE + b"early")
        assert (await client.reply()).body == b"one"
        assert (await client.head()).status == 101
        assert await client.exactly(5) == b"early"


async def test_a_client_that_talks_on_gets_its_refusal() -> None:
    """What it has sent behind its handshake is left unread; the refusal reaches it all the same."""

    async def script(call: Call) -> None:
        await go.wait()
        await call.reply(b"no", 403, reason=b"Forbidden")

    go = asyncio.Event()
    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(HANDSHAKE)
        await b.called()
        while not g.app.server.unread:
            await client.send(b"x" * 10_000)
        client.transport.write(b"x" * 100_000)
        go.set()
        reply = await client.reply()
        assert (reply.status, reply.body) == (403, b"no")


@pytest.mark.parametrize("side", ["client", "backend"])
async def test_everything_byte_by_byte(side: str) -> None:
    async def script(call: Call) -> None:
        await call.trickle(ACCEPT) if side == "backend" else await call.send(ACCEPT)
        for _ in range(100):
            await call.send(await call.stream.exactly(1))
        await call.gone()

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.trickle(HANDSHAKE) if side == "client" else await client.send(HANDSHAKE)
        assert (await client.head()).status == 101
        for i in range(100):
            await client.send(bytes([i]))
            assert await client.exactly(1) == bytes([i])


@pytest.mark.parametrize(
    "wire",
    [
        b'HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"error":"x"}',
        b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 8\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_a_refusal_comes_back_with_its_body(wire: bytes) -> None:
    async def script(call: Call) -> None:
        await call.send(wire)

    async with pair(script) as p, connect(p.backend.port) as direct, connect(p.gate.port) as through:
        one, other = await direct.ask(HANDSHAKE), await through.ask(HANDSHAKE)
        assert (one.line, one.body) == (other.line, other.body)
        assert other.closes, "what the client sends after its handshake cannot be told from a request"
        assert await through.to_end() == b""
        await p.gate.settled()


async def test_a_101_to_an_ordinary_request_is_a_502() -> None:
    async def script(call: Call) -> None:
        await call.send(ACCEPT + b"evil")

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        assert (await client.ask(request())).status == 502


@pytest.mark.parametrize("end", [Stream.close, Stream.reset])
async def test_the_client_goes(end: Callable[[Stream], None]) -> None:
    async def script(call: Call) -> None:
        await call.send(ACCEPT)
        await call.gone()

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await _open(client)
        left = asyncio.get_running_loop().time()
        await client.send(b"last words")
        end(client)
        await until(lambda: b.calls[0].stream.gone_at)
        assert (b.calls[0].stream.gone_at or 0) - left < 0.1
        await _over(g)


@pytest.mark.parametrize("end", [Stream.close, Stream.reset])
async def test_the_backend_goes(end: Callable[[Stream], None]) -> None:
    async def script(call: Call) -> None:
        await call.send(ACCEPT)
        await call.stream.exactly(2)
        await call.send(b"\x88\x02\x03\xe8")
        call.closing = True
        end(call.stream)

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await _open(client)
        await client.send(b"go")
        last = await _last_bytes(client)
        assert b"\x88\x02\x03\xe8".startswith(last)
        assert last or end is Stream.reset, "the close frame arrives before the end"
        await _over(g)


async def _last_bytes(client: Client) -> bytes:
    try:
        return await client.to_end()
    except Broken as e:
        return e.partial


async def _over(g: Gate) -> None:
    x = await g.settled()
    assert x.tier == "tunnel"
    await g.idle()
    assert g.backend_connections() in ((0, 0), (0, 1))


async def test_the_backend_goes_right_after_the_handshake() -> None:
    async def script(call: Call) -> None:
        await call.send(ACCEPT + b"bye")
        call.close()

    async with backend(script) as b, gate(b.url) as g:
        for n in range(1, 11):
            async with connect(g.port) as client:
                await _open(client)
                assert await client.to_end() == b"bye"
            await g.settled(n)


async def test_large_messages_both_ways_and_counted() -> None:
    async with backend(_echo) as b, gate(b.url) as g, connect(g.port) as client:
        await _open(client)
        data = os.urandom(3_000_000)
        sender = asyncio.ensure_future(client.send(*[data[i : i + 50_000] for i in range(0, len(data), 50_000)]))
        assert await client.exactly(len(data), timeout=10) == data
        await sender
        client.close()
        x = await g.settled()
        assert (x.bytes_in, x.bytes_out) == (len(data), len(data))


async def test_backpressure_both_ways() -> None:
    async def script(call: Call) -> None:
        await call.send(ACCEPT)
        if call.target == b"/down":
            call.stream.transport.write(b"d" * 30_000_000)
        else:
            call.stream.stop_reading()
        await over.wait()
        call.stream.transport.abort()

    over = asyncio.Event()
    async with (
        backend(script, rcvbuf=65_536, sndbuf=65_536) as b,
        gate(b.url) as g,
        connect(g.port, rcvbuf=65_536) as down,
        connect(g.port) as up,
    ):
        await down.send(HANDSHAKE.replace(b"/v1/realtime?", b"/down?", 1).replace(b"?model=gpt%2Frealtime&x=", b""))
        await down.head()
        down.stop_reading()
        await _open(up)
        up.transport.write(b"u" * 30_000_000)
        pauses = g.app.server.unread
        await until(lambda: pauses and any(c.write_paused for c in g.app.server.connections))
        for _ in range(20):
            assert g.buffered() < 2_000_000
            await asyncio.sleep(0.005)
        assert up.blocked and b.calls[0].stream.blocked
        over.set()


async def test_the_tunnel_outlives_all_limits_of_requests() -> None:
    backends = {"timeouts": {"first_byte": "5s", "idle": "5s"}}
    async with backend(_echo) as b, gate({"local": {"url": b.url, **backends}}) as g, connect(g.port) as client:
        await _open(client)
        for _ in range(5):
            g.advance(1000)
            await client.send(b"still there")
            assert await client.exactly(11) == b"still there"


async def test_other_upgrades_are_declined() -> None:
    async with backend(hello) as b, gate(b.url) as g, connect(g.port) as client:
        for upgrade in (b"h2c", b"TLS/1.0", b"websocket, h2c", b"foo"):
            fields = [(b"Connection", b"Upgrade"), (b"Upgrade", upgrade)]
            reply = await client.ask(request("POST", "/v1/chat/completions", b'{"model":"m"}', fields))
            assert reply.status == 200
            assert b.calls[-1].value(b"upgrade") is None
            assert b.calls[-1].body == b'{"model":"m"}'
