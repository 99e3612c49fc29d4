"""Which fields cross, and what a head says about its framing."""

from __future__ import annotations

import pytest

from proxy import headers
from proxy.headers import END_TO_END, HOP, NO_TRAILER, BadHead, Fields, forwarded_for, lines, scan, size_of


def test_end_to_end_fields_stay_as_they_are() -> None:
    raw: Fields = [
        (b"x-A", b"1"),
        (b"X-a", b""),
        (b"Set-Cookie", b"a"),
        (b"x_y", "ü".encode()),
        (b"Content-Type", b"T/x"),
    ]
    head = scan(raw)
    assert head.fields == raw
    assert (head.length, head.chunked, head.close, head.upgrade) == (None, False, False, None)
    assert head.content_type == b"T/x"


@pytest.mark.parametrize("name", sorted(HOP | {b"content-length", b"host", b"expect"}))
def test_fields_of_the_hop_go(name: bytes) -> None:
    value = {b"transfer-encoding": b"chunked", b"content-length": b"1"}.get(name, b"x")
    for written in (name, name.upper(), name.title()):
        assert scan([(b"A", b"1"), (written, value), (b"B", b"2")]).fields == [(b"A", b"1"), (b"B", b"2")]


def test_fields_that_connection_lists_go_too() -> None:
    head = scan([(b"Connection", b"keep-alive,X-One , ,x-two"), (b"x-one", b"1"), (b"X-TWO", b"2"), (b"X-Three", b"3")])
    assert head.fields == [(b"X-Three", b"3")]
    assert head.keep_alive and not head.close


def test_connection_may_come_in_several_lines() -> None:
    head = scan([(b"Connection", b"X-One"), (b"X-One", b"1"), (b"connection", b"CLOSE")])
    assert head.fields == [] and head.close


@pytest.mark.parametrize("name", sorted(END_TO_END))
def test_connection_may_not_list_what_the_backend_must_see(name: bytes) -> None:
    with pytest.raises(BadHead):
        scan([(b"Connection", b"close, " + name.upper())])


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"+1", b"1,1", b"1 1", b"0x1", b"1_0", b"1" * 19, "１".encode(), b"\x0b1"]
)
def test_a_length_is_digits_alone(value: bytes) -> None:
    with pytest.raises(BadHead):
        scan([(b"Content-Length", value)])


def test_a_length_is_said_once() -> None:
    assert scan([(b"content-length", b" 007\t")]).length == 7
    with pytest.raises(BadHead):
        scan([(b"Content-Length", b"3"), (b"content-length", b"3")])


@pytest.mark.parametrize("value", [b"", b"gzip", b"gzip, chunked", b"chunked, chunked", b"chunked;x", b"\x0bchunked"])
def test_transfer_encoding_is_exactly_chunked(value: bytes) -> None:
    with pytest.raises(BadHead):
        scan([(b"Transfer-Encoding", value)])


def test_chunked_in_any_case_but_once_and_without_a_length() -> None:
    assert scan([(b"Transfer-Encoding", b"Chunked ")]).chunked
    with pytest.raises(BadHead):
        scan([(b"Transfer-Encoding", b"chunked"), (b"transfer-encoding", b"chunked")])
    for fields in (
        [(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"0")],
        [(b"Content-Length", b"0"), (b"Transfer-Encoding", b"chunked")],
    ):
        with pytest.raises(BadHead):
            scan(fields)


def test_one_host() -> None:
    assert scan([(b"HOST", b"a")]).host == b"a"
    with pytest.raises(BadHead):
        scan([(b"Host", b""), (b"host", b"")])


def test_an_upgrade_needs_connection_to_say_so() -> None:
    assert scan([(b"Upgrade", b"websocket")]).upgrade is None
    assert scan([(b"Upgrade", b" WebSocket "), (b"Connection", b"x, upgrade")]).upgrade == b"websocket"


def test_the_first_request_id_counts() -> None:
    head = scan([(b"X-Request-ID", b"1"), (b"A", b"b"), (b"x-request-id", b"2"), (b"X-Request-Id", b"3")])
    assert head.request_id == b"1"
    assert head.fields == [(b"X-Request-ID", b"1"), (b"A", b"b")]


def test_te_is_only_about_trailers() -> None:
    assert scan([(b"TE", b"gzip, Trailers")]).trailers
    assert not scan([(b"TE", b"gzip")]).trailers


def test_what_is_remembered_of_names_is_bounded() -> None:
    headers._codes.clear()
    for i in range(3 * headers._MAX_CODES):
        assert scan([(b"X-%d" % i, b""), (b"Host", b"h")]).fields == [(b"X-%d" % i, b"")]
    assert len(headers._codes) <= headers._MAX_CODES
    assert scan([(b"a" * 60_000, b"")]).fields
    assert all(len(name) <= headers._MAX_NAME for name in headers._codes)
    assert scan([(b"hOsT", b"h"), (b"conTent-Length", b"1")]).length == 1


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ([], [(b"X-Forwarded-For", b"192.0.2.1")]),
        ([(b"x-forwarded-for", b"a")], [(b"x-forwarded-for", b"a, 192.0.2.1")]),
        ([(b"X-Forwarded-For", b"")], [(b"X-Forwarded-For", b"192.0.2.1")]),
        ([(b"X-Forwarded-For", b"a"), (b"X", b"y"), (b"X-Forwarded-For", b"b")],
         [(b"X-Forwarded-For", b"a"), (b"X", b"y"), (b"X-Forwarded-For", b"b, 192.0.2.1")]),
    ],
)  # fmt: skip
def test_forwarded_for_is_appended(given: Fields, want: Fields) -> None:
    head = scan(given)
    forwarded_for(head.fields, "192.0.2.1", head.forwarded)
    assert head.fields == want


def test_the_wire_form_and_its_size() -> None:
    fields: Fields = [(b"A", b"b"), (b"C", b"")]
    assert lines(fields) == b"A: b\r\nC: \r\n"
    assert size_of(fields) == len(b"A: b\r\nC: \r\n")
    assert lines([]) == b""


def test_framing_routing_and_keys_are_no_trailers() -> None:
    assert {b"transfer-encoding", b"content-length", b"host", b"authorization", b"x-api-key", b"trailer"} <= NO_TRAILER
    assert b"x-checksum" not in NO_TRAILER and b"server-timing" not in NO_TRAILER
