"""JSON without loss: numbers keep their text, bad input says where and never what."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import jsonio
from proxy.jsonio import Embedded, JsonError, MinusZero, Number

NUMBERS = [
    "0",
    "-0",
    "1",
    "-1",
    "1.0",
    "-0.0",
    "1.50",
    "1e5",
    "1E5",
    "1e+5",
    "1E400",
    "-1E-400",
    "0.1",
    "123456789012345678901234567890",
    "-98765432109876543210987654321",
    "18446744073709551616",
    "3.141592653589793238462643383279",
    "1" * 4000,
]


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_keep_their_text(text: str) -> None:
    for raw in (text, f"[{text}]", '{"a":{"b":[' + text + ',"x -0"]}}'):
        assert jsonio.encode(jsonio.decode(raw.encode())) == raw.encode()


VALUES = st.recursive(
    st.none() | st.booleans() | st.text() | st.sampled_from(NUMBERS).map(lambda t: jsonio.decode(t.encode())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_round_trip(value: Any) -> None:
    raw = jsonio.encode(value)
    again = jsonio.decode(raw)
    assert again == value
    assert jsonio.encode(again) == raw
    if b"E400" not in raw:  # beyond a double
        assert jsonio.scan(raw) == json.loads(raw)


def test_a_changed_document_keeps_the_rest() -> None:
    doc = jsonio.decode(b'{ "a" : 1.0, "s":"\\u00e9\\/\\ud83d\\ude00", "n": -0, "k": 1E400 }')
    doc["new"] = "ü"
    assert jsonio.encode(doc).decode() == '{"a":1.0,"s":"é/😀","n":-0,"k":1E400,"new":"ü"}'
    assert isinstance(doc["n"], MinusZero)
    assert doc["n"] == 0
    assert isinstance(doc["a"], Number)
    assert doc["a"] + 1 == 2.0


def test_the_last_of_two_equal_keys_counts() -> None:
    assert jsonio.decode(b'{"a":"first","a":"last"}') == {"a": "last"}
    assert jsonio.decode(b'{"a":-0,"\\u0061":2}') == {"a": 2}


BAD = [
    b"",
    b" ",
    b"{",
    b"[1,]",
    b"{} {}",
    b"nul",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"01",
    b"1.",
    b".5",
    b"+1",
    b"'a'",
    b'"\\x"',
    b'"\x01"',
    b'"\xff"',
    b"\xff",
    b"\xef\xbb\xbf{}",
    b'"\\ud800"',
    b'"\\ud800x"',
    b'"\\udc00"',
    b'"\xed\xa0\x80"',
    b"\x00",
    b"{1:2}",
    b"[" * 100_000,
    b"1" * 5000,
    "{}".encode("utf-16"),
    b'{"secret": "secret"',
]


@pytest.mark.parametrize("raw", BAD, ids=lambda r: repr(r[:12]))
@pytest.mark.parametrize("read", [jsonio.decode, jsonio.scan])
def test_bad_input(raw: bytes, read: Any) -> None:
    with pytest.raises(JsonError) as error:
        read(raw)
    assert "secret" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.position is None or 0 <= error.value.position <= len(raw)


def test_position() -> None:
    with pytest.raises(JsonError) as error:
        jsonio.decode(b'{"a": tru}')
    assert error.value.position is not None
    assert 6 <= error.value.position <= 10
    with pytest.raises(JsonError) as error:
        jsonio.decode(b'["ok", "\xff"]')
    assert error.value.position == 8


def test_what_json_cannot_hold() -> None:
    with pytest.raises(JsonError):
        jsonio.encode({"a": "\ud800"})
    with pytest.raises(TypeError):
        jsonio.encode({"a": object()})


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (b'"a"', "a"),
        (b'"\\n\\u00e9"', "\né"),
        (b'""', ""),
        (b'"a" ', "a"),
        (b'"a"b"', None),
        (b"1", None),
        (b'"\n"', None),
        (b'"', None),
        (b'"\xff"', None),
        (b'"a","b"', None),
    ],
)
def test_decode_text(token: bytes, text: str | None) -> None:
    assert jsonio.decode_text(token) == text


def test_embedded_documents_are_written_once_and_keys_can_change() -> None:
    inner = jsonio.decode(b'{"alice":1.0,"bob":[2,{"alice":3}],"carol":4}')
    quoted = Embedded(inner, quoted=True)
    quoted.rename(inner, "alice", "[X]")
    quoted.rename(inner, "carol", "[X]")
    inner["bob"][0] = "two"
    raw = jsonio.encode({"arguments": quoted})
    assert json.loads(json.loads(raw)["arguments"]) == {"[X]": 1.0, "bob": ["two", {"alice": 3}], "[X] 2": 4}
    assert jsonio.encode({"input": Embedded({"a": Number("1.0")}, quoted=False)}) == b'{"input":{"a":1.0}}'


def test_many_keys_that_become_the_same_stay_linear() -> None:
    box = {f"k{n}": n for n in range(20_000)}
    whole = Embedded(box, quoted=False)
    for key in list(box):
        whole.rename(box, key, "[X]")
    assert sorted(whole.render().values()) == list(range(20_000))


def test_half_characters_of_a_reply() -> None:
    raw = b'{"a":["\\ud83d","\\ude00x",-0,1.50],"\\ud83d":"\\ud83d\\ude00"}'
    assert jsonio.decode_reply(raw) == {"a": ["\ufffd", "\ufffdx", 0, 1.5], "\ufffd": "😀"}
    assert jsonio.encode(jsonio.decode_reply(raw)["a"]) == '["\ufffd","\ufffdx",-0,1.50]'.encode()
    assert jsonio.decode_reply(b'{"a":1.50}') == jsonio.decode(b'{"a":1.50}')
    for bad in (b'["\\ud83d", NaN]', b'["\\ud83d"', b"nope", b"[" * 5000 + b'"\\ud83d"'):
        with pytest.raises(JsonError):
            jsonio.decode_reply(bad)
