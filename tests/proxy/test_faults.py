"""The table of faults, and faults as bytes for a client."""

from __future__ import annotations

import json

import pytest

from policies.contract import Kind, Refuse
from proxy.faults import TABLE, Fault, error_object, render, shape_of

SHOWN = [kind for kind in Kind if TABLE[kind].status]


def test_every_kind_has_a_row() -> None:
    assert set(TABLE) == set(Kind)


@pytest.mark.parametrize("kind", SHOWN)
def test_rows_make_sense(kind: Kind) -> None:
    row = TABLE[kind]
    assert {"client": 400, "policy": 400, "backend": 500, "headgate": 500}[row.side] == row.status // 100 * 100
    assert row.text.endswith(".") and row.type and row.anthropic
    assert row.side != "backend" or row.status in (502, 503, 504)


@pytest.mark.parametrize("kind", SHOWN)
def test_openai_shape(kind: Kind) -> None:
    status, reason, fields, body = render(Fault(kind, "secret detail"), "openai", "id-1")
    assert status == TABLE[kind].status and reason
    document = json.loads(body)
    row = TABLE[kind]
    assert document == {"error": {"message": row.text, "type": row.type, "param": None, "code": row.code}}
    assert (b"Content-Type", b"application/json") in fields and (b"X-Request-Id", b"id-1") in fields
    assert b"secret detail" not in body


@pytest.mark.parametrize("kind", SHOWN)
def test_anthropic_shape(kind: Kind) -> None:
    document = json.loads(render(Fault(kind), "anthropic", "id-1")[3])
    row = TABLE[kind]
    assert document == {
        "type": "error", "error": {"type": row.anthropic, "message": row.text}, "request_id": "id-1",
    }  # fmt: skip


def _fields(fault: Fault) -> dict[bytes, bytes]:
    return dict(render(fault, "openai", "id")[2])


def test_when_to_come_back() -> None:
    limited = _fields(Fault(Kind.RATE_LIMITED, retry_after=1.2))
    assert (limited[b"Retry-After"], limited[b"retry-after-ms"]) == (b"2", b"1200")
    assert b"Retry-After" not in _fields(Fault(Kind.RATE_LIMITED))
    assert _fields(Fault(Kind.RATE_LIMITED, retry_after=0.0))[b"Retry-After"] == b"1"
    assert _fields(Fault(Kind.BACKEND_UNAVAILABLE))[b"Retry-After"] == b"1"
    assert _fields(Fault(Kind.BACKEND_UNAVAILABLE, retry_after=30))[b"Retry-After"] == b"30"
    assert b"retry-after-ms" not in _fields(Fault(Kind.BACKEND_UNAVAILABLE))


def test_whether_to_try_again() -> None:
    assert _fields(Fault(Kind.BACKEND_TIMEOUT))[b"x-should-retry"] == b"false"
    assert _fields(Fault(Kind.QUOTA))[b"x-should-retry"] == b"false"
    assert b"x-should-retry" not in _fields(Fault(Kind.BACKEND_CONNECT))


def test_a_missing_key_says_how() -> None:
    assert _fields(Fault(Kind.UNAUTHENTICATED))[b"WWW-Authenticate"] == b"Bearer"


def test_a_policys_refusal_keeps_its_words() -> None:
    refusal = Refuse(
        Kind.INVALID_REQUEST, "Too many.", param="n", code="odd", retry_after=2, headers=[("X-Limit", "5")]
    )
    fault = Fault.of(refusal)
    assert error_object(fault, "openai", "id") == {
        "error": {"message": "Too many.", "type": "invalid_request_error", "param": "n", "code": "odd"}
    }
    assert _fields(fault)[b"X-Limit"] == b"5"


def test_an_id_that_is_not_latin_1_harms_nothing() -> None:
    assert (b"X-Request-Id", b"a?") in render(Fault(Kind.BLOCKED), "openai", "a€")[2]


@pytest.mark.parametrize(
    ("path", "shape"),
    [("/v1/messages", "anthropic"), ("/v1/messages/count_tokens", "anthropic"), ("/v1/messages/batches/x", "anthropic"),
     ("/v1/chat/completions", "openai"), ("/v1/message", "openai"), ("/", "openai")],
)  # fmt: skip
def test_the_shape_goes_by_the_path(path: str, shape: str) -> None:
    assert shape_of(path) == shape
