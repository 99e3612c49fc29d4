"""Rules and names over one text: whole texts, and the gate of a stream, which must come out alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.contract import Cut, Gate, JudgedGate
from policies.gate_chain import Chain
from policies.pii.ner_merge import NamesGate, Quiet, merge, placeholders
from policies.pii.ner_sentences import LEAST, Name
from proxy.lens import JsonLens
from tests.kits.gate_kit import Cutter, Redactor
from tests.kits.names import Phrases
from tests.kits.policy_kit import run

ACTIONS = {"email": "redact", "card": "flag", "person": "redact", "location": "flag"}
ENGINE = Phrases({"John Smith": "person", "Smith ann@x Lee": "person", "Paris": "location", "Ann": "person", "x" * 40: "person"})
WORDS = st.sampled_from(
    ["John Smith", "John ", "Smith", "ann@x", " Lee", " ", ". ", "\n", "Paris", "Ann", "[ANN_1]", "bad", "y" * 50,
     "word " * 20, "x" * 40, "Smith ann@x Lee", "\U0001f600", "..", "a@", "[", "]"]
)  # fmt: skip
TEXTS = st.lists(WORDS, max_size=30).map("".join)
CUTS = st.lists(st.integers(0, 1500), max_size=12)


def shown(text: str, spans: Sequence[tuple[int, int, str]]) -> list[str]:
    return [f"{text[s:e]}/{type}" for s, e, type in spans]


@pytest.mark.parametrize(
    ("finds", "names", "expected", "inside"),
    [
        ([(5, 12, "email")], [(0, 16, "person")], ["John/person", "a@x.org/email", "Lee/person"], []),
        ([(5, 12, "email")], [(5, 12, "person")], ["a@x.org/email"], []),
        ([(5, 12, "email")], [(8, 16, "person")], ["a@x.org/email", "Lee/person"], []),
        ([(0, 16, "email")], [(5, 12, "person")], ["John a@x.org Lee/email"], []),
        ([(5, 12, "card")], [(0, 16, "person")], ["John a@x.org Lee/person"], ["card"]),
        ([(5, 12, "card")], [(0, 16, "location")], ["John/location", "a@x.org/card", "Lee/location"], []),
        ([(5, 12, "card")], [(13, 16, "person")], ["a@x.org/card", "Lee/person"], []),
        ([], [(0, 4, "person")], ["John/person"], []),
        ([(5, 12, "email")], [], ["a@x.org/email"], []),
    ],
)
def test_rules_win_and_nothing_is_left_open(
    finds: list[tuple[int, int, str]], names: list[tuple[int, int, str]], expected: list[str], inside: list[str]
) -> None:
    text = "John a@x.org Lee"
    spans, lost = merge(text, finds, [Name(*n, 0.9) for n in names], ACTIONS)
    assert (shown(text, spans), lost) == (expected, inside)


SPANS = st.lists(st.integers(0, 60), max_size=12, unique=True).map(lambda e: list(zip(*[iter(sorted(e))] * 2, strict=False)))


@settings(max_examples=150, deadline=None)
@given(
    st.text("aB1 .@", min_size=60, max_size=60), SPANS, SPANS,
    st.lists(st.sampled_from(["email", "card"]), min_size=6, max_size=6),
    st.lists(st.sampled_from(["person", "location"]), min_size=6, max_size=6),
)  # fmt: skip
def test_the_union_is_covered(
    text: str, finds: list[tuple[int, int]], names: list[tuple[int, int]], kinds: list[str], types: list[str]
) -> None:
    rules = [(*f, kind) for f, kind in zip(finds, kinds, strict=False)]
    model = [Name(*n, type, 0.9) for n, type in zip(names, types, strict=False)]
    spans, inside = merge(text, rules, model, ACTIONS)
    assert all(a[1] <= b[0] for a, b in pairwise(spans)) and all(s < e for s, e, _ in spans)

    def letters(some: Sequence[tuple[int, int, str]], action: str) -> set[int]:
        return {i for s, e, type in some if ACTIONS[type] == action for i in range(s, e) if text[i].isalnum()}

    wanted = [*rules, *((n.start, n.end, n.type) for n in model)]
    assert letters(spans, "redact") == letters(wanted, "redact")
    assert [s for s in spans if s[2] == "email"] == [r for r in rules if r[2] == "email"]
    assert sum(s[2] == "card" for s in spans) + len(inside) == sum(r[2] == "card" for r in rules)


def test_many_finds_take_linear_time() -> None:
    text = "John a@x.org Lee " * 5000
    finds = [(i * 17 + 5, i * 17 + 12, "card" if i % 2 else "email") for i in range(5000)]
    names = [Name(i * 17, i * 17 + 16, "person", 0.9) for i in range(5000)]
    spans, inside = merge(text, finds, names, ACTIONS)
    assert len(spans) == 2500 * 3 + 2500 and len(inside) == 2500


def test_what_looks_like_a_placeholder_is_no_name() -> None:
    text = "Ask [PERSON_1] or <ORGANIZATION_12>, [EMAIL:3f9a2c81d004], [KEY]; not [a] or [Ann]"
    assert [text[s:e] for s, e in placeholders(text)] == ["[PERSON_1]", "<ORGANIZATION_12>", "[EMAIL:3f9a2c81d004]", "[KEY]"]
    spans, _ = merge(text, [], [Name(5, 11, "person", 0.9), Name(0, 14, "person", 0.9), Name(75, 78, "person", 0.9)], ACTIONS)
    assert ("Ask", "person") in {(text[s:e], t) for s, e, t in spans}
    assert all("PERSON" not in text[s:e] for s, e, _ in spans)


# -- the gate


class Told(Redactor):
    """A rules' gate that says where it left a phrase alone, as the policy's does."""

    def __init__(self, phrases: Sequence[str], quiet: Quiet, left: str = "Ann@own") -> None:
        super().__init__([*phrases, left])
        self._quiet = quiet
        self._left = left

    def found(self, start: int, end: int) -> None:
        if self.text[start + self.base : end + self.base] == self._left:
            self._quiet.add(start, end)
        else:
            super().found(start, end)


def names_gate(rules: Callable[[Quiet], Gate | None], *, block: str = "") -> NamesGate:
    quiet = Quiet()

    async def ask(texts: Sequence[str]) -> list[list[Name]]:
        return [ENGINE.find(text) for text in texts]

    def on_name(name: Name, value: str) -> str | None:
        if block and value == block:
            raise Cut("person", at=name.start)
        return None if name.type == "location" else f"<{value[:1]}>"

    return NamesGate(rules(quiet), quiet, ask, on_name, hold=LEAST)


class Driven:
    """A gate as a stream drives it: text in pieces, answers when ``ask`` is called. out: what has left."""

    def __init__(self, gate: Gate, text: str) -> None:
        self.gate, self.text = gate, text
        self.out, self.at, self.given = "", 0, 0
        self.cut: str | None = None

    def act(self, act: Callable[[], int]) -> None:
        if self.cut is not None:
            return
        try:
            upto = act()
        except Cut as cut:
            self.cut, upto = cut.reason, self.at if cut.at is None else cut.at
        assert self.at <= upto <= self.given
        for edit in self.gate.edits:
            assert self.at <= edit.start < edit.end <= upto
            self.out += self.text[self.at : edit.start] + edit.text
            self.at = edit.end
        self.gate.edits = []
        self.out += self.text[self.at : upto]
        self.at = upto

    def push(self, upto: int) -> None:
        piece, self.given = self.text[self.given : upto], upto
        self.act(lambda: self.gate.push(piece))

    def ask(self) -> None:
        for judge in [j for j in self.gate.judges if j.due(0.0)]:
            run(judge.judge())
        self.act(lambda: self.gate.push(""))

    def end(self) -> tuple[str, str | None]:
        self.act(self.gate.close)
        while self.cut is None and any(j.due(0.0) for j in self.gate.judges):
            for judge in self.gate.judges:
                run(judge.judge())
            self.act(self.gate.close)
        assert self.cut is not None or self.at == len(self.text)
        assert all(j.settled and not j.waits for j in self.gate.judges)
        return self.out, self.cut


def whole(gate: Gate, text: str) -> tuple[str, str | None]:
    driven = Driven(gate, text)
    driven.push(len(text))
    return driven.end()


def streamed(gate: Gate, text: str, cuts: Sequence[int], asks: Sequence[bool]) -> tuple[str, str | None]:
    driven = Driven(gate, text)
    edges = sorted({0, len(text), *(c for c in cuts if c < len(text))})
    for n, upto in enumerate(edges[1:]):
        driven.push(upto)
        if asks and asks[n % len(asks)]:
            driven.ask()
    return driven.end()


GATES: dict[str, Callable[[], Gate]] = {
    "rules": lambda: names_gate(lambda quiet: Told(["ann@x", "Lee"], quiet)),
    "no rules": lambda: names_gate(lambda quiet: None),
    "rules cut": lambda: names_gate(lambda quiet: Cutter(["bad"])),
    "a name cuts": lambda: names_gate(lambda quiet: Told(["ann@x"], quiet), block="John Smith"),
    "both cut": lambda: names_gate(lambda quiet: Cutter(["bad", "Smith ann@x"]), block="John Smith"),
    "behind another gate": lambda: Chain([Redactor(["word"]), names_gate(lambda quiet: Told(["ann@x"], quiet))]),
    "before another gate": lambda: Chain([names_gate(lambda quiet: Told(["ann@x"], quiet)), Redactor(["Lee", "<J>"])]),
    "in JSON": lambda: JsonLens(names_gate(lambda quiet: Told(["ann@x"], quiet))),
}


@pytest.mark.parametrize("make", GATES.values(), ids=GATES)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, cuts=CUTS, asks=st.lists(st.booleans(), max_size=6))
def test_any_split_and_any_time_of_answers_give_what_the_whole_text_gives(
    make: Callable[[], Gate], text: str, cuts: list[int], asks: list[bool]
) -> None:
    assert streamed(make(), text, cuts, asks) == whole(make(), text)


@settings(max_examples=60, deadline=None)
@given(TEXTS, CUTS)
def test_no_letter_leaves_before_it_was_looked_at(text: str, cuts: list[int]) -> None:
    gate = names_gate(lambda quiet: None)
    driven = Driven(gate, text)
    for upto in sorted({len(text), *(c for c in cuts if c < len(text))}):
        driven.push(upto)
        assert driven.at == 0, "nobody has been asked"


def test_rules_and_names_in_one_text() -> None:
    gate = names_gate(lambda quiet: Told(["ann@x"], quiet))
    assert whole(gate, "I am John Smith, Smith ann@x Lee. Paris.") == ("I am <J>, <S> [X] <L>. Paris.", None)


def test_what_a_rule_left_alone_is_no_name() -> None:
    gate = names_gate(lambda quiet: Told([], quiet))
    assert whole(gate, "Ann@own and Ann, [ANN_1] [Ann]") == ("Ann@own and <A>, [ANN_1] [<A>]", None)


def test_what_stands_before_a_cut_is_looked_at_and_nothing_behind_it_leaves() -> None:
    gate = names_gate(lambda quiet: Cutter(["bad"]))
    driven = Driven(gate, "John Smith is bad. John Smith")
    driven.push(len(driven.text))
    assert (driven.out, driven.cut, gate.waits, gate.settled) == ("", None, True, False)
    driven.push(len(driven.text))
    driven.ask()
    assert (driven.out, driven.cut) == ("<J> is ", "banned")
    assert (gate.waits, gate.settled, gate.due(0.0)) == (False, True, False)
    with pytest.raises(Cut):
        gate.push("more")


def test_a_piece_that_nobody_answered_for_stays_or_is_let_go() -> None:
    gate = names_gate(lambda quiet: Told(["ann@x"], quiet))
    failing, asked = gate._ask, []

    async def broken(texts: Sequence[str]) -> Sequence[Sequence[Name]]:
        asked.append(list(texts))
        raise OSError

    driven = Driven(gate, "John Smith, ann@x. Ann")
    driven.push(len(driven.text))
    gate._ask = broken
    with pytest.raises(OSError):
        asyncio.run(gate.judge())
    assert gate.due(0.0) and driven.out == ""
    gate.forgive()
    driven.act(lambda: gate.push(""))
    assert driven.out == "John Smith, [X]. "
    gate._ask = failing
    assert driven.end() == ("John Smith, [X]. <A>", None)
    assert asked == [["John Smith, ann@x. "]]


def test_text_that_waits_for_others_is_asked_about_in_a_hurry() -> None:
    gate = names_gate(lambda quiet: None)
    driven = Driven(gate, "I am John Smith and no")
    driven.push(len(driven.text))
    assert not gate.due(0.0)
    gate.hurry()
    driven.ask()
    assert driven.out == "I am <J> and "
    assert driven.end() == ("I am <J> and no", None)


def test_a_question_under_way_is_the_only_one() -> None:
    gate = names_gate(lambda quiet: None)
    gate.push("One. ")

    async def body() -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def slow(texts: Sequence[str]) -> Sequence[Sequence[Name]]:
            asked.set()
            await go.wait()
            return [()] * len(texts)

        gate._ask = slow
        task = asyncio.ensure_future(gate.judge())
        await asked.wait()
        gate.push("Two. ")
        assert not gate.due(0.0)
        go.set()
        await task

    asyncio.run(body())
    assert gate.push("") == 5 and gate.due(0.0)
    assert isinstance(gate, JudgedGate) and gate.judges == (gate,)


def test_a_find_over_a_sentences_end_leaves_as_a_whole() -> None:
    def make() -> NamesGate:
        return names_gate(lambda quiet: Told(["Lee. Ann"], quiet))

    text = "John Smith Lee. Ann is here. Paris"
    assert whole(make(), text) == ("<J> [X] is here. Paris", None)
    assert streamed(make(), text, range(len(text)), [True]) == whole(make(), text)
