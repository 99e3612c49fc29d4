"""Where the finds of rules and of the model meet.

What lives here: merge and with_names, for whole texts, and NamesGate, for one channel of a
reply. What must never live here: models, threads, clocks; what a find becomes (the policy says so).

Rules win: a place that they found is theirs. What a name has beside it is covered as a name, so that nothing of either is
left open. A find that is only flagged, which stays in the text, takes nothing from a name that does not. What
looks like a placeholder is no name.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import takewhile

from policies.contract import Cut, Edit, Gate, JudgedGate, Segment
from policies.pii.ner_sentences import Joiner, Name, Piece, Splitter, minus
from policies.pii.rewrite import Found

__all__ = ["NamesGate", "Quiet", "merge", "placeholders", "with_names"]

_ROUND = 16
"""Sentences of one question: a long reply asks several, each with a time limit of its own."""

Place = tuple[int, int]
Span = tuple[int, int, str]

_PLACEHOLDER = re.compile(r"[\[<][A-Z][A-Z0-9_]{0,40}(?:_[0-9A-Z]{1,12}|:[^\]>\s]{1,4096})?[\]>]")

Ask = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[Name]]]]
"""Texts to the names in each. What it raises is a failure of the policy."""


def placeholders(text: str) -> list[tuple[int, int]]:
    """Where a text has what looks like a placeholder, ``[EMAIL_1]``, ``[EMAIL]`` or ``[EMAIL:3f9a...]``."""
    return [m.span() for m in _PLACEHOLDER.finditer(text)] if "[" in text or "<" in text else []


def merge(
    text: str, finds: Sequence[Span], names: Sequence[Name], actions: Mapping[str, str]
) -> tuple[list[Span], list[str]]:
    """finds: of rules, in order and without overlaps. actions: type to what is done. Returns what to rewrite, in order and
    without overlaps, and the types of the finds that were to be flagged and now stand inside a name."""
    if not names:
        return list(finds), []
    strong = [f for f in finds if actions[f[2]] != "flag"]
    weak = [f for f in finds if actions[f[2]] == "flag"]
    taken = _disjoint([f[:2] for f in strong] + placeholders(text))
    acting = [
        (*part, n.type) for n in names if actions[n.type] != "flag" for part in _rest(text, n.start, n.end, taken)
    ]
    covered = [a[:2] for a in acting]
    inside = [f[2] for f in weak if _touching(covered, f[0], f[1])]
    weak = [f for f in weak if not _touching(covered, f[0], f[1])]
    taken = _disjoint([*taken, *(f[:2] for f in weak)])
    noted = [
        (*part, n.type) for n in names if actions[n.type] == "flag" for part in _rest(text, n.start, n.end, taken)
    ]
    return sorted([*strong, *weak, *acting, *noted]), inside


def _rest(text: str, start: int, end: int, taken: Sequence[Place]) -> Iterable[Place]:
    return minus(text, start, end, _touching(taken, start, end))


def _disjoint(places: Iterable[Place]) -> list[Place]:
    """In order, those that overlap as one."""
    out: list[Place] = []
    for start, end in sorted(places):
        if out and start < out[-1][1]:
            out[-1] = out[-1][0], max(end, out[-1][1])
        else:
            out.append((start, end))
    return out


def _touching(places: Sequence[Place], start: int, end: int) -> list[Place]:
    """Those of some disjoint places, in order, that share a character with the span."""
    first = bisect_left(places, start, key=lambda p: p[1])
    first += first < len(places) and places[first][1] == start
    last = bisect_left(places, end, key=lambda p: p[0])
    return list(places[first:last])


def with_names(
    found: Iterable[Found],
    segments: Sequence[Segment],
    names: Sequence[Sequence[Name]],
    actions: Mapping[str, str],
    allowed: Callable[[str], bool],
) -> tuple[list[Found], list[tuple[Segment, str]]]:
    """A request's finds with those of the model. segments, names: in the same order. allowed: whether a value is to be left
    alone. Returns the finds in the order of the segments, and the flagged ones that a name has taken (see ``merge``)."""
    finds = {id(f.segment): f.spans for f in found}
    out: list[Found] = []
    inside: list[tuple[Segment, str]] = []
    for segment, named in zip(segments, names, strict=True):
        text = segment.text
        mine = [n for n in named if n.type in actions and not allowed(text[n.start : n.end])]
        spans, lost = merge(text, finds.get(id(segment), ()), mine, actions)
        if spans:
            out.append(Found(segment, spans))
        inside += [(segment, type) for type in lost]
    return out, inside


class Quiet:
    """Places where a rule's match was left as it is although it is known (a client's own value, an allowed one, a placeholder
    that may not be put back): no name is looked for there."""

    __slots__ = ("places",)

    def __init__(self) -> None:
        self.places: deque[tuple[int, int]] = deque()

    def add(self, start: int, end: int) -> None:
        """In the order of the text; offsets of the gate's channel."""
        self.places.append((start, end))


class NamesGate(JudgedGate):
    """The gate of one channel: rules and names over the same text.

    rules: the gate of the rules, or None. quiet: where it has left something alone. ask: see Ask. on_name: called for each
    name, with its value and its offset; returns what to put in its place, None to leave it; may raise Cut. hold: characters
    of a sentence at most.

    Names are looked for in what the rules have decided, sentence by sentence, and nothing leaves before both have. The edits
    of both, and where a reply is cut, depend on the text alone, not on how it came, but for ``hurry``.
    """

    def __init__(
        self, rules: Gate | None, quiet: Quiet, ask: Ask, on_name: Callable[[Name, str], str | None], *, hold: int
    ) -> None:
        super().__init__()
        self._rules = rules
        self._quiet = quiet
        self._ask = ask
        self._on_name = on_name
        self._splitter = Splitter(hold)
        self._joiner = Joiner()
        self._pieces: list[Piece] = []  # without an answer
        self._answered: list[tuple[Piece, Sequence[Name]]] = []  # not made use of yet
        self._asked = 0
        self._taken: deque[Edit] = deque()  # of the rules, in text that waits
        self._text = ""  # from self._base on: what has not left
        self._base = 0
        self._pushed = 0
        self._ruled = 0  # characters that the rules have decided
        self._left = 0  # that may leave
        self._busy = False
        self._closed = False
        self._end: Cut | None = None  # what the rules raised: the reply ends where they say
        self._stop: Cut | None = None  # raised, and again whenever somebody asks
        self.reach = hold + (rules.reach if rules is not None else 0)

    # -- text --------------------------------------------------------------------------------------------------

    def lead(self, text: str) -> None:
        self._splitter.lead(text)
        if self._rules is not None:
            self._rules.lead(text)

    def push(self, text: str) -> int:
        self._pushed += len(text)
        if text and self._end is None:
            self._text += text
            self._rule(lambda: self._pushed if self._rules is None else self._rules.push(text))
        return self._decided()

    def close(self) -> int:
        if not self._closed:
            self._closed = True
            if self._end is None:
                self._rule(lambda: self._pushed if self._rules is None else self._rules.close())
                if self._end is None:
                    self._pieces += self._splitter.close()
        return self._decided()

    def _rule(self, act: Callable[[], int]) -> None:
        """Let the rules decide, and cut what they have decided into sentences."""
        before = self._ruled
        try:
            self._ruled = act()
        except Cut as cut:
            self._end = cut
            self._ruled = max(before, before if cut.at is None else cut.at)
        if self._rules is not None and self._rules.edits:
            self._taken.extend(e for e in self._rules.edits if e.end <= self._ruled)
            self._rules.edits = []
        self._pieces += self._splitter.push(self._text[before - self._base : self._ruled - self._base])
        if self._end is not None:
            self._pieces += self._splitter.close()

    def _decided(self) -> int:
        if self._stop is None and self._answered:
            self._replace()
        if self._stop is None and self._end is not None and self._left >= self._ruled:
            self._stop = Cut(self._end.reason, self._end.message, self._left)
        if self._stop is not None:
            raise Cut(self._stop.reason, self._stop.message, self._stop.at)
        return self._left

    def _replace(self) -> None:
        """Make use of the answers there are: the edits of both, in order."""
        answered, self._answered = self._answered, []
        try:
            for piece, names in answered:
                counting = self._joiner.take(piece, names)
                shown = [(s + piece.start, e + piece.start) for s, e in placeholders(piece.text)] if counting else []
                for name in counting:
                    self._name(name, shown)
        except Cut as cut:
            self._stop = cut
            self._answered = []
        upto = self._joiner.decided if self._stop is None else self._stop.at or 0
        self._edits_before(upto)
        if self._taken and self._taken[0].start < upto:  # its end has not been looked at yet
            upto = self._taken[0].start
        self._left = max(self._left, upto)
        if self._stop is not None:
            self._stop.at = self._left
        self._text = self._text[self._left - self._base :]
        self._base = self._left
        quiet = self._quiet.places
        while quiet and quiet[0][1] <= self._left:
            quiet.popleft()

    def _edits_before(self, upto: int) -> None:
        while self._taken and self._taken[0].end <= upto:
            self.edits.append(self._taken.popleft())

    def _name(self, name: Name, shown: list[Place]) -> None:
        """One name: what of it is nobody else's. shown: where its sentence has placeholders. Raises Cut."""
        first, last, base = name.start, name.end, self._base
        self._edits_before(first)
        quiet = self._quiet.places
        while quiet and quiet[0][1] <= first:
            quiet.popleft()
        others = _touching(shown, first, last)
        others += takewhile(lambda p: p[0] < last, quiet)
        others += [(e.start, e.end) for e in takewhile(lambda e: e.start < last, self._taken)]
        text = self._text[first - base : last - base]
        for start, end in minus(text, 0, len(text), _disjoint((s - first, e - first) for s, e in others)):
            self._edits_before(first + start)
            new = self._on_name(Name(first + start, first + end, name.type, name.score), text[start:end])
            if new is not None:
                self.edits.append(Edit(first + start, first + end, new))

    # -- questions ---------------------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        return self._stop is None and self._left < (self._ruled if self._end is not None else self._pushed)

    @property
    def settled(self) -> bool:
        return self._stop is not None or (self._closed and not self.waits)

    def hurry(self) -> None:
        if self._end is None and not self._closed:
            self._pieces += self._splitter.flush()

    def due(self, now: float) -> bool:
        return self._stop is None and not self._busy and bool(self._pieces)

    async def judge(self) -> None:
        pieces = self._pieces[:_ROUND]
        self._asked = len(pieces)
        self._busy = True
        try:
            found = await self._ask([piece.text for piece in pieces])
        finally:
            self._busy = False
        del self._pieces[: len(pieces)]
        self._answered += zip(pieces, found, strict=True)

    def forgive(self) -> None:
        passed, self._pieces = self._pieces[: self._asked], self._pieces[self._asked :]
        self._answered += [(piece, ()) for piece in passed]
        self._asked = 0
