"""Several backends, model names, keys, TLS; and what headgate's own errors look like."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kits.backend import Call, backend, full_listener, hello, silent
from tests.kits.client import Reply, connect, fetch, request
from tests.kits.gate import gate
from tests.kits.stream import Fields, values

JSON: Fields = [(b"Content-Type", b"application/json")]


def _chat(model: str | None, target: str = "/v1/chat/completions", more: str = "") -> bytes:
    body = f'{{"model": "{model}"{more}}}' if model is not None else "{}"
    return request("POST", target, body.encode(), JSON)


async def _echo(call: Call) -> None:
    await call.reply(call.body, fields=JSON)


# -- models and backends


async def test_requests_go_where_their_model_is() -> None:
    async with backend(_echo) as one, backend(_echo) as two:
        mapping = {
            "one": {"url": one.url, "models": {"a": "a", "b": "sent-b"}},
            "two": {"url": two.url, "models": {"c": "c", "d": "sent-d"}},
        }
        async with gate(mapping) as g:
            for model, at, sent in (("a", one, "a"), ("b", one, "sent-b"), ("c", two, "c"), ("d", two, "sent-d")):
                before = len(at.calls)
                reply = await fetch(g.port, _chat(model))
                assert reply.status == 200
                assert len(at.calls) == before + 1
                assert json.loads(at.calls[-1].body)["model"] == sent
                x = g.exchanges[-1]
                assert (x.model_asked, x.model_sent) == (model, sent)
            reply = await fetch(g.port, _chat("nobody's"))
            assert (reply.status, _error(reply)["code"]) == (404, "model_not_found")
            assert len(one.calls) + len(two.calls) == 4


async def test_a_star_stands_for_every_other_model() -> None:
    async with backend(_echo) as one, backend(_echo) as two:
        mapping = {"one": {"url": one.url, "models": {"a": "x"}}, "two": {"url": two.url, "models": {"*": "*"}}}
        async with gate(mapping) as g:
            await fetch(g.port, _chat("a"))
            await fetch(g.port, _chat("zzz"))
            assert json.loads(one.calls[0].body)["model"] == "x"
            assert json.loads(two.calls[0].body)["model"] == "zzz"


async def test_a_rewritten_name_leaves_the_rest_of_the_body_as_it_was() -> None:
    more = ', "n": 123456789012345678901234567890, "t": 1.0, "e": 1e5, "u": "\\u00e9é", "nested": {"model": "m"}'
    async with backend(_echo) as b, gate({"b": {"url": b.url, "models": {"m": "other"}}}) as g:
        assert (await fetch(g.port, _chat("m", more=more))).status == 200
        sent = b.calls[0].body
        assert json.loads(sent) == json.loads(f'{{"model": "other"{more}}}')
        assert b"123456789012345678901234567890" in sent and b"1.0" in sent and b"1e5" in sent
        assert b.calls[0].value(b"content-length") == b"%d" % len(sent)


async def test_requests_without_a_model_go_to_the_first_backend() -> None:
    async with backend(hello) as one, backend(hello) as two:
        mapping = {"one": {"url": one.url, "models": {"a": "a"}}, "two": {"url": two.url, "models": {"b": "b"}}}
        async with gate(mapping) as g:
            for raw in (request("GET", "/v1/models"), _chat(None), request("POST", "/v1/files", b"not json")):
                assert (await fetch(g.port, raw)).status == 200
        assert (len(one.calls), len(two.calls)) == (3, 0)


async def test_a_backend_that_is_not_there_is_passed_over() -> None:
    async with backend(hello) as gone:
        url = gone.url
    async with backend(_echo) as b, gate({"gone": {"url": url}, "there": {"url": b.url}}) as g:
        reply = await fetch(g.port, _chat("m"))
        assert (reply.status, reply.body) == (200, b'{"model": "m"}')
        x = await g.settled()
        assert [(a.backend, a.kind, a.status) for a in x.attempts] == [
            ("gone", "backend_connect", None), ("there", None, 200),
        ]  # fmt: skip
        big = request("POST", "/v1/files", None, [(b"Content-Length", b"500000")])
        async with connect(g.port) as client:
            await client.send(big, b"x" * 250_000, b"y" * 250_000)
            assert (await client.reply("POST")).body == b"x" * 250_000 + b"y" * 250_000


async def test_a_backend_that_takes_no_more_connections_is_passed_over() -> None:
    async with backend(silent) as full, backend(_echo) as b:
        mapping = {"full": {"url": full.url, "max_connections": 1}, "spare": {"url": b.url}}
        async with gate(mapping) as g, connect(g.port) as waiting:
            await waiting.send(_chat("m"))
            await full.called()
            assert (await fetch(g.port, _chat("m"))).status == 200
            assert len(b.calls) == 1
            assert g.app.runtime.backends["full"].reachable, "that was headgate's own limit"


async def test_a_backend_that_does_not_take_the_connection_in_time_is_passed_over() -> None:
    async with full_listener() as port, backend(_echo) as b:
        slow = {"url": f"http://127.0.0.1:{port}", "timeouts": {"connect": "200ms"}}
        async with gate({"slow": slow, "there": {"url": b.url}}) as g:
            assert (await fetch(g.port, _chat("m"))).status == 200
            x = await g.settled()
            assert [(a.backend, a.kind) for a in x.attempts] == [("slow", "backend_timeout"), ("there", None)]
            assert g.app.runtime.backends["slow"].reachable is False


async def test_a_backend_that_took_the_request_is_not_passed_over() -> None:
    async def script(call: Call) -> None:
        call.close()

    async with (
        backend(script) as one,
        backend(_echo) as two,
        gate({"one": {"url": one.url}, "two": {"url": two.url}}) as g,
    ):
        assert (await fetch(g.port, _chat("m"))).status == 502
        assert (len(one.calls), len(two.calls)) == (1, 0)


# -- keys


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([(b"Authorization", b"Bearer caller")], (b"Authorization", b"Bearer secret-key")),
        ([(b"authorization", b"Basic Zm9v")], (b"authorization", b"Bearer secret-key")),
        ([(b"x-api-key", b"caller")], (b"x-api-key", b"secret-key")),
        ([(b"api-key", b"caller"), (b"Authorization", b"Bearer caller")], (b"api-key", b"secret-key")),
        ([], (b"Authorization", b"Bearer secret-key")),
    ],
)
async def test_the_backends_key_takes_the_place_of_the_callers(given: Fields, sent: tuple[bytes, bytes]) -> None:
    async with backend(hello) as b, gate({"local": {"url": b.url, "key": "secret-key"}}) as g:
        await fetch(g.port, request("GET", "/v1/models", None, given))
        keys = [f for f in b.calls[0].fields if f[0].lower() in (b"authorization", b"x-api-key", b"api-key")]
        assert keys == [sent]
        assert b"caller" not in b.calls[0].raw_head
        assert "secret-key" not in json.dumps(await g.log_lines(1))


async def test_without_a_key_the_callers_passes() -> None:
    async with backend(hello) as b, gate(b.url) as g:
        await fetch(g.port, request("GET", "/", None, [(b"Authorization", b"Bearer caller")]))
        assert b.calls[0].value(b"authorization") == b"Bearer caller"


# -- errors


def _error(reply: Reply) -> dict[str, Any]:
    """The error of an OpenAI-shaped reply, which has all that it must have."""
    assert reply.value(b"content-type") == b"application/json"
    assert reply.value(b"content-length") == b"%d" % len(reply.body)
    assert len(values(reply.fields, b"x-request-id")) == 1
    document = json.loads(reply.body)
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    found: dict[str, Any] = document["error"]
    assert found["message"].endswith(".")
    return found


async def test_errors_are_openai_shaped() -> None:
    async with backend(hello) as b:
        url = b.url
    async with gate(url) as g:
        reply = await fetch(g.port, request("POST", "/v1/chat/completions", b"{}", [(b"X-Request-Id", b"mine")]))
        assert reply.status == 502
        error = _error(reply)
        assert (error["type"], error["code"], error["param"]) == ("api_error", "bad_gateway", None)
        assert reply.value(b"x-request-id") == b"mine"
        assert str(b.port).encode() not in reply.body, "no address of a backend"


@pytest.mark.parametrize("target", ["/v1/messages", "/v1/messages/count_tokens", "/v1/messages?beta=true"])
async def test_errors_are_anthropic_shaped_under_messages(target: str) -> None:
    async with backend(hello) as b:
        url = b.url
    async with gate(url) as g:
        reply = await fetch(g.port, request("POST", target, b"{}", [(b"X-Request-Id", b"mine")]))
        assert reply.status == 502
        document = json.loads(reply.body)
        assert document == {
            "type": "error", "error": {"type": "api_error", "message": document["error"]["message"]}, "request_id": "mine",
        }  # fmt: skip


async def test_a_bad_head_is_answered_in_openai_shape() -> None:
    async with backend(hello) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(b"nonsense\r\n\r\n")
        reply = await client.reply()
        assert reply.status == 400
        assert _error(reply)["code"] == "bad_http"


async def test_an_id_is_made_when_the_client_has_none_and_is_the_same_everywhere() -> None:
    async with backend(hello) as b, gate(b.url) as g:
        reply = await fetch(g.port, request())
        made = reply.value(b"x-request-id")
        assert made and b.calls[0].value(b"x-request-id") == made
        assert (await g.log_lines(1))[0]["id"] == made.decode()
        other = await fetch(g.port, request())
        assert other.value(b"x-request-id") != made


async def test_a_clients_odd_id_harms_nothing() -> None:
    async with backend(hello) as b, gate(b.url) as g:
        for odd in (b"", b"a" * 5000, "ü€".encode(), b'"\\{}', b"a\tb"):
            reply = await fetch(g.port, request("GET", "/", None, [(b"X-Request-Id", odd)]))
            assert reply.status == 200
            assert values(b.calls[-1].fields, b"x-request-id") == [odd]
            assert len(values(reply.fields, b"x-request-id")) == 1
        assert len(await g.log_lines(5)) >= 5


# -- TLS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(certificate, key) for 127.0.0.1, made with the openssl command."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-keyout", str(key), "-out", str(cert), "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return cert, key


async def _secure(certificate: tuple[Path, Path]) -> tuple[asyncio.Server, str, list[bytes]]:
    """A TLS server that answers every request; its URL, and the heads that it has seen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    return server, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


async def test_tls_to_the_backend(certificate: tuple[Path, Path]) -> None:
    server, url, heads = await _secure(certificate)
    try:
        async with gate({"local": {"url": url, "tls": {"ca": str(certificate[0])}}}) as g, connect(g.port) as client:
            for _ in range(3):
                assert (await client.ask(request())).body == b"secret"
            assert len(heads) == 3
            assert g.backend_connections() == (0, 1), "the connection is used again"
        async with gate({"local": {"url": url}}) as g:
            reply = await fetch(g.port, request())
            assert (reply.status, _error(reply)["code"]) == (502, "bad_gateway")
            assert len(heads) == 3, "an unknown certificate is not talked to"
        async with gate({"local": {"url": url, "tls": {"verify": False}}}) as g:
            assert (await fetch(g.port, request())).body == b"secret"
    finally:
        server.close()


async def test_a_backend_that_speaks_no_tls_is_a_504_after_the_time_to_connect() -> None:
    async with backend(hello) as b:
        url = b.url.replace("http:", "https:")
        async with gate({"local": {"url": url, "timeouts": {"connect": "200ms"}}}) as g:
            assert (await fetch(g.port, request())).status == 504
        assert not b.calls
