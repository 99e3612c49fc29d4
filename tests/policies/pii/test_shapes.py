"""Shapes in whole texts: they are what the automaton finds, in any mixture of everything that is or nearly is a value."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.pii import ENTITIES, Allow, Scanner, Span, compile_scanner
from policies.pii import finder as finding
from policies.pii.prefilter import data_of
from policies.pii.shapes import fits
from tests.policies.pii.challenge import DECOYS, VALUES
from tests.policies.pii.test_entities import FOUND
from tests.policies.pii.test_scanner import ALL, PIECES, PROSE
from tests.policies.pii.test_whole_texts import ESCAPES, GLUE, PREFIXED

PLAIN = compile_scanner(["all"])
FEW = compile_scanner(["phone", "credit_card", "bank_account", "date_of_birth", "email"], allow=Allow(frozenset({"12345678"})))
SCANNERS = (ALL, PLAIN, FEW)

LINES = [line for _, lines in FOUND for line in lines] + [line for _, line in VALUES] + DECOYS
PARTS = sorted({part for line in LINES for part in re.split("[«»]", line) if part} | {*PIECES, *PREFIXED.values(), *ESCAPES})
GLUES = ["", "", " ", " ", " ", "\n", ", ", "-", ".", ":", ": ", "/", "_", "(", ")", "+", "0", "1", "a", "Z", "é", "号", "\\n",
         "%3D", "\u00a0", "\u200b", "?", '"', "our", "phoneNumber", "socialSecurity", "idCard", *GLUE.values()]  # fmt: skip


def mangled(rng: random.Random, size: int) -> str:
    """Parts one after the other, cut, in each other, and over each other."""
    text = ""
    for _ in range(size):
        part = rng.choice(PARTS)
        way = rng.random()
        if way < 0.15:
            part = part[: rng.randint(0, len(part))]
        elif way < 0.3:
            part = part[rng.randint(0, len(part)) :]
        elif way < 0.4:
            at = rng.randint(0, len(part))
            part = part[:at] + rng.choice(PARTS) + part[at:]
        elif way < 0.5:
            text = text[: -rng.randint(1, 6)]
        elif way < 0.6:
            part = re.sub(r"\d", lambda _: rng.choice("0123456789"), part)
        elif way < 0.65:
            part = " ".join(PROSE.split()[: rng.randint(1, 30)])
        text += part + rng.choice(GLUES)
    return text


def found(scanner: Scanner, text: str) -> list[Span]:
    """What one automaton finds that reads all of it; what is allowed is left out."""
    return [span for span in scanner.plain(text) if span.type]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_mixed_shapes_are_what_one_automaton_finds(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(12):
        text = mangled(rng, rng.randint(1, 14))
        for scanner in SCANNERS:
            assert scanner.spans(text) == found(scanner, text), text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PARTS), st.sampled_from(GLUES), st.text(max_size=3)), max_size=12).map("".join))
def test_any_mixture(text: str) -> None:
    for scanner in SCANNERS:
        assert scanner.spans(text) == found(scanner, text)


def test_digits_and_signs_alone() -> None:
    rng = random.Random(3)
    for alphabet in ("0123456789 -.()+/", "01 ", "4 1-", "0123456789ABCDEF:.- ", "12/.-\n", "9\\n%3D "):
        for _ in range(8):
            text = "".join(rng.choices(alphabet, k=rng.randint(5, 90)))
            for before in ("", "call ", "card ", "passport "):
                assert ALL.spans(before + text) == ALL.plain(before + text), before + text


def test_where_nearly_everything_is_a_shape_one_automaton_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same finds, by few questions about shapes."""
    text = "1 1-" * 300 + " jane@example.com SSN 536-22-1234 " + "0(" * 300 + "4111 1111 1111 1111"
    asked = []
    original = finding.Finder.best

    def counted(self, *rest):  # type: ignore[no-untyped-def]
        asked.append(1)
        return original(self, *rest)

    monkeypatch.setattr(finding.Finder, "best", counted)
    assert [s.type for s in PLAIN.spans(text)] == ["email", "us_ssn", "credit_card"]
    assert PLAIN.spans(text) == PLAIN.plain(text)
    assert len(asked) < len(text) / 2


@pytest.mark.parametrize("text", ["jane@example.com 4111 1111 1111 1111", "card 4111111111111111@example.com", PROSE])
def test_clean_and_mixed_texts_do_not_need_the_whole_automaton(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PLAIN._built_in is not None
    monkeypatch.setattr(PLAIN._built_in.every, "matches", None)
    PLAIN.spans(text)


def test_numbers_are_shapes_and_open_ended_values_are_not() -> None:
    by = {name: [fits(d) for d in entity.detectors] for name, entity in ENTITIES.items()}
    for name in ("phone", "credit_card", "iban", "us_ssn", "passport", "national_id", "date_of_birth", "ipv4", "mac"):
        assert all(by[name]), name
    for name in ("email", "jwt", "private_key", "password", "postal_address", "ipv6"):
        assert not any(by[name]), name


ROWS = [
    '{"updated": "2024-05-13T10:15:33Z", "n": 4812, "price": 153.22, "id": "550e8400-e29b-41d4-a716-44665544abcd"}',
    "0x1F60 == 8032; v2.14.3; 12:30:45 99.9% 1,234,567",
]


@pytest.mark.parametrize("text", ROWS)
def test_times_ids_and_figures_are_no_places_to_look_at(text: str) -> None:
    finder = PLAIN._built_in
    assert finder is not None and finder._shapes is not None and finder.prefilter is not None
    data = data_of(text)
    assert finder._shapes.starts(text, data, 0).to(0) == len(text)
    assert finder.prefilter.windows(text, data) == []


BEFORE = [
    "#31AusweisnummeAPIキーは「  svpour_031010419870605432x+Some",
    '{"socialSecurityNumber": "536221234", "dateOfBirth": "1972-09-21"}',
    "our " + "x" * 50 + " your number, 12345678",
]


@pytest.mark.parametrize("text", BEFORE)
@pytest.mark.parametrize("shift", range(0, 30, 3))
def test_words_before_a_value_count_alike_wherever_the_look_back_ends(text: str, shift: int) -> None:
    for scanner in SCANNERS:
        for cut in (text, "a" * shift + text, text.replace(" ", " " * (shift + 1))):
            assert scanner.spans(cut) == found(scanner, cut)
