"""From positions to positions: one character, or what it stands for under a rule's views.

What lives here: steps without memory. What must never live here: groups, offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from policies.detect.alphabet import CharClass
from policies.detect.nfa import Nfa

__all__ = ["Step"]

Reached = tuple[set[int], set[int], set[int]]
"""Positions reached by the character; positions kept, as ``~p``, because it was skipped; rules whose candidate
completed inside a character that stands for several."""


class Step:
    """views: of each rule."""

    def __init__(self, nfa: Nfa, views: list[int]) -> None:
        self._nfa = nfa
        self._views = views
        self._seen_through = any(views)

    def on(self, positions: Iterable[int], char: CharClass, truth: int) -> Reached:
        """From these positions (``~p`` counts as p)."""
        nfa, members = self._nfa, char.members
        taken: set[int] = set()
        kept: set[int] = set()
        inside: set[int] = set()
        special = self._seen_through and (char.skip or char.readings)
        for q in positions:
            p = q if q >= 0 else ~q
            taken.update(nfa.step(p, members))
            for need, target in nfa.edges_if.get(p, ()):
                if not need & ~truth and nfa.chars[target] in members:
                    taken.add(target)
            if special:
                views = self._views[nfa.owner[p]]
                if char.skip & views:
                    kept.add(~p)
                for view, sequence in char.readings:
                    if view & views:
                        taken |= self._through({p}, sequence, inside)
        return taken, kept, inside

    def begin(self, char: CharClass, truth: int) -> Reached:
        """From the place before the character."""
        nfa = self._nfa
        taken: set[int] = set()
        inside: set[int] = set()
        for number in nfa.first.keys() & char.members:
            taken.update(nfa.first[number])
        for number in nfa.first_if.keys() & char.members:
            taken.update(p for need, p in nfa.first_if[number] if not need & ~truth)
        if self._seen_through:
            for view, sequence in char.readings:
                for at, member in enumerate(sequence):  # a match may begin inside a ligature
                    # Where it begins, a reading has the neighbours of its character.
                    started = self._only(self.begin(member, truth)[0], view)
                    if at + 1 < len(sequence):
                        self._note(started, inside)
                    taken |= self._through(started, sequence[at + 1 :], inside)
        return taken, set(), inside

    def _only(self, positions: set[int], view: int) -> set[int]:
        return {p for p in positions if self._views[self._nfa.owner[p]] & view}

    def _through(self, positions: set[int], sequence: Sequence[CharClass], inside: set[int]) -> set[int]:
        """Along a reading; a rule that completes before its last character is noted."""
        for at, char in enumerate(sequence):
            found: set[int] = set()
            for p in positions:
                found.update(self._nfa.step(p, char.members))
                views = self._views[self._nfa.owner[p]]
                if char.skip & views:
                    found.add(p)
                for view, further in char.readings:
                    if view & views:
                        found |= self._through({p}, further, inside)
            positions = found
            if at + 1 < len(sequence):
                self._note(positions, inside)
        return positions

    def _note(self, positions: set[int], inside: set[int]) -> None:
        inside.update(self.complete(positions))

    def ended(self, position: int) -> bool:
        return self._nfa.ended(position if position >= 0 else ~position)

    def complete(self, positions: Iterable[int]) -> set[int]:
        """The rules of which these positions complete a candidate."""
        accept, owner = self._nfa.accept, self._nfa.owner
        return {owner[p] for p in positions if p in accept}

    def complete_if(self, positions: Iterable[int], truth: int) -> set[int]:
        """The same, of those that ask for conditions."""
        some = self._nfa.accept_if
        if not some:
            return set()
        owner = self._nfa.owner
        return {owner[p] for p in positions if p >= 0 and any(not n & ~truth for n in some.get(p, ()))}
