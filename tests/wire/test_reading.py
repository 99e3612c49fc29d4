"""Requests whose body a policy reads whole: the same care as for those that pass unread."""

from __future__ import annotations

import asyncio

import pytest

from tests.kits.backend import Call, backend, hello
from tests.kits.client import connect, fetch, request
from tests.kits.gate import gate
from tests.kits.stream import Fields, chunked, until

GUARD = "policies: [{use: request_guard, max_tokens: 100}]"
JSON: Fields = [(b"Content-Type", b"application/json")]
CHUNKED: Fields = [*JSON, (b"Transfer-Encoding", b"chunked")]


def _chat(body: bytes | None, fields: Fields | None = None) -> bytes:
    return request("POST", "/v1/chat/completions", body, JSON if fields is None else fields)


async def test_a_body_in_any_pieces_is_read_and_sent_on() -> None:
    body = b'{"model":"m","max_tokens":5,"big":123456789012345678901234567890,"f":1.0,"messages":[]}'
    async with backend(hello) as b, gate(b.url, GUARD) as g:
        for raw in (_chat(body), _chat(None, CHUNKED) + chunked(*[body[i : i + 1] for i in range(len(body))])):
            for step in (0, 1):
                async with connect(g.port) as client:
                    await client.trickle(raw, step or len(raw))
                    assert (await client.reply("POST")).status == 200
                assert b.calls[-1].body == body, "as it was read, numbers and all"
                assert b.calls[-1].value(b"content-length") == b"%d" % len(body)


async def test_a_refused_request_never_reaches_the_backend_and_leaves_the_connection_usable() -> None:
    async with backend(hello) as b, gate(b.url, GUARD) as g, connect(g.port) as client:
        reply = await client.ask(_chat(b'{"model":"m","max_tokens":500,"messages":[]}'))
        assert (reply.status, reply.closes) == (400, False)
        assert not b.calls
        assert (await client.ask(_chat(b'{"model":"m","max_tokens":50,"messages":[]}'))).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"model":"m"}}', b"[" * 5000, b'{"a":1e999999}', b"nul"])
async def test_what_is_no_json_is_a_400_and_not_sent_on(body: bytes) -> None:
    async with backend(hello) as b, gate(b.url, GUARD) as g:
        reply = await fetch(g.port, _chat(body))
        if reply.status != 200:
            assert reply.status == 400 and not b.calls
        else:
            assert len(b.calls) == 1
        assert reply.status == 400 or body in (b"", b'{"a":1e999999}')


async def test_an_encoded_body_is_a_415() -> None:
    async with backend(hello) as b, gate(b.url, GUARD) as g:
        for field in ((b"Content-Encoding", b"gzip"), (b"Content-Type", b"application/json; charset=utf-16")):
            assert (await fetch(g.port, _chat(b"{}", [field]))).status == 415
        assert not b.calls


async def test_a_body_over_the_bound_of_reading_is_a_413() -> None:
    limits = {"inspected_body": "10KB"}
    async with backend(hello) as b, gate(b.url, GUARD, limits=limits) as g:
        big = b'{"model":"m","x":"' + b"y" * 20_000 + b'"}'
        assert (await fetch(g.port, _chat(big))).status == 413
        assert (await fetch(g.port, _chat(None, CHUNKED) + chunked(big[:9000], big[9000:]))).status == 413
        assert not b.calls
        unread = request("POST", "/v1/files", big, [(b"Content-Type", b"multipart/form-data; boundary=x")])
        assert (await fetch(g.port, unread)).status == 200, "what is not read has the other bound"


async def test_a_client_that_leaves_while_its_body_is_read() -> None:
    async with backend(hello) as b, gate(b.url, GUARD) as g, connect(g.port) as client:
        await client.send(_chat(None, [*JSON, (b"Content-Length", b"100")]) + b'{"model"')
        await until(lambda: g.in_flight)
        client.close()
        assert (await g.settled()).fault == "client_gone"
        await g.idle()
        assert not b.calls


async def test_a_body_that_comes_too_slowly_while_it_is_read() -> None:
    async with backend(hello) as b, gate(b.url, GUARD) as g, connect(g.port) as client:
        await client.send(_chat(None, [*JSON, (b"Content-Length", b"100")]) + b'{"model"')
        await until(lambda: g.in_flight)
        g.advance(11)
        assert (await client.reply("POST")).status == 408
        assert not b.calls


async def test_a_body_that_breaks_while_it_is_read() -> None:
    async with backend(hello) as b, gate(b.url, GUARD) as g, connect(g.port) as client:
        await client.send(_chat(None, CHUNKED), b'8\r\n{"model"\r\nxyz\r\n')
        reply = await client.reply("POST")
        assert (reply.status, reply.closes) == (400, True)
        assert not b.calls


async def test_100_continue_is_said_at_once() -> None:
    async with backend(hello) as b, gate(b.url, GUARD) as g, connect(g.port) as client:
        body = b'{"model":"m","messages":[]}'
        await client.send(_chat(None, [*JSON, (b"Expect", b"100-continue"), (b"Content-Length", b"%d" % len(body))]))
        assert (await client.head(timeout=0.5)).status == 100
        await client.send(body)
        assert (await client.reply("POST")).status == 200
        assert b.calls[0].value(b"expect") is None


async def test_a_large_body_sent_ahead_is_read_in_its_turn() -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        if call.index == 0:
            await go.wait()
        await call.reply(b"%d" % len(call.body))

    body = b'{"model":"m","x":"' + b"y" * 2_000_000 + b'"}'
    async with backend(script) as b, gate(b.url, GUARD) as g, connect(g.port) as client:
        sender = asyncio.ensure_future(client.send(request("GET", "/first"), _chat(body), request("GET", "/last")))
        await b.called()
        go.set()
        assert [(await client.reply()).body for _ in range(3)] == [b"0", b"%d" % len(body), b"0"]
        await sender
