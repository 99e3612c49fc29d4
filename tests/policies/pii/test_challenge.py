"""A table of sentences in many languages: each value is found for what it is, and decoys are left."""

from __future__ import annotations

import re

import pytest

from policies.pii import GROUPS, compile_scanner
from tests.policies.pii.challenge import DECOYS, VALUES

SCANNER = compile_scanner(["all", "generic_secrets"])
IDS = frozenset(GROUPS["national_ids"])


def found(text: str) -> list[tuple[str, str]]:
    return [(s.type, text[s.start : s.end]) for s in SCANNER.spans(text)]


@pytest.mark.parametrize(("kind", "sentence"), VALUES)
def test_a_value_is_found_for_what_it_is(kind: str, sentence: str) -> None:
    text = sentence.replace("«", "").replace("»", "")
    got = found(text)
    for value in re.findall("«(.*?)»", sentence):
        types = [t for t, v in got if v == value]
        assert types and (types[0] in IDS if kind == "id" else types == [kind] * len(types)), got


@pytest.mark.parametrize("text", DECOYS)
def test_nothing_is_found_in(text: str) -> None:
    assert found(text) == []


def test_the_set_is_as_large_as_it_should_be() -> None:
    assert len(VALUES) >= 200 and len(DECOYS) >= 100
