"""Numbers and the like in whole texts: RE2 finds where a shape begins, and each candidate is judged, the longest first.

What lives here: Shapes, for the detectors whose matches are short words or groups of them (``fits``). What must never
live here: what a shape is, checks, a text beyond the call.

It finds what the automaton would, and does less for it: an automaton that reads from left to right must ask about every
place where a number may end before it knows whether there is a longer one. Here the last such place is asked about first.
Detectors that need a word before their match are only looked for behind such words. Two passes of RE2 give the places:
one of the shapes that stand alone, one of the words; both read one byte per character, in which "?" is any character
beyond ASCII, so that they find too much, but never too little.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import re2

from policies.detect.alphabet import UNSPACED, in_word
from policies.detect.charset import CharSet
from policies.detect.rules import escaped
from policies.detect.syntax import parse
from policies.detect.tree import Alt, Cat, Chars, Look, Node, Rep, width
from policies.detect.turn import Verdict
from policies.pii.cues import Cues
from policies.pii.engine import Search, matching, searching
from policies.pii.entity import Detector, Hinted, Near, Reach

__all__ = ["Judge", "Shapes", "Starts", "fits"]

_LONGEST = int(Reach.SPACED)
_ESCAPE = r"\b|\\[abfnrtv]|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|%[0-9A-Fa-f]{2}"
_LONGEST_ESCAPE = 6
_SPACELESS = "".join(f"{chr(low)}-{chr(high)}" for low, high in UNSPACED)
_ENDS = re.compile(rf"\w(?![^\W{_SPACELESS}])")  # places where a word may end
_ENDS_ASCII = re.compile(r"\w(?!\w)", re.ASCII)
_SIGNS = CharSet.of((ord(c), ord(c)) for c in "(+\uff0b")
_LETTERS = CharSet.of([(48, 57), (65, 90), (95, 95), (97, 122)])

Judge = Callable[[int, int, int], Verdict]
"""Of the candidate: (rule, start, end)."""


def fits(one: Detector) -> bool:
    """Whether a detector's matches can be found here: words of at most 80 characters that begin with a letter, a digit or
    a bracket, and end with a letter or digit."""
    rule = one.rule
    if one.reach not in (Reach.SPACED, Reach.TOKEN) or not rule.whole_word or not rule.value or rule.views or rule.phrases \
            or rule.ignore_case or one.needs:  # fmt: skip
        return False
    for pattern in rule.patterns:
        node = parse(pattern)
        longest = width(node)[1]
        if longest is None or longest > _LONGEST or _looks(node):
            return False
        if not _within(_edge(node, 0)[0], _LETTERS.union(_SIGNS)):
            return False
        if not all(chr(c).isalnum() for low, high in _edge(node, -1)[0] for c in range(low, min(high, low + 2000) + 1)):
            return False
    return True


def _within(some: CharSet, others: CharSet) -> bool:
    return some.union(others) == others or all(low > 127 or others.has(low) for low, _ in some)


def _looks(node: Node) -> bool:
    if isinstance(node, Cat | Alt):
        return any(map(_looks, node.parts))
    return isinstance(node, Look) or (isinstance(node, Rep) and _looks(node.part))


def _edge(node: Node, side: int) -> tuple[CharSet, bool]:
    """The characters that a match may begin (0) or end (-1) with; whether it may be empty."""
    if isinstance(node, Chars):
        return node.chars, False
    if isinstance(node, Rep):
        chars, empty = _edge(node.part, side)
        return chars, empty or node.low == 0
    out, empty = CharSet(), False
    if isinstance(node, Alt):
        for part in node.parts:
            chars, nothing = _edge(part, side)
            out, empty = out.union(chars), empty or nothing
        return out, empty
    assert isinstance(node, Cat)
    for part in node.parts if side == 0 else reversed(node.parts):
        chars, nothing = _edge(part, side)
        out = out.union(chars)
        if not nothing:
            return out, False
    return out, True


def _bytes(node: Node) -> str:
    """RE2 syntax of a pattern as it is in text of one byte per character."""
    if isinstance(node, Chars):
        some = [(low, min(high, 127)) for low, high in node.chars if low < 128]
        if any(high > 127 for _, high in node.chars):
            some.append((63, 63))
        return "[" + "".join(rf"\x{low:02x}-\x{high:02x}" for low, high in some) + "]"
    if isinstance(node, Rep):
        return f"(?:{_bytes(node.part)}){{{node.low},{'' if node.high is None else node.high}}}"
    assert isinstance(node, Cat | Alt)
    return "(?:" + ("" if isinstance(node, Cat) else "|").join(map(_bytes, node.parts)) + ")"


def _options(**more: Any) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = 64 << 20
    for name, value in more.items():
        setattr(options, name, value)
    return options


def _either(inside: set[str], outside: set[str], begin: str) -> str:
    """inside: what begins like a word, and so where one begins."""
    some = [f"(?:{begin})(?:{'|'.join(sorted(inside))})"] if inside else []
    return "|".join([*some, *sorted(outside)])


class _Finder:
    """Where one of these patterns may begin, and how far it reaches at most."""

    def __init__(self, patterns: Sequence[str]) -> None:
        inside: set[str] = set()
        outside: set[str] = set()
        for pattern in patterns:
            node = parse(pattern)
            first, last = _edge(node, 0)[0], _edge(node, -1)[0]
            whole = _bytes(node) + (r"\b" if _ascii(last) else "")
            (inside if _ascii(first) and _within(first, _LETTERS) else outside).add(whole)
        self._plain = self._search(inside, outside, r"\b")
        self._escaped = self._search(inside, outside, _ESCAPE)

        self.mark = _either(inside, outside, _ESCAPE)

    @staticmethod
    def _search(inside: set[str], outside: set[str], escapes: str) -> Search:
        options = _options(longest_match=True, encoding=re2.Options.Encoding.LATIN1)
        return searching(re2.compile(_either(inside, outside, escapes).encode(), options=options))

    def walk(self, data: bytes, at: int) -> _Walk:
        """Over the places from here on."""
        return _Walk(self._escaped if b"\\" in data or b"%" in data else self._plain, data, at)


class _Walk:
    """The places where a match may begin, from left to right. start, end: see ``to``."""

    __slots__ = ("_at", "_data", "_later", "_search", "end", "start")

    def __init__(self, search: Search, data: bytes, at: int) -> None:
        self._search, self._data = search, data
        self._at = at
        self._later: list[tuple[int, int]] = []  # behind an escape: others, found after it, may be before
        self.start = self.end = -1

    def to(self, place: int, last: int) -> bool:
        """On to the first from ``place`` to ``last``, and where what begins there ends at the latest; False: there is
        none. Neither may go back."""
        while self.start < place:
            at = max(self._at, place - _LONGEST_ESCAPE)
            found = None
            if at <= last and not (self._later and self._later[0][0] <= at):
                found = self._search(self._data, at, min(last + _LONGEST + _LONGEST_ESCAPE + 2, len(self._data)))
            if found is None or found[0] > last or (self._later and found[0] > self._later[0][0]):
                if not self._later or self._later[0][0] > last:
                    self._at = max(self._at, last + 1)
                    return False
                self.start, self.end = self._later.pop(0)
                continue
            start, end = found
            self._at = start + 1
            sign = self._data[start]
            if sign == 92 or sign == 37:
                start += 3 if sign == 37 else {117: 6, 120: 4}.get(self._data[self._at], 2)
                self._later = sorted([*self._later, (start, end)])
            else:
                self.start, self.end = start, end
        return self.start <= last


def _ascii(chars: CharSet) -> bool:
    return all(high < 128 for _, high in chars)


class _Rules:
    """Which of some rules a text is the shape of."""

    def __init__(self, rules: Sequence[tuple[int, Detector]]) -> None:
        self._numbers: list[int] = []
        some = re2.Set.FullMatchSet(_options())
        for number, one in rules:
            for pattern in one.rule.patterns:
                some.Add(pattern)
                self._numbers.append(number)
        some.Compile()
        self._match = matching(some)

    def of(self, value: str) -> list[int]:
        """In order."""
        found = self._match(value.encode())
        numbers = self._numbers
        return sorted({numbers[i] for i in found}) if found else []


class Starts:
    """Places where a match may begin, from left to right. start: the next one, or the text's length. end: where what
    begins there ends at the latest. spoken: whether words may stand before it. asked: candidates so far."""

    __slots__ = ("_alone", "_regions", "_size", "_spoken", "asked", "end", "spoken", "start")

    def __init__(self, size: int, alone: _Walk | None, spoken: _Walk | None, regions: list[tuple[int, int]]) -> None:
        self._size, self._alone, self._spoken = size, alone, spoken
        self._regions = regions[::-1]  # the next is the last
        self.start, self.end, self.spoken, self.asked = -1, -1, False, 0

    def to(self, place: int) -> int:
        """On to the first that is here or later; where it is."""
        alone, spoken, regions = self._alone, self._spoken, self._regions
        start, end, self.spoken = self._size, -1, False
        if alone is not None and alone.to(place, start - 1):
            start, end = alone.start, alone.end
        while regions and spoken is not None:
            low, high = regions[-1]
            if high >= place:
                if low > start:
                    break
                if spoken.to(max(low, place), min(high, start)):
                    self.spoken = True
                    end = max(end, spoken.end) if spoken.start == start else spoken.end
                    start = spoken.start
                    break
                if high > start:
                    break
            regions.pop()
        self.start, self.end = start, end
        return start


class Shapes:
    """rules: numbers of the detectors' rules, of which the lower counts where two match alike."""

    def __init__(self, rules: Sequence[tuple[int, Detector]]) -> None:
        spoken = [(n, d) for n, d in rules if isinstance(d.rule.context, Near | Hinted)]
        alone = [(n, d) for n, d in rules if not isinstance(d.rule.context, Near | Hinted)]
        self._alone = _Finder([p for _, d in alone for p in d.rule.patterns]) if alone else None
        self._spoken = _Finder([p for _, d in spoken for p in d.rule.patterns]) if spoken else None
        words = {d.rule.context.maybe for _, d in spoken if isinstance(d.rule.context, Near | Hinted)}
        self._cues = Cues(words, max(d.rule.look_behind for _, d in spoken)) if spoken else None
        self.marks = [finder.mark for finder in (self._alone, self._spoken) if finder is not None]
        """RE2 patterns of which one finds something in front of each place of ``starts``, or there."""
        self._of_alone, self._of_all = _Rules(alone), _Rules(rules)

    def starts(self, text: str, data: bytes, at: int) -> Starts:
        """Places from here on where a match may begin. data: the text, one byte per character."""
        alone = self._alone.walk(data, at) if self._alone is not None else None
        regions: list[tuple[int, int]] = []
        if self._cues is not None:
            regions = self._cues.regions(text, data, max(at - self._cues.seen - 1, 0))
        return Starts(len(data), alone, self._spoken.walk(data, at) if self._spoken is not None and regions else None, regions)

    def best(self, text: str, starts: Starts, judge: Judge) -> tuple[int, int] | None:
        """The end and the rule of the longest match that begins here."""
        start, end = starts.start, starts.end
        if start and in_word(text[start - 1]) and not escaped(text, start):
            return None
        rules = self._of_all if starts.spoken else self._of_alone
        dead: set[int] = set()
        ends = _ENDS_ASCII if text.isascii() else _ENDS
        stops = [stop for m in ends.finditer(text, start, end + 1) if (stop := m.end()) <= end]
        for stop in reversed(stops):
            starts.asked += 1
            for rule in rules.of(text[start:stop]):
                if rule in dead:
                    continue
                verdict = judge(rule, start, stop)
                if isinstance(verdict, frozenset):
                    dead |= verdict
                elif verdict:
                    return stop, rule
        return None
