"""Whole texts: no match is too long, none is hidden by the prefilter, by an escape or by a policy's own entities."""

from __future__ import annotations

import base64
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.pii import Allow, CustomEntity, Span, compile_scanner
from tests.policies.pii.test_scanner import ALL, PIECES, PROSE, counting, streamed

KEY = "sk-proj-" + "aB3_" * 12
GITHUB = "ghp_" + "aB3" * 12
EMAIL = "jane.doe@example.com"
CARD = "4111111111111111"
PLAIN = compile_scanner(["all"])
VALUES = {"email": EMAIL, "openai_key": KEY, "github_token": GITHUB, "credit_card": CARD}
GLUE = {"dots": ".x", "slashes": "/ab", "commas": "a,", "query": "a=b&", "quotes": "'x'", "pipes": "|x", "cells": ";xy"}
SIZES = (300, 1000, 100_000)
RUNS = [(glue, size) for glue in GLUE for size in SIZES if size < 10_000 or glue in ("dots", "query")]


@pytest.mark.parametrize(("glue", "size"), RUNS)
@pytest.mark.parametrize("name", VALUES, ids=str)
def test_a_value_in_a_run_without_blanks_is_found_whole(name: str, glue: str, size: int) -> None:
    """At the beginning, at odd places, and at the end; nothing of the value is left."""
    run = GLUE[glue] * (size // len(GLUE[glue]))
    value = VALUES[name]
    for place in (0, size // 3, size - size % 3):
        text = run[:place] + "," + value + "," + run[place:]
        spans = (ALL if size < 10_000 else PLAIN).spans(text)
        assert any(s.type == name and s.start <= place + 1 and s.end >= place + 1 + len(value) for s in spans)
        assert value not in hidden(text, spans)


def hidden(text: str, spans: list[Span]) -> str:
    """The text with each find's characters gone."""
    out, at = [], 0
    for span in spans:
        out.append(text[at : span.start] + "#")
        at = span.end
    return "".join(out) + text[at:]


@pytest.mark.parametrize("size", SIZES[:2])
@pytest.mark.parametrize("name", VALUES, ids=str)
def test_a_value_glued_without_a_sign_between_is_found_where_the_rule_lets_it_begin(name: str, size: int) -> None:
    """The sign is the run's own last character; an address then has all the run that an address may have."""
    value = VALUES[name]
    for glue in ("ab.", "a-", "a&", "[", "(", '"', "#", "Ж "):
        run = glue * (size // len(glue))
        spans = ALL.spans(run + value)
        assert spans and spans[-1].end == len(run + value)
        assert spans[-1].start <= len(run)


def test_a_local_part_longer_than_allowed_is_cut_where_an_address_may_begin() -> None:
    text = "x." * 500 + EMAIL
    (span,) = ALL.spans(text)
    assert span.end == len(text)
    local = text[span.start :].partition("@")[0]
    assert 62 <= len(local) <= 64 and local.endswith("jane.doe")


LONG = ["sk-proj-" + "a1B2" * 5000, "https://user:" + "p" * 3000 + "@example.com/" + "q" * 3000]


@pytest.mark.parametrize("text", LONG, ids=len)
def test_long_values_are_one_find_from_their_first_character_to_their_last(text: str) -> None:
    assert [(s.start, s.end) for s in ALL.spans(", " + text + " ,")] == [(2, 2 + len(text))]


def test_a_token_with_a_long_head_keeps_it() -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "x5c": ["M" * 2000]}).encode()).decode().rstrip("=")
    token = f"{head}.{'B' * 700}.{'C' * 300}"
    (span,) = compile_scanner(["jwt"]).spans(f"token={token}\n")
    assert (span.start, span.end) == (6, 6 + len(token))


UNITS = ["a.", "ab-", "1.", "12 34 ", "a@", "@", "a@b.", "eyJ-", "sk-", "://u:", "é.", "\\n", "%3D", "0:"]


@pytest.mark.parametrize("unit", UNITS)
def test_the_work_grows_with_the_length_alone(unit: str) -> None:
    """Candidates that are judged, per character: no more in a run eight times as long."""
    per = []
    for size in (2000, 16_000):
        text = unit * (size // len(unit)) + " " + EMAIL
        with counting() as calls:
            ALL.spans(text)
        per.append(calls[0] / size)
    assert per[1] <= per[0] * 1.2 + 0.05


ESCAPES = ["\\n", "\\t", "\\r", "\\\\n", "\\u000a", "\\u003d", "\\x3d", "%3D", "%0a", "%20", "\\b"]
PREFIXED = {
    "openai_key": KEY,
    "anthropic_key": "sk-ant-api03-" + "aB3_" * 10,
    "github_token": GITHUB,
    "aws_access_key": "AKIAIOSFODNN7EXAMPLF",
    "slack_token": "xoxb-123456789012-abcdefABCDEF",
    "google_key": "AIza" + "aB3_-" * 7,
    "stripe_key": "sk_live_" + "aB3" * 8,
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcdefghij",
    "credit_card": "4111 1111 1111 1111",
    "iban": "DE89370400440532013000",
    "us_ssn": "536-22-1234",
}


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("name", PREFIXED, ids=str)
def test_what_follows_an_escape_begins_a_word(name: str, escape: str) -> None:
    value = PREFIXED[name]
    text = f'{{"log": "first line{escape}{value}{escape if escape[0] != "%" else " "}next"}}'
    start = text.index(value)
    assert (start, start + len(value), name) in [(s.start, s.end, s.type) for s in ALL.spans(text)]
    assert streamed(ALL, text, list(range(len(text)))) == ALL.spans(text)


@pytest.mark.parametrize("before", ["n", "x3d", "u003d", "\\ n", "\\q", "\\x3", "\\u00", "%3", "% 3D", "task", "\\nx"])
def test_a_letter_that_is_no_escape_is_part_of_the_word(before: str) -> None:
    assert ALL.spans(f"see {before}{GITHUB} now") == []


OWN = [
    CustomEntity("staff_id", (r"EMP-\d{6}", r"(?m)^id:\d+$", r"\bX\d{3}\b")),
    CustomEntity("project", words=("Blue Heron", "Zephyr", "naïve"), score=0.99),
    CustomEntity("rest", (r"<<[^>]*>>",), score=0.7),
]
OWN_PIECES = [
    "EMP-123456", "EMP-12345678", "id:77", "\nid:77\n", "X123", "X1234", "Blue \n Heron", "blueheron", "zephyr", "Zephyrs",
    "<<4111 1111 1111 1111>>", "<<", ">>", EMAIL, "EMP-123456@example.com", "SSN 536-22-1234", CARD, PROSE, "\\nZephyr", "x", " ",
    "NAÏVE",
]  # fmt: skip
CUSTOM = compile_scanner(["all"], custom=OWN)
ONLY = compile_scanner([], custom=OWN)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*OWN_PIECES, *PIECES]), max_size=14).map("".join))
def test_own_entities_beside_the_others_find_what_one_automaton_finds(text: str) -> None:
    assert CUSTOM.spans(text) == CUSTOM.plain(text)
    assert ONLY.spans(text) == ONLY.plain(text)


def test_own_entities_leave_the_prefilter_on() -> None:
    assert CUSTOM._built_in is not None and CUSTOM._own is not None
    text = PROSE * 20 + "EMP-123456 " + PROSE * 20 + EMAIL + " " + PROSE
    assert [s.type for s in CUSTOM.spans(text)] == ["staff_id", "email"]
    for prefilter in (CUSTOM._built_in.prefilter, CUSTOM._own[1]):
        assert sum(b - a for a, b in prefilter.windows(PROSE * 20 + EMAIL + " " + PROSE)) < 300


def test_an_own_find_that_is_allowed_still_covers_what_is_in_it() -> None:
    """As one automaton has it: the longer match counts, and is left alone."""
    scanner = compile_scanner(["email"], custom=[CustomEntity("note", (r"<[^>]*>",))], allow=Allow(frozenset({"<a@b.io>"})))
    assert scanner.spans("x <a@b.io> y") == []
    assert [s.type for s in scanner.spans("x <a@b.io > c@d.io")] == ["note", "email"]


FRAGMENTS = st.one_of(
    st.sampled_from([*PIECES, *PREFIXED.values(), *VALUES.values(), *ESCAPES, *GLUE.values()]),
    st.sampled_from(["order 4111-1111", "v1.2.3.4", "2024-04-23T10:15:30Z", "978-3-16-148410-0", "$1,234.56", "0x1F60"]),
    st.sampled_from(["账号", "né le ", "Телефон: ", "電話 ", "\u200b", "\u00a0", "😀", "ß", "İ", "\r\n", "\n\n", "…"]),
    st.just(PROSE),
    st.text(max_size=4),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(FRAGMENTS, max_size=24).map("".join))
def test_any_text_prefiltered_plain_and_streamed(text: str) -> None:
    """A stream holds 256 characters of what is undecided, a whole text all of it; nothing here is longer."""
    for scanner in (ALL, PLAIN):
        whole = scanner.spans(text)
        assert whole == scanner.plain(text)
        if longest_word(text) < 200:
            assert streamed(scanner, text, [at for at in range(len(text)) if at % 7 == 3]) == whole


def longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def test_many_random_texts_of_many_finds() -> None:
    rng = random.Random(11)
    for n in range(4):
        parts = rng.choices([*PIECES, *PREFIXED.values(), *OWN_PIECES], k=120)
        text = "".join(part + rng.choice((" ", " ", "\n", ", ", "", "\t", PROSE)) for part in parts)
        for scanner in (ALL, PLAIN, CUSTOM):
            assert scanner.spans(text) == scanner.plain(text), n
