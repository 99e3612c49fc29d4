"""The gate of a rule set: offsets and edits for one channel, on the states of ``machine.py``.

What lives here: registers (where groups began, how far they matched), the cap, and what is remembered of whole chunks.
What must never live here: how candidates compete; what a match means (``on_match`` says so).

Cost: a chunk of 10 characters of prose under 20 rules takes 1.3 us when it is read, 0.2 us when it is remembered; with an
e-mail rule 1.4 and 0.5 (``python -m bench.micro_gate``, docs/moderation.md). Two things make it cheap: a character is
one dict look-up, and a chunk that was met before in the same state, without a match in it, is one look-up for all its
characters: tokens repeat.

The cap: a match that is undecided for longer than ``cap`` characters loses what is older. Nothing is dropped: when it
completes, its last ``cap`` characters, and all that it grows by, are still treated. This depends on the text alone,
never on how it was cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from policies.contract import Edit, Gate
from policies.detect.machine import APPEND, CLEAR, FIRST, MOST_ENTRIES, ONE, SHIFT, Check, Machine, Move, State
from policies.detect.turn import ACCEPT, SURE

__all__ = ["Hit", "OnMatch", "OnOverflow", "RuleGate", "Tester"]

MEMO_LONGEST = 24  # characters of a chunk that is remembered
_SLICE = 4096  # characters between looks at the size of the tables
_UNSEEN, _EDITED, _LEFT = 0, 1, 2
_OUT = -1  # and below, one number for each rule: a match that ended before the first push, in text that is out


class Hit(NamedTuple):
    """A match that is decided. rule: index in the rule set. start, end: characters since the first push; the match
    may still grow, and may have begun in the text that ``lead`` told of. value: all its text, for rules that ask for it,
    else empty."""

    rule: int
    start: int
    end: int
    value: str


OnMatch = Callable[[Hit], str | None]
"""Called once per match; returns what to put in its place, or None to leave it. May raise Cut."""

OnOverflow = Callable[[int], None]
"""Called with the offset up to which text is clear when more than the cap is held. May raise Cut."""


Register = int | list[int]


def _start(reg: Register) -> int:
    return reg if isinstance(reg, int) else reg[0]


class Tester(Protocol):
    """What the gate needs of a rule set."""

    machine: Machine
    cap: int
    reach: int
    keeps: bool
    look_behind: int

    def passes(self, rule: int, value: str, before: str) -> bool:
        """The verdict on a candidate; before: the text in front of it."""


class RuleGate(Gate):
    """Use ``RuleSet.gate``."""

    def __init__(self, rules: Tester, on_match: OnMatch, on_overflow: OnOverflow | None = None) -> None:
        super().__init__()
        self.reach = rules.reach
        self._rules = rules
        self._machine = rules.machine
        self._epoch = rules.machine.epoch
        self._cap = rules.cap
        self._on_match = on_match
        self._on_overflow = on_overflow
        self._state = rules.machine.begin()
        self._pos = 0
        # Per group, where it began; once it is complete: start, end of what is complete, what became of it.
        self._regs: list[Register] = []
        self._done = 0  # the end of the last match decided
        self._plain = True  # nothing but groups coming and going
        self._keeps = rules.keeps
        self._text = ""  # from self._base on, when some rule needs text
        self._base = 0

    def push(self, text: str) -> int:
        if self._keeps:
            self._text += text
        known = self._state.memo.get(text)
        if known is None or self._on_overflow is not None:
            return self._read(text)
        self._state, groups = known
        pos = self._pos = self._pos + len(text)
        if groups:
            old = self._regs
            self._regs = [old[i] if i >= 0 else pos + i for i in groups]
            return self._clear()
        self._regs = []
        if self._keeps:
            self._forget(pos)
        return pos

    def lead(self, text: str) -> None:
        """A match that ends in ``text`` is nobody's business; of one that goes on behind it, what is pushed is treated."""
        text = text[-(self._cap + self._rules.look_behind) :]
        self._pos = self._done = self._base = -len(text)
        strict, self._on_overflow = self._on_overflow, None  # what is out can no longer be held back
        self.push(text)
        self._on_overflow = strict

    def close(self) -> int:
        self._renew()
        state = self._resolved(self._machine.end(self._state.core), self._pos)
        if isinstance(state.do, Move):
            self._apply(state.do, self._pos)
        self._regs = []
        return self._pos

    def _renew(self) -> None:
        """Move to the states that are kept now."""
        machine = self._machine
        if machine.full() or self._epoch != machine.epoch:
            self._state, self._epoch = machine.again(self._state), machine.epoch

    def _read(self, text: str) -> int:
        """Read a chunk character by character, and remember what it did if that was nothing much."""
        if self._epoch != self._machine.epoch or self._machine.entries >= MOST_ENTRIES:
            self._renew()
        size = len(text)
        if size > _SLICE:
            for at in range(0, size, _SLICE):
                self._read(text[at : at + _SLICE])
            return self._clear()
        before, old = self._state, self._regs
        self._plain = before.core.waits < 0
        self._run(text)
        if self._plain and 0 < size <= MEMO_LONGEST and self._machine.met_before(text):
            regs, pos = self._regs, self._pos
            first = pos - size
            groups = [r - pos if r.__class__ is int and r >= first else old.index(r) for r in regs]
            before.memo[text] = self._state, tuple(groups)
            self._machine.remembered()
        return self._clear()

    def _run(self, text: str) -> None:
        state, pos, regs = self._state, self._pos, self._regs
        strict = self._on_overflow is not None
        for char in text:
            state = state[char]
            pos += 1
            code = state.code
            if code:
                if code == ONE:
                    regs = [pos - 1]
                elif code == CLEAR:
                    regs = []
                elif code == APPEND:
                    regs = [*regs, pos - 1]
                elif code == FIRST:
                    regs = regs[:1]
                elif code == SHIFT:
                    regs = [*regs[1:], pos - 1]
                else:
                    self._regs = regs
                    state = self._act(state, pos)
                    regs = self._regs
            if strict:
                self._regs = regs
                self._bounded(state, pos)
        self._state, self._pos, self._regs = state, pos, regs

    def _act(self, state: State, pos: int) -> State:
        """Anything but groups that only come or go."""
        state = self._resolved(state, pos - 1)
        if isinstance(state.do, Move):
            self._apply(state.do, pos - 1)
        while (waits := state.core.waits) >= 0 and pos - _start(self._regs[waits]) >= self._cap:
            self._plain = False
            state = self._machine.decide(state.core, waits)
            assert isinstance(state.do, Move)
            self._apply(state.do, pos)
        return state

    def _resolved(self, state: State, place: int) -> State:
        """Judge candidates until the state is known. place: the offset of the character."""
        while isinstance(state.do, Check):
            self._plain = False
            check = state.do
            reg = self._regs[check.group] if check.group < len(self._regs) else place
            end = place + check.at
            # A decided match is judged anew, from where it began, before it may grow.
            start = max(_start(reg), end - self._cap, self._done if isinstance(reg, int) else 0)
            state = check.then(self._judged(check.rule, start, end))
        return state

    def _judged(self, rule: int, start: int, end: int) -> bool:
        first = start - self._base
        before = self._text[max(first - self._rules.look_behind, 0) : first]
        return self._rules.passes(rule, self._text[first : end - self._base], before)

    def _apply(self, move: Move, place: int) -> None:
        """Do what a move says to the registers. place: the offset of the character."""
        if not move.ops:
            self._regs = [*self._regs, place]
            self._regs = [self._regs[i] for i in move.keep]
            return
        self._plain = False
        pool = [*self._regs, place]
        for op, index, argument in move.ops:
            reg = pool[index]
            if reg.__class__ is int:
                reg = pool[index] = [reg, -1, _UNSEEN]
            if op == ACCEPT:
                self._completed(reg, place + argument)  # type: ignore[arg-type]
            else:
                self._decided(reg, argument)  # type: ignore[arg-type]
        self._regs = [pool[i] for i in move.keep]

    def _completed(self, reg: list[int], end: int) -> None:
        """A candidate is complete, or a decided match grows."""
        if reg[2] == _UNSEEN:
            if reg[1] < 0:
                reg[0] = max(reg[0], end - self._cap, self._done)
            reg[1] = end
            return
        start = max(reg[1], end - self._cap)
        reg[1] = self._done = end
        if reg[2] <= _OUT:
            self._decided(reg, _OUT - reg[2])
        elif reg[2] == _EDITED:
            last = self.edits[-1] if self.edits else None
            if last is not None and last.end == start:
                self.edits[-1] = Edit(last.start, end, last.text)
            else:
                self.edits.append(Edit(start, end, ""))

    def _decided(self, reg: list[int], rule: int) -> None:
        start, end, _ = reg
        self._done = max(self._done, end)
        if end <= 0:
            reg[2] = _OUT - rule
            return
        value = self._text[start - self._base : end - self._base] if self._keeps else ""
        start = max(start, 0)
        text = self._on_match(Hit(rule, start, end, value))
        reg[2] = _LEFT if text is None else _EDITED
        if text is not None:
            self.edits.append(Edit(start, end, text))

    def _bounded(self, state: State, pos: int) -> None:
        if state.core.groups and self._on_overflow is not None:
            held = self._undecided(state)
            if pos - held > self._cap:
                self._on_overflow(max(held, self._done, 0))

    def _undecided(self, state: State) -> int:
        """Where the first group's undecided text begins."""
        reg = self._regs[0]
        if isinstance(reg, int):
            return reg
        return reg[1] if state.core.groups[0].stage == SURE else reg[0]

    def _clear(self) -> int:
        """The offset up to which all is decided."""
        pos, state = self._pos, self._state
        if state.core.groups:
            held = self._undecided(state)
            if pos - held > self._cap:
                held = pos - self._cap
            clear = held if held > self._done else self._done
            if clear < 0:  # nothing but text that is out
                clear = 0
        else:
            clear = pos
        if self._keeps:
            self._forget(clear)
        return clear

    def _forget(self, clear: int) -> None:
        """Keep text from where a check may still look."""
        keep = clear - self._cap - self._rules.look_behind
        if keep - self._base > 512:
            self._text = self._text[keep - self._base :]
            self._base = keep
