"""Leftmost-longest matching of all rules at once, character by character, without going back.

What lives here: which candidates are alive, and what happens to them at a character. What must never live here: a
text, offsets (``gate.py`` has those).

A *group* is one place where a match may have begun, with the positions its candidates have reached; groups are in the
order of their places. At each character, in that order:
- a position that an earlier group holds too is dropped from the later one: their future is the same, and the earlier
  would win it. (Not for rules with a check, whose verdict depends on where the candidate began.)
- a group whose candidate completes drops all later groups: they began inside the match.
- the first group, when no candidate of it is left, is decided: its longest completed candidate is the match.
This gives exactly the leftmost-longest matches, one after the other; nothing is ever read twice, so time is linear
whatever the patterns. A match whose rule is sure is decided at once, and only grows from then on.

Groups without their offsets form a finite state. States and the moves between them are made when first met, and kept
(a lazy DFA with registers), so a character costs one dict look-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from policies.detect.alphabet import AT_BEGIN, AT_END, Alphabet, CharClass, holds
from policies.detect.nfa import Nfa
from policies.detect.step import Step

__all__ = ["ACCEPT", "EMIT", "OPEN", "PENDING", "SURE", "Check", "Facts", "Group", "Machine", "Move", "State"]

ACCEPT, EMIT = 0, 1  # what a move does to a register: note the end of a candidate; decide the match
OPEN, PENDING, SURE = 0, 1, 2  # a group's stage: nothing complete, complete but not decided, decided and growing
_MOST_STATES = 4096
_MOST_ENTRIES = 100_000  # entries of all rows and memos together, some 10 MB
_MOST_GROUPS = 64  # candidates of checked rules alive at once


class Facts(NamedTuple):
    """What the machine must know of a rule. views: what it sees through. checked: each candidate is judged when it
    completes. bounded: it has a greatest length. eager: its replacement need not know the whole value."""

    views: int
    checked: bool
    bounded: bool
    eager: bool


class Group(NamedTuple):
    """positions: sorted; ``~p`` is p reached by skipping an invisible character. rule: of the candidate completed
    last, or -1."""

    positions: tuple[int, ...]
    rule: int = -1
    stage: int = OPEN


@dataclass(slots=True, eq=False)
class Move:
    """What becomes of the registers: ops in order, then which are kept; the index behind the last is a new one."""

    ops: tuple[tuple[int, int, int], ...]
    keep: tuple[int, ...]
    clears: bool
    begins: bool  # clears, but for a new one


class Check:
    """A candidate has to be judged before it is known what the state is. at: 0 when it ends before the character,
    1 when it ends with it."""

    __slots__ = ("_branch", "_core", "_made", "_verdicts", "at", "group", "rule")

    def __init__(
        self, core: Core, branch: CharClass, verdicts: tuple[bool, ...], group: int, rule: int, at: int
    ) -> None:
        self._core = core
        self._branch = branch
        self._verdicts = verdicts
        self._made: dict[bool, State] = {}
        self.group = group
        self.rule = rule
        self.at = at

    def then(self, verdict: bool) -> State:
        found = self._made.get(verdict)
        if found is None:
            found = self._core.machine.move(self._core, self._branch, (*self._verdicts, verdict))
            self._made[verdict] = found
        return found


class State(dict[str, "State"]):
    """A row: character to next state. do: what happens on arrival; None is nothing. memo: what whole chunks did,
    kept by the gate."""

    __slots__ = ("core", "do", "memo")

    def __init__(self, core: Core, do: Move | Check | None) -> None:
        super().__init__()
        self.core = core
        self.do = do
        self.memo = core.memo

    def __missing__(self, char: str) -> State:
        core = self.core
        machine = core.machine
        branch = machine.alphabet.of(char)
        found = core.moves.get(branch)
        if found is None:
            found = core.moves[branch] = machine.move(core, branch, ())
        machine.entries += 1
        self[char] = found
        return found

    __hash__ = object.__hash__


class Core:
    """A state without the way it was reached. waits: the first group that is complete but not decided, or -1."""

    __slots__ = ("arrivals", "groups", "kind", "machine", "memo", "moves", "waits")

    def __init__(self, machine: Machine, kind: int, groups: tuple[Group, ...]) -> None:
        self.machine = machine
        self.kind = kind
        self.groups = groups
        self.moves: dict[CharClass | int, State] = {}
        self.arrivals: dict[object, State] = {}
        self.memo: dict[str, tuple[State, tuple[int, ...]]] = {}
        self.waits = next((i for i, g in enumerate(groups) if g.stage == PENDING), -1)


class Machine:
    """The states of one automaton. epoch counts how often they were thrown away because there were too many."""

    def __init__(self, nfa: Nfa, facts: list[Facts]) -> None:
        views = 0
        for fact in facts:
            views |= fact.views
        self.facts = facts
        self.alphabet = Alphabet(nfa, views)
        self.step = Step(nfa, [f.views for f in facts])
        self._owner = nfa.owner
        self._cores: dict[tuple[int, tuple[Group, ...]], Core] = {}
        self._end = CharClass(frozenset(), AT_END)
        self.epoch = 0
        self.entries = 0
        self.made = 0  # moves worked out, for tests that count work

    def begin(self) -> State:
        """The state before any text."""
        return self._arrive(self._core(AT_BEGIN & self.alphabet.past, ()), (), (), 0)

    def again(self, state: State) -> State:
        """The same state among those that are kept now."""
        groups = state.core.groups
        return self._arrive(self._core(state.core.kind, groups), (), tuple(range(len(groups))), len(groups))

    def full(self) -> bool:
        """Throw all states away when there are too many; True when that happened."""
        if len(self._cores) < _MOST_STATES and self.entries < _MOST_ENTRIES:
            return False
        self._cores = {}
        self.entries = 0
        self.epoch += 1
        return True

    def _core(self, kind: int, groups: tuple[Group, ...]) -> Core:
        core = self._cores.get((kind, groups))
        if core is None:
            core = self._cores[kind, groups] = Core(self, kind, groups)
        return core

    def _arrive(self, core: Core, ops: tuple[tuple[int, int, int], ...], keep: tuple[int, ...], old: int) -> State:
        quiet = not ops and keep == tuple(range(old)) and core.waits < 0
        key = None if quiet else (ops, keep, old)
        state = core.arrivals.get(key)
        if state is None:
            move = None if quiet else Move(ops, keep, not ops and not keep, not ops and keep == (old,))
            state = core.arrivals[key] = State(core, move)
        return state

    def end(self, core: Core) -> State:
        """What the end of the text does."""
        state = core.moves.get(self._end)
        if state is None:
            state = core.moves[self._end] = self.move(core, self._end, ())
        return state

    def decide(self, core: Core, index: int) -> State:
        """A group that has waited for too long: what has matched so far is the match, and may still grow."""
        state = core.moves.get(index)
        if state is None:
            groups = list(core.groups)
            groups[index] = groups[index]._replace(stage=SURE)
            keep = tuple(i for i, g in enumerate(groups) if g.positions or g.stage != SURE)
            after = self._core(core.kind, tuple(groups[i] for i in keep))
            ops = ((EMIT, index, groups[index].rule),)
            state = core.moves[index] = self._arrive(after, ops, keep, len(groups))
        return state

    def move(self, core: Core, branch: CharClass, verdicts: tuple[bool, ...]) -> State:
        """What a character does. verdicts: how the checks on the way have gone; one more is asked for by Check."""
        self.made += 1
        turn = _Turn(self, core, branch, verdicts)
        asked = turn.play()
        if asked is not None:
            return State(core, Check(core, branch, verdicts, *asked))
        kind = branch.kind & self.alphabet.past
        groups = tuple(Group(tuple(sorted(g.positions)), g.rule, g.stage) for g in turn.live)
        return self._arrive(self._core(kind, groups), tuple(turn.ops), tuple(g.index for g in turn.live),
                            len(core.groups))  # fmt: skip

    def sure(self, positions: set[int], rule: int) -> bool:
        """True when nothing but this rule can still win, and its replacement needs no more text."""
        return not positions or (
            self.facts[rule].eager and all(self._owner[p if p >= 0 else ~p] == rule for p in positions)
        )

    def rule_of(self, position: int) -> int:
        return self._owner[position if position >= 0 else ~position]


class _Live:
    __slots__ = ("index", "positions", "rule", "stage")

    def __init__(self, positions: set[int], rule: int, stage: int, index: int) -> None:
        self.positions = positions
        self.rule = rule
        self.stage = stage
        self.index = index


class _Asked(Exception):
    """A check is needed whose verdict is not known."""


class _Turn:
    """One character on one state. live: the groups, as they become; ops: what happens to registers."""

    def __init__(self, machine: Machine, core: Core, branch: CharClass, verdicts: tuple[bool, ...]) -> None:
        self._machine = machine
        self._branch = branch
        self._truth = holds(core.kind, branch.kind)
        self._verdicts = list(verdicts)
        self.live = [_Live(set(g.positions), g.rule, g.stage, i) for i, g in enumerate(core.groups)]
        self.ops: list[tuple[int, int, int]] = []
        self._count = len(self.live)  # the number of a new group's register

    def play(self) -> tuple[int, int, int] | None:
        """Work it out; (group, rule, at) when a verdict is missing."""
        try:
            self._ends_before()
            self._consume()
        except _Asked as asked:
            group, rule, at = asked.args
            return group, rule, at
        self._settle()
        return None

    def _ends_before(self) -> None:
        """Candidates that were complete before this character, if only it is (or is not) of some kind."""
        step = self._machine.step
        for i, group in enumerate(self.live):
            rules = step.complete_if(group.positions, self._truth)
            if rules and self._complete(group, rules, 0):
                del self.live[i + 1 :]
                return

    def _consume(self) -> None:
        machine, step = self._machine, self._machine.step
        seen: set[int] = set()
        old = self.live
        if self._branch.kind != AT_END:
            old = [*old, _Live(set(), -1, OPEN, self._count)]
        self.live = []
        crowded = len(old) > _MOST_GROUPS
        for group in old:
            self.live.append(group)
            if group is old[-1] and self._branch.kind != AT_END:
                taken, kept, inside = step.begin(self._branch, self._truth)
            else:
                taken, kept, inside = step.on(group.positions, self._branch, self._truth)
            checked = [p for p in taken | kept if machine.facts[machine.rule_of(p)].checked]
            fresh = set() if crowded and group is old[-1] else set(checked)
            group.positions = ((taken | kept) - seen) | fresh
            seen |= group.positions
            rules = inside | step.complete(taken & group.positions)
            group.positions = {p for p in group.positions if not step.ended(p)}
            if rules and self._complete(group, rules, 1):
                return

    def _complete(self, group: _Live, rules: set[int], at: int) -> bool:
        """Some rules' candidates are complete: the first that passes its check has it; False when none does."""
        for rule in sorted(rules):
            if not self._passes(group, rule, at):
                continue
            self.ops.append((ACCEPT, group.index, at))
            if group.stage != SURE:
                group.rule, group.stage = rule, PENDING
            return True
        return False

    def _passes(self, group: _Live, rule: int, at: int) -> bool:
        fact = self._machine.facts[rule]
        if not fact.checked or (not fact.bounded and group.rule == rule):
            return True
        if not self._verdicts:
            raise _Asked(group.index, rule, at)
        if self._verdicts.pop(0):
            return True
        if not fact.bounded:  # one check per candidate, at its shortest: or time would grow with the square
            group.positions = {p for p in group.positions if self._machine.rule_of(p) != rule}
        return False

    def _settle(self) -> None:
        """Drop what is dead, decide what is sure."""
        self.live = [g for g in self.live if g.positions or g.stage == PENDING]
        while self.live:
            first = self.live[0]
            if first.stage == PENDING and self._machine.sure(first.positions, first.rule):
                self.ops.append((EMIT, first.index, first.rule))
                first.stage = SURE
            if first.positions:
                return
            self.live.pop(0)
