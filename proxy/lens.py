"""A gate for JSON text that comes in pieces: tool-call arguments, seen as the tool will read them.

What lives here: JsonLens, which shows its inner gate the text with string escapes resolved (also those cut in the
middle), and puts replacements back so that valid JSON stays valid. What must never live here: rules about text.

The inner gate sees the JSON as it stands, brackets, quotes and keys included, so that a rule has its left context;
only escapes are resolved. A replacement never takes a quote, bracket, comma or colon away: it is written into the
first string it touches; a number, or another bare word, that it touches becomes a string as a whole.
"""

from __future__ import annotations

import re
from collections import deque

from policies.contract import Cut, Edit, Gate
from proxy import jsonio

__all__ = ["JsonLens"]

_SPACE = " \t\r\n"
_LEAD = 64  # spaces at the start that wait to be told; after more of them whatever comes is read as JSON
_SIMPLE = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_STRING = re.compile(r'[^"\\]+')
_OUTSIDE = re.compile(r"[ \t\r\n{}\[\]:,]+")
_BARE = re.compile(r'[^ \t\r\n{}\[\]:,"]+')
_HEX = re.compile(r"[0-9a-fA-F]{4}")

SHAPE, TEXT, ESCAPE, BARE, DROP = range(5)
"""What a run of source text is: brackets and quotes; string text; one escape; a number or bare word; the rest of a bare
word that was replaced before it ended."""


class _Run:
    """Source text of one kind. view, source: where it starts in either; it is ``shown`` and ``size`` characters long."""

    __slots__ = ("kind", "shown", "size", "source", "view")

    def __init__(self, kind: int, view: int, source: int, shown: int, size: int) -> None:
        self.kind = kind
        self.view = view
        self.source = source
        self.shown = shown
        self.size = size


class JsonLens(Gate):
    """inner: the gate (or chain) that judges. Text that does not begin as an object, a list or a string is no JSON and
    passes to the inner gate as it is."""

    def __init__(self, inner: Gate) -> None:
        super().__init__()
        self._inner = inner
        # an escaped character is up to 12 characters of source (a surrogate pair)
        self.reach = 12 * inner.reach + 12
        self.judges = inner.judges
        self._plain: bool | None = None  # None until the first character that is no space
        self._in_string = False
        self._escape = ""  # the start of an escape, or spaces at the very start
        self._runs: deque[_Run] = deque()
        self._source = 0  # characters of source in runs
        self._view = 0  # characters shown to the inner gate
        self._cleared = 0
        self._bare_open = False  # the last run is a bare word that may go on
        self._bare_dead = False  # it has been replaced already

    def push(self, text: str) -> int:
        view = self._read(text)
        return self._drive(view, close=False)

    def close(self) -> int:
        view = ""
        if self._escape:  # broken JSON: what is there is shown as it is
            view, self._escape = self._escape, ""
            self._add(TEXT, len(view), len(view))
        self._bare_open = False
        return self._drive(view, close=True)

    # -- reading -----------------------------------------------------------------------------------------------

    def _read(self, text: str) -> str:
        """Take source text apart; return what the inner gate sees of it."""
        if self._plain is None:
            text = self._escape + text
            stripped = text.lstrip(_SPACE)
            lead = len(text) - len(stripped)
            if not stripped and lead <= _LEAD:  # only what follows tells whether these spaces are JSON's or text
                self._escape = text
                return ""
            self._plain = lead <= _LEAD and stripped[0] not in '{["'
            self._escape = ""
        if self._plain:
            self._add(TEXT, len(text), len(text))
            return text
        out: list[str] = []
        text = self._escape + text
        self._escape = ""
        at, size = 0, len(text)
        while at < size:
            at = self._string(text, at, out) if self._in_string else self._outside(text, at, out)
        return "".join(out)

    def _outside(self, text: str, at: int, out: list[str]) -> int:
        found = _BARE.match(text, at)
        if found is not None:
            self._add(DROP if self._bare_dead else BARE, found.end() - at, found.end() - at)
            self._bare_open = True
        else:
            self._bare_open = self._bare_dead = False
            found = _OUTSIDE.match(text, at)
            if found is None:  # a quote
                self._in_string = True
                self._add(SHAPE, 1, 1)
                out.append('"')
                return at + 1
            self._add(SHAPE, found.end() - at, found.end() - at)
        out.append(found[0])
        return found.end()

    def _string(self, text: str, at: int, out: list[str]) -> int:
        found = _STRING.match(text, at)
        if found is not None:
            self._add(TEXT, found.end() - at, found.end() - at)
            out.append(found[0])
            return found.end()
        if text[at] == '"':
            self._in_string = False
            self._add(SHAPE, 1, 1)
            out.append('"')
            return at + 1
        return self._escaped(text, at, out)

    def _escaped(self, text: str, at: int, out: list[str]) -> int:
        """One escape at ``at``, which may not be all there yet."""
        size = len(text)
        kind = text[at + 1 : at + 2]
        if kind == "u":
            code = _HEX.fullmatch(text, at + 2, min(at + 6, size))
            if code is None and size < at + 6:
                self._escape = text[at:]
                return size
            if code is not None:
                return self._unicode(text, at, int(code[0], 16), out)
        elif kind in _SIMPLE and kind:
            self._add(ESCAPE, 1, 2)
            out.append(_SIMPLE[kind])
            return at + 2
        elif not kind:
            self._escape = text[at:]
            return size
        # no escape of JSON's: two characters as they are
        self._add(TEXT, 2, 2)
        out.append(text[at : at + 2])
        return at + 2

    def _unicode(self, text: str, at: int, code: int, out: list[str]) -> int:
        if 0xD800 <= code < 0xDC00:
            rest = text[at + 6 : at + 12]
            if len(rest) < 6 and "\\u".startswith(rest[:2]):
                self._escape = text[at:]
                return len(text)
            low = _HEX.fullmatch(rest[2:]) if rest.startswith("\\u") else None
            if low is not None and 0xDC00 <= int(low[0], 16) < 0xE000:
                self._add(ESCAPE, 1, 12)
                out.append(chr(0x10000 + ((code - 0xD800) << 10) + int(low[0], 16) - 0xDC00))
                return at + 12
        self._add(ESCAPE, 1, 6)
        out.append("\ufffd" if 0xD800 <= code < 0xE000 else chr(code))
        return at + 6

    def _add(self, kind: int, shown: int, size: int) -> None:
        last = self._runs[-1] if self._runs else None
        if last is not None and last.kind == kind and kind != ESCAPE and (kind != BARE or self._bare_open):
            last.shown += shown
            last.size += size
        else:
            self._runs.append(_Run(kind, self._view, self._source, shown, size))
        self._view += shown
        self._source += size

    # -- deciding ----------------------------------------------------------------------------------------------

    def _drive(self, view: str, *, close: bool) -> int:
        inner = self._inner
        stop: Cut | None = None
        upto = 0
        try:
            if view or not close:
                upto = inner.push(view)
            if close:
                upto = inner.close()
        except Cut as cut:
            stop = cut
            upto = max(upto, cut.at or 0)
        edits, inner.edits = inner.edits, []
        for edit in edits:
            self._pass(edit.start)
            self._replace(edit)
        self._pass(upto)
        if stop is not None:
            raise Cut(stop.reason, stop.message, self._cleared)
        return self._cleared

    def _pass(self, upto: int) -> None:
        """Let source text go up to a place in the view; a bare word only when all of it is there and decided."""
        runs = self._runs
        while runs and runs[0].view < upto:
            run = runs[0]
            take = upto - run.view
            if take < run.shown or (run.kind == BARE and self._bare_open and len(runs) == 1):
                if run.kind in (SHAPE, TEXT):
                    self._skip(run, take)
                return
            if run.kind == DROP:
                self._edit(run.source, run.size, "")
            self._cleared = run.source + run.size
            runs.popleft()

    def _skip(self, run: _Run, count: int) -> None:
        """Take characters off the front of a run that is shown as it is."""
        run.view += count
        run.source += count
        run.shown -= count
        run.size -= count
        self._cleared = run.source

    def _replace(self, edit: Edit) -> None:
        """Put one edit of the view into the source."""
        runs = self._runs
        left: str | None = edit.text
        while runs and runs[0].view < edit.end:
            run = runs[0]
            if run.kind in (BARE, DROP):
                if run.kind == BARE and self._bare_open and len(runs) == 1:
                    self._bare_dead = True
                # a number may not lose digits and stay a number: it becomes a string
                self._edit(run.source, run.size, _quote(left or "") if run.kind == BARE else "")
                left = None if run.kind == BARE else left
                runs.popleft()
                continue
            take = min(edit.end - max(run.view, edit.start), run.shown)
            if run.kind == SHAPE:
                self._cleared = run.source
            else:
                size = run.size if run.kind == ESCAPE else take
                self._edit(run.source, size, _inside(left or "") if not self._plain else left or "")
                left = None
            if take < run.shown:
                self._skip(run, take)
                return
            self._cleared = run.source + run.size
            runs.popleft()

    def _edit(self, start: int, size: int, text: str) -> None:
        last = self.edits[-1] if self.edits else None
        if last is not None and last.end == start and not text:
            self.edits[-1] = Edit(last.start, start + size, last.text)
        else:
            self.edits.append(Edit(start, start + size, text))
        self._cleared = start + size


def _quote(text: str) -> str:
    return jsonio.encode(text).decode()


def _inside(text: str) -> str:
    return _quote(text)[1:-1]
