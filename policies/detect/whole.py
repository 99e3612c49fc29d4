"""Reading parts of a text that is all there: the gate's automaton without its cap.

What lives here: WholeReader. What must never live here: which parts are worth reading, what a match means.

A stream's gate lets go of what is older than the cap, for somebody waits for it. Nobody waits for a part of a whole text:
a match is as long as its rule says, and its start is never lost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from policies.contract import Edit
from policies.detect.gate import OnMatch, RuleGate, Tester
from policies.detect.machine import Check, State
from policies.detect.turn import Verdict

__all__ = ["Judge", "WholeReader"]

_SLICE = 4096  # characters between looks at the size of the tables
_ESCAPE = 6  # characters of the longest, \\u003d

Judge = Callable[[int, int, int], Verdict]
"""(rule, start, end) to the verdict on a candidate of the text."""


class WholeReader(RuleGate):
    """text: all of it. on_match: as for a gate; a match that it leaves (None) is no find. judge: instead of the rules' own
    checks; it knows the text, and may remember what it was asked."""

    def __init__(self, rules: Tester, text: str, on_match: OnMatch, judge: Judge) -> None:
        super().__init__(rules, on_match)
        self._cap = sys.maxsize
        self._text, self._keeps = text, True
        self._judge = judge

    def read(self, start: int, end: int) -> list[Edit]:
        """The matches within a part, as edits in order, one per find. start: what stands before it is seen as the end of
        no match. A part ends where the text does, or where no match can be that goes further."""
        machine = self._machine
        machine.full()
        self._epoch = machine.epoch
        before = self._text[max(start - _ESCAPE, 0) : start]
        self._state = machine.after(before if "\\" in before or "%" in before else before[-1:]) if start else machine.begin()
        self._pos = self._done = start
        self._regs, self.edits = [], []
        for at in range(start, end, _SLICE):
            self._renew()
            self._run(self._text[at : min(at + _SLICE, end)])
        self.close()
        return self.edits

    def _resolved(self, state: State, place: int) -> State:
        judge, regs = self._judge, self._regs
        while isinstance(check := state.do, Check):
            reg = regs[check.group] if check.group < len(regs) else place
            start = reg[0] if isinstance(reg, list) else max(reg, self._done)
            state = check.then(judge(check.rule, start, place + check.at))
        return state
