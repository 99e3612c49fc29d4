"""From positions to positions: one character, or what it stands for under a rule's views.

What lives here: steps without memory. What must never live here: groups, offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from policies.detect.alphabet import CharClass
from policies.detect.nfa import Nfa

__all__ = ["Step"]

class Step:
    """views: of each rule. conditional: positions that complete a candidate under conditions. ended: those after
    which there is nothing more."""

    def __init__(self, nfa: Nfa, views: list[int]) -> None:
        self._nfa = nfa
        self._accept = frozenset(nfa.accept)
        self.conditional = frozenset(nfa.accept_if)
        ended = frozenset(p for p in range(len(nfa.owner)) if nfa.ended(p))
        self.ended = ended | {~p for p in ended} if any(views) else ended
        self._views = views
        self._seen_through = any(views)

    def on(self, positions: Iterable[int], char: CharClass, truth: int, inside: set[int]) -> set[int]:
        """Where a character leads from these positions (``~p`` counts as p). ``~p`` in the result: the character was
        skipped. inside: gets the rules whose candidate completes inside a character that stands for several."""
        nfa, members = self._nfa, char.members
        out: set[int] = set()
        special = self._seen_through and (char.skip or char.readings)
        for q in positions:
            p = q if q >= 0 else ~q
            out.update(nfa.step(p, members))
            if p in nfa.edges_if:
                out.update(t for need, t in nfa.edges_if[p] if not need & ~truth and nfa.chars[t] in members)
            if special:
                views = self._views[nfa.owner[p]]
                if char.skip & views:
                    out.add(~p)
                for view, sequence in char.readings:
                    if view & views:
                        out |= self._through({p}, sequence, inside)
        return out

    def begin(self, char: CharClass, truth: int, inside: set[int]) -> set[int]:
        """Where it leads from the place before it, for matches that begin there."""
        nfa = self._nfa
        out: set[int] = set()
        for number in char.members:
            if number in nfa.first:
                out.update(nfa.first[number])
            if number in nfa.first_if:
                out.update([p for need, p in nfa.first_if[number] if not need & ~truth])
        if self._seen_through:
            for view, sequence in char.readings:
                for at, member in enumerate(sequence):  # a match may begin inside a ligature
                    # Where it begins, a reading has the neighbours of its character.
                    started = self._only(self.begin(member, truth, set()), view)
                    if at + 1 < len(sequence):
                        inside |= self.complete(started)
                    out |= self._through(started, sequence[at + 1 :], inside)
        return out

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
                inside |= self.complete(positions)
        return positions

    def complete(self, positions: set[int]) -> set[int]:
        """The rules of which these positions complete a candidate."""
        found = positions & self._accept
        return {self._nfa.owner[p] for p in found} if found else found

    def complete_if(self, positions: set[int], truth: int) -> set[int]:
        """The same, of those that ask for conditions."""
        found = positions & self.conditional
        some = self._nfa.accept_if
        return {self._nfa.owner[p] for p in found if any(not n & ~truth for n in some[p])} if found else found
