"""Where the words stand that speak for a value: one pass of RE2 over a text, instead of a look back from each value.

What lives here: Cues. What must never live here: what the words are, whether they do speak for a value (``entity.Near``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import re2

from policies.detect.syntax import parse
from policies.detect.tree import width
from policies.pii.engine import Search, searching
from policies.pii.entity import humped, humps

__all__ = ["Cues", "any_of"]

_CAMEL = searching(re2.compile(b"[a-z][A-Z]"))
_STEP = 24  # characters behind a word in which no further one is looked for
_LONGEST = 80  # characters of a word, where its pattern does not say


class Cues:
    """words: RE2 patterns as ``Near.maybe``. seen: characters before a value in which they count."""

    def __init__(self, words: Iterable[str], seen: int) -> None:
        some = sorted(set(words))
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.case_sensitive = False
        options.max_mem = 64 << 20
        self._search: Search = searching(re2.compile("|".join(some), options=options))
        widths = [width(parse(word))[1] for word in some]
        self._after = seen + _STEP + max(_LONGEST if w is None else w for w in widths)
        self.seen = seen

    def regions(self, text: str, data: bytes, base: int) -> list[tuple[int, int]]:
        """First and last place of the parts in which each value stands that has a word before it, in order, apart; of words
        from ``base`` on. They may be larger than that. data: the text, one byte per character."""
        text, data = text[base:], data[base:]
        spaces: list[int] = []
        if not text.isascii() or _CAMEL(data, 0, len(data)) is not None:
            if spaces := [at + n for n, at in enumerate(humps(text))]:
                text = humped(text)
            data = text.encode("utf-8", "replace")
        out: list[tuple[int, int]] = []
        low = high = -1
        for first in self._places(data, len(data) == len(text)):
            first -= bisect_left(spaces, first)
            if first > high:
                if high >= 0:
                    out.append((low + base, high + base))
                low = first
            high = first + self._after
        if high >= 0:
            out.append((low + base, high + base))
        return out

    def _places(self, data: bytes, plain: bool) -> list[int]:
        """Characters before the words; before those that follow one closely, none."""
        out = []
        at = chars = counted = 0
        size, find = len(data), self._search
        while at <= size and (found := find(data, at, size)) is not None:
            start = found[0]
            at = start + _STEP
            if not plain:
                chars += len(data[counted:start].decode("utf-8", "ignore"))
                counted, start = start, chars
                while at < size and data[at] & 0xC0 == 0x80:  # not inside a character
                    at += 1
            out.append(start)
        return out


def any_of(spans: list[tuple[int, int]], place: int) -> bool:
    """Whether it is in one of these parts, which are in order."""
    at = bisect_left(spans, (place + 1, 0)) - 1
    return at >= 0 and spans[at][1] >= place
