"""The scanner's laws: cuts change nothing, the prefilter hides nothing; what its options do."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.contract import Cut
from policies.detect.syntax import parse
from policies.detect.tree import width
from policies.detect.turn import Verdict
from policies.pii import Allow, CustomEntity, Found, Scanner, Span, compile_scanner
from policies.pii.catalogue import ENTITIES
from policies.pii.entity import Reach
from policies.pii.reader import _Judge

ALL = compile_scanner(["all", "generic_secrets"], threshold=0.3, regions=("US", "GB", "DE"))

PIECES = [
    "jane.doe@example.com",
    "+1 415-555-2671",
    "4111 1111 1111 1111",
    "DE89370400440532013000",
    "PLEASE",
    "536-22-1234",
    "::ffff:192.0.2.1",
    "93.184.216.34",
    "00:1A:2b:3C:4d:5E",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "aB3" * 12,
    "eyJhbGciOiJIUzI1NiJ9",
    ".eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcdefgh",
    "-----BEGIN PRIVATE KEY-----",
    "\nMIIB+/=\n",
    "-----END PRIVATE KEY-----",
    "postgres://u:pw@db:5432/x",
    "password: Hunter2!x9",
    'secret_key = "' + "0a1b" * 8 + '"',
    "born 1972-09-21",
    "né le 1 mars 1942",
    "12 Oak Street, Springfield, IL 62704",
    "Flat 3, ",
    "SW1A 1AA",
    "Lindenstr. 12, 10969 Berlin",
    "PESEL 44051401359",
    "AB 12 34 56 C",
    "BIC DEUTDEFF",
    "身份证号11010519491231002X，",
    "Конец",
    "«",
    "»",
    " ",
    "\n",
    "\t",
    "\u00a0",
    ", ",
    ".",
    "-",
    "4",
    "12 34",
    "x",
    "é",
    "account 5663630512",
    "RCCMNL83S18D969H",
    "passport HO5233554",
    "a@b",
    "@",
    "://",
    "2024",
    "it is so",
]
PROSE = "Some words of prose without any of it. " * 4
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=14).map("".join)


def streamed(scanner: Scanner, text: str, cuts: list[int]) -> list[Span]:
    """What a gate edits, as spans."""
    hits: list[Found] = []

    def note(hit: Found) -> str:
        hits.append(hit)
        return "?"

    gate = scanner.gate(note)
    clear, at = 0, 0
    for cut in [*sorted(c for c in cuts if c < len(text)), len(text)]:
        now = gate.push(text[at:cut])
        assert clear <= now <= cut and cut - now <= scanner.reach
        clear, at = now, cut
    assert gate.close() == len(text)
    out: list[Span] = []
    count = 0
    for edit in gate.edits:
        if edit.text:
            out.append(Span(edit.start, edit.end, hits[count].type, hits[count].score))
            count += 1
        else:
            out[-1] = out[-1]._replace(end=edit.end)
    return out


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 200), max_size=12))
def test_a_gate_over_any_split_finds_what_the_whole_text_holds(text: str, cuts: list[int]) -> None:
    assert streamed(ALL, text, cuts) == ALL.spans(text)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_one_character_at_a_time(text: str) -> None:
    assert streamed(ALL, text, list(range(len(text)))) == ALL.spans(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.just(PROSE)), max_size=20).map(" ".join))
def test_the_prefilter_hides_nothing(text: str) -> None:
    assert ALL.spans(text) == ALL.plain(text)


def test_the_prefilter_skips_prose() -> None:
    assert ALL._built_in is not None
    windows = ALL._built_in.prefilter.windows
    text = "Nothing to see in this sentence of plain prose. " * 200
    long = text + "mail jane@example.com now " + text
    assert windows(text) == []
    (window,) = windows(long)
    assert window[1] - window[0] < 300
    assert [s.type for s in ALL.spans(long)] == ["email"]


@pytest.mark.parametrize("entity", ENTITIES.values(), ids=lambda e: e.name)
def test_marks_reach_as_far_as_matches(entity) -> None:  # type: ignore[no-untyped-def]
    for one in entity.detectors:
        for pattern in one.rule.patterns:
            longest = width(parse(pattern))[1]
            if one.reach in (Reach.SPACED, Reach.LONG):
                assert longest is not None and longest <= int(one.reach)


def test_spans_are_in_order_and_apart() -> None:
    text = " ".join(random.Random(1).choices(PIECES, k=300))
    spans = ALL.spans(text)
    assert len(spans) > 50
    assert all(a.end <= b.start for a, b in pairwise(spans))


@contextmanager
def counting() -> Iterator[list[int]]:
    """How often a candidate is judged in a whole text."""
    calls = [0]
    original = _Judge.__call__

    def counted(self: _Judge, rule: int, start: int, end: int) -> Verdict:
        calls[0] += 1
        return original(self, rule, start, end)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Judge, "__call__", counted)
        yield calls


def test_time_is_linear() -> None:
    """Not by the clock: the automaton's gate reads each character once, whatever stands there; cost shows in checks."""
    per = []
    for n in (20, 40, 80):
        with counting() as calls:
            ALL.spans("12 34 " * n * 10)
        per.append(calls[0] / n)
    assert per[2] < per[0] * 1.3 + 1


def types(scanner: Scanner, text: str) -> list[str]:
    return [s.type for s in scanner.spans(text)]


def test_threshold_turns_unsure_detectors_off() -> None:
    text = "44051401359"
    assert types(compile_scanner(["pl_pesel"], threshold=0.4), text) == ["pl_pesel"]
    assert types(compile_scanner(["pl_pesel"]), text) == []
    with pytest.raises(ValueError, match="threshold"):
        compile_scanner(["pl_pesel"], threshold=0.99)


def test_allowed_values_domains_and_patterns_are_left() -> None:
    allow = Allow(frozenset({"Jane@Example.com"}), frozenset({"corp.example"}), (r"test-.*@.*",))
    scanner = compile_scanner(["email", "url_credentials"], allow=allow)
    for text in (
        "jane@example.com",
        "x@corp.example",
        "x@mail.corp.example",
        "test-1@other.org",
        "https://u:p@corp.example/x",
    ):
        assert scanner.spans(text) == []
        assert streamed(scanner, text, [3, 9]) == []
    others = "joe@example.com, x@notcorp.example, https://u:corp.example@evil.org"
    assert types(scanner, others) == ["email", "email", "url_credentials"]
    with pytest.raises(ValueError, match="RE2"):
        compile_scanner(["email"], allow=Allow(patterns=("(?=x)",)))


def test_custom_patterns_and_words() -> None:
    own = [
        CustomEntity("staff_id", (r"EMP-\d{6}",)),
        CustomEntity("project", words=("Blue Heron", "Zephyr"), score=0.8),
    ]
    scanner = compile_scanner(["email"], custom=own)
    text = "EMP-123456 works on blue  heron, not on Zephyrs; a@b.io"
    assert types(scanner, text) == ["staff_id", "project", "email"]
    assert scanner.labels["staff_id"] == "STAFF_ID"
    assert streamed(scanner, text, [4, 25]) == scanner.spans(text)
    for bad in (
        CustomEntity("email", ("x",)),
        CustomEntity("A b", ("x",)),
        CustomEntity("x"),
        CustomEntity("x", ("(",)),
    ):
        with pytest.raises(ValueError):
            compile_scanner(["email"], custom=[bad])


def test_names_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="'emial'"):
        compile_scanner(["emial"])
    with pytest.raises(ValueError, match="XX"):
        compile_scanner(["phone"], regions=("XX",))


def test_the_longest_counts_then_the_surest() -> None:
    assert types(ALL, "SSN 536-22-1234") == ["us_ssn"]  # a bank account or a telephone number by shape, too
    assert ALL.spans("SSN 536-22-1234")[0].score == 0.96


def test_a_gate_hands_over_the_value_and_may_cut() -> None:
    seen: list[Found] = []

    def cut(hit: Found) -> str | None:
        seen.append(hit)
        raise Cut("content_filter")

    gate = ALL.gate(cut)
    gate.push("mail jane@exam")
    with pytest.raises(Cut):
        gate.push("ple.com now")
    assert seen == [Found("email", 0.95, "jane@example.com", 5, 21)]


def test_keys_without_a_bound_are_replaced_before_their_end_is_seen() -> None:
    scanner = compile_scanner(["jwt", "private_key"])
    gate = scanner.gate(lambda hit: f"[{hit.type}]")
    head = "-----BEGIN PRIVATE KEY-----"
    assert gate.push("x " + head) <= 2 + len(head)
    gate.push("\n" + "A" * 5000)
    gate.push("\n-----END PRIVATE KEY----- y")
    gate.close()
    assert gate.edits[0].text == "[private_key]" and gate.edits[0].start == 2
    assert sum(e.end - e.start for e in gate.edits) == len(head) + 5001 + 26


def test_worst_hold_per_entity() -> None:
    assert set(ALL.worst_hold) == set(ENTITIES)
    assert ALL.worst_hold["us_ssn"] <= 12 and ALL.worst_hold["email"] == 256
    assert max(ALL.worst_hold.values()) <= ALL.reach


WITHOUT = """
import sys
sys.modules["stdnum"] = sys.modules["phonenumbers"] = None
from policies.pii import MissingExtra, compile_scanner
print([s.type for s in compile_scanner(["base"]).spans("4111 1111 1111 1111, a@b.io, 536-22-1234")])
try:
    compile_scanner(["nl_bsn", "phone", "email"])
except MissingExtra as error:
    print(error)
"""


def test_without_the_extra_the_base_group_works_and_the_rest_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    first, second = done.stdout.strip().splitlines()
    assert first == "['credit_card', 'email', 'us_ssn']"
    assert "headgate[pii]" in second and "nl_bsn, phone" in second and "email" not in second
