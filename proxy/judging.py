"""Gives the text of events to the gates of their channels, and ends channels where the dialect says so.

What lives here: Judging, the text side of a gated stream: deltas, texts that stand alone, repetitions, channels that take
turns. What must never live here: bytes of events, order of leaving, endings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from policies.contract import Channel, Cut, Gate
from proxy.channels import Book, Guard, Line
from proxy.dialects.contract import ALL, Parsed, Part, StreamCodec, Unreadable
from proxy.lens import JsonLens
from proxy.waiting import Entry, Queue, Span
from proxy.whole import make_gate

__all__ = ["MOST_CHANNELS", "STEP", "Judging"]

STEP = 64
"""Characters that a gate is given at a time: between two steps other streams have their turn. Well below a millisecond with
usual rules; text that needs a new state for every character takes 1 to 3 ms."""

MOST_CHANNELS = 4096
"""Channels of one stream (choices, their fields, tool calls). Each keeps a gate: a backend that opens a new one with every event
would fill the memory."""


class Judging:
    """guard: the gates of a channel. closes_on_switch: a channel whose text is undecided ends when another of its choice
    begins to speak. max_held, after: see GatedStream."""

    def __init__(self, codec: StreamCodec, guard: Guard, *, closes_on_switch: bool, max_held: int, after: int) -> None:
        self.cut: str | None = None
        """The reason, once a cut has ended the stream."""
        self.cuts: dict[int, str] = {}
        """Choice to reason, for every choice that was cut."""
        self._codec = codec
        self._closes_on_switch = closes_on_switch
        self._max_held = max_held
        self._backlog: list[bytes] = []  # events of a channel that speaks again before its last verdict, and all behind
        self._book = Book(lambda channel: make_gate(channel, guard), digest=codec.repeats)
        self._queue = Queue(codec, self.cuts, self._book.lines, after)
        self._entries = self._queue.entries
        self.judges = self._book.judges
        """The gates that must ask somebody; whoever asks takes those out that are settled."""

    @property
    def held(self) -> int:
        """Characters that wait for a decision."""
        return self._book.waiting()

    @property
    def queued(self) -> int:
        """Events that wait."""
        return len(self._entries) + len(self._backlog)

    @property
    def asks(self) -> bool:
        """Some gate's verdict is still to come before the reply may end."""
        return self.cut is None and (self.queued > 0 or any(line.pending for line in self._book.live()))

    @property
    def full(self) -> bool:
        """So much waits for verdicts that the backend should: stop reading from it until ``poll`` has changed this."""
        return bool(self.judges) and (bool(self._backlog) or sum(self._book.held()) > self._max_held)

    def waiting(self) -> list[Gate]:
        """The gates that hold text, for whoever can help them to a verdict; then call ``poll``."""
        return [line.gate for line in self._book.live() if line.gate is not None and line.cleared < line.pushed]

    def _cut(self, line: Line, cut: Cut, out: list[bytes]) -> None:
        raise NotImplementedError

    def _crowded(self, parsed: Parsed) -> bool:
        """An event would open a channel, and there are too many."""
        lines = self._book.lines
        if len(lines) < MOST_CHANNELS:
            return False
        field, at = self._codec.field, 0 if self._codec.repeats else -1
        return any(part.channel not in lines for part in parsed.parts if part.mode != "whole") or (
            parsed.copies and any(Channel(choice, field, at) not in lines for choice in parsed.choices)
        )

    def _give(self, entry: Entry, part: Part, out: list[bytes]) -> Iterator[None]:
        """Give one part's text to its gate, in steps."""
        channel, text = part.channel, part.text
        if channel.choice in self.cuts:
            entry.spans.append(Span(Line(channel, None), 0, 0, text, ""))
            return
        known = self._book.lines.get(channel) if part.mode == "repeat" else None
        if part.mode == "whole":
            yield from self._alone(entry, part, out)
        elif known is not None and known.pushed:
            yield from self._same_again(entry, part, known, out)
        else:
            line = self._book.line(channel)
            if self._speak(line, out):
                entry.spans.append(Span(line, line.pushed, line.pushed + len(text), text))
                yield from self._push(line, text, out)
                if part.mode == "repeat" and self.cut is None and not line.closed:
                    self._close(line, out)

    def _push(self, line: Line, text: str, out: list[bytes]) -> Iterator[None]:
        """Give a line more text. A gate decides the same however it is cut."""
        if len(text) <= STEP or line.gate is None:
            self._guarded(line, partial(line.push, text), out)
            return
        for at in range(0, len(text), STEP):
            self._guarded(line, partial(line.push, text[at : at + STEP]), out)
            if self.cut is not None or line.muted:
                return
            yield

    def _alone(self, entry: Entry, part: Part, out: list[bytes]) -> Iterator[None]:
        """Text that stands for itself: decided at once."""
        line = self._book.alone(part.channel)
        entry.spans.append(Span(line, 0, len(part.text), part.text))
        yield from self._push(line, part.text, out)
        if self.cut is None and not line.closed:
            self._close(line, out)

    def _same_again(self, entry: Entry, part: Part, line: Line, out: list[bytes]) -> Iterator[None]:
        """All of a channel's text once more: it gets the same replacements. Another text is judged anew."""
        if not line.closed:
            self._close(line, out)
        if self.cut is not None:
            return
        if line.same(part.text) and not line.floor:
            done = None if line.pending else line.render(part.text, 0, keep=True)
            entry.spans.append(Span(line, 0, 0 if done is not None else len(part.text), part.text, done))
        else:
            yield from self._alone(entry, part, out)

    def _speak(self, line: Line, out: list[bytes]) -> bool:
        """A line is about to get text. False when that cut the stream. Raises Unreadable."""
        owner = line.owner
        other = owner.speaking
        if other is not line:
            owner.speaking = line
            if other is not None and other.cleared < other.pushed and not other.closed and self._closes_on_switch:
                # half a JSON text cannot be read again, and nobody can act on it: those wait for their end
                if not isinstance(other.gate, JsonLens):
                    self._close(other, out)
            if other is not None and other.gate is not None:
                for judge in other.gate.judges:
                    judge.hurry()
        if line.closed and self.cut is None and not line.muted:
            if isinstance(line.gate, JsonLens):
                raise Unreadable("arguments that go on after their end")
            gate = self._book.gate(line.channel)
            self._book.open(line)
            self._guarded(line, lambda: line.resume(gate), out)
        return self.cut is None

    def _close(self, line: Line, out: list[bytes]) -> None:
        """Close a line's gate; remember what was undecided, in case the line goes on."""
        line.remember(self._queue.tail(line))
        self._guarded(line, line.close, out)
        if not line.pending:
            self._book.done(line)

    def _close_all(self, end: int | Channel, out: list[bytes]) -> None:
        for line in self._book.live():
            if not line.closed and self.cut is None and end in (ALL, line.channel, line.channel.choice):
                self._close(line, out)

    def _guarded(self, line: Line, act: Callable[[], None], out: list[bytes]) -> None:
        """Do something with a line's gate, and mind a cut."""
        try:
            act()
        except Cut as cut:
            self._cut(line, cut, out)

    def _pending(self, part: Part) -> bool:
        """The part's channel has been closed, and goes on before its last verdict has come."""
        line = self._book.lines.get(part.channel) if part.mode == "text" else None
        return line is not None and line.pending
