"""The count of what is held: that it counts, and that its goals are met."""

from __future__ import annotations

import pytest

from bench.hold import follow, measure, share
from policies.detect import Rule, compile_rules
from tests.policies.detect import corpus


def test_waiting_is_counted_in_further_events() -> None:
    rules = compile_rules([Rule("r", phrases=["secret"])])
    held, waits = follow(rules, ["a", "se", "cr", "x", "b", "sec"])
    assert held == [0, 2, 4, 0, 0, 3]
    assert waits == [0, 2, 1, 0, 0, 1], "the last one waited for the end"


@pytest.mark.parametrize(("rules", "most"), [(corpus.TWENTY, 1.0), ([*corpus.TWENTY, corpus.MAIL], 5.0)], ids=["", "e-mail"])
@pytest.mark.parametrize("text", ["prose", "cjk", "emoji"])
def test_text_waits_for_one_further_event_at_most(rules: list[Rule], most: float, text: str) -> None:
    held, waits = measure(compile_rules(rules), corpus.CLEAN[text])
    assert sum(held) / len(held) <= most
    assert share(waits, 0.99) <= 1
