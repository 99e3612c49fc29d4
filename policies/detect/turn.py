"""How candidates compete: leftmost-longest matching of all rules at once, without going back.

What lives here: what one character does to the groups that are alive. What must never live here: a text, offsets,
anything remembered from one character to the next.

A *group* is one place where a match may have begun, with the positions its candidates have reached; groups are in the
order of their places. At each character, in that order:
- a position that an earlier group holds too is dropped from the later one: their future is the same, and the earlier
  would win it. (Not for rules with a check, whose verdict depends on where the candidate began.)
- a group whose candidate completes drops all later groups: they began inside the match.
- the first group, when no candidate of it is left, is decided: its longest completed candidate is the match.
This gives exactly the leftmost-longest matches, one after the other; nothing is ever read twice, so time is linear
whatever the patterns. A match whose rule is sure is decided at once, and only grows from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from policies.detect.alphabet import AT_END, CharClass, holds
from policies.detect.nfa import Nfa
from policies.detect.step import Step

__all__ = ["ACCEPT", "EMIT", "PENDING", "SURE", "Facts", "Field", "Group", "Turn", "Verdict"]

ACCEPT, EMIT = 0, 1  # what a turn does to a register: note the end of a candidate; decide the match
OPEN, PENDING, SURE = 0, 1, 2  # a group's stage: nothing complete, complete but not decided, decided and growing
_MOST_GROUPS = 64  # candidates of checked rules alive at once


Verdict = bool | frozenset[int]
"""Of a candidate: it is a match or it is none; or the rules of which nothing that begins where it does is a match."""


class Facts(NamedTuple):
    """What the machine must know of a rule. views: what it sees through. checked: each candidate is judged when it
    completes. bounded: it has a greatest length. eager: its replacement need not know the whole value."""

    views: int
    checked: bool
    bounded: bool
    eager: bool


class Group(NamedTuple):
    """positions: sorted; ``~p`` is p reached by skipping an invisible character. rule: of the candidate completed
    last, or -1. now: it was completed by the last character, and another may be too, once the next is seen."""

    positions: tuple[int, ...]
    rule: int = -1
    stage: int = OPEN
    now: bool = False


_NEW = Group(())


class Field:
    """What does not change while groups compete. checked: the positions of rules with a check."""

    def __init__(self, nfa: Nfa, facts: Sequence[Facts]) -> None:
        self.facts = facts
        self.step = Step(nfa, [f.views for f in facts])
        checked = frozenset(p for p, rule in enumerate(nfa.owner) if facts[rule].checked)
        self.checked = checked | {~p for p in checked}
        self._owner = nfa.owner

    def sure(self, positions: set[int], rule: int) -> bool:
        """True when nothing but this rule can still win, and its replacement needs no more text."""
        return not positions or (
            self.facts[rule].eager and all(self._owner[p if p >= 0 else ~p] == rule for p in positions)
        )

    def rule_of(self, position: int) -> int:
        return self._owner[position if position >= 0 else ~position]


class _Live:
    __slots__ = ("dead", "index", "now", "positions", "rule", "stage")

    def __init__(self, group: Group, index: int) -> None:
        self.positions: set[int] = set(group.positions)
        self.rule = group.rule
        self.stage = group.stage
        self.now = group.now
        self.index = index
        self.dead: frozenset[int] = frozenset()


class _Asked(Exception):
    """A check is needed whose verdict is not known."""


class Turn:
    """One character on the groups that are alive. kind: of the character before. verdicts: of the checks on the way,
    as far as they are known. live: the groups, as they become; ops: what happens to registers."""

    __slots__ = ("_branch", "_count", "_field", "_truth", "_verdicts", "live", "ops")

    def __init__(
        self, field: Field, kind: int, groups: Sequence[Group], branch: CharClass, verdicts: tuple[Verdict, ...]
    ) -> None:
        self._field = field
        self._branch = branch
        self._truth = holds(kind, branch.kind)
        self._verdicts = list(verdicts)
        self._count = len(groups)  # the number of a new group's register
        self.live = [_Live(g, i) for i, g in enumerate(groups)]
        self.ops: list[tuple[int, int, int]] = []

    def play(self) -> tuple[int, int, int] | None:
        """Work it out; (group, rule, at) when a verdict is missing."""
        try:
            if self.live and self._field.step.conditional:
                self._ends_before()
            self._consume()
        except _Asked as asked:
            group, rule, at = asked.args
            return group, rule, at
        self._settle()
        return None

    def _ends_before(self) -> None:
        """Candidates that were complete before this character, if only it is (or is not) of some kind."""
        step = self._field.step
        for i, group in enumerate(self.live):
            rules = step.complete_if(group.positions, self._truth)
            if group.now:  # another one ended here too: the first in order has it
                rules = {r for r in rules if r < group.rule and group.stage != SURE}
            if rules and self._complete(group, rules, 0):
                del self.live[i + 1 :]
                return

    def _consume(self) -> None:
        step, branch, truth = self._field.step, self._branch, self._truth
        seen: set[int] = set()
        inside: set[int] = set()
        old, self.live = self.live, []
        for group in old:
            self.live.append(group)
            if group.positions and self._advanced(group, step.on(group.positions, branch, truth, inside), seen, inside):
                return
        taken = set() if branch.kind & AT_END else step.begin(branch, truth, inside)
        if taken or inside:
            group = _Live(_NEW, self._count)
            if len(old) >= _MOST_GROUPS:
                self._crowded()
            self.live.append(group)
            self._advanced(group, taken, seen, inside)

    def _crowded(self) -> None:
        """The oldest candidate that waits for a check is given up: what is judged has seldom begun so long ago."""
        checked = self._field.checked
        for group in self.live:
            if group.stage == OPEN and not group.positions.isdisjoint(checked):
                group.positions -= checked
                return

    def _advanced(self, group: _Live, reached: set[int], seen: set[int], inside: set[int]) -> bool:
        """Give a group its new positions; True when a candidate is complete, so that later groups are gone."""
        step, checked = self._field.step, self._field.checked
        positions = reached - seen if seen else reached
        if checked and seen:
            positions |= reached & checked
        seen |= positions
        rules = step.complete(positions)
        if inside:
            rules |= inside
            inside.clear()
        group.positions = positions - step.ended
        group.now = False
        return bool(rules) and self._complete(group, rules, 1)

    def _complete(self, group: _Live, rules: set[int], at: int) -> bool:
        """Some rules' candidates are complete: the first that passes its check has it; False when none does."""
        for rule in sorted(rules):
            if rule in group.dead or not self._passes(group, rule, at):
                continue
            self.ops.append((ACCEPT, group.index, at))
            group.now = at == 1 and not group.positions.isdisjoint(self._field.step.conditional)
            if group.stage != SURE:
                group.rule, group.stage = rule, PENDING
            return True
        return False

    def _passes(self, group: _Live, rule: int, at: int) -> bool:
        fact = self._field.facts[rule]
        if not fact.checked or (not fact.bounded and group.rule == rule):
            return True
        if not self._verdicts:
            raise _Asked(group.index, rule, at)
        verdict = self._verdicts.pop(0)
        if isinstance(verdict, frozenset):
            group.dead = verdict
            group.positions = {p for p in group.positions if self._field.rule_of(p) not in verdict}
        elif verdict:
            return True
        elif not fact.bounded:  # one check per candidate, at its shortest: or time would grow with the square
            group.positions = {p for p in group.positions if self._field.rule_of(p) != rule}
        return False

    def _settle(self) -> None:
        """Drop what is dead, decide what is sure."""
        self.live = [g for g in self.live if g.positions or g.stage == PENDING]
        while self.live:
            first = self.live[0]
            if first.stage == PENDING and self._field.sure(first.positions, first.rule):
                self.ops.append((EMIT, first.index, first.rule))
                first.stage = SURE
            if first.positions:
                return
            self.live.pop(0)
