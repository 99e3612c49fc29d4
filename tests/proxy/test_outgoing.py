"""A request as the backend gets it."""

from __future__ import annotations

import asyncio
import time

import pytest

from policies.contract import Exchange, Headers
from proxy.backends import Backend
from proxy.faults import Fault, Kind
from proxy.headers import Fields, scan
from proxy.incoming import Incoming
from proxy.outgoing import Upload, outgoing, request_head
from proxy.settings import Backend as Settings


def made(fields: Fields, *pieces: bytes, complete: bool = True, method: str = "POST") -> Incoming:
    incoming = Incoming(lambda stop: None, 0)
    incoming.method, incoming.target, incoming.head = method, b"/v1//x?", scan(fields)
    for piece in pieces:
        incoming.on_body(piece)
    if complete:
        incoming.on_complete()
    return incoming


def test_a_body_keeps_the_clients_framing() -> None:
    out = outgoing(made([(b"Content-Length", b"4")], b"ab", b"cd"), None)
    assert (out.framing, out.payload) == ([(b"Content-Length", b"4")], b"abcd")
    chunked = made([(b"Transfer-Encoding", b"chunked")], b"ab", b"cd")
    chunked.trailers.append((b"X", b"y"))
    out = outgoing(chunked, None)
    assert (out.framing, out.payload) == ([(b"Transfer-Encoding", b"chunked")], b"4\r\nabcd\r\n0\r\nX: y\r\n\r\n")
    out = outgoing(made([(b"Transfer-Encoding", b"chunked")]), None)
    assert out.payload == b"0\r\n\r\n"
    out = outgoing(made([]), None)
    assert (out.framing, out.payload) == ([], b"")
    out = outgoing(made([(b"Content-Length", b"0")]), None)
    assert (out.framing, out.payload) == ([(b"Content-Length", b"0")], b"")


def test_a_rewritten_body_has_a_length_of_its_own() -> None:
    for fields in ([(b"Content-Length", b"4")], [(b"Transfer-Encoding", b"chunked")]):
        out = outgoing(made(fields, b"abcd"), b"longer one")
        assert (out.framing, out.payload) == ([(b"Content-Length", b"10")], b"longer one")


def test_a_body_that_is_still_coming_is_not_at_hand() -> None:
    out = outgoing(made([(b"Content-Length", b"4")], b"ab", complete=False), None)
    assert (out.framing, out.payload) == ([(b"Content-Length", b"4")], None)


def head(
    incoming: Incoming, *, identity: bool = False, forwarded: bool = False, keyless: bool = False, **backend: object
) -> list[bytes]:
    """The lines of the request head."""
    settings = Settings.model_validate({"url": "http://b.example:8000", **backend})
    loop = asyncio.new_event_loop()
    try:
        at = Backend("b", settings, loop, time.monotonic)
        x = Exchange("made-1", incoming.method, "/v1//x", "", Headers(incoming.head.fields), "192.0.2.1", 0.0, 0.0)
        raw = request_head(
            x, incoming, at, outgoing(incoming, None), client="192.0.2.1", forwarded=forwarded, identity=identity,
            keyless=keyless,
        )  # fmt: skip
    finally:
        loop.close()
    assert raw.endswith(b"\r\n\r\n")
    return raw[:-4].split(b"\r\n")


def test_a_key_that_was_for_us_goes_no_further() -> None:
    fields = [(b"Authorization", b"Bearer k"), (b"X-Api-Key", b"k"), (b"API-Key", b"k"), (b"B", b"1")]
    kept = head(made(fields))
    assert b"Authorization: Bearer k" in kept and b"X-Api-Key: k" in kept
    gone = head(made(fields), keyless=True)
    assert b"B: 1" in gone and not [line for line in gone if b"ey: " in line or line.startswith(b"Authorization")]
    replaced = head(made(fields), keyless=True, key="sk-b")
    assert [line for line in replaced if b"sk-b" in line or b" k" in line] == [b"Authorization: Bearer sk-b"]


def test_the_line_and_the_order_of_fields() -> None:
    got = head(made([(b"b", b"1"), (b"Content-Length", b"0"), (b"A", b""), (b"X-Request-Id", b"mine")]), forwarded=True)
    assert got == [
        b"POST /v1//x? HTTP/1.1", b"Host: b.example:8000", b"b: 1", b"A: ", b"X-Request-Id: mine",
        b"X-Forwarded-For: 192.0.2.1", b"Content-Length: 0",
    ]  # fmt: skip


def test_an_id_is_made_only_when_there_is_none() -> None:
    assert b"X-Request-Id: made-1" in head(made([]))
    assert b"X-Request-Id: made-1" not in head(made([(b"x-request-id", b"")]))


def test_the_clients_own_list_of_fields_is_not_touched() -> None:
    incoming = made([(b"Authorization", b"a"), (b"Accept-Encoding", b"gzip")])
    before = list(incoming.head.fields)
    head(incoming, forwarded=True, identity=True, key="k")
    assert incoming.head.fields == before, "a second attempt starts from the same"


def test_host_and_prefix() -> None:
    incoming = made([(b"Host", b"client.example")])
    assert head(incoming, url="http://b.example/base/")[0] == b"POST /base/v1//x? HTTP/1.1"
    assert head(incoming)[1] == b"Host: b.example:8000"
    assert head(incoming, host="keep")[1] == b"Host: client.example"
    assert head(made([]), host="keep")[1] == b"Host: b.example:8000", "HTTP/1.0 may have none"


def test_identity_replaces_every_wish_for_an_encoding() -> None:
    got = head(made([(b"accept-encoding", b"gzip"), (b"Accept-Encoding", b"br")]), identity=True)
    assert [line for line in got if line.lower().startswith(b"accept-encoding")] == [b"Accept-Encoding: identity"]
    assert not any(line.startswith(b"Accept-Encoding") for line in head(made([])))


def test_expect_goes_only_with_a_body_that_is_still_coming() -> None:
    fields: Fields = [(b"Expect", b"100-Continue"), (b"Content-Length", b"2")]
    assert b"Expect: 100-continue" in head(made(fields, complete=False))
    assert not any(line.startswith(b"Expect") for line in head(made(fields, b"ab")))


def test_te_trailers_and_upgrades_are_named_in_connection() -> None:
    got = head(made([(b"TE", b"trailers, gzip")]))
    assert b"TE: trailers" in got and b"Connection: TE" in got
    got = head(made([(b"Upgrade", b"websocket"), (b"Connection", b"upgrade, close"), (b"TE", b"trailers")]))
    assert b"Upgrade: websocket" in got and b"Connection: Upgrade" in got and b"TE: trailers" not in got
    got = head(made([(b"Upgrade", b"h2c"), (b"Connection", b"upgrade")]))
    assert not any(line.startswith((b"Upgrade", b"Connection")) for line in got)


class Up:
    def __init__(self) -> None:
        self.out = b""
        self.ended: object = None

    def write(self, data: bytes) -> None:
        self.out += data

    def request_done(self) -> None:
        self.ended = "done"

    def fail(self, fault: Fault) -> None:
        self.ended = fault.kind


@pytest.mark.parametrize(
    ("fields", "wire"),
    [
        ([(b"Content-Length", b"5")], b"abcde"),
        ([(b"Transfer-Encoding", b"chunked")], b"2\r\nab\r\n3\r\ncde\r\n0\r\nX: y\r\n\r\n"),
    ],
)
def test_an_upload_frames_each_piece(fields: Fields, wire: bytes) -> None:
    up = Up()
    upload = Upload(up, made(fields, complete=False))  # type: ignore[arg-type]
    upload.body(b"ab")
    upload.body(b"cde")
    upload.body_end([(b"X", b"y")])
    assert (up.out, up.ended) == (wire, "done")


def test_a_broken_upload_has_no_end() -> None:
    up = Up()
    upload = Upload(up, made([(b"Transfer-Encoding", b"chunked")], complete=False))  # type: ignore[arg-type]
    upload.body(b"ab")
    upload.body_lost(Fault(Kind.BODY_TIMEOUT))
    assert (up.out, up.ended) == (b"2\r\nab\r\n", Kind.BODY_TIMEOUT)
