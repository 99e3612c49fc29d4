"""Where in a whole text a match may be: RE2 finds the marks, and only the text around them is read by the automaton.

What lives here: windows. What must never live here: verdicts; a text beyond the call.

Why windows find all that reading everything finds: a match holds a match of its detector's mark (``entity.Reach``), so
it overlaps one of the places that RE2 reports, which go from left to right and leave none out but those within _STEP of
one before, for which that one's window is longer. The match is inside the window: what holds no white space ends with the
word, what holds some has a greatest length. Windows that touch are one, so no match crosses the edge of one; and an edge
is white space, where no match begins or ends. What counts only with a word before it needs one there: windows
without any of the words are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import re2

from policies.detect import Rule
from policies.detect.syntax import parse
from policies.detect.tree import width
from policies.pii.engine import Search, WordSet, searching
from policies.pii.entity import Detector, Reach, humped

__all__ = ["OwnPrefilter", "Prefilter", "data_of", "search_of", "words_of"]

_EDGE = re.compile(r"[ \t\n\r]")
_STEP = 80  # characters after a mark in which no further one is looked for
_SECTION = 512
_LONGEST = max(Reach)  # characters of a mark, where there is white space in it
_WORTH = 0.7  # windows over more of the text than this: reading all is as cheap


def data_of(text: str) -> bytes:
    """One byte per character: offsets are the same, and "?" is any beyond ASCII."""
    return text.encode("ascii", "replace")


def _pattern(marks: Iterable[str]) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = 64 << 20
    options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile("|".join(f"(?:{m})" for m in sorted(marks)).encode("latin-1"), options=options)


class _Kind(NamedTuple):
    """What detectors have in common that are looked for in one pass. spoken: they need one of their words before them."""

    reach: Reach
    needs: str
    spoken: bool


class _Pass:
    """One kind: where its marks are, and how far around them its matches may be."""

    def __init__(self, kind: _Kind, detectors: Sequence[Detector]) -> None:
        self.needs = _search(kind.needs, False) if kind.needs else None
        self._search = searching(_pattern({d.mark for d in detectors}))
        words = {maybe for d in detectors if (maybe := words_of(d))} if kind.spoken else set()
        self._words = WordSet(sorted(words)).numbers if words else None
        self._seen = max(d.rule.look_behind for d in detectors)
        self._before = max(int(kind.reach), 0)
        self._token = kind.reach == Reach.TOKEN
        self._after = 0 if self._token else _STEP + (self._seen + 1 if kind.reach == Reach.BEFORE else self._before)

    def windows(self, text: str, data: bytes, at: int, end: int) -> list[tuple[int, int]]:
        """Those of the marks that begin from ``at`` on and end before ``end``, in order, apart; not yet up to white space."""
        out: list[tuple[int, int]] = []
        search, before, after = self._search, self._before, self._after
        low, high = 0, -1
        while at < end and (found := search(data, at, end)) is not None:
            start, at = found
            if start - before > high:
                if high >= 0:
                    out.append((low, high))
                low = max(start - before, 0)
            if self._token:  # all of the word
                high = at = _right(text, at, len(data))
            else:
                high = at + after
                at += _STEP
        if high >= 0:
            out.append((low, high))
        if self._words is None or not out:
            return out
        seen, spoken = self._seen, self._words
        return [(a, b) for a, b in out if spoken(humped(text[max(a - seen, 0) : b]))]


class Prefilter:
    """detectors: all of the scanner's; each with a mark."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        kinds: dict[_Kind, list[Detector]] = {}
        for one in detectors:
            kinds.setdefault(_Kind(one.reach, one.needs, bool(words_of(one))), []).append(one)
        self.marks = {d.mark for d in detectors}
        blocks = {d.mark for kind, some in kinds.items() for d in some if kind.reach == Reach.BLOCK}
        self._blocks = _pattern(blocks) if blocks else None
        self._passes = [_Pass(kind, some) for kind, some in sorted(kinds.items()) if kind.reach != Reach.BLOCK]
        self._any = _any([d for d in detectors if not d.needs])
        self._any_needing = _any(detectors)  # for texts that have what the others need

    def windows(self, text: str, data: bytes | None = None, at: int = 0) -> list[tuple[int, int]]:
        """Start and end of the parts to read, in order, apart from each other; one for all where that is as well. data: see
        ``data_of``. at: there is no mark before."""
        plain = text.isascii()
        data = data_of(text) if data is None else data
        raw = [m.span() for m in self._blocks.finditer(data, at)] if self._blocks is not None else []
        passes = [p for p in self._passes if p.needs is None or (not plain and p.needs.search(text) is not None)]
        any_mark = self._any_needing if any(p.needs is not None for p in passes) else self._any
        if any_mark is not None and (found := any_mark(data, at, len(data))) is not None:
            raw += self._marked(text, data, found[0], any_mark, passes)
        if not raw:
            return []
        raw.sort()
        return _merged(text, raw)

    def _marked(self, text: str, data: bytes, at: int, any_mark: Search, passes: Sequence[_Pass]) -> list[tuple[int, int]]:
        """From the first mark of any kind on: all kinds, one after the other, over some hundred characters; then on to
        the next mark."""
        raw: list[tuple[int, int]] = []
        size = len(data)
        while True:
            end = _right(text, at + _SECTION, size)  # white space: what has none is on one side of it
            for one in passes:
                raw += one.windows(text, data, at, min(end + _LONGEST, size))
            if end >= size or (found := any_mark(data, end, size)) is None:
                return raw
            at = found[0]


def _any(detectors: Sequence[Detector]) -> Search | None:
    """Finds the first mark of any of them; None when they have none."""
    marks = {d.mark for d in detectors if d.reach != Reach.BLOCK}
    return searching(_pattern(marks)) if marks else None


def search_of(marks: Iterable[str]) -> Search:
    """Looks for any of them in ``data_of`` a text."""
    return searching(_pattern(marks))


def words_of(one: Detector) -> str:
    """An RE2 pattern, read without regard to case, that finds something in the text before each of a detector's matches;
    empty: not known."""
    return getattr(one.rule.context, "maybe", "")


def _merged(text: str, raw: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    start = end = -1
    size, read = len(text), 0
    for low, high in raw:
        if high <= end:
            continue
        if low > end:
            low = _left(text, low, max(end, 0))
        if low <= end:
            end = _right(text, high, size)
            continue
        if end >= 0:
            out.append((start, end))
            read += end - start
        start, end = low, _right(text, high, size)
    out.append((start, end))
    read += end - start
    return [(0, size)] if read > _WORTH * size else out


def _left(text: str, at: int, floor: int) -> int:
    """The last white space at or before this place, or the floor; what is before that was looked at."""
    return max(floor, *(text.rfind(blank, floor, at + 1) for blank in " \n\t"))


def _right(text: str, at: int, size: int) -> int:
    """Behind the next white space at or after this place, or the end."""
    if at >= size:
        return size
    found = _EDGE.search(text, at)
    return found.end() if found else size


_BLANKS = r"[\s\x{b}\x{85}\x{a0}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{3000}]+"


class OwnPrefilter:
    """For a policy's own patterns and words, which have no marks: RE2 looks for them as they are. rules: without views.

    Every match overlaps a place that RE2 reports for its pattern. Patterns with a greatest length are read as far as that
    from such a place; for others all of the text is read as soon as there is one.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._looks: list[tuple[Any, int | None]] = []
        for rule in rules:
            for pattern in rule.patterns:
                self._looks.append((_search(pattern, rule.ignore_case), width(parse(pattern, ignore_case=rule.ignore_case))[1]))
            for words, longest in _phrases(rule.phrases):
                self._looks.append((_search(words, rule.ignore_case), longest))

    def windows(self, text: str) -> list[tuple[int, int]]:
        """As ``Prefilter.windows``; the edges may be anywhere."""
        size = len(text)
        raw: list[tuple[int, int]] = []
        for pattern, longest in self._looks:
            if longest is None:
                if pattern.search(text) is not None:
                    return [(0, size)]
                continue
            for found in pattern.finditer(text):
                raw.append((max(found.start() - longest - 1, 0), min(found.end() + longest + 1, size)))
        out: list[tuple[int, int]] = []
        for low, high in sorted(raw):
            if out and low <= out[-1][1]:
                out[-1] = (out[-1][0], max(out[-1][1], high))
            else:
                out.append((low, high))
        return out


def _phrases(phrases: Sequence[str]) -> list[tuple[str, int | None]]:
    """Those of one word and those of several, each with the greatest length of a match."""
    rows = [[re2.escape(word) for word in phrase.split()] for phrase in phrases]
    single, several = [r[0] for r in rows if len(r) == 1], [_BLANKS.join(r) for r in rows if len(r) > 1]
    longest = max((len(phrase) for phrase in phrases), default=0)
    return ([("|".join(single), longest)] if single else []) + ([("|".join(several), None)] if several else [])


def _search(pattern: str, ignore_case: bool) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = 64 << 20
    options.case_sensitive = not ignore_case
    return re2.compile(pattern, options=options)
