"""Sentences: how a text is cut into pieces for a model that finds names, and how the finds come together again.

What lives here: Splitter, Joiner, and ``minus``; text and offsets alone. What must never live here: models, waiting, what
is done with a find.

Where a piece ends depends on the text and on nothing else: not on how it arrived, not on what was found. So a stream and
the whole text are judged in the same pieces. A sentence ends at a line end, or at ``.``, ``!``, ``?`` and a blank, unless
the dot belongs to an initial, an abbreviation or a short number. A piece that would be longer than the bound ends at a
blank; then the pieces overlap, so that a name on the seam stands whole in one of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

__all__ = ["LEAST", "OVERLAP", "Joiner", "Name", "Piece", "Splitter", "join", "minus", "trimmed"]

OVERLAP = 96
"""Characters that two pieces share where no sentence ends. A longer name on such a seam is found in two parts."""
LEAST = 256
"""The smallest bound of a piece: more than two overlaps, so that every piece decides some text."""

# It begins with one set of characters, so that ``re`` skips what is in none of them: three times as fast as alternatives.
_END = re.compile(
    "[\n\u3002\uff01\uff1f.!?\u2026](?:(?<=[\n\u3002\uff01\uff1f])|[\"'\u201d\u2019\u00bb)\\]]{0,3}\\s)"
)
_LOOK_BACK = 5  # characters of which the sentence's end may consist
_WORD = re.compile(r"(\S*?)\.[\"'\u201d\u2019\u00bb)\]]{0,3}\s\Z")
_SHORT = frozenset(
    re.findall(
        r"\w+",
        "adm al approx av ave blvd bros capt cf cie cmdr co col corp dept dr dra eg est etc ff fig fr frau ft gen gov hon "
        "hr ie inc insp jr lt ltd maj mgr mlle mm mme mr mrs ms mt no nr pp pres prof pvt rd rep rev rt sen sgt sir sr sra "
        "srta st str tel u usw van vol vs z",
    )
)
"""Words that are often written with a dot and followed by a name or number. One too many makes a piece longer, no more."""


class Piece(NamedTuple):
    """start: where ``text`` begins (characters since the first push). lead: characters of it that the piece before has
    decided. done: how many it decides itself, counted from the lead's end; the next piece reads the rest again."""

    text: str
    start: int
    lead: int
    done: int


class Name(NamedTuple):
    """start, end: code points, end exclusive. type: an entity's name. score: 0 to 1."""

    start: int
    end: int
    type: str
    score: float


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without what is neither a letter, a mark on one, nor a digit at its ends; empty when it holds none."""
    while start < end and not text[start].isalnum():
        start += 1
    while start < end and not text[end - 1].isalnum() and unicodedata.category(text[end - 1])[0] != "M":
        end -= 1
    return start, end


class Splitter:
    """Cuts text into pieces of at most ``bound`` characters, beside their lead. fill: as many sentences in a piece as fit
    (for whole texts: fewer questions); else one (for streams: text waits less)."""

    def __init__(self, bound: int, *, fill: bool = False) -> None:
        if bound < LEAST:
            raise ValueError(f"the bound is at least {LEAST}")
        self._bound = bound
        self._fill = fill
        self._text = ""
        self._base = 0  # where self._text begins, in characters since the first push
        self._from = 0  # in self._text: where the next piece's lead begins
        self._at = 0  # in self._text: the first character that no piece has decided
        self._seen = 0  # in self._text: no sentence ends before this place

    @property
    def pending(self) -> int:
        """Characters that no piece has decided yet."""
        return len(self._text) - self._at

    def lead(self, text: str) -> None:
        """What stands in front of the first character, for the first piece to read. Before the first push."""
        self._text = text[-OVERLAP:]
        self._at = self._seen = len(self._text)
        self._base = -self._at

    def push(self, text: str) -> list[Piece]:
        """The pieces that are complete now. Linear in the text."""
        self._text += text
        out: list[Piece] = []
        while (piece := self._next()) is not None:
            out.append(piece)
        if self._from:
            gone = self._from
            self._text = self._text[gone:]
            self._base += gone
            self._at -= gone
            self._seen -= gone
            self._from = 0
        return out

    def close(self) -> list[Piece]:
        """The text ends here: the pieces that are left."""
        out = self.push("")
        if self.pending:
            out.append(self._cut(len(self._text), len(self._text)))
        return out

    def flush(self) -> list[Piece]:
        """What is there must be judged now, though no sentence has ended: a piece up to the last blank, or all. Where that
        falls depends on when it was asked for."""
        out = self.push("")
        if self.pending:
            end = self._blank_before(len(self._text), self._at + 1)
            out.append(self._cut(end, end, overlap=True))
        return out

    def _next(self) -> Piece | None:
        limit, size = self._at + self._bound, len(self._text)
        if not self._fill:
            end = self._first(min(size, limit))
        elif size <= limit:
            return None  # what follows may fit in, too
        else:
            end = self._last(limit)
        if end is not None:
            return self._cut(end, end)
        return self._forced(limit) if size >= limit else None

    def _first(self, limit: int) -> int | None:
        """Where the first sentence ends, within the limit."""
        for match in _END.finditer(self._text, max(self._seen, self._at), limit):
            if self._ends(match):
                return match.end()
        self._seen = max(limit - _LOOK_BACK, self._seen)
        return None

    def _last(self, limit: int) -> int | None:
        """Where the last sentence ends that does so within the limit."""
        ends = list(_END.finditer(self._text, self._at, limit))
        return next((m.end() for m in reversed(ends) if self._ends(m)), None)

    def _ends(self, match: re.Match[str]) -> bool:
        if match[0][0] != ".":
            return True
        word = _WORD.search(self._text, max(match.start() - 32, self._from), match.end())
        if word is None:
            return True
        before = word[1].lstrip("\"'([\u201c\u2018\u00ab").rstrip(".")
        if len(before) <= 2 and before.isdigit():
            return False  # the number of a list's item, a day
        return not (len(before) == 1 and before.isalpha()) and "." not in before and before.lower() not in _SHORT

    def _forced(self, limit: int) -> Piece:
        """No sentence ends within the bound: a piece up to a blank, of which the last part is read again."""
        end = self._blank_before(limit, limit - self._bound // 2)
        return self._cut(end, self._blank_before(end - OVERLAP, max(end - 2 * OVERLAP, self._at + 1)), overlap=True)

    def _blank_before(self, at: int, least: int) -> int:
        """The place behind the last blank that ends at or before ``at``; ``at`` itself when there is none from ``least`` on."""
        for place in range(at, least - 1, -1):
            if self._text[place - 1].isspace():
                return place
        return at

    def _cut(self, end: int, done: int, *, overlap: bool = False) -> Piece:
        """A piece up to ``end`` that decides what is before ``done``. overlap: the next one has what is before that as its
        lead."""
        first = self._from
        piece = Piece(self._text[first:end], self._base + first, self._at - first, done - self._at)
        if not overlap:
            self._from = done
        elif done - first > OVERLAP:
            self._from = self._blank_before(done - OVERLAP, max(done - 2 * OVERLAP, first + 1))
        self._at = self._seen = done
        return piece


class Joiner:
    """Puts the finds of the pieces of one text together, in their order."""

    def __init__(self) -> None:
        self.decided = 0
        """Characters of the text whose finds are all known."""

    def take(self, piece: Piece, names: Iterable[Name]) -> list[Name]:
        """names: the finds in ``piece.text``. Returns those that count, in offsets of the whole text, in order, none in
        another. One that begins in what the piece decides counts as a whole; of one that begins before it, the part that no
        find has covered yet."""
        upto = piece.start + piece.lead + piece.done
        covered = max(self.decided, piece.start + piece.lead)
        out: list[Name] = []
        for name in sorted(names, key=lambda n: (n.start, -n.end)):
            start, end = name.start + piece.start, name.end + piece.start
            if start < covered < end:
                start, end = trimmed(piece.text, covered - piece.start, name.end)
                start, end = start + piece.start, end + piece.start
            if covered <= start < min(end, upto):
                out.append(Name(start, end, name.type, name.score))
                covered = end
        self.decided = max(upto, covered)
        return out


def join(pieces: Sequence[Piece], found: Sequence[Iterable[Name]]) -> list[Name]:
    """The names of a whole text, from those of its pieces."""
    joiner = Joiner()
    return [name for piece, names in zip(pieces, found, strict=True) for name in joiner.take(piece, names)]


def minus(text: str, start: int, end: int, taken: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of ``start`` to ``end`` without the places ``taken`` (in order): the parts that hold a letter or
    digit, without what else stands at their ends. The whole span comes back as it is when nothing of it is taken."""
    at = start
    parts: list[tuple[int, int]] = []
    for begin, stop in taken:
        if stop > at and begin < end:
            parts.append((at, begin))
            at = stop
    if at == start:
        yield start, end
        return
    for begin, stop in [*parts, (at, end)]:
        begin, stop = trimmed(text, begin, stop)
        if begin < stop:
            yield begin, stop
