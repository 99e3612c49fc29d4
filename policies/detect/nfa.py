"""The position automaton of a set of rules (Glushkov's construction): one state per character of a pattern.

What lives here: building it from trees and phrases, and figures about it. What must never live here: text, offsets,
transitions that are decided while text runs; ``machine.py`` has those.
A position is an int. The characters that lead into it are a set, known by number. An edge may ask for conditions
(``Zero``) at the place between two characters.
Phrases become a trie, numbered depth first, so that the first child of a node is the next number: 10,000 phrases cost
ten bytes per node, not a dict.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from policies.detect.charset import CharSet
from policies.detect.tree import Alt, Cat, Chars, Look, Node, PatternError, Rep

__all__ = ["Nfa"]

_MOST_STEPS = 50_000  # of one pattern: its characters and brackets, repeats written out
_MOST_EDGES = 200_000  # of one pattern: a loop over n alternatives has n * n
_MOST_NODES = 4_000_000  # of all phrases

Ends = list[tuple[int, int]]  # (conditions, position)
Pair = tuple[int, int]
Phrase = Sequence[CharSet]


class Nfa:
    """Positions of all rules.

    chars: number of the set that leads into a position. owner: its rule. first: set number to positions that a
    match may begin with; first_if: the same with conditions. accept: positions at which a match of their rule is
    complete; accept_if: the same, under any of these conditions.
    """

    def __init__(self) -> None:
        self.sets: list[CharSet] = []
        self.chars = array("i")
        self.owner = array("i")
        self.first: dict[int, tuple[int, ...]] = {}
        self.first_if: dict[int, tuple[Pair, ...]] = {}
        self.accept: set[int] = set()
        self.accept_if: dict[int, tuple[int, ...]] = {}
        self.conditions = 0
        self._numbers: dict[CharSet, int] = {}
        self._chain = bytearray()  # 1: its child is the next position
        self._loop = bytearray()  # 1: may repeat itself; gaps between words
        self._edges: dict[int, dict[int, tuple[int, ...]]] = {}
        self.edges_if: dict[int, tuple[Pair, ...]] = {}

    def step(self, position: int, members: frozenset[int]) -> Iterable[int]:
        """Where a character of these sets leads without conditions."""
        edges = self._edges.get(position)
        if edges is None:
            further = self._chain[position] and self.chars[position + 1] in members
            if self._loop[position] and self.chars[position] in members:
                return (position, position + 1) if further else (position,)
            return (position + 1,) if further else ()
        if len(edges) == 1:
            (number, found), *_ = edges.items()
            return found if number in members else ()
        return [q for number in edges.keys() & members for q in edges[number]]

    def ended(self, position: int) -> bool:
        """True when nothing can follow, and no completion waits for what follows."""
        if position in self.edges_if or position in self.accept_if or self._loop[position]:
            return False
        return not self._edges[position] if position in self._edges else not self._chain[position]

    def _number(self, chars: CharSet) -> int:
        number = self._numbers.get(chars)
        if number is None:
            number = self._numbers[chars] = len(self.sets)
            self.sets.append(chars)
        return number

    def _position(self, number: int, owner: int) -> int:
        self.chars.append(number)
        self.owner.append(owner)
        self._chain.append(0)
        self._loop.append(0)
        return len(self.chars) - 1

    def _begin(self, need: int, position: int) -> None:
        number = self.chars[position]
        self.conditions |= need
        if need:
            self.first_if[number] = (*self.first_if.get(number, ()), (need, position))
        else:
            self.first[number] = (*self.first.get(number, ()), position)

    def _end(self, need: int, position: int) -> None:
        self.conditions |= need
        if need:
            self.accept_if[position] = (*self.accept_if.get(position, ()), need)
        else:
            self.accept.add(position)

    # patterns

    def add_tree(self, node: Node, owner: int, around: tuple[int, int] = (0, 0)) -> None:
        """Add a pattern. around: conditions at both ends. Raises PatternError: matches the empty text, too large."""
        build = _Builder(self, owner)
        empty, first, last = build.walk(node)
        if empty:
            raise PatternError("it matches the empty text, which is everywhere")
        if not first:
            raise PatternError("it can never match")
        for need, position in first:
            self._begin(need | around[0], position)
        for need, position in last:
            self._end(need | around[1], position)
        for source, edges in build.edges.items():
            plain: dict[int, list[int]] = {}
            for need, target in edges:
                if need == 0:
                    plain.setdefault(self.chars[target], []).append(target)
                self.conditions |= need
            self._edges[source] = {number: tuple(found) for number, found in plain.items()}
            if some := tuple((n, q) for n, q in edges if n and (0, q) not in edges):
                self.edges_if[source] = some

    def add_position(self, chars: CharSet, owner: int) -> int:
        if not chars:
            raise PatternError("it has a class with no characters")
        return self._position(self._number(chars), owner)

    # phrases

    def add_phrases(
        self, phrases: Iterable[Phrase], owner: int, around: tuple[int, int], gaps: frozenset[CharSet] = frozenset()
    ) -> None:
        """Add literal texts, each a sequence of the sets that its characters may be. gaps: sets that may repeat."""
        loops = {self._number(c) for c in gaps}
        rows = sorted({tuple(self._number(c) for c in phrase) for phrase in phrases})
        if sum(map(len, rows)) > _MOST_NODES:
            raise PatternError("the list of phrases is too long")
        path: list[int] = []  # positions of the phrase before
        before: tuple[int, ...] = ()
        starts: dict[int, list[int]] = {}
        for row in rows:
            shared = 0
            while shared < len(before) and shared < len(row) and before[shared] == row[shared]:
                shared += 1
            del path[shared:]
            for number in row[shared:]:
                position = self._position(number, owner)
                self._loop[position] = number in loops
                if path:
                    self._child(path[-1], position)
                else:
                    starts.setdefault(number, []).append(position)
                path.append(position)
            self._end(around[1], path[-1])
            before = row
        for found in starts.values():
            for position in found:
                self._begin(around[0], position)

    def _child(self, parent: int, child: int) -> None:
        if child == parent + 1:
            self._chain[parent] = 1
            return
        edges = self._edges.get(parent)
        if edges is None:
            edges = self._edges[parent] = {self.chars[parent + 1]: (parent + 1,)} if self._chain[parent] else {}
            if self._loop[parent]:
                own = self.chars[parent]
                edges[own] = (*edges.get(own, ()), parent)
        number = self.chars[child]
        edges[number] = (*edges.get(number, ()), child)

    # figures

    def longest(self, owner: int, *, undecided: bool) -> int | None:
        """Characters on the longest way through a rule's positions, None when a loop makes it endless. undecided:
        only through positions where no match of the rule is complete."""
        mine = range(bisect_left(self.owner, owner), bisect_right(self.owner, owner))  # rules are added one by one
        inside = {p for p in mine if not (undecided and p in self.accept)}
        arrows = {p: [q for q in self._targets(p) if q in inside] for p in inside}
        incoming = dict.fromkeys(inside, 0)
        for targets in arrows.values():
            for q in targets:
                incoming[q] += 1
        ready = [p for p, count in incoming.items() if count == 0]
        length = dict.fromkeys(ready, 1)
        done = 0
        while ready:
            p = ready.pop()
            done += 1
            for q in arrows[p]:
                length[q] = max(length.get(q, 0), length[p] + 1)
                incoming[q] -= 1
                if incoming[q] == 0:
                    ready.append(q)
        return max(length.values(), default=0) if done == len(inside) else None

    def _targets(self, position: int) -> Iterable[int]:
        edges = self._edges.get(position)
        if edges is None:
            yield from (position + 1,) if self._chain[position] else ()
            yield from (position,) if self._loop[position] else ()
        else:
            for found in edges.values():
                yield from found
        for _, q in self.edges_if.get(position, ()):
            yield q


class _Builder:
    """Walks one tree. A part's result: the conditions under which it may be empty, how it begins, how it ends."""

    def __init__(self, nfa: Nfa, owner: int) -> None:
        self._nfa = nfa
        self._owner = owner
        self._made = 0
        self._count = 0
        self.edges: dict[int, set[Pair]] = {}

    def walk(self, node: Node) -> tuple[set[int], Ends, Ends]:
        self._made += 1
        if self._made > _MOST_STEPS:  # repeats within repeats, also of nothing
            raise PatternError("it is too large")
        if isinstance(node, Chars):
            position = self._nfa.add_position(node.chars, self._owner)
            self.edges[position] = set()
            return set(), [(0, position)], [(0, position)]
        if isinstance(node, Look):
            return {int(node.need)}, [], []
        if isinstance(node, Alt):
            walked = [self.walk(p) for p in node.parts]
            empty = {e for part in walked for e in part[0]}
            return empty, [f for part in walked for f in part[1]], [x for part in walked for x in part[2]]
        if isinstance(node, Cat):
            return self._sequence(self.walk(p) for p in node.parts)
        return self._repeat(node)

    def _sequence(self, parts: Iterable[tuple[set[int], Ends, Ends]]) -> tuple[set[int], Ends, Ends]:
        empty: set[int] = {0}
        first: Ends = []
        last: Ends = []
        for some_empty, some_first, some_last in parts:
            self._link(last, some_first)
            first += [(a | need, p) for a in empty for need, p in some_first]
            last = some_last + [(need | a, p) for need, p in last for a in some_empty]
            empty = {a | b for a in empty for b in some_empty}
        return empty, first, last

    def _repeat(self, node: Rep) -> tuple[set[int], Ends, Ends]:
        if node.high == 0:
            return {0}, [], []
        low, part = node.low, node.part
        if node.high is None:
            walked = [self.walk(part) for _ in range(max(low, 1))]
            self._link(walked[-1][2], walked[-1][1])
            if low == 0:
                walked[0][0].add(0)
            return self._sequence(walked)
        # x{2,4} is x x (x (x)?)?: nested, not x x x? x?, whose edges would grow with the square.
        tail: tuple[set[int], Ends, Ends] | None = None
        for _ in range(node.high - low):
            one = self.walk(part)
            tail = one if tail is None else self._sequence([one, tail])
            tail = (tail[0] | {0}, tail[1], tail[2])
        walked = [self.walk(part) for _ in range(low)]
        return self._sequence(walked if tail is None else [*walked, tail])

    def _link(self, last: Ends, first: Ends) -> None:
        for before, p in last:
            for after, q in first:
                self.edges[p].add((before | after, q))
        self._count += len(last) * len(first)
        if self._count > _MOST_EDGES:
            raise PatternError("it is too large: a repeat over too many alternatives")
