"""Sets of characters: ranges of code points, case orbits, and the named classes of RE2.

What lives here: CharSet and where named classes come from. What must never live here: patterns, rules, state.
RE2's ``\\d``, ``\\w``, ``\\s`` and POSIX classes are ASCII; ``\\p{...}`` is asked of RE2 itself, so that both
always mean the same.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterable
from functools import cache

import re2

__all__ = ["CharSet", "named", "orbit", "posix", "single"]

_TOP = sys.maxunicode
# Letters with case live below this: the Adlam block (U+1E900 to U+1E95F) is the last one that has any.
_LAST_CASED = 0x1E95F


class CharSet(tuple[tuple[int, int], ...]):
    """Sorted code point ranges, both ends included, that neither touch nor overlap. Equal sets are equal tuples."""

    __slots__ = ()

    @staticmethod
    def of(ranges: Iterable[tuple[int, int]]) -> CharSet:
        """Ranges in any order, overlapping or not."""
        out: list[tuple[int, int]] = []
        for low, high in sorted(ranges):
            if out and low <= out[-1][1] + 1:
                out[-1] = (out[-1][0], max(out[-1][1], high))
            else:
                out.append((low, high))
        return CharSet(out)

    def has(self, code: int) -> bool:
        at = bisect_right(self, (code, _TOP + 1)) - 1
        return at >= 0 and code <= self[at][1]

    def union(self, other: Iterable[tuple[int, int]]) -> CharSet:
        return CharSet.of([*self, *other])

    def negated(self) -> CharSet:
        out, low = [], 0
        for first, last in self:
            if low < first:
                out.append((low, first - 1))
            low = last + 1
        if low <= _TOP:
            out.append((low, _TOP))
        return CharSet(out)

    def folded(self) -> CharSet:
        """With every character that differs from one of these in case alone (Unicode simple case folding)."""
        more = [
            (other, other)
            for low, high in self
            for code, others in _within(low, high)
            for other in others
            if not low <= other <= high
        ]
        return self.union(more) if more else self

    @property
    def size(self) -> int:
        return sum(high - low + 1 for low, high in self)


def single(char: str) -> CharSet:
    return CharSet([(ord(char), ord(char))])


@cache
def _orbits() -> dict[int, tuple[int, ...]]:
    """Code point to all that fold to the same; only for those that have company."""
    groups: dict[str, list[int]] = {}
    for code in range(_LAST_CASED + 1):
        char = chr(code)
        key = char.casefold()
        if len(key) != 1:  # a full folding such as ß > ss; the simple one is the lower case, if that is one character
            key = char.lower() if len(char.lower()) == 1 else char
        if key != char:
            groups.setdefault(key, [ord(key)]).append(code)
    return {code: tuple(group) for group in groups.values() for code in group}


def _within(low: int, high: int) -> Iterable[tuple[int, tuple[int, ...]]]:
    table = _orbits()
    if high - low < len(table):
        return [(code, table[code]) for code in range(low, high + 1) if code in table]
    return [(code, others) for code, others in table.items() if low <= code <= high]


def orbit(char: str) -> CharSet:
    """A character and those that differ from it in case alone."""
    return CharSet.of((code, code) for code in _orbits().get(ord(char), (ord(char),)))


def _ascii(text: str) -> CharSet:
    return CharSet.of((ord(c), ord(c)) for c in text)


DIGIT = CharSet([(48, 57)])
WORD = CharSet([(48, 57), (65, 90), (95, 95), (97, 122)])
SPACE = _ascii("\t\n\f\r ")
NEWLINE = _ascii("\n")
ANY = CharSet([(0, _TOP)])

_POSIX = {
    "alnum": CharSet([(48, 57), (65, 90), (97, 122)]), "alpha": CharSet([(65, 90), (97, 122)]),
    "ascii": CharSet([(0, 127)]), "blank": _ascii("\t "), "cntrl": CharSet([(0, 31), (127, 127)]), "digit": DIGIT,
    "graph": CharSet([(33, 126)]), "lower": CharSet([(97, 122)]), "print": CharSet([(32, 126)]),
    "punct": CharSet([(33, 47), (58, 64), (91, 96), (123, 126)]), "space": _ascii("\t\n\v\f\r "),
    "upper": CharSet([(65, 90)]), "word": WORD, "xdigit": CharSet([(48, 57), (65, 70), (97, 102)]),
}  # fmt: skip


def posix(name: str) -> CharSet:
    """``[[:name:]]``. KeyError when there is no such class."""
    return _POSIX[name]


@cache
def named(name: str) -> CharSet:
    """``\\p{name}``: a general category or a script, as RE2 knows them. ValueError when it does not."""
    options = re2.Options()
    options.log_errors = False
    try:
        pattern = re2.compile(rf"\p{{{name}}}+", options=options)
    except re2.error:
        raise ValueError(f"no Unicode class is called {name}") from None
    out: list[tuple[int, int]] = []
    # Surrogates are no characters: UTF-8 has no form for them.
    for base, end in ((0, 0xD800), (0xE000, _TOP + 1)):
        text = "".join(map(chr, range(base, end)))
        out += [(base + m.start(), base + m.end() - 1) for m in pattern.finditer(text)]
    return CharSet.of(out)
