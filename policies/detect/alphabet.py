"""Characters sorted into classes that the automaton cannot tell apart.

What lives here: classes, what is before and after a place, the readings of a class. What must never live here:
positions, groups.
"""

from __future__ import annotations

from functools import cache

from policies.detect.nfa import Nfa
from policies.detect.tree import Zero
from policies.detect.views import View, invisible, mark, readings

__all__ = ["AT_BEGIN", "AT_END", "UNSPACED", "Alphabet", "CharClass", "holds", "in_word"]

# What a character is to its neighbours.
_ASCII_WORD, _NEWLINE, _WORD, AT_BEGIN, AT_END = 1, 2, 4, 8, 16
# For escapes. What a character is: a backslash, a percent sign, a letter of a short escape, u, x, a hex digit.
_SLASH, _PERCENT, _SHORT, _U, _X, _HEX = 32, 64, 128, 256, 512, 1024
_SIGNS = _SLASH | _PERCENT | _SHORT | _U | _X | _HEX
# What came before: the last character of an escape; how many hex digits an escape still wants (1 to 4, three bits).
_ESCAPED, _WANTS = 2048, 4096
_ROLES = {"\\": _SLASH, "%": _PERCENT, "u": _U, "x": _X} | dict.fromkeys("nrtv", _SHORT) | dict.fromkeys("abf", _SHORT | _HEX)
_ROLES |= dict.fromkeys("0123456789ABCDEFcde", _HEX)
_MOST_CHARS = 20_000  # remembered; a text of all of Unicode must not fill the memory


class CharClass:
    """members: numbers of the sets that have it. kind: what it is to its neighbours. skip: views under which it is
    nothing. readings: views under which it stands for other classes, in sequence."""

    __slots__ = ("kind", "members", "readings", "skip")

    def __init__(
        self,
        members: frozenset[int],
        kind: int,
        skip: int = 0,
        readings: tuple[tuple[int, tuple[CharClass, ...]], ...] = (),
    ) -> None:
        self.members = members
        self.kind = kind
        self.skip = skip
        self.readings = readings


@cache
def holds(before: int, after: int) -> int:
    """The conditions that hold between two kinds."""
    out = Zero(0)
    if before & AT_BEGIN:
        out |= Zero.BEGIN | Zero.LINE_BEGIN
    if before & _NEWLINE:
        out |= Zero.LINE_BEGIN
    if after & AT_END:
        out |= Zero.END | Zero.LINE_END
    if after & _NEWLINE:
        out |= Zero.LINE_END
    out |= Zero.EDGE if (before ^ after) & _ASCII_WORD else Zero.NO_EDGE
    if not before & _WORD:
        out |= Zero.NO_WORD_BEFORE
    if not before & _WORD or before & _ESCAPED:
        out |= Zero.NO_WORD_OR_ESCAPE
    if not after & _WORD:
        out |= Zero.NO_WORD_AFTER
    return int(out)


# Scripts that put no spaces between words, or attach particles to them: Thai, Lao, Myanmar, Khmer, CJK, Hangul. Every
# place in them may be the end of a word.
UNSPACED = (
    (0xE00, 0xEFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF),
    (0xFF66, 0xFFDC), (0x20000, 0x3FFFF),
)  # fmt: skip


def in_word(char: str) -> bool:
    """A letter or digit that ``whole_word`` does not want beside a match."""
    if not (char.isalnum() or char == "_"):
        return False
    code = ord(char)
    return code < 0xE00 or not any(low <= code <= high for low, high in UNSPACED)


def _progress(before: int, char: int) -> int:
    """How far an escape has come: ``\\n``, ``\\x3d``, ``\\u003d``, ``%3D``. before: of the character before."""
    wanted = before // _WANTS & 7
    if wanted and char & _HEX:
        return _ESCAPED if wanted == 1 else (wanted - 1) * _WANTS
    if before & _SLASH and char & (_SHORT | _U | _X):
        return _ESCAPED if char & _SHORT else _WANTS * (4 if char & _U else 2)
    return _SLASH if char & _SLASH else _WANTS * 2 if char & _PERCENT else 0


class Alphabet:
    """The classes of one automaton. views: all that any of its rules uses."""

    def __init__(self, nfa: Nfa, views: int) -> None:
        self._views = views
        self._classes: dict[str, CharClass] = {}
        self._known: dict[tuple[object, ...], CharClass] = {}
        self._small: dict[int, list[int]] = {}
        self._large: list[int] = []
        self._sets = nfa.sets
        for number, chars in enumerate(nfa.sets):
            if chars.size > 16:
                self._large.append(number)
                continue
            for low, high in chars:
                for code in range(low, high + 1):
                    self._small.setdefault(code, []).append(number)
        asked = Zero(nfa.conditions)
        self._kinds = (_ASCII_WORD if asked & (Zero.EDGE | Zero.NO_EDGE) else 0) | (
            _NEWLINE if asked & (Zero.LINE_BEGIN | Zero.LINE_END) else 0
        )
        self._kinds |= _WORD if asked & (Zero.NO_WORD_BEFORE | Zero.NO_WORD_AFTER | Zero.NO_WORD_OR_ESCAPE) else 0
        self._escapes = bool(asked & Zero.NO_WORD_OR_ESCAPE)
        self._kinds |= _SIGNS if self._escapes else 0
        # Of the character before, less counts: what only looks ahead makes no more states.
        self.past = (_ASCII_WORD if asked & (Zero.EDGE | Zero.NO_EDGE) else 0) | (
            _NEWLINE if asked & Zero.LINE_BEGIN else 0
        )
        self.past |= (_WORD if asked & (Zero.NO_WORD_BEFORE | Zero.NO_WORD_OR_ESCAPE) else 0) | (
            AT_BEGIN if asked & (Zero.BEGIN | Zero.LINE_BEGIN) else 0
        )

    def behind(self, kind: int, char: CharClass) -> int:
        """What counts of a character once it is the one before. kind: the same of the one before it."""
        out = char.kind & self.past
        return out | _progress(kind, char.kind) if self._escapes else out

    def of(self, char: str) -> CharClass:
        """The class of a character."""
        found = self._classes.get(char)
        if found is None:
            if len(self._classes) >= _MOST_CHARS:
                self._classes.clear()
            found = self._classes[char] = self._make(char)
        return found

    def _make(self, char: str) -> CharClass:
        code = ord(char)
        members = frozenset([*self._small.get(code, ()), *(n for n in self._large if self._sets[n].has(code))])
        kind = (_NEWLINE if char == "\n" else 0) | (_WORD if in_word(char) else 0)
        kind = (kind | (_ASCII_WORD if kind & _WORD and code < 128 else 0) | _ROLES.get(char, 0)) & self._kinds
        skip, other = 0, []
        if self._views:
            skip = (View.INVISIBLE if invisible(char) else 0) | (View.MARKS if mark(char) else 0)
            skip &= self._views
            other = [(v, tuple(map(self.of, text))) for v, text in readings(char) if v & self._views]
            other = [(v, classes) for v, classes in other if self._tells(classes)]
        key = (members, kind, skip, *other)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST_CHARS:
                self._known.clear()
            found = self._known[key] = CharClass(members, kind, skip, tuple(other))
        return found

    @staticmethod
    def _tells(classes: tuple[CharClass, ...]) -> bool:
        """False for a reading that no rule could go along with, not even a part of the way."""
        return any(c.members or c.skip or c.readings for c in classes)
