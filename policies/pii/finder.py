"""All matches of a text by two ways at once: shapes that RE2 finds, and the automaton for the rest.

What lives here: Finder. What must never live here: what a match is; a text beyond the call.

Each way finds its own leftmost-longest matches. Where none of one overlaps one of the other, they are what an automaton
that knows all rules finds: the first of all is the first of one of them. Where two overlap the first has the place, and the
other way looks again from where that ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.pii.entity import Detector
from policies.pii.prefilter import Prefilter, data_of, search_of
from policies.pii.reader import Match, Reader, Span
from policies.pii.shapes import Judge, Shapes, Starts

__all__ = ["Finder"]

_AGAIN = 4  # times the length of a text that may be read once more
_ASKED, _ASKED_EACH = 256, 4  # candidates of shapes: so many, and one more for so many characters


class Finder:
    """every: the reader that knows all rules. shapes: those of its rules that are found by their shape, by number. rest:
    the reader of the others, and their numbers in ``every``."""

    def __init__(
        self, every: Reader, shapes: Sequence[tuple[int, Detector]], rest: tuple[Reader, Sequence[tuple[int, Detector]]] | None
    ) -> None:
        self.every = every
        self._shapes = Shapes(shapes) if shapes else None
        self._rest, self._numbers, self.prefilter = None, [0], None
        if rest is not None:
            self._rest = rest[0]
            self._numbers = [n for n, _ in rest[1]]
            self.prefilter = Prefilter([d for _, d in rest[1]])
        self._first = search_of([*(self.prefilter.marks if self.prefilter is not None else ()),
                                 *(self._shapes.marks if self._shapes is not None else ())])  # fmt: skip

    def spans(self, text: str) -> list[Span]:
        """In order; of those on an allow-list the type is empty. Linear in the length of the text."""
        data = data_of(text)
        first = self._first(data, 0, len(data))  # most texts have nothing, and need no more than this
        if first is None:
            return []
        at = first[0]
        parts = self.prefilter.windows(text, data, at) if self.prefilter is not None else []
        starts = self._shapes.starts(text, data, at) if self._shapes is not None else None
        return [self.every.span(match) for match in _Merged(self, text, parts).matches(starts)]

    def rest(self, text: str, parts: Sequence[tuple[int, int]]) -> list[Match]:
        """What the automaton finds in these parts."""
        if self._rest is None or not parts:
            return []
        numbers = self._numbers
        return [m._replace(rule=numbers[m.rule]) for m in self._rest.matches(text, parts)]

    def best(self, text: str, starts: Starts, judge: Judge) -> Match | None:
        """The longest match of a shape that begins at this place."""
        assert self._shapes is not None
        found = self._shapes.best(text, starts, judge)
        return None if found is None else self.every.match(text, starts.start, *found)


class _Merged:
    """One text. parts: what the automaton reads of it."""

    def __init__(self, finder: Finder, text: str, parts: Sequence[tuple[int, int]]) -> None:
        self._finder, self._text, self._parts = finder, text, parts
        self._rest = finder.rest(text, parts)[::-1]  # the next is the last
        self._again = _AGAIN * len(text)
        self._most = _ASKED + len(text) // _ASKED_EACH

    def matches(self, starts: Starts | None) -> list[Match]:
        """All of them, in order."""
        out: list[Match] = []
        done = at = 0
        judge, size = self._finder.every.judge(self._text), len(self._text)
        while starts is not None and (place := starts.to(at)) < size:
            other = self._next(done)
            if other is not None and other.start < place:
                out.append(self._rest.pop())
                done = at = other.end
                continue
            if starts.asked > self._most or self._again < 0:
                break
            found = self._finder.best(self._text, starts, judge)
            if found is None:
                at = place + 1
                continue
            if other is not None and other.start == place and (-other.end, other.rule) < (-found.end, found.rule):
                found = self._rest.pop()
            out.append(found)
            done = at = found.end
        else:
            while (other := self._next(done)) is not None:
                out.append(self._rest.pop())
                done = other.end
            if self._again >= 0:
                return out
        # Too much of it is nearly something: one automaton reads each character once, whatever stands there.
        return out + self._finder.every.matches(self._text, [(done, size)])

    def _next(self, done: int) -> Match | None:
        """The first of the automaton's matches that begins here or later."""
        rest = self._rest
        while rest and rest[-1].start < done and self._again >= 0:
            first = rest.pop()
            if first.end <= done:
                continue
            end = next(high for low, high in self._parts if low <= first.start < high)
            while rest and rest[-1].start < end:
                rest.pop()
            self._again -= end - done
            rest += self._finder.rest(self._text, [(done, end)])[::-1]
        return rest[-1] if rest and self._again >= 0 else None
