"""The events of a gated stream, one at a time: told by their bytes or read in full, their text given to the gates, and let go
of when it is clear.

What lives here: Events. What must never live here: how bytes become events, when others have their turn, endings.
"""

from __future__ import annotations

from collections.abc import Iterator

from policies.contract import Cut
from proxy.bounds import Bounded
from proxy.channels import Guard
from proxy.dialects.contract import ALL, Dialect, StreamCodec
from proxy.shapes import Quiet
from proxy.sse import Oversize, parse
from proxy.templates import Template, Templates
from proxy.waiting import Entry, Span

__all__ = ["LARGE", "Events"]

LARGE = 4096
"""Bytes; a larger event is read in full, and its text judged in steps."""


class Events(Bounded):
    """hide_usage, after: see GatedStream. The others: see Bounded."""

    def __init__(
        self, dialect: Dialect, codec: StreamCodec, guard: Guard, *, hide_usage: bool, closes_on_switch: bool, max_event: int,
        max_held: int, max_arguments: int, releases: bool, after: int,
    ) -> None:  # fmt: skip
        super().__init__(
            dialect, codec, guard, closes_on_switch=closes_on_switch, max_event=max_event, max_held=max_held,
            max_arguments=max_arguments, releases=releases, after=after,
        )  # fmt: skip
        self.finished = False
        """The backend said that the reply is complete."""
        self.failed = False
        """The backend reported a failure inside the stream."""
        self.has_ids = False
        """The backend sends event ids: no comments of our own then."""
        self._hide_usage = hide_usage
        self._templates = Templates(codec, self._book.line, learns=after < 0)  # else numbers are looked at
        self._known = self._templates.known
        self._stopped: Cut | None = None  # what a gate has just raised
        self._room = 0  # characters of text that may still be judged at once

    def _as_before(self, raw: bytes, out: list[bytes]) -> bool:
        """Deal with an event that is like an earlier one but for its text. False when it is not. Raises Unreadable."""
        for template in self._known:
            text = template.read(raw)
            if text and not template.line.muted:
                self._like(raw, template, text, out)
                return True
        if type(raw) is not bytes:
            return False
        if not (self._entries or self._backlog or self.judges or self.cuts) and (quiet := self._templates.quiet(raw)):
            self._still(raw, quiet, out)
            return True
        borrowed = self._templates.borrow(raw, self.cuts)
        if borrowed is not None:
            self._like(raw, *borrowed, out)
        return borrowed is not None

    def _like(self, raw: bytes, template: Template, text: str, out: list[bytes]) -> None:
        """An event of a template, whoever speaks and whatever waits. Raises Unreadable."""
        if self._backlog or template.line.pending:
            self._put_off(raw, out)
        elif self._speak(template.line, out):
            self._room -= len(text)
            if self._again(template, text):
                out.append(raw)
            else:
                self._wait(raw, template, text, out)

    def _event(self, raw: bytes, out: list[bytes]) -> None:
        """One event: queue it, give its text to the gates, let go of what is clear. Raises Unreadable."""
        entry = self._read(raw, out)
        if entry is not None:
            for _ in self._judge(entry, out):
                pass
            self._judged(entry, out)

    def _long_event(self, raw: bytes, out: list[bytes]) -> Iterator[bytes]:
        """As ``_event``, in steps, which return nothing yet."""
        entry = self._read(raw, out)
        if entry is not None:
            for _ in self._judge(entry, out):
                yield b""
            self._judged(entry, out)

    def _read(self, raw: bytes, out: list[bytes]) -> Entry | None:
        """Read and queue an event, as one that cannot leave yet. None: it has been dealt with. Raises Unreadable."""
        if isinstance(raw, Oversize):
            self._overflowing(raw, out)
            return None
        codec = self._codec
        event = parse(raw)
        self.has_ids |= event.has_id
        parsed = codec.parse(event)
        if self.judges and (self._backlog or any(self._pending(part) for part in parsed.parts)):
            self._put_off(raw, out)
            return None
        if self._crowded(parsed):
            self._overflowing(raw, out)
            return None
        codec.saw(parsed)
        if self._hide_usage and parsed.counts_only:
            return None
        if len(raw) <= LARGE:
            if parsed.simple and parsed.parts[0].channel.choice not in self.cuts:  # a choice that was cut says no more
                self._templates.learn(raw, parsed)
            elif not parsed.parts:
                self._templates.learn_quiet(raw, parsed)
        entry = Entry(raw, parsed)
        entry.open = True
        self._queue.add(entry)
        return entry

    def _judge(self, entry: Entry, out: list[bytes]) -> Iterator[None]:
        """Give an event's text to the gates, in steps."""
        parsed = entry.parsed
        for part in parsed.parts if parsed is not None else ():
            if self.cut is None:
                self._room -= len(part.text)
                yield from self._give(entry, part, out)

    def _judged(self, entry: Entry, out: list[bytes]) -> None:
        """The gates have an event's text: end what ends with it, and let go of what is clear."""
        parsed, codec = entry.parsed, self._codec
        assert parsed is not None, "it has been read"
        if self.cut is None and parsed.copies:
            at = 0 if codec.repeats else -1
            parsed.copies = any(self._book.minded(i, codec.field, at) for i in parsed.choices or (0,))
        for end in parsed.ends:
            if self.cut is None:
                self._close_all(end, out)
        if self.judges and parsed.ends:
            entry.ends = [line for line in self._book.live() if line.pending]
        entry.open = False
        self.finished |= parsed.terminal
        self.failed |= parsed.error
        self._after(out)

    def _still(self, raw: bytes, quiet: Quiet, out: list[bytes]) -> None:
        """An event without text, of a known shape, while nothing waits. Raises Unreadable."""
        codec = self._codec
        codec.skipped(raw, quiet.choices)
        if quiet.ends:
            codec.ended(quiet.ends)
            for line in self._book.live():
                channel = line.channel
                if line.closed or not (ALL in quiet.ends or channel.choice in quiet.ends or channel in quiet.ends):
                    continue
                line.remember("")
                try:
                    line.close()
                except Cut as cut:
                    entry = Entry(raw, codec.parse(parse(raw)))
                    entry.open = True
                    self._queue.add(entry)
                    self._cut(line, cut, out)
                    self._judged(entry, out)
                    return
                self._book.done(line)
            self.finished |= quiet.terminal
        out.append(raw)

    def _again(self, template: Template, text: str) -> bool:
        """Give a gate the text of an event like an earlier one. True when the event may leave as it came; else it has to
        ``_wait``. The hot path: about 1.5 us with a gate that only counts."""
        line = template.line
        start = line.pushed
        self._codec.events += 1
        try:
            line.push(text)
        except Cut as cut:
            self._stopped = cut
            return False
        if self._entries or line.cleared != line.pushed or (line.edits and line.edits[-1].end > start):
            return False
        if template.tracked:
            self._codec.said(line.channel, text, template.number)
        return True

    def _wait(self, raw: bytes, template: Template, text: str, out: list[bytes]) -> None:
        """Queue an event whose text the gates have, and let go of what is clear."""
        line, stop = template.line, self._stopped
        entry = Entry(raw, None, template)
        entry.spans.append(Span(line, line.pushed - len(text), line.pushed, text))
        self._queue.add(entry)
        if stop is not None:
            self._stopped = None
            self._cut(line, stop, out)
        self._after(out)
