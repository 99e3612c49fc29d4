"""Gates in a row: what comes out is what one gate after the other makes of the text, under any split."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.contract import Gate
from policies.gate_chain import Chain, compose
from tests.kits.gate_kit import Cutter, HoldAll, PassAll, Redactor, check_gate, drive, redact

RULES = st.lists(
    st.tuples(st.lists(st.text("ab<", min_size=1, max_size=4), min_size=1, max_size=3), st.text("ab<>", max_size=4)),
    min_size=2,
    max_size=4,
)


@settings(max_examples=400, deadline=None)
@given(rules=RULES, text=st.text("ab<", max_size=30), cuts=st.lists(st.integers(0, 30), max_size=8))
def test_a_chain_is_one_gate_after_the_other(rules: list[tuple[list[str], str]], text: str, cuts: list[int]) -> None:
    expected = text
    for phrases, mark in rules:
        expected = redact(expected, phrases, mark)

    def make() -> Gate:
        gate = Chain([Redactor(p, m) for p, m in rules])
        gate.reach = 10_000  # an emptied text can make a later gate wait beyond the sum of the reaches
        return gate

    assert drive(make(), [text]) == (expected, None)
    check_gate(make, text, cuts)


@settings(max_examples=200, deadline=None)
@given(
    text=st.text("abc", max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=8),
    order=st.permutations(["cut", "mark", "hold"]),
)
def test_a_cut_in_a_chain_lets_out_what_stands_before_it(text: str, cuts: list[int], order: list[str]) -> None:
    kinds = {"cut": lambda: Cutter(["abc"]), "mark": lambda: Redactor(["ab" * 2], "-"), "hold": HoldAll}

    def make() -> Gate:
        gate = Chain([kinds[o]() for o in order])
        gate.reach = 10_000
        return gate

    check_gate(make, text, cuts)
    source = redact(text, ["abab"], "-") if order.index("mark") < order.index("cut") else text
    out, reason = drive(make(), [text])
    assert reason == ("banned" if "abc" in source else None)
    clean = source.split("abc")[0]
    assert out == (clean if order.index("mark") < order.index("cut") else redact(clean, ["abab"], "-"))


def test_compose() -> None:
    one = PassAll()
    assert compose([]) is None
    assert compose([one]) is one
    assert compose([Redactor(["abc"]), Redactor(["de"])]).reach == 5  # type: ignore[union-attr]


def test_many_edits_stay_linear() -> None:
    chain = Chain([Redactor(["a"], "b"), Redactor(["b"], "c")])
    text = "a." * 20_000
    assert drive(chain, [text])[0] == "c." * 20_000
