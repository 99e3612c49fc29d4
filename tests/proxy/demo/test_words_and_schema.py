"""Pure parts: pieces that join, prose that repeats, JSON that fits its schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.demo import draft, schema, words
from proxy.demo.draft import Wish
from proxy.demo.errors import Refused
from proxy.demo.knobs import Knobs


@settings(max_examples=60)
@given(st.text(), st.one_of(st.none(), st.integers(1, 9)))
def test_pieces_join_to_the_text(text: str, size: int | None) -> None:
    found = words.pieces(text, size)
    assert "".join(found) == text
    assert all(found)


@pytest.mark.parametrize("count", [1, 7, 500])
def test_prose_has_the_length_asked_for(count: int) -> None:
    found = words.prose_pieces(words.rng("x"), count, None)
    assert len(found) == count
    assert found == words.prose_pieces(words.rng("x"), count, None)
    assert found != words.prose_pieces(words.rng("y"), count, None) or count == 1


@settings(max_examples=60)
@given(st.text(max_size=300), st.integers(0, 60), st.text(min_size=1, max_size=3))
def test_limits_and_stops_only_shorten(text: str, most: int, stop: str) -> None:
    whole = draft.write(Wish(("s",), Knobs(say=text)))
    assert whole.content == text
    assert whole.finish == "stop"
    cut = draft.write(Wish(("s",), Knobs(say=text), max_tokens=most, stop=(stop,)))
    assert text.startswith(cut.content)
    assert cut.tokens <= most
    assert stop not in cut.content
    if cut.finish == "stop":
        assert cut.content == text.split(stop)[0]


def make(wanted: Any, spoken: str | None = None) -> Any:
    return schema.Maker(wanted, words.rng("seed"), spoken).make(wanted)


@pytest.mark.parametrize(
    ("wanted", "check"),
    [
        ({"type": "string", "minLength": 50, "maxLength": 60}, lambda v: 50 <= len(v) <= 60),
        ({"type": "string", "maxLength": 2}, lambda v: len(v) == 2),
        ({"type": "string", "format": "date"}, lambda v: v == "2024-05-01"),
        ({"type": ["null", "integer"], "minimum": 9, "maximum": 9}, lambda v: v == 9),
        ({"type": "integer", "exclusiveMinimum": 3, "maximum": 5}, lambda v: v in (4, 5)),
        ({"type": "integer", "maximum": -4}, lambda v: -12 <= v <= -4),
        ({"type": "number", "minimum": 0.5, "maximum": 0.75}, lambda v: 0.5 <= v <= 0.75),
        ({"type": "integer", "multipleOf": 7, "minimum": 8}, lambda v: v == 14),
        ({"enum": ["a", 1, None]}, lambda v: v in ("a", 1, None)),
        ({"const": {"x": 1}}, lambda v: v == {"x": 1}),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 4}, lambda v: v == [True] * 4),
        ({"type": "array", "maxItems": 0}, lambda v: v == []),
        ({"prefixItems": [{"type": "null"}, {"const": 2}], "type": "array"}, lambda v: v == [None, 2]),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, lambda v: v is True),
        ({"oneOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"const": 5}}}, lambda v: v == 5),
        (
            {"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]},
            lambda v: v == {"a": 1, "b": 2},
        ),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": 6}}}, lambda v: v == 6),
        ({}, lambda v: isinstance(v, str)),
        (True, lambda v: v is None),
    ],
)
def test_values_fit_their_schema(wanted: Any, check: Any) -> None:
    assert check(make(wanted))


def test_recursive_schemas_end() -> None:
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["name", "children"],
            }
        },
    }
    assert make(tree)["children"][0]["children"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"$ref": "#"},
        {"$ref": "https://example.com/x"},
        {"$ref": "#/none"},
        {"allOf": [{"$ref": "#/nowhere"}]},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "array", "minItems": 10**9, "items": {"type": "array", "minItems": 1000}},
    ],
)
def test_endless_schemas_are_refused(wanted: Any) -> None:
    with pytest.raises(Refused):
        make(wanted)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=60)
@given(_JSON)
def test_escaped_json_means_the_same(value: Any) -> None:
    escaped = schema.write(value, True)
    assert json.loads(escaped) == json.loads(schema.write(value, False)) == value
    assert escaped.isascii()
