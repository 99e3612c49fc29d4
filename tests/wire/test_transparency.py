"""Nothing changes on its way: the same raw exchange directly and through headgate, over every known route."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest

from tests.kits.backend import Call, backend, hello
from tests.kits.client import fetch, request
from tests.kits.gate import gate
from tests.kits.stream import Fields, chunked
from tests.wire.exchange import pair

#: Every row of the route table of vLLM 0.33, and what other OpenAI-compatible servers have beside it.
ROUTES = """
POST /v1/chat/completions
POST /v1/chat/completions/batch
POST /v1/completions
POST /v1/responses
GET /v1/responses/resp_1?stream=true&starting_after=3
POST /v1/responses/resp_1/cancel
POST /v1/messages
POST /v1/messages/count_tokens
POST /cohere/v2/chat
POST /v1/embeddings
POST /v2/embed
POST /pooling
POST /classify
POST /score
POST /v1/score
POST /rerank
POST /v1/rerank
POST /v2/rerank
POST /generative_scoring
POST /v1/decisions
POST /v1/systemone
POST /v1/audio/transcriptions
POST /v1/audio/translations
POST /tokenize
POST /detokenize
POST /inference/v1/generate
POST /v1/chat/completions/render
POST /v1/chat/completions/derender
POST /v1/completions/render
POST /v1/messages/render
POST /v1/responses/render
POST /v1/responses/derender
POST /invocations
GET /ping
POST /ping
GET /health
GET /version
GET /metrics
GET /load
GET /v1/models
GET /tokenizer_info
GET /kv_event_sources
GET /docs
GET /openapi.json
POST /v1/load_lora_adapter
POST /v1/unload_lora_adapter
POST /start_profile
POST /stop_profile
POST /scale_elastic_ep
POST /is_scaling_elastic_ep
POST /abort_requests
POST /inference/v1/abort_requests
POST /fault_tolerance/report
POST /sleep
POST /wake_up
GET /is_sleeping
POST /collective_rpc
POST /reset_prefix_cache
GET /server_info
POST /pause
POST /resume
POST /update_weights
POST /v1/audio/speech
POST /v1/images/generations
POST /v1/images/edits
GET /v1/files
POST /v1/files
DELETE /v1/files/file-1
GET /v1/files/file-1/content
POST /v1/uploads
POST /v1/batches
POST /v1/moderations
GET /v1/models/org%2Fname
DELETE /v1/models/ft:x
POST /openai/deployments/d/chat/completions?api-version=2026-01-01
GET /
GET /something/nobody/knows?x=1
""".strip().splitlines()

#: Odd spacing, a 30-digit integer, floats as written, a duplicate key, escapes, a lone surrogate, raw UTF-8.
ODD_JSON = (
    b'{ "model" :\t"m","big":123456789012345678901234567890, "one": 1.0,"e":1E5 ,"neg":-0,\r\n'
    b' "dup":1,"dup":2, "lone":"\\ud800", "esc":"\\u00e9\\/", "raw":"' + "é€𝄞".encode() + b'", "stream":false }\n'
)
EVENTS = [
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n',
    b": keep-alive\n\n",
    'data: {"choices":[{"index":0,"delta":{"content":"é€𝄞"}}],"big":123456789012345678901234567890}\n\n'.encode(),
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
]
AUTH: Fields = [(b"Authorization", b"Bearer sk-test"), (b"Content-Type", b"application/json")]


def wire(route: str, body: bytes | None = None, fields: Fields | None = None) -> bytes:
    method, target = route.split(" ", 1)
    if body is None and method == "POST":
        body, fields = ODD_JSON, AUTH
    return request(method, target, body, fields)


@pytest.mark.parametrize("route", ROUTES)
async def test_every_route_is_relayed_as_it_is(route: str) -> None:
    async def script(call: Call) -> None:
        if b"application/json" in (call.value(b"accept") or b""):
            await call.reply(ODD_JSON, fields=[(b"content-type", b"application/json"), (b"Server", b"uvicorn")])
        else:
            await call.sse(EVENTS)

    async with pair(script) as p:
        plain = wire(route).replace(b"\r\n", b"\r\nAccept: application/json\r\n", 1)
        await p.same(plain)
        await p.same(plain, trickle=1)
        await p.same(wire(route))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
async def test_every_method(method: str) -> None:
    async def script(call: Call) -> None:
        await call.reply(b"" if call.method == b"HEAD" else b"x" * 10, fields=[(b"Allow", b"GET, HEAD")])

    async with pair(script) as p:
        body = b"body" if method in ("POST", "PUT", "PATCH", "DELETE") else None
        await p.same(request(method, "/v1/models/m", body))


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models/org%2Fname", "/v1/models/org%2fname", "//v1//models", "/v1/models;v=1;w", "/v1/models?",
        "/v1/models?a=b+c%20d&&=&x", "/v1/../v1/models", "/v1/%2e%2e/admin", "/v1/models/%00%ff", "/a?b?c",
        "/v1/models/'()*!$,:@~", "/v1/models?q=%F0%9D%84%9E", "/v1/models/{id}|^`", "/?/", "/v1/models/\\x",
        "/" + "a" * 8000,
    ],
)  # fmt: skip
async def test_request_target_crosses_byte_for_byte(target: str) -> None:
    async def script(call: Call) -> None:
        await call.reply(b"ok")

    async with pair(script) as p:
        _, seen = await p.same(request("GET", target))
        assert seen.call.target == target.encode()


async def test_base_path_of_a_backend_goes_before_the_target() -> None:
    async with backend(hello) as b, gate(b.url + "/root/") as g:
        await fetch(g.port, request("GET", "/v1//models%2F?"))
        assert b.calls[0].target == b"/root/v1//models%2F?"


REQUEST_FIELDS: dict[str, Fields] = {
    "case, order, repeats": [(b"x-b", b"1"), (b"X-A", b"2"), (b"x-B", b"3"), (b"aCCept", b"*/*"), (b"X-a", b"")],
    "bytes above ASCII": [(b"X-Name", "grün".encode("latin-1")), (b"X-Utf8", "€".encode())],
    "underscores and dots": [(b"x_under_score", b"1"), (b"x.dot", b"2"), (b"x~!#$%&'*+^`|", b"3")],
    "empty values": [(b"X-Empty", b""), (b"X-Also", b"")],
    "inner spaces": [(b"X-Spaces", b"a  b \t c")],
    "ids and keys": [
        (b"X-Request-Id", b"cmpl-prefill_addr_10.0.0.1:1234___decode"), (b"X-Session-ID", b"s"), (b"api-key", b"k"),
        (b"x-api-key", b"k2"), (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        (b"tracestate", b"a=b"), (b"baggage", b"c=d"), (b"Idempotency-Key", b"i"), (b"x-stainless-retry-count", b"0"),
        (b"OpenAI-Organization", b"o"), (b"anthropic-version", b"2023-06-01"), (b"X-data-parallel-rank", b"1"),
        (b"X-Vllm-Priority", b"5"), (b"endpoint-load-metrics-format", b"TEXT"),
    ],
    "nothing is invented": [],
    "cookies": [(b"Cookie", b"a=1; b=2"), (b"Cookie", b"c=3")],
    "forwarded": [(b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Host", b"h"), (b"Forwarded", b"for=1.2.3.4")],
    "encodings": [(b"Accept-Encoding", b"gzip, br;q=0.5, zstd"), (b"Accept", b"text/event-stream")],
    "ranges": [(b"Range", b"bytes=0-1"), (b"If-None-Match", b'W/"x"'), (b"If-Modified-Since", b"x")],
}  # fmt: skip


@pytest.mark.parametrize("fields", REQUEST_FIELDS.values(), ids=REQUEST_FIELDS)
async def test_request_fields_cross_as_they_are(fields: Fields) -> None:
    async def script(call: Call) -> None:
        await call.reply(b"ok")

    async with pair(script) as p:
        await p.same(request("GET", "/v1/models", None, fields))
        await p.same(request("POST", "/v1/chat/completions", b"{}", fields), trickle=1)


async def test_hop_by_hop_fields_stop_here() -> None:
    async def script(call: Call) -> None:
        await call.reply(b"ok", fields=[
            (b"Connection", b"Keep-Alive, X-Hop-Back"), (b"Keep-Alive", b"timeout=5"), (b"X-Hop-Back", b"1"),
            (b"Proxy-Authenticate", b"Basic"), (b"X-End", b"2"),
        ])  # fmt: skip

    async with pair(script) as p:
        reply = await fetch(p.gate.port, request("GET", "/v1/models", None, [
            (b"Connection", b"keep-alive, X-Hop"), (b"X-Hop", b"1"), (b"Keep-Alive", b"5"), (b"TE", b"gzip"),
            (b"Proxy-Connection", b"x"), (b"Proxy-Authorization", b"Basic eA=="), (b"Upgrade", b"h2c"),
            (b"HTTP2-Settings", b"AAMAAABkAARAAAAAAAIAAAAA"), (b"X-Stays", b"1"), (b"X-Forwarded-For", b"9.9.9.9"),
            (b"X-Forwarded-For", b"8.8.8.8"),
        ]))  # fmt: skip
        got = {k.lower() for k, _ in p.backend.calls[-1].fields}
        assert got == {b"host", b"x-stays", b"x-forwarded-for", b"x-request-id"}
        forwarded = [v for k, v in p.backend.calls[-1].fields if k == b"X-Forwarded-For"]
        assert forwarded == [b"9.9.9.9", b"8.8.8.8, 127.0.0.1"]
        back = {k.lower() for k, _ in reply.fields}
        assert back == {b"x-end", b"content-length", b"x-request-id"}


async def test_host_is_the_backends_own_or_kept() -> None:
    async with backend(hello) as b:
        async with gate(b.url) as g:
            await fetch(g.port, request())
            assert b.calls[-1].value(b"host") == b"127.0.0.1:%d" % b.port
        async with gate({"local": {"url": b.url, "host": "keep"}}) as g:
            await fetch(g.port, request(host=b"Kept.example:99"))
            assert b.calls[-1].value(b"host") == b"Kept.example:99"


async def test_forwarded_for_can_be_switched_off() -> None:
    async with backend(hello) as b, gate(b.url, forwarded="off") as g:
        await fetch(g.port, request("GET", "/", None, [(b"X-Forwarded-For", b"1.1.1.1")]))
        assert b.calls[0].value(b"x-forwarded-for") == b"1.1.1.1"
        await fetch(g.port, request())
        assert b.calls[1].value(b"x-forwarded-for") is None


REPLY_FIELDS: dict[str, Fields] = {
    "cookies stay apart": [(b"Set-Cookie", b"a=1; Path=/"), (b"set-cookie", b"b=2"), (b"Set-Cookie", b"c=3")],
    "case and order": [(b"x-B", b"1"), (b"X-a", b"2"), (b"DATE", b"Thu, 01 Jan 1970 00:00:00 GMT"), (b"Server", b"x")],
    "bytes above ASCII": [(b"X-Name", "grün".encode("latin-1"))],
    "a big metadata field": [(b"metadata", b"[" + b"1," * 30_000 + b"1]")],
    "empty values": [(b"X-Empty", b"")],
    "its own request id": [(b"X-Request-Id", b"from-the-backend")],
    "validators": [(b"ETag", b'"x"'), (b"Content-MD5", b"x"), (b"Digest", b"x"), (b"Accept-Ranges", b"bytes")],
    "limits": [(b"x-ratelimit-remaining-requests", b"9"), (b"Retry-After", b"1"), (b"x-should-retry", b"false")],
    "many": [(b"X-%d" % i, b"%d" % i) for i in range(500)],
}  # fmt: skip


@pytest.mark.parametrize("fields", REPLY_FIELDS.values(), ids=REPLY_FIELDS)
async def test_reply_fields_cross_as_they_are(fields: Fields) -> None:
    async def script(call: Call) -> None:
        await call.reply(b"ok", fields=fields)

    async with pair(script) as p:
        await p.same(request())


@pytest.mark.parametrize(
    ("status", "reason"),
    [(200, b"OK"), (200, b""), (201, b"Created Here"), (202, b"Accepted"), (206, b"Partial Content"), (299, b"Odd"),
     (301, b"Moved"), (302, b"Found"), (303, b"See Other"), (307, b"Temporary Redirect"), (308, b"Permanent Redirect"),
     (400, b"Bad Request"), (401, b"Unauthorized"), (404, b"Not Found"), (413, b"Too Large"), (418, b"I'm a teapot"),
     (422, b"Unprocessable"), (429, b"Too Many Requests"), (499, b"x"), (500, b"Internal Server Error"),
     (502, b"Bad Gateway"), (503, b"Service Unavailable"), (529, b"Overloaded"), (599, b"y"),
     (200, "schön".encode("latin-1"))],
)  # fmt: skip
async def test_status_line_and_error_bodies_cross_as_they_are(status: int, reason: bytes) -> None:
    async def script(call: Call) -> None:
        fields = [(b"Location", b"http://elsewhere.example/v1"), (b"Content-Type", b"application/json")]
        await call.reply(b'{"error":"Unauthorized"}', status, fields, reason)

    async with pair(script) as p:
        direct, _ = await p.same(request())
        assert direct.reply.status == status
        assert len(p.backend.calls) == 2, "a redirect is passed, not followed"


def _multipart() -> bytes:
    return (
        b'--b0undary\r\nContent-Disposition: form-data; name="file"; filename="a\xc3\xa9.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\nRIFF\x00\x01\r\n\r\n\xff\xfe--b0undar\r\n--b0undary\r\n"
        b'Content-Disposition: form-data; name="prompt"\r\n\r\nhello\r\n--b0undary--\r\n'
    )


BODIES: dict[str, tuple[bytes, Fields]] = {
    "odd json": (ODD_JSON, [(b"Content-Type", b"application/json")]),
    "not json at all": (b"{nope", [(b"Content-Type", b"application/json")]),
    "gzip": (gzip.compress(ODD_JSON * 50), [(b"Content-Encoding", b"gzip"), (b"Content-Type", b"application/json")]),
    "deflate": (zlib.compress(ODD_JSON), [(b"Content-Encoding", b"deflate")]),
    "multipart": (_multipart(), [(b"Content-Type", b"multipart/form-data; boundary=b0undary")]),
    "binary": (bytes(range(256)) * 40, [(b"Content-Type", b"application/octet-stream")]),
    "empty": (b"", [(b"Content-Type", b"application/json")]),
    "utf-16": ('{"model":"m"}'.encode("utf-16"), [(b"Content-Type", b"application/json; charset=utf-16")]),
    "looks like http": (b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n", []),
    "a megabyte": (json.dumps({"x": "é" * 150_000}).encode() * 1, [(b"Content-Type", b"application/json")]),
}


@pytest.mark.parametrize(("body", "fields"), BODIES.values(), ids=BODIES)
async def test_bodies_cross_byte_for_byte_both_ways(body: bytes, fields: Fields) -> None:
    async def script(call: Call) -> None:
        if call.target == b"/chunked":
            await call.begin_chunked(fields)
            await call.chunk(body[:1], body[1:7], body[7:])
            await call.end_chunked()
        else:
            await call.reply(body, fields=fields)

    async with pair(script) as p:
        small = len(body) < 20_000
        await p.same(request("POST", "/v1/chat/completions", body, fields))
        await p.same(request("POST", "/chunked", body, fields), trickle=1 if small else 60_000)
        te = [*fields, (b"Transfer-Encoding", b"chunked")]
        head = request("POST", "/chunked", None, te)
        await p.same(head + chunked(body[:5], body[5:6], body[6:]))
        await p.same(head + chunked(body[:5], body[5:6], body[6:]), trickle=3 if small else 60_000)


async def test_a_get_with_a_body_and_a_post_without() -> None:
    async def script(call: Call) -> None:
        await call.reply(call.body)

    async with pair(script) as p:
        await p.same(request("GET", "/v1/models", b"surprise"))
        await p.same(request("POST", "/v1/chat/completions"))
        await p.same(request("DELETE", "/v1/files/f", b""))


async def test_request_trailers_cross() -> None:
    async def script(call: Call) -> None:
        await call.reply(b"ok")

    raw = request("POST", "/v1/x", None, [(b"Transfer-Encoding", b"chunked"), (b"Trailer", b"X-Sum")])
    async with pair(script) as p:
        for trickle in (0, 1):
            _, seen = await p.same(raw + chunked(b"abc", trailers=b"X-Sum: 5\r\nx-two: \r\n"), trickle=trickle)
            assert seen.call.trailers == [(b"X-Sum", b"5"), (b"x-two", b"")]
