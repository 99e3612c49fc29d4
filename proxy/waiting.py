"""The queue of a gated stream: events that wait for their text to be decided, and how one leaves.

What lives here: entries, and the rendering of an entry. What must never live here: gates being asked, order, cuts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from policies.contract import Channel
from proxy import jsonio
from proxy.channels import Line
from proxy.dialects.contract import ALL, Parsed, StreamCodec, Unreadable
from proxy.sse import parse
from proxy.templates import Template

__all__ = ["Entry", "Queue", "Span"]


class Span(NamedTuple):
    """A text of an event and where it stands on its line. fixed: what it becomes, where that is known at once."""

    line: Line
    start: int
    end: int
    text: str
    fixed: str | None = None


class Entry:
    """An event in the queue, with one span for each of its parts. Without ``parsed`` and ``template`` its bytes are ours, or
    nobody's to judge. ends: lines that end with it; it does not say so before their last verdict."""

    __slots__ = ("ends", "open", "parsed", "raw", "spans", "template")

    def __init__(self, raw: bytes, parsed: Parsed | None = None, template: Template | None = None) -> None:
        self.raw = raw
        self.parsed = parsed
        self.template = template
        self.spans: list[Span] = []
        self.ends: Sequence[Line] = ()
        self.open = False  # its parts and ends are still being given to the gates: it cannot leave as a whole

    @property
    def clear(self) -> bool:
        """True when all of its text is decided."""
        for line, _, end, _, fixed in self.spans:
            if fixed is None and line.cleared < end:
                return False
        return not (self.open or self.ends) or (not self.open and not any(line.pending for line in self.ends))


class Queue:
    """The events that wait, in order. size: their bytes. changed: something left in another form than it came."""

    __slots__ = ("_after", "_codec", "_cuts", "_lines", "changed", "entries", "size")

    def __init__(self, codec: StreamCodec, cuts: dict[int, str], lines: dict[Channel, Line], after: int) -> None:
        self.entries: deque[Entry] = deque()
        self.size = 0
        self.changed = False
        self._codec = codec
        self._cuts = cuts
        self._lines = lines
        self._after = after  # events up to this number leave nothing; -1: all do

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.size += len(entry.raw)

    def flush(self, out: list[bytes]) -> None:
        """Let go of what is clear. Raises Unreadable when an event cannot be written anew: it is lost."""
        entries = self.entries
        while entries and entries[0].clear:
            entry = entries.popleft()
            raw = entry.raw
            self.size -= len(raw)
            if entry.template is None or entry.spans[0].line.edits:
                raw, changed = _render(entry, self._codec, self._cuts, self._lines)
                self.changed |= changed
            elif entry.template.tracked:
                _said(entry, entry.template, entry.spans[0].text, self._codec)
            if raw and not (self._after >= 0 and self._known(entry)):
                out.append(raw)

    def _known(self, entry: Entry) -> bool:
        """The client has this event already."""
        number = entry.parsed.doc.get("sequence_number") if entry.parsed is not None and entry.parsed.doc else None
        return isinstance(number, int) and number <= self._after

    def tail(self, line: Line) -> str:
        """The text of a line that is still undecided."""
        if line.cleared == line.pushed:
            return ""
        return "".join(
            span.text[max(0, line.cleared - span.start) :]
            for entry in self.entries
            for span in entry.spans
            if span.line is line and span.fixed is None and span.end > line.cleared
        )

    def stop(self, out: list[bytes]) -> None:
        """Nothing follows: send what is clear, as much of the next event as is decided, and drop the rest."""
        entries = self.entries
        try:
            self.flush(out)
            if entries:
                raw = _partial(entries[0], self._codec)
                if not (self._after >= 0 and self._known(entries[0])):
                    out.append(raw)
        except Unreadable:
            pass  # it stays unsent
        choices = self._codec.choices
        for entry in entries:
            for end in entry.parsed.ends if entry.parsed is not None else ():
                if isinstance(end, int) and end in choices and end not in self._cuts:
                    choices[end] = False  # its end never left
        self.clear()

    def ending(self, raw: bytes, out: list[bytes]) -> None:
        """Events of our own that end the stream."""
        if self._after < 0:
            out.append(raw)
            return
        for one in raw.split(b"\n\n")[:-1]:
            data = parse(one + b"\n\n").data
            doc = jsonio.decode(data) if data is not None and data.startswith(b"{") else None
            number = doc.get("sequence_number") if isinstance(doc, dict) else None
            if not isinstance(number, int) or number > self._after:
                out.append(one + b"\n\n")

    def clear(self) -> None:
        self.entries.clear()
        self.size = 0


def _render(entry: Entry, codec: StreamCodec, cuts: dict[int, str], lines: dict[Channel, Line]) -> tuple[bytes, bool]:
    """(bytes, changed) of an entry whose text is decided. cuts: choices that were cut: what they say now is nothing.
    Raises Unreadable when it cannot be written."""
    parsed = entry.parsed
    keep = codec.repeats
    texts = [
        s.fixed if s.fixed is not None else s.line.render(s.text, s.start, keep=keep) if s.line.edits else s.text
        for s in entry.spans
    ]
    touched = any(text != span.text for text, span in zip(texts, entry.spans, strict=True))
    if parsed is None:
        template = entry.template
        if template is None:
            return entry.raw, False
        if not touched:
            if template.tracked:
                _said(entry, template, texts[0], codec)
            return entry.raw, False
        if not texts[0] and entry.spans[0].line.muted:
            return b"", True
        return _fill(entry, template, texts[0], codec), True
    drop: frozenset[int] = frozenset()
    unfinished: frozenset[int] = frozenset()
    if cuts and parsed.choices:
        gone = frozenset(parsed.choices).intersection(cuts)
        unfinished = gone.intersection(p.channel.choice for p, t in zip(parsed.parts, texts, strict=True) if t)
        drop = gone - unfinished
        if len(drop) == len(set(parsed.choices)):
            return b"", True
        touched = touched or bool(gone)
    if parsed.follows and not parsed.copies:
        parsed.copies = any(
            line.edited and f in (ALL, channel, channel.choice)
            for f in parsed.follows
            for channel, line in lines.items()
        )
    if not touched and not parsed.copies:
        if parsed.track:
            codec.left(parsed, texts)
        return entry.raw, False
    return _rewrite(entry, parsed, codec, texts, drop, unfinished), True


def _partial(entry: Entry, codec: StreamCodec) -> bytes:
    """As much of a waiting event as is decided, when nothing will follow: empty when that is no text, or when the event
    has text that makes no sense in part (a tool's name)."""
    parsed = entry.parsed
    if parsed is not None and not all(
        part.mode == "text" or (part.mode == "whole" and span.fixed is None and span.line.cleared >= span.end)
        for part, span in zip(parsed.parts, entry.spans, strict=False)
    ):
        return b""
    texts = []
    for span in entry.spans:
        clear = min(span.end, max(span.start, span.line.cleared)) - span.start
        text = span.text[:clear] if span.fixed is None else ""
        texts.append(span.line.render(text, span.start, keep=codec.repeats) if text and span.line.edits else text)
    if not any(texts):
        return b""
    if entry.template is not None:
        return _fill(entry, entry.template, texts[0], codec)
    if parsed is None:
        return b""
    texts += [""] * (len(parsed.parts) - len(texts))
    return _rewrite(entry, parsed, codec, texts, frozenset(), frozenset(parsed.choices))


def _rewrite(
    entry: Entry, parsed: Parsed, codec: StreamCodec, texts: list[str], drop: frozenset[int], unfinished: frozenset[int]
) -> bytes:
    try:
        raw = codec.rewrite(parse(entry.raw), parsed, texts, drop=drop, unfinished=unfinished)
    except jsonio.JsonError:
        raise Unreadable("a replacement that cannot be written") from None
    if parsed.track:
        codec.left(parsed, texts)
    return raw


def _fill(entry: Entry, template: Template, text: str, codec: StreamCodec) -> bytes:
    try:
        raw = template.fill(entry.raw, text)
    except jsonio.JsonError:
        raise Unreadable("a replacement that cannot be written") from None
    if template.tracked:
        _said(entry, template, text, codec)
    return raw


def _said(entry: Entry, template: Template, text: str, codec: StreamCodec) -> None:
    template.read(entry.raw)  # its number
    codec.said(template.line.channel, text, template.number)
