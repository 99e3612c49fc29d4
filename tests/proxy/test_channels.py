"""Lines and chains: offsets, replacements over several gates, text that goes on after an end."""

from __future__ import annotations

import pytest

from policies.contract import Channel, Cut, Edit
from proxy.channels import Line
from tests.kits.gate_kit import PassAll, Redactor

C = Channel(0, "content")


def test_render_puts_a_replacement_where_it_starts() -> None:
    line = Line(C, Redactor(["bcd", "f"]))
    line.push("abcdef")
    line.close()
    assert [line.render(c, n) for n, c in enumerate("abcdef")] == ["a", "[X]", "", "", "e", "[X]"]
    assert not line.edits or line.render("", 6) == ""
    twice = Line(C, Redactor(["bcd", "f"]))
    twice.push("abcdef")
    twice.close()
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
    "edits",
    [[Edit(1, 1, "x")], [Edit(2, 9, "x")], [Edit(2, 3, "x"), Edit(1, 2, "y")], [Edit(0, 2, "x"), Edit(1, 3, "y")]],
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
