"""The JSON lens: escapes cut anywhere, numbers, keys, broken JSON; what was valid JSON stays valid."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.lens import JsonLens
from tests.kits.gate_kit import Cutter, PassAll, Redactor, check_gate, drive, redact

PHRASES = ["secret", "4111", 'q"u', "é\n", "😀😀", "key"]
TEXT = st.lists(
    st.sampled_from([*PHRASES, "s", "se", "4", "41", '"', "\\", "\n", "é", "😀", " ", "{", "/"]), max_size=6
).map("".join)
DOCS = st.recursive(
    TEXT | st.integers(-(10**6), 10**18) | st.sampled_from([4111, 94111, 1.5, 4111.5, True, None, -4111]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def clean(value: Any) -> Any:
    """The document as a tool should get it."""
    if isinstance(value, str):
        return redact(value, PHRASES)
    if isinstance(value, list):
        return [clean(v) for v in value]
    if isinstance(value, dict):
        return [(clean(k), clean(v)) for k, v in value.items()]
    if isinstance(value, int | float) and not isinstance(value, bool) and "4111" in json.dumps(value):
        return "[X]"
    return value


def pairs(text: str) -> Any:
    return json.loads(text, object_pairs_hook=list)


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [tuple(plain(x) for x in v) if isinstance(v, tuple) else plain(v) for v in value]
    return value


@settings(max_examples=400, deadline=None)
@given(
    doc=st.lists(DOCS, min_size=1, max_size=3) | st.dictionaries(TEXT, DOCS),
    ascii=st.booleans(),
    cuts=st.lists(st.integers(0, 300), max_size=12),
)
def test_arguments_stay_json_and_lose_what_is_banned(doc: Any, ascii: bool, cuts: list[int]) -> None:
    text = json.dumps(doc, ensure_ascii=ascii)

    def make() -> JsonLens:
        return JsonLens(Redactor(PHRASES))

    out, reason = drive(make(), [text])
    assert reason is None
    assert plain(pairs(out)) == plain(clean(doc))
    if out == text:
        assert clean(doc) == clean(json.loads(text))
    check_gate(make, text, cuts)
    for step in (1, 3):
        assert drive(make(), [text[i : i + step] for i in range(0, len(text), step)])[0] == out


@settings(max_examples=200, deadline=None)
@given(text=st.text('{}[]":,\\u004s1a \n\ud83d', max_size=30), cuts=st.lists(st.integers(0, 30), max_size=8))
def test_broken_json_keeps_its_shape_and_any_split_gives_the_same(text: str, cuts: list[int]) -> None:
    check_gate(lambda: JsonLens(Redactor(["s1", "aa", "\n"])), text, cuts)
    assert drive(JsonLens(PassAll()), [text])[0] == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":"\\u0073ecret"}', '{"a":"[X]"}'),
        ('{"a":"se\\u0063ret\\n"}', '{"a":"[X]\\n"}'),
        ('{"n":4111}', '{"n":"[X]"}'),
        ('{"n":94111.50,"m":1.50}', '{"n":"[X]","m":1.50}'),
        ('{"secret":1}', '{"[X]":1}'),
        ('["\\ud83d\\ude00\\ud83d\\ude00"]', '["[X]"]'),
        ('["\\ud83d"]', '["\\ud83d"]'),
        ("just secret text", "just [X] text"),
        ('  ["secret"]', '  ["[X]"]'),
        ("{'a': secret}", "{'a': \"[X]\"}"),
        ('{"a":"secret', '{"a":"[X]'),
        ('{"a":"\\u00', '{"a":"\\u00'),
    ],
)
def test_examples(text: str, expected: str) -> None:
    for step in (1, 2, 100):
        lens = JsonLens(Redactor(PHRASES, "[X]"))
        assert drive(lens, [text[i : i + step] for i in range(0, len(text), step)]) == (expected, None)


def test_a_replacement_is_escaped() -> None:
    out, _ = drive(JsonLens(Redactor(["secret"], 'a"\\\n')), ['{"a":"secret"}'])
    assert json.loads(out) == {"a": 'a"\\\n'}


def test_a_match_over_quotes_leaves_the_quotes() -> None:
    out, _ = drive(JsonLens(Redactor(['a": "b'])), ['{"xa": "bx"}'])
    assert json.loads(out) == {"x[X]": "x"}


def test_a_cut_lets_out_what_stands_before_it() -> None:
    assert drive(JsonLens(Cutter(["secret"])), ['{"a":"\\u0041 s', 'ecret"}']) == ('{"a":"\\u0041 ', "banned")


def test_a_long_word_is_linear() -> None:
    lens = JsonLens(PassAll())
    lens.reach = 1 << 30
    out, _ = drive(lens, ["[", *["1"] * 50_000, "]"])
    assert len(out) == 50_002


def test_many_spaces_do_not_make_json_plain() -> None:
    for lead in (3, 64, 65, 500):
        text = " " * lead + '{"a":"\\u0073ecret"}'
        for step in (1, 7, 1000):
            lens = JsonLens(Redactor(PHRASES))
            lens.reach = 1000
            out, _ = drive(lens, [text[i : i + step] for i in range(0, len(text), step)])
            assert json.loads(out) == {"a": "[X]"}
