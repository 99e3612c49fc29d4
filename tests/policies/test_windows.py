"""Windows for a classifier: what may leave before a verdict, when it is asked, and failures on the way."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.contract import Channel, Cut, Gate, JudgedGate, Policy
from policies.gate_chain import Chain
from policies.windows import WindowGate, WindowOptions, tokens
from tests.kits.gate_kit import Redactor
from tests.kits.judges import BAD, FakeJudge, Slow
from tests.kits.policy_kit import Log, exchange, plan, run

WORDS = st.sampled_from(["plu", "gh", "a ", "b. ", "\u3042\u3002", "plugh", "x" * 20, "\n", " and ", "\U0001f600"])
TEXTS = st.lists(WORDS, max_size=20).map("".join)
WINDOW = st.builds(
    WindowOptions,
    first=st.lists(st.integers(1, 6), max_size=4),
    tokens=st.integers(1, 12),
    context=st.integers(4, 40),
)


def option(**given: Any) -> WindowOptions:
    return WindowOptions.model_validate({"time": 3600, **given})


class Driven:
    """A gate as a stream drives it. out: the text that has left. now: the clock."""

    def __init__(self, gate: Gate, text: str) -> None:
        self.gate, self.text = gate, text
        self.out, self.at, self.given = "", 0, 0
        self.cut: str | None = None
        self.now = 0.0

    def give(self, upto: int) -> None:
        """Push the text up to a place."""
        piece, self.given = self.text[self.given : upto], upto
        self.take(lambda: self.gate.push(piece))

    def take(self, act: Any) -> None:
        if self.cut is not None:
            return
        try:
            upto = act()
        except Cut as cut:
            self.cut, upto = cut.reason, self.at if cut.at is None else max(self.at, cut.at)
        for edit in self.gate.edits:
            self.out += self.text[self.at : edit.start] + edit.text
            self.at = edit.end
        self.gate.edits = []
        assert self.at <= upto <= self.given
        self.out += self.text[self.at : upto]
        self.at = upto

    def ask(self) -> bool:
        """Ask the judges that are due; True when there was one."""
        due = [j for j in self.gate.judges if j.due(self.now)]
        for judge in due:
            run(judge.judge())
        self.take(lambda: self.gate.push(""))
        return bool(due)

    def close(self) -> None:
        self.take(self.gate.close)
        while self.cut is None and any(j.due(self.now) for j in self.gate.judges):
            for judge in self.gate.judges:
                run(judge.judge())
            self.take(self.gate.close)


@settings(max_examples=300, deadline=None)
@given(
    text=TEXTS,
    cuts=st.lists(st.integers(0, 80)),
    asks=st.lists(st.booleans()),
    window=WINDOW,
    lag=st.none() | st.integers(1, 30),
)
def test_nothing_leaves_unjudged_under_any_split(
    text: str, cuts: list[int], asks: list[bool], window: WindowOptions, lag: int | None
) -> None:
    """The law: with ``hold`` what has left was part of clean windows; with ``lag`` at most so many characters more."""
    judge = FakeJudge()
    ahead: list[int] = []
    d = Driven(WindowGate(judge, window, lag, ahead.append), text)
    answers = iter(asks)
    for _, end in pairwise(sorted({0, len(text), *(c for c in cuts if c < len(text))})):
        d.give(end)
        assert len(d.out) <= len(judge.clean) + (lag or 0)
        if next(answers, True):
            d.ask()
            assert len(d.out) <= len(judge.clean) + (lag or 0)
    d.close()
    assert text.startswith(d.out)
    if lag is None:
        assert judge.clean.startswith(d.out)
        assert BAD not in d.out
    else:
        assert max(ahead, default=0) <= lag
    assert (d.cut is not None) == (BAD in text), "the context is long enough to see a word that two windows share"
    if d.cut is None:
        assert d.out == judge.clean == text


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 80)), front=st.booleans())
def test_in_a_row_with_rules_the_classifier_judges_what_its_place_lets_through(
    text: str, cuts: list[int], front: bool
) -> None:
    judge = FakeJudge("never said")
    gates: list[Gate] = [WindowGate(judge, option(first=[1], tokens=3)), Redactor(["plugh", "and a"])]
    d = Driven(Chain(gates[::-1] if front else gates), text)
    for _, end in pairwise(sorted({0, len(text), *(c for c in cuts if c < len(text))})):
        d.give(end)
        d.ask()
    d.close()
    assert d.out == redacted(text)
    assert judge.clean == (d.out if front else text)


def redacted(text: str) -> str:
    d = Driven(Redactor(["plugh", "and a"]), text)
    d.give(len(text))
    d.close()
    return d.out


def sizes(gate: WindowGate, judge: FakeJudge, text: str) -> list[int]:
    d = Driven(gate, text)
    for end in range(1, len(text) + 1):
        d.give(end)
        d.ask()
    return [tokens(window) for _, window in judge.asked]


def test_windows_grow_and_then_end_with_a_sentence_or_their_tokens() -> None:
    judge = FakeJudge()
    assert sizes(WindowGate(judge, option()), judge, "x" * 1000) == [32, 64, 128, 256, 256, 256]
    judge = FakeJudge()
    gate = WindowGate(judge, option(first=[2], tokens=20))
    sizes(gate, judge, "abcdefgh. No. One two three? " + "\u3042" * 30)
    assert [w for _, w in judge.asked] == ["abcdefgh", ". No. On", "e two three? ", "\u3042" * 27]


def test_time_and_hurry_and_the_end_make_a_window() -> None:
    judge = FakeJudge()
    gate = WindowGate(judge, option(time=0.25))
    gate.push("ab")
    assert not gate.due(10.0) and not gate.due(10.2)
    assert gate.due(10.25)
    run(gate.judge())
    assert gate.push("cd") == 2
    assert not gate.due(10.5), "its own time begins when it is seen"
    gate.hurry()
    assert gate.due(10.5)
    run(gate.judge())
    assert not gate.due(99.0)
    gate.hurry()
    gate.push("e")
    assert not gate.due(99.0), "there was nothing to hurry with"
    assert gate.close() == 4 and gate.waits and not gate.settled and gate.due(99.0)
    run(gate.judge())
    assert gate.close() == 5 and gate.settled and not gate.waits
    assert judge.asked == [("", "ab"), ("ab", "cd"), ("abcd", "e")]


def test_a_long_text_is_asked_about_in_pieces_with_their_context() -> None:
    judge = FakeJudge()
    d = Driven(WindowGate(judge, option(max_characters=64, context=3)), "x" * 150)
    d.give(150)
    d.close()
    assert [(len(c), len(w)) for c, w in judge.asked] == [(0, 64), (3, 64), (3, 22)]
    assert d.out == d.text


async def test_a_question_that_is_cut_short_decides_nothing() -> None:
    judge = Slow()
    gate = WindowGate(judge, option(first=[1]))
    gate.push("abcd")
    assert gate.due(0.0)
    task = asyncio.create_task(gate.judge())
    await asyncio.sleep(0)
    assert gate.push("ef") == 0 and not gate.due(0.0), "one question at a time"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (judge.cancelled, gate.push("")) == (1, 0)
    judge.go.set()
    await gate.judge()
    assert judge.asked == [("", "abcdef")]
    assert gate.push("") == 6


async def failing(context: str, window: str) -> Cut | None:
    raise OSError("down " + window)


async def test_a_failure_lets_pass_only_what_was_asked_about() -> None:
    gate = WindowGate(failing, option(first=[1]))
    gate.push("abcd")
    with pytest.raises(OSError):
        await gate.judge()
    assert gate.push("ef") == 0
    gate.forgive()
    gate.forgive()
    assert gate.push("") == 4


# -- as the engine hands it on -------------------------------------------------------------------------------------


class Guards(Policy):
    def __init__(self, ask: Any, rules: bool = False, **window: Any) -> None:
        super().__init__("p", None)
        self.ask, self.rules, self.window = ask, rules, window

    def guard(self, x: Any, channel: Channel) -> Gate:
        gate = WindowGate(self.ask, option(first=[1], tokens=1, **self.window))
        return Chain([Redactor(["secret"]), gate]) if self.rules else gate


def engine(ask: Any, log: Log, rules: bool = False, **entry: Any) -> tuple[Any, Any]:
    x = exchange()
    gate = plan(Guards(ask, rules), log=log, **entry).guard[0](x, Channel(0, "content"))
    assert gate is not None and isinstance(gate, JudgedGate)
    return x, gate


@pytest.mark.parametrize("rules", [False, True])
async def test_an_enforced_judge_does_what_the_gate_does(rules: bool) -> None:
    log, judge = Log(), FakeJudge()
    _, gate = engine(judge, log, rules)
    d = Driven(gate, "a secret text and more")
    d.give(12)
    d.ask()
    d.give(22)
    d.close()
    assert d.out == ("a [X] text and more" if rules else d.text)
    assert gate.settled
    assert [v[1:] for v in log.verdicts].count(("guard", "change" if rules else "pass")) == 1
    _, gate = engine(judge, log, rules)
    d = Driven(gate, "well, plugh it")
    d.give(4)
    d.ask()
    d.give(14)
    d.close()
    assert (d.out, d.cut) == ("well", "bad")
    with pytest.raises(Cut):
        gate.push("")


@pytest.mark.parametrize("stance", ["closed", "open"])
async def test_a_judge_that_fails_goes_by_the_stance(stance: str) -> None:
    log = Log()
    x, gate = engine(failing, log, on_error=stance)
    d = Driven(gate, "some text, and some more of it")
    d.give(10)
    d.ask()
    d.give(30)
    d.close()
    assert (d.out, d.cut) == (("", "policy_error") if stance == "closed" else (d.text, None))
    assert log.errors == [("p", "guard", "OSError")], "one for the channel"
    assert "some" not in repr(x.findings)
    assert gate.settled and not gate.waits


async def test_a_judge_has_the_policys_time_and_no_more() -> None:
    log, judge = Log(), Slow()
    _, gate = engine(judge, log, timeout=0.01)
    gate.push("abcdefgh")
    assert gate.due(0.0)
    await gate.judge()
    assert judge.cancelled == 1
    assert log.errors == [("p", "guard", "TimeoutError")]
    with pytest.raises(Cut):
        gate.push("")


async def test_a_cancelled_inner_wait_is_a_failure_of_the_policy() -> None:
    async def odd(context: str, window: str) -> Cut | None:
        raise asyncio.CancelledError

    log = Log()
    _, gate = engine(odd, log)
    gate.push("abcdefgh")
    assert gate.due(0.0)
    await gate.judge()
    assert log.errors == [("p", "guard", "RuntimeError")]


async def test_in_shadow_mode_nobody_waits_and_verdicts_become_findings() -> None:
    log, judge = Log(), FakeJudge()
    x, gate = engine(judge, log, mode="shadow")
    d = Driven(gate, "well, plugh it")
    d.give(14)
    assert d.out == d.text
    d.take(gate.close)
    assert not gate.waits and not gate.settled and gate.due(0.0)
    run(gate.judge())
    assert gate.settled and d.cut is None
    assert [(f.kind, f.action, f.shadow) for f in x.findings] == [("bad", "would_cut", True)]
    x, gate = engine(failing, log, mode="shadow")
    d = Driven(gate, "some text")
    d.give(9)
    d.close()
    assert d.out == d.text and gate.settled


async def test_what_stands_in_front_is_context_and_is_not_asked_about() -> None:
    asked: list[tuple[str, str]] = []

    async def ask(context: str, window: str) -> Cut | None:
        asked.append((context, window))
        return None

    gate = WindowGate(ask, option(first=[1], context=6))
    gate.lead("the prompt so far ")
    assert gate.push("and more") == 0
    assert gate.due(0.0)
    await gate.judge()
    assert gate.close() == len("and more")
    assert asked == [("o far ", "and more")]
