"""Gives the text of events to the gates of their channels, and ends channels where the dialect says so.

What lives here: Judging, the text side of a gated stream: deltas, texts that stand alone, repetitions, channels that take
turns. What must never live here: bytes of events, order of leaving, endings.
"""

from __future__ import annotations

from collections.abc import Callable

from policies.contract import Channel, Cut
from proxy.channels import Book, Guard, Line
from proxy.dialects.contract import ALL, Part, StreamCodec, Unreadable
from proxy.lens import JsonLens
from proxy.waiting import Entry, Queue, Span
from proxy.whole import make_gate

__all__ = ["Judging"]


class Judging:
    """guard: the gates of a channel. closes_on_switch: a channel whose text is undecided ends when another of its choice
    begins to speak."""

    def __init__(self, codec: StreamCodec, guard: Guard, *, closes_on_switch: bool) -> None:
        self.cut: str | None = None
        """The reason, once a cut has ended the stream."""
        self.cuts: dict[int, str] = {}
        """Choice to reason, for every choice that was cut."""
        self._codec = codec
        self._closes_on_switch = closes_on_switch
        self._book = Book(lambda channel: make_gate(channel, guard), digest=codec.repeats)
        self._queue = Queue(codec, self.cuts, self._book.lines)
        self._entries = self._queue.entries
        self.judges = self._book.judges
        """The gates that must ask somebody; whoever asks takes those out that are settled."""

    def _cut(self, line: Line, cut: Cut, out: list[bytes]) -> None:
        raise NotImplementedError

    def _give(self, entry: Entry, part: Part, out: list[bytes]) -> None:
        """Give one part's text to its gate."""
        channel, text = part.channel, part.text
        if channel.choice in self.cuts:
            entry.spans.append(Span(Line(channel, None), 0, 0, text, ""))
            return
        known = self._book.lines.get(channel) if part.mode == "repeat" else None
        if part.mode == "whole":
            self._alone(entry, part, out)
        elif known is not None and known.pushed:
            self._same_again(entry, part, known, out)
        else:
            line = self._book.line(channel)
            if self._speak(line, out):
                entry.spans.append(Span(line, line.pushed, line.pushed + len(text), text))
                self._guarded(line, lambda: line.push(text), out)
                if part.mode == "repeat" and self.cut is None and not line.closed:
                    self._close(line, out)

    def _alone(self, entry: Entry, part: Part, out: list[bytes]) -> None:
        """Text that stands for itself: decided at once."""
        line = self._book.alone(part.channel)
        entry.spans.append(Span(line, 0, len(part.text), part.text))
        self._guarded(line, lambda: line.push(part.text), out)
        if self.cut is None and not line.closed:
            self._close(line, out)

    def _same_again(self, entry: Entry, part: Part, line: Line, out: list[bytes]) -> None:
        """All of a channel's text once more: it gets the same replacements. Another text is judged anew."""
        if not line.closed:
            self._close(line, out)
        if self.cut is not None:
            return
        if line.same(part.text) and not line.floor:
            done = None if line.pending else line.render(part.text, 0, keep=True)
            entry.spans.append(Span(line, 0, 0 if done is not None else len(part.text), part.text, done))
        else:
            self._alone(entry, part, out)

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
