"""RE2 patterns, read into a tree.

What lives here: the reader. What must never live here: matching. RE2 itself judges every
pattern first: what it refuses is refused here, in its words, so the reader below need not look for mistakes.
Greedy and lazy repeats are the same here: matches are leftmost-longest.
"""

from __future__ import annotations

import re

import re2

from policies.detect.charset import ANY, DIGIT, NEWLINE, SPACE, WORD, CharSet, named, orbit, posix, single
from policies.detect.tree import Alt, Cat, Chars, Look, Node, PatternError, Rep, Zero

__all__ = ["parse"]

_DEEPEST = 100  # groups within groups; the tree is walked by recursion
_CONTROL = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_SETS = {"d": DIGIT, "w": WORD, "s": SPACE}
_COUNT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")
_NAMED = re.compile(r"\(\?P?<\w+>")
_LOOK_AROUND = re.compile(r"(?<!\\)(?:\\\\)*\(\?<?[=!]")
_BACK_REFERENCE = re.compile(r"(?<!\\)(?:\\\\)*\\(?:[1-9]|[gk][<{\d])|\(\?P=")


def parse(pattern: str, *, ignore_case: bool = False) -> Node:
    """The tree of an RE2 pattern. Raises PatternError for what RE2 refuses, and for what is too deep."""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options=options)
    except re2.error as error:
        raise PatternError(_reason(pattern, error)) from None
    return _Reader(pattern, "i" if ignore_case else "").whole()


def _reason(pattern: str, error: Exception) -> str:
    if _LOOK_AROUND.search(pattern):
        return "look-around is not supported: patterns are RE2's, which take the same time on any text"
    if _BACK_REFERENCE.search(pattern):
        return "back references are not supported: patterns are RE2's, which take the same time on any text"
    text = error.args[0] if error.args else ""
    return "RE2 refuses it: " + (text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text))


class _Reader:
    def __init__(self, pattern: str, flags: str) -> None:
        self._text = pattern
        self._at = 0
        self._flags = frozenset(flags)
        self._depth = 0

    def whole(self) -> Node:
        node = self._alternatives()
        if self._at != len(self._text):
            raise PatternError("a bracket stands alone")
        return node

    def _alternatives(self) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise PatternError(f"more than {_DEEPEST} groups within each other")
        flags, parts = self._flags, [self._sequence()]
        while self._take("|"):
            parts.append(self._sequence())
        self._flags = flags
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Alt(tuple(parts))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            if (m := _FLAGS.match(self._text, self._at)) and m[3] == ")":
                self._at = m.end()
                self._flags = (self._flags | set(m[1])) - set(m[2] or "")
                continue
            if self._text.startswith("\\Q", self._at):
                parts += self._quoted()
                if not parts:
                    continue
                parts.append(self._repeats(parts.pop()))
                continue
            parts.append(self._repeats(self._atom()))
        return parts[0] if len(parts) == 1 else Cat(tuple(parts))

    def _quoted(self) -> list[Node]:
        end = self._text.find("\\E", self._at)
        text = self._text[self._at + 2 : end if end >= 0 else len(self._text)]
        self._at = end + 2 if end >= 0 else len(self._text)
        return [self._literal(c) for c in text]

    def _repeats(self, node: Node) -> Node:
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in "*+?":
                self._at += 1
                low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
            elif m := _COUNT.match(self._text, self._at):
                self._at = m.end()
                low = int(m[1])
                high = low if m[2] is None else int(m[3]) if m[3] else None
            else:
                break
            self._take("?")  # lazy
            node = Rep(node, low, high)
        return node

    def _atom(self) -> Node:
        char = self._text[self._at]
        if char == "(":
            return self._group()
        self._at += 1
        if char == "[":
            return Chars(self._class())
        if char == "\\":
            return self._escape()
        if char == ".":
            return Chars(ANY if "s" in self._flags else NEWLINE.negated())
        if char == "^":
            return Look(Zero.LINE_BEGIN if "m" in self._flags else Zero.BEGIN)
        if char == "$":
            return Look(Zero.LINE_END if "m" in self._flags else Zero.END)
        return self._literal(char)

    def _group(self) -> Node:
        flags = self._flags
        if m := _FLAGS.match(self._text, self._at):
            self._flags = (flags | set(m[1])) - set(m[2] or "")
        else:
            m = _NAMED.match(self._text, self._at)
        self._at = m.end() if m else self._at + 1
        node = self._alternatives()
        self._flags = flags
        if not self._take(")"):
            raise PatternError("a bracket is missing")
        return node

    def _escape(self) -> Node:
        char = self._text[self._at]
        looks = {"A": Zero.BEGIN, "z": Zero.END, "b": Zero.EDGE, "B": Zero.NO_EDGE}
        if char in looks:
            self._at += 1
            return Look(looks[char])
        if char == "C":
            raise PatternError(r"\C (one byte) is not supported: text is characters here")
        chars = self._set_escape()
        return Chars(chars) if chars is not None else self._literal(chr(self._code_escape()))

    def _literal(self, char: str) -> Chars:
        return Chars(orbit(char) if "i" in self._flags else single(char))

    def _set_escape(self) -> CharSet | None:
        """After a backslash: a class such as ``d`` or ``p{Greek}``, or None when it is a character."""
        char = self._text[self._at]
        if char.lower() in _SETS:
            self._at += 1
            found = _SETS[char.lower()]
            return found if char.islower() else found.negated()
        if char not in "pP":
            return None
        self._at += 1
        name, negative = self._text[self._at], char == "P"
        self._at += 1
        if name == "{":
            end = self._text.index("}", self._at)
            name, self._at = self._text[self._at : end], end + 1
        if name.startswith("^"):
            name, negative = name[1:], not negative
        found = ANY if name == "Any" else named(name)
        found = found.folded() if "i" in self._flags else found
        return found.negated() if negative else found

    def _code_escape(self) -> int:
        """After a backslash: the code point it stands for."""
        char = self._text[self._at]
        self._at += 1
        if char in _CONTROL:
            return _CONTROL[char]
        if char == "x":
            if self._take("{"):
                end = self._text.index("}", self._at)
                digits, self._at = self._text[self._at : end], end + 1
            else:
                digits, self._at = self._text[self._at : self._at + 2], self._at + 2
            return int(digits, 16)
        if char in "01234567":
            m = re.compile("[0-7]{0,2}").match(self._text, self._at)
            digits = char + (m[0] if m else "")
            self._at += len(digits) - 1
            return int(digits, 8)
        return ord(char)

    def _class(self) -> CharSet:
        negative = self._take("^")
        fold = "i" in self._flags
        out: list[tuple[int, int]] = []
        first = True
        while first or self._text[self._at] != "]":
            first = False
            if self._text.startswith("[:", self._at) and (end := self._text.find(":]", self._at)) > 0:
                name = self._text[self._at + 2 : end]
                self._at = end + 2
                found = posix(name.removeprefix("^"))
                found = found.folded() if fold else found
                out += found.negated() if name.startswith("^") else found
                continue
            low = self._member()
            if isinstance(low, CharSet):
                out += low
                continue
            high = low
            if self._text[self._at] == "-" and self._text[self._at + 1] != "]":
                self._at += 1
                upper = self._member()
                high = upper if isinstance(upper, int) else low
            piece = CharSet([(low, high)])
            out += piece.folded() if fold else piece
        self._at += 1
        found = CharSet.of(out)
        return found.negated() if negative else found

    def _member(self) -> CharSet | int:
        char = self._text[self._at]
        self._at += 1
        if char != "\\":
            return ord(char)
        found = self._set_escape()
        return found if found is not None else self._code_escape()

    def _take(self, char: str) -> bool:
        if self._text.startswith(char, self._at):
            self._at += len(char)
            return True
        return False
