"""The gated tier of a stream: events wait until the gates have decided the text they carry, then leave in order.

What lives here: GatedStream. An event whose text is clear leaves as the bytes it came in; only an event that a
replacement touches is written anew. What must never live here: sockets, clocks, policies by name, wire shapes (those
are the codec's).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal

from policies.contract import Channel, Cut, Gate, Usage
from proxy.channels import Guard, Line
from proxy.dialects.contract import ALL, Dialect, Parsed, Part, StreamCodec, Unreadable
from proxy.sse import MAX_EVENT, EventTooLarge, Oversize, Splitter, parse
from proxy.waiting import Choice, Entry, Span, Template, learn, partial, render
from proxy.watched import WatchedStream, watch_whole
from proxy.whole import OVERFLOW, UNREADABLE, gate_whole, make_gate

__all__ = ["OVERFLOW", "UNREADABLE", "GatedStream", "WatchedStream", "gate_whole", "make_gate", "watch_whole"]

_TEMPLATES = 8
_TRIES = 32  # shapes learnt per stream: a backend whose events never repeat must not cost more than parsing


class GatedStream:
    """One reply stream on its way through the gates.

    guard: the gates of a channel, asked once per channel (again when a channel goes on after its end). include_usage:
    the client asked for a usage chunk, so a cut sends one. choices: how many the request asked for; 0: as many as
    show up. max_event: bytes of one event. max_held: characters that may wait, beside tool arguments, which may take
    max_arguments. on_overflow: ``cut``, or ``release`` what is held unjudged. interleave: what happens to text that is
    undecided when another channel of the same choice begins to speak: ``close`` decides it as if the channel ended
    there (should it go on, its gates begin again with that text as context), ``hold`` keeps all behind it waiting.

    After a cut ``feed`` and ``end`` return nothing more. A gate's own exception goes through: then call ``fail``.
    """

    def __init__(
        self,
        dialect: Dialect,
        guard: Guard,
        *,
        include_usage: bool = False,
        choices: int = 0,
        max_event: int = MAX_EVENT,
        max_held: int = 4096,
        max_arguments: int = 262_144,
        on_overflow: Literal["cut", "release"] = "cut",
        interleave: Literal["close", "hold"] = "close",
    ) -> None:
        codec = dialect.codec()
        if codec is None:
            raise ValueError(f"the dialect {dialect.name} has no streams")
        self.cut: str | None = None
        """The reason, once a cut has ended the stream."""
        self.cuts: dict[int, str] = {}
        """Choice to reason, for every choice that was cut."""
        self.changed = False
        """Something was rewritten or cut."""
        self.finished = False
        """The backend said that the reply is complete."""
        self.failed = False
        """The backend reported a failure inside the stream."""
        self.overflowed = False
        """A bound was passed."""
        self.scanned: set[str] = set()
        """The fields that had a gate."""
        self._codec: StreamCodec = codec
        self._guard = guard
        self._include_usage = include_usage
        self._wanted = choices
        self._max_held = max_held
        self._max_arguments = max_arguments
        self._max_queue = 16 * max(max_event, dialect.max_event)
        self._releases = on_overflow == "release"
        self._closes_on_switch = interleave == "close"
        self._splitter = Splitter(max(max_event, dialect.max_event), go_on=self._releases)
        self._queue: deque[Entry] = deque()
        self._queued = 0  # bytes in the queue
        self._lines: dict[Channel, Line] = {}
        self._live: dict[int, Line] = {}  # lines whose gate is open, by id
        self._owners: dict[int, Choice] = {}
        self._templates: list[Template] = []
        self._tries = _TRIES

    # -- what the relay calls ----------------------------------------------------------------------------------

    @property
    def usage(self) -> Usage | None:
        """Token counts that the backend has reported so far."""
        return self._codec.usage

    @property
    def held(self) -> int:
        """Characters that wait for a decision."""
        return sum(line.pushed - line.cleared for line in self._live.values())

    @property
    def queued(self) -> int:
        """Events that wait."""
        return len(self._queue)

    def waiting(self) -> list[Gate]:
        """The gates that hold text, for whoever can help them to a verdict; then call ``poll``."""
        return [line.gate for line in self._live.values() if line.gate is not None and line.cleared < line.pushed]

    def feed(self, data: bytes) -> bytes:
        """Bytes from the backend in, bytes for the client out."""
        if self.cut is not None:
            return b""
        if not self._queue and self._splitter.idle:
            for template in self._templates:
                text = template.read(data)
                if text:
                    if template.owner.speaking is not template.line or template.line.closed:
                        break
                    out: list[bytes] = []
                    self._again(data, template, text, out)
                    return out[0] if len(out) == 1 else b"".join(out)
        return self._feed(data)

    def poll(self) -> bytes:
        """Ask the gates that hold text again: a verdict may have come. Returns what may leave now."""
        out: list[bytes] = []
        for line in list(self._live.values()):
            if self.cut is None and line.cleared < line.pushed:
                self._guarded(line, line.ask, out)
        self._after(out)
        return b"".join(out)

    def end(self) -> bytes:
        """The backend's body ended well: decide and send the rest. While gates wait for a verdict (``queued``), ``poll``
        sends what is left."""
        if self.cut is not None:
            return b""
        out: list[bytes] = []
        rest = self._splitter.rest()
        try:
            if rest:
                self._event(rest, out)
            self._close_all(ALL, out)
            self._after(out)
        except Unreadable:
            # an event that never ended: no client sees it, and nobody can judge it
            self._close_all(ALL, out)
            self._after(out)
        return b"".join(out)

    def fail(self, message: str, type: str, code: str | None) -> bytes:
        """The backend's body broke off: what is undecided is lost, and an error event says so. No ``[DONE]`` follows."""
        if self.cut is not None or (self.finished and not self._queue):
            return b""
        self._queue.clear()
        return self._codec.error(message, type, code)

    # -- events ------------------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> bytes:
        raws: list[bytes] = []
        large = False
        try:
            self._splitter.split(data, raws)
        except EventTooLarge:
            large = True
        out: list[bytes] = []
        for raw in raws:
            if self.cut is not None:
                break
            try:
                self._event(raw, out)
            except Unreadable:
                self._stop(UNREADABLE, None, out)
        if large and self.cut is None:
            self.overflowed = True
            self._stop(OVERFLOW, None, out)
        return b"".join(out)

    def _event(self, raw: bytes, out: list[bytes]) -> None:
        """One event: queue it, give its text to the gates, let go of what is clear. Raises Unreadable."""
        for template in self._templates:
            text = template.read(raw)
            if text and not template.line.muted:
                if self._speak(template.line, out):
                    self._again(raw, template, text, out)
                return
        if isinstance(raw, Oversize):  # only where the bounds say release
            self._let_go(out)
            self._enqueue(Entry(raw))
            self._after(out)
            return
        parsed = self._codec.parse(parse(raw))
        self._codec.saw(parsed)
        if parsed.simple and self._tries:
            self._learn(raw, parsed.parts[0])
        entry = Entry(raw, parsed)
        entry.open = True
        self._enqueue(entry)
        for part in parsed.parts:
            if self.cut is None:
                self._give(entry, part, out)
        if self.cut is None and parsed.copies:
            parsed.copies = self._minded(parsed)
        for end in parsed.ends:
            if self.cut is None:
                self._close_all(end, out)
        entry.open = False
        self.finished |= parsed.terminal
        self.failed |= parsed.error
        self._after(out)

    def _again(self, raw: bytes, template: Template, text: str, out: list[bytes]) -> None:
        """An event like an earlier one but for its text. The hot path: about 1.5 us with a gate that only counts."""
        line = template.line
        start = line.pushed
        self._codec.events += 1
        stop: Cut | None = None
        ahead = bool(self._queue)
        try:
            line.push(text)
        except Cut as cut:
            stop = cut
        if not ahead and stop is None and line.cleared == line.pushed and not line.edits:
            out.append(raw)
            return
        entry = Entry(raw, None, template)
        entry.spans.append(Span(line, start, start + len(text), text))
        self._enqueue(entry)
        if stop is not None:
            self._cut(line, stop, out)
        self._after(out)

    def _enqueue(self, entry: Entry) -> None:
        self._queue.append(entry)
        self._queued += len(entry.raw)

    def _learn(self, raw: bytes, part: Part) -> None:
        found = learn(raw, part, self._codec)
        self._tries -= 1
        if found is not None:
            line = self._line(part.channel)
            self._templates.insert(0, Template(*found, line, self._owners[part.channel.choice]))
            del self._templates[_TEMPLATES:]

    # -- text --------------------------------------------------------------------------------------------------

    def _line(self, channel: Channel) -> Line:
        line = self._lines.get(channel)
        if line is None:
            line = self._lines[channel] = self._new_line(channel)
        return line

    def _new_line(self, channel: Channel) -> Line:
        line = Line(channel, self._gate(channel), digest=self._codec.repeats)
        line.owner = self._owners.setdefault(channel.choice, Choice())
        self._live[id(line)] = line
        return line

    def _gate(self, channel: Channel) -> Gate | None:
        gate = make_gate(channel, self._guard)
        if gate is not None:
            self.scanned.add(channel.field)
        return gate

    def _give(self, entry: Entry, part: Part, out: list[bytes]) -> None:
        """Give one part's text to its gate."""
        channel, text = part.channel, part.text
        if channel.choice in self.cuts:
            entry.spans.append(Span(Line(channel, None), 0, 0, text, ""))
            return
        known = self._lines.get(channel) if part.mode == "repeat" else None
        if part.mode == "whole":
            self._alone(entry, part, out)
        elif known is not None and known.pushed:
            self._same_again(entry, part, known, out)
        else:
            line = self._line(channel)
            if self._speak(line, out):
                entry.spans.append(Span(line, line.pushed, line.pushed + len(text), text))
                self._guarded(line, lambda: line.push(text), out)
                if part.mode == "repeat" and self.cut is None and not line.closed:
                    self._close(line, out)

    def _alone(self, entry: Entry, part: Part, out: list[bytes]) -> None:
        """Text that stands for itself: decided at once."""
        line = self._new_line(part.channel)
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
        if line.same(part.text) and not line.pending and not line.floor:
            entry.spans.append(Span(line, 0, 0, part.text, line.render(part.text, 0, keep=True)))
        else:
            self._alone(entry, part, out)

    def _speak(self, line: Line, out: list[bytes]) -> bool:
        """A line is about to get text. False when that cut the stream."""
        owner = line.owner
        assert isinstance(owner, Choice)
        other = owner.speaking
        if other is not line:
            owner.speaking = line
            if other is not None and other.cleared < other.pushed and not other.closed and self._closes_on_switch:
                self._close(other, out)
        if line.closed and self.cut is None and not line.muted:
            gate = self._gate(line.channel)
            self._live[id(line)] = line
            self._guarded(line, lambda: line.resume(gate), out)
        return self.cut is None

    def _close(self, line: Line, out: list[bytes]) -> None:
        """Close a line's gate; remember what was undecided, in case the line goes on."""
        line.tail = "".join(
            span.text[max(0, line.cleared - span.start) :]
            for entry in (self._queue if line.cleared < line.pushed else ())
            for span in entry.spans
            if span.line is line and span.fixed is None and span.end > line.cleared
        )
        self._guarded(line, line.close, out)
        if not line.pending:
            self._live.pop(id(line), None)

    def _close_all(self, end: int | Channel, out: list[bytes]) -> None:
        for line in list(self._live.values()):
            if not line.closed and self.cut is None and end in (ALL, line.channel, line.channel.choice):
                self._close(line, out)

    def _guarded(self, line: Line, act: Callable[[], None], out: list[bytes]) -> None:
        """Do something with a line's gate, and mind a cut."""
        try:
            act()
        except Cut as cut:
            self._cut(line, cut, out)

    def _minded(self, parsed: Parsed) -> bool:
        """True when a gate minds a choice of this event."""
        for index in parsed.choices or (0,):
            self._line(Channel(index, self._codec.field, 0 if self._codec.repeats else -1))
        return any(line.gate is not None and line.channel.choice in (parsed.choices or (0,)) for line in self._lines.values())

    # -- out ---------------------------------------------------------------------------------------------------

    def _after(self, out: list[bytes]) -> None:
        """Let go of what is clear; mind the bounds; end a reply whose last choice was cut."""
        if self.cut is not None:
            return
        self._flush(out)
        if self._queue and self._too_much():
            if self._releases:
                self._let_go(out)
            else:
                self.overflowed = True
                self._stop(OVERFLOW, None, out)
        elif self.cuts and not self._queue and not self._goes_on():
            self._stop(next(iter(self.cuts.values())), None, out)

    def _flush(self, out: list[bytes]) -> None:
        queue = self._queue
        while queue and queue[0].clear:
            entry = queue.popleft()
            self._queued -= len(entry.raw)
            raw, changed = render(entry, self._codec, self.cuts, self._lines)
            self.changed |= changed
            if raw:
                out.append(raw)

    def _too_much(self) -> bool:
        held = arguments = 0
        for line in self._live.values():
            if line.channel.kind == "arguments":
                arguments += line.pushed - line.cleared
            else:
                held += line.pushed - line.cleared
        return held > self._max_held or arguments > self._max_arguments or self._queued > self._max_queue

    def _let_go(self, out: list[bytes]) -> None:
        """Release everything that is held, unjudged."""
        self.overflowed = True
        for line in list(self._live.values()):
            if line.cleared < line.pushed:
                line.release()
        self._flush(out)

    def _goes_on(self) -> bool:
        """True while a choice that was not cut has not finished."""
        seen = self._codec.choices
        return any(not done and i not in self.cuts for i, done in seen.items()) or len(seen) < self._wanted

    def _cut(self, line: Line, cut: Cut, out: list[bytes]) -> None:
        """A gate stopped its choice: the choice ends, and with the last one the stream."""
        self.changed = True
        index = line.channel.choice
        self.cuts[index] = cut.reason
        if not self._codec.per_choice or not self._goes_on():
            self._codec.choices[index] = False  # whatever its last event says: it has not left
            self._stop(cut.reason, cut.message, out)
            return
        for other in (*self._lines.values(), line):
            if other.channel.choice == index and not other.muted:
                other.mute()
                self._live.pop(id(other), None)
        self._enqueue(Entry(self._codec.cut_choice(index, cut.message)))

    def _stop(self, reason: str, message: str | None, out: list[bytes]) -> None:
        """End the stream: what is clear, then the dialect's ending."""
        self.cut = reason
        self.changed = True
        queue = self._queue
        try:
            self._flush(out)
            if queue:
                out.append(partial(queue[0], self._codec))
        except Unreadable:
            pass  # it stays unsent
        choices = self._codec.choices
        for entry in queue:
            for end in entry.parsed.ends if entry.parsed is not None else ():
                for index in (end,) if isinstance(end, int) else ():
                    if index in choices and index not in self.cuts:
                        choices[index] = False  # its end never left
        queue.clear()
        self._live.clear()
        out.append(self._codec.cut(message, include_usage=self._include_usage))
