"""Message framing on both hops: bodies that may not be, interim replies, HTTP/1.0, trailers, Expect, pipelining."""

from __future__ import annotations

import asyncio

import pytest

from tests.kits.backend import Call, backend, hello, raw_reply
from tests.kits.client import Broken, connect, fetch, request
from tests.kits.gate import gate
from tests.kits.stream import chunked, until
from tests.wire.exchange import pair


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\nX: y\r\n\r\n",
    ],
)
async def test_head_has_no_body_but_keeps_its_length(wire: bytes) -> None:
    async with pair(raw_reply(wire)) as p:
        _, seen = await p.same(request("HEAD", "/v1/models"))
        async with connect(p.gate.port) as client:  # and the connections on both sides are fit for more
            await client.send(request("HEAD", "/v1/models") + request("HEAD", "/v1/models"))
            for _ in range(2):
                assert (await client.reply("HEAD")).line == seen.reply.line
            assert not client.buffer


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 1234\r\n\r\n',
        b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n',
        b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_replies_without_a_body(wire: bytes) -> None:
    async with pair(raw_reply(wire)) as p:
        for method in ("GET", "POST", "DELETE"):
            await p.same(request(method, "/v1/x", b"" if method == "POST" else None))
        async with connect(p.gate.port) as client:
            for _ in range(3):
                reply = await client.ask(request("GET", "/v1/x"))
                assert not reply.chunked and not reply.closes
        assert p.backend.accepted <= 7, "both hops keep their connections"


@pytest.mark.parametrize("trickle", [False, True])
async def test_interim_replies_pass_and_are_never_the_answer(trickle: bool) -> None:
    wire = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
        b"HTTP/1.1 102 Processing\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )
    async with pair(raw_reply(wire, trickle=trickle)) as p:
        _, seen = await p.same(request())
        assert [i.status for i in seen.reply.interims] == [103, 102]


async def test_interim_replies_are_kept_from_old_clients() -> None:
    wire = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with backend(raw_reply(wire)) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request(version=b"1.0"))
        assert (await client.head()).status == 200


async def test_reply_trailers_cross() -> None:
    async def script(call: Call) -> None:
        await call.begin_chunked([(b"Trailer", b"X-Sum")])
        await call.send(chunked(b"abc", b"def", trailers=b"X-Sum: 1\r\nx-sum: 2\r\n"))

    async with pair(script) as p:
        _, seen = await p.same(request("POST", "/x", b"{}", [(b"TE", b"trailers"), (b"Connection", b"TE")]))
        assert seen.reply.trailers == [(b"X-Sum", b"1"), (b"x-sum", b"2")]
        assert seen.call.value(b"te") == b"trailers"


# -- Expect


EXPECT = [(b"Expect", b"100-continue")]


async def test_expect_is_passed_on_and_the_backends_100_comes_back() -> None:
    async def script(call: Call) -> None:
        assert call.value(b"expect") == b"100-continue"
        await call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await call.read_body()
        await call.reply(call.body)

    async with backend(script, read_body=False) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/files", None, [*EXPECT, (b"Content-Length", b"5")]))
        assert (await client.head()).status == 100
        await client.send(b"hello")
        reply = await client.reply("POST")
        assert (reply.body, reply.interims) == (b"hello", [])


async def test_a_silent_backend_does_not_keep_the_client_waiting_for_100() -> None:
    async def script(call: Call) -> None:
        await call.read_body()
        await call.reply(call.body)

    async with backend(script, read_body=False) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/files", None, [*EXPECT, (b"Content-Length", b"5")]))
        assert (await client.head(timeout=1.0)).status == 100
        await client.send(b"hello")
        assert (await client.reply("POST")).body == b"hello"


async def test_100_is_said_once_when_the_body_takes_its_time() -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await call.read_body()
        await call.reply(call.body)

    async with backend(script, read_body=False) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/files", None, [*EXPECT, (b"Content-Length", b"5")]))
        assert (await client.head()).status == 100
        await client.send(b"hel")
        with pytest.raises(TimeoutError):  # longer than headgate waits before it says 100 itself
            await client.head(timeout=1.1)
        await client.send(b"lo")
        reply = await client.reply("POST")
        assert (reply.body, reply.interims) == (b"hello", [])


async def test_an_early_413_is_passed_and_the_body_is_not_asked_for() -> None:
    async def script(call: Call) -> None:
        await call.reply(b"too big", 413, [(b"Connection", b"close")], b"Payload Too Large")
        call.close()

    async with backend(script, read_body=False) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/files", None, [*EXPECT, (b"Content-Length", b"500000")]))
        reply = await client.reply("POST")
        assert (reply.status, reply.body, reply.interims) == (413, b"too big", [])
        assert reply.closes, "the body was not read, so the connection cannot go on"
        assert await client.to_end() == b""


async def test_an_early_reply_to_a_running_upload_reaches_the_client() -> None:
    async def script(call: Call) -> None:
        await call.stream.exactly(1000)
        await call.reply(b"too big", 413, [(b"Connection", b"close")], b"Payload Too Large")
        call.half_close()
        await call.gone()

    async with backend(script, read_body=False) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/files", None, [(b"Content-Length", b"50000000")]))
        upload = asyncio.ensure_future(client.send(*[b"x" * 50_000] * 1000))
        reply = await client.reply("POST")
        assert (reply.status, reply.body) == (413, b"too big")
        upload.cancel()
        await asyncio.wait([upload])


async def test_an_early_reply_survives_a_backend_that_resets_the_rest_of_the_upload() -> None:
    """A backend that closes with unread bytes resets; the reply that it had sent before is passed all the same."""

    async def script(call: Call) -> None:
        await call.stream.exactly(1000)
        call.stream.stop_reading()
        await call.reply(b"too big", 413, [(b"Connection", b"close")], b"Payload Too Large")
        call.close()

    async with backend(script, read_body=False) as b, gate(b.url) as g:
        for _ in range(10):
            async with connect(g.port) as client:
                await client.send(request("POST", "/v1/files", None, [(b"Content-Length", b"5000000")]))
                upload = asyncio.ensure_future(client.send(*[b"x" * 50_000] * 100))
                reply = await client.reply("POST")
                assert (reply.status, reply.body) == (413, b"too big")
                upload.cancel()
                await asyncio.wait([upload])


async def test_expect_is_not_for_old_clients() -> None:
    async def script(call: Call) -> None:
        await call.reply(call.body)

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/files", b"hello", EXPECT, version=b"1.0"))
        assert (await client.head()).status == 200


# -- HTTP/1.0


async def test_an_http_1_0_client_gets_no_chunks() -> None:
    async def script(call: Call) -> None:
        await call.sse([b"data: 1\n\n", b"data: 2\n\n"])

    async with backend(script) as b, gate(b.url) as g:
        reply = await fetch(g.port, b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
        assert not reply.chunked and reply.closes and reply.value(b"content-length") is None
        assert reply.body == b"data: 1\n\ndata: 2\n\n"
        assert b.calls[0].version == b"HTTP/1.1"


async def test_an_http_1_0_client_may_keep_its_connection() -> None:
    async with backend(hello) as b, gate(b.url) as g, connect(g.port) as client:
        for _ in range(3):
            await client.send(b"GET /v1/models HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            reply = await client.reply()
            assert reply.value(b"connection") == b"keep-alive"
        await client.send(b"GET /v1/models HTTP/1.0\r\n\r\n")
        assert (await client.reply()).closes
        assert await client.to_end() == b""
        assert len(b.calls) == 4


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
async def test_old_backends_and_bodies_that_end_with_the_connection(wire: bytes) -> None:
    async def script(call: Call) -> None:
        await call.trickle(wire)
        call.close()

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        for n in (1, 2, 3):
            reply = await client.ask(request())
            assert reply.line == b"HTTP/1.1 200 OK"
            assert reply.body == b"hello"
            assert reply.chunked is (b"Content-Length" not in wire)
            assert not reply.closes, "the client's connection does not depend on the backend's"
            await g.settled(n)


async def test_head_to_an_http_1_0_backend_does_not_pool_a_dying_connection() -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n")
        call.close()

    async with backend(script) as b, gate(b.url) as g:
        await fetch(g.port, request("HEAD", "/"))
        assert g.backend_connections() == (0, 0)


# -- connections


async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    at_once = most = 0

    async def script(call: Call) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        await call.reply(call.target + b":" + call.body)
        at_once -= 1

    raws = [request("POST", f"/{i}", b"body %d" % i) if i % 2 else request("GET", f"/{i}") for i in range(40)]
    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        for step in (len(b"".join(raws)), 1):
            sender = asyncio.ensure_future(client.trickle(b"".join(raws), step))
            for i in range(40):
                assert (await client.reply()).body == b"/%d:" % i + (b"body %d" % i if i % 2 else b"")
            await sender
        assert most == 1


async def test_pipelined_after_a_chunked_body_and_before_a_close() -> None:
    async def script(call: Call) -> None:
        await call.reply(call.target + call.body)

    raw = (
        request("POST", "/a", None, [(b"Transfer-Encoding", b"chunked")]) + chunked(b"one", b"two")
        + b"\r\n" + request("GET", "/b", None, [(b"Connection", b"close")]) + request("GET", "/never")
    )  # fmt: skip
    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(raw)
        assert (await client.reply()).body == b"/aonetwo"
        last = await client.reply()
        assert last.body == b"/b" and last.closes
        assert await client.to_end() == b""
        assert [c.target for c in b.calls] == [b"/a", b"/b"]


async def test_connection_close_is_honoured_and_said() -> None:
    async with backend(hello) as b, gate(b.url) as g, connect(g.port) as client:
        reply = await client.ask(request("GET", "/", None, [(b"Connection", b"Close")]))
        assert reply.closes
        assert await client.to_end() == b""


async def test_a_backends_surplus_bytes_cost_it_its_connection() -> None:
    async def script(call: Call) -> None:
        await call.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        )

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        for n in (1, 2, 3):
            assert (await client.ask(request())).body == b"ok"
            await g.settled(n)
            assert g.backend_connections() == (0, 0)
        assert not client.buffer


async def test_late_surplus_bytes_do_not_reach_the_next_request() -> None:
    async def script(call: Call) -> None:
        await call.reply(b"ok")
        if call.index == 0:
            await late.wait()
            await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    late = asyncio.Event()
    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        assert (await client.ask(request())).body == b"ok"
        assert g.backend_connections() == (0, 1)
        late.set()
        await until(lambda: g.backend_connections() == (0, 0))
        assert (await client.ask(request())).body == b"ok"


async def test_cookies_of_one_reply_are_not_sent_with_the_next_request() -> None:
    async def script(call: Call) -> None:
        await call.reply(b"ok", fields=[(b"Set-Cookie", b"session=1")])

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.ask(request())
        await client.ask(request())
        assert b.calls[1].value(b"cookie") is None


async def test_environment_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with backend(hello) as proxy, backend(hello) as b:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with gate(b.url) as g:
            assert (await fetch(g.port, request())).status == 200
        assert len(b.calls) == 1 and not proxy.accepted


async def test_a_client_that_ends_its_sending_is_taken_for_gone() -> None:
    """As documented in connection.py: a half-closed client cannot be told from one that left."""

    async def script(call: Call) -> None:
        await call.gone()

    async with backend(script) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(request())
        await b.called()
        client.half_close()
        with pytest.raises(Broken):
            await client.head()
        assert (await g.settled()).fault == "client_gone"
