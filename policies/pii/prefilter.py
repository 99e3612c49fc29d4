"""Where in a whole text a match may be: RE2 finds the marks, and only the text around them is read by the automaton.

What lives here: windows. What must never live here: verdicts; a text beyond the call.

Why windows find all that reading everything finds: a match holds a match of its detector's mark (``entity.Reach``), so
it overlaps one of the places that RE2 reports, which go from left to right and leave none out. It is inside the window
around that place: what holds no white space ends with the word, what holds some has a greatest length. Windows that
touch are one, so no match crosses the edge of one; and an edge is white space, where no match begins or ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import re2

from policies.pii.entity import Detector, Reach

__all__ = ["Prefilter"]

_EDGE = re.compile(r"[ \t\n\r]")
_WORTH = 0.7  # windows over more of the text than this: reading all is as cheap


def _pattern(marks: set[str]) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 64 << 20
    options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile("|".join(f"(?:{m})" for m in sorted(marks)).encode("latin-1"), options=options)


class Prefilter:
    """detectors: all of the scanner's; each with a mark."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        marks: dict[Reach, set[str]] = {}
        for one in detectors:
            marks.setdefault(one.reach, set()).add(one.mark)
        self._passes = [(reach, _pattern(some)) for reach, some in sorted(marks.items())]
        self._behind = max((d.rule.look_behind for d in detectors if d.reach == Reach.BEFORE), default=0)

    def windows(self, text: str) -> list[tuple[int, int]]:
        """Start and end of the parts to read, in order, apart from each other; one for all where that is as well."""
        # One byte per character: offsets are the same, and a mark is ASCII.
        data = text.encode("ascii", "replace") if not text.isascii() else text.encode()
        raw: list[tuple[int, int]] = []
        for reach, pattern in self._passes:
            wide = max(int(reach), 0)
            after = self._behind + 1 if reach == Reach.BEFORE else wide
            raw += [(max(m.start() - wide, 0), m.end() + after) for m in pattern.finditer(data)]
        if not raw:
            return []
        raw.sort()
        return self._merged(text, raw)

    def _merged(self, text: str, raw: list[tuple[int, int]]) -> list[tuple[int, int]]:
        out: list[tuple[int, int]] = []
        start, end = -1, -1
        size, read = len(text), 0
        for low, high in raw:
            if high <= end:
                continue
            if low > end:
                low = _left(text, low)
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


def _left(text: str, at: int) -> int:
    """The last white space at or before this place, or the beginning."""
    if at <= 0:
        return 0
    return max(text.rfind(" ", 0, at + 1), text.rfind("\n", 0, at + 1), text.rfind("\t", 0, at + 1), 0)


def _right(text: str, at: int, size: int) -> int:
    """Behind the next white space at or after this place, or the end."""
    if at >= size:
        return size
    found = _EDGE.search(text, at)
    return found.end() if found else size
