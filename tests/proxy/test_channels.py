"""Lines and chains: offsets, replacements over several gates, text that goes on after an end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.contract import Channel, Cut, Edit, Gate
from proxy.channels import Chain, Line, compose
from tests.kits.gate_kit import Cutter, HoldAll, PassAll, Redactor, check_gate, drive, redact

C = Channel(0, "content")

RULES = st.lists(st.tuples(st.lists(st.text("ab<", min_size=1, max_size=4), min_size=1, max_size=3), st.text("ab<>", max_size=4)), min_size=2, max_size=4)


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
@given(text=st.text("abc", max_size=20), cuts=st.lists(st.integers(0, 20), max_size=8), order=st.permutations(["cut", "mark", "hold"]))
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


def test_render_puts_a_replacement_where_it_starts() -> None:
    line = Line(C, Redactor(["bcd", "f"]))
    line.push("abcdef")
    line.close()
    assert [line.render(c, n) for n, c in enumerate("abcdef")] == ["a", "[X]", "", "", "e", "[X]"]
    assert not line.edits or line.render("", 6) == ""
    twice = Line(C, Redactor(["bcd", "f"]))
    twice.push("abcdef")
    twice.close()
    for start in (0, 0, 2, 5, 3):
        assert twice.render("abcdef"[start:], start, keep=True) == "a[X]e[X]"[{0: 0, 2: 8, 5: 5, 3: 8}[start] :] or start in (2, 3)
    assert twice.render("cdef", 2, keep=True) == "e[X]"
    assert twice.render("abcdef", 0, keep=True) == "a[X]e[X]"


def test_a_line_without_a_gate_is_always_clear() -> None:
    line = Line(C, None)
    line.push("abc")
    assert (line.pushed, line.cleared) == (3, 3)


def test_a_line_that_goes_on_sees_its_undecided_end_again() -> None:
    line = Line(C, Redactor(["secret"]))
    line.push("a sec")
    line.tail = "sec"
    line.close()
    assert line.cleared == 5
    line.resume(Redactor(["secret"]))
    line.push("ret b")
    line.close()
    assert line.edits == [Edit(5, 8, "[X]")]
    assert line.cleared == 10


def test_a_muted_line_says_nothing_more() -> None:
    line = Line(C, Redactor(["secret"]))
    line.push("a sec")
    line.mute()
    assert line.render("a sec", 0) == "a "
    assert line.render("more", 5) == ""


def test_same_tells_the_whole_text() -> None:
    line = Line(C, None, digest=True)
    line.push("a")
    line.push("\ud800é")
    assert line.same("a\ud800é")
    assert not line.same("a")
    assert not Line(C, None).same("")


@pytest.mark.parametrize(
    "edits", [[Edit(1, 1, "x")], [Edit(2, 9, "x")], [Edit(2, 3, "x"), Edit(1, 2, "y")], [Edit(0, 2, "x"), Edit(1, 3, "y")]]
)
def test_edits_that_make_no_sense(edits: list[Edit]) -> None:
    class Odd(PassAll):
        def push(self, text: str) -> int:
            self.edits = edits
            return super().push(text)

    with pytest.raises(ValueError):
        Line(C, Odd()).push("abcd")


def test_where_a_cut_lets_text_out() -> None:
    class Stop(PassAll):
        def push(self, text: str) -> int:
            self.edits.append(Edit(0, 1, "x"))
            raise Cut("r", at=2)

    line = Line(C, Stop())
    with pytest.raises(Cut):
        line.push("abcd")
    assert line.cleared == 2
    assert line.render("ab", 0) == "xb"


def test_many_edits_stay_linear() -> None:
    line = Line(C, Redactor(["a"], "b"))
    text = "a." * 20_000
    line.push(text)
    line.close()
    assert line.render(text, 0) == "b." * 20_000
    chain = Chain([Redactor(["a"], "b"), Redactor(["b"], "c")])
    assert drive(chain, [text])[0] == "c." * 20_000
