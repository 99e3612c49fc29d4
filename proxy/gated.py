"""The gated tier of a stream: events wait until the gates have decided the text they carry, then leave in order.

What lives here: GatedStream. An event whose text is clear leaves as the bytes it came in; only an event that a
replacement touches is written anew. What must never live here: sockets, clocks, policies by name, wire shapes (those
are the codec's).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from policies.contract import LENGTH, Cut, Usage
from proxy.channels import Guard, Line
from proxy.dialects.contract import ALL, Dialect, Unreadable
from proxy.events import LARGE, Events
from proxy.sse import MAX_EVENT
from proxy.waiting import Entry
from proxy.watched import WatchedStream, watch_whole
from proxy.whole import OVERFLOW, UNREADABLE, gate_whole

__all__ = ["OVERFLOW", "UNREADABLE", "GatedStream", "WatchedStream", "gate_whole", "watch_whole"]

# What is judged without letting others have their turn: bytes of an event, and characters of text before the last event.
_SHORT, _ROOM = 1024, 256


class GatedStream(Events):
    """One reply stream on its way through the gates.

    guard: the gates of a channel, asked once per channel (again when a channel goes on after its end). include_usage:
    the client asked for a usage chunk, so a cut sends one. choices: how many the request asked for; 0: as many as
    show up. max_event: bytes of one event. max_held: characters that may wait, beside tool arguments, which may take
    max_arguments. on_overflow: ``cut``, or ``release`` what is held unjudged. interleave: what happens to text that is
    undecided when another channel of the same choice begins to speak: ``close`` decides it as if the channel ended
    there (should it go on, its gates begin again with that text as context), ``hold`` keeps all behind it waiting.
    hide_usage: the chunk that holds nothing but token counts is for us, and not passed on. annotate: endings say why, where
    their dialect has a form for it. after: events up to this sequence number are judged, but not sent.

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
        annotate: bool = False,
        after: int = -1,
        hide_usage: bool = False,
    ) -> None:
        codec = dialect.codec()
        if codec is None:
            raise ValueError(f"the dialect {dialect.name} has no streams")
        super().__init__(
            dialect, codec, guard, closes_on_switch=interleave == "close", max_event=max_event, max_held=max_held,
            max_arguments=max_arguments, releases=on_overflow == "release", after=after, hide_usage=hide_usage,
        )  # fmt: skip
        if annotate:
            codec.reasons = self.cuts
        self._include_usage = include_usage
        self._wanted = choices
        self._ended = False
        self._rest: list[bytes] = []
        self._rest_large = False

    # -- what the relay calls ----------------------------------------------------------------------------------

    @property
    def usage(self) -> Usage | None:
        """Token counts that the backend has reported so far."""
        return self._codec.usage

    @property
    def pieces(self) -> int:
        """Events with text that have come."""
        return self._codec.events

    @property
    def resting(self) -> bool:
        """Between two events, none of which waits to be judged: ``end`` is short."""
        return self._splitter.idle and not self._backlog

    @property
    def changed(self) -> bool:
        """Something was rewritten or cut."""
        return self._queue.changed or bool(self.cuts) or self.cut is not None

    @property
    def scanned(self) -> set[str]:
        """The fields that had a gate."""
        return self._book.scanned

    def feed(self, data: bytes) -> bytes:
        """Bytes from the backend in, bytes for the client out: ``data`` itself when that is all, and nothing waits."""
        out = self.begin(data)
        return b"".join([out, *self.go_on()]) if self._rest or self._rest_large else out

    def begin(self, data: bytes) -> bytes:
        """As ``feed``, but for what would take long: while there is more (``left``), take the steps of ``go_on``."""
        if self.cut is not None:
            return b""
        if self._splitter.idle and not self._backlog and len(data) <= _SHORT:
            for template in self._known:
                text = template.read(data)
                if text:
                    if template.owner.speaking is not template.line or template.line.closed:
                        break
                    if self._again(template, text):
                        return data
                    out: list[bytes] = []
                    self._wait(data, template, text, out)
                    return out[0] if len(out) == 1 else b"".join(out)
        return self._begin(data)

    @property
    def left(self) -> bool:
        """``begin`` has left something to do."""
        return bool(self._rest) or self._rest_large

    def go_on(self) -> Iterator[bytes]:
        """What ``begin`` has left, in small steps, between which others may have their turn. What each returns may leave; all
        of them have to be taken, and nothing else may be called meanwhile."""
        rest, self._rest = self._rest, []
        large, self._rest_large = self._rest_large, False
        yield from self._stepping(rest)
        if large:
            out: list[bytes] = []
            self._overflow(out)
            yield b"".join(out)

    def feeding(self, data: bytes) -> Iterator[bytes]:
        """As ``feed``, all of it in steps."""
        if self.cut is None:
            self._rest, self._rest_large = self._split(data)
            yield from self.go_on()

    def poll(self) -> bytes:
        """Ask the gates that hold text again: a verdict may have come. Returns what may leave now."""
        return b"".join(self.polling())

    def polling(self) -> Iterator[bytes]:
        """As ``poll``, in small steps."""
        out: list[bytes] = []
        for line in self._book.live():
            if self.cut is None and line.gate is not None and (line.cleared < line.pushed or line.gate.judges):
                self._guarded(line, line.ask, out)
                if line.closed and not line.pending:
                    self._book.done(line)
        self._after(out)
        yield b"".join(out)
        backlog, self._backlog, self._put_off_size = self._backlog, [], 0
        yield from self._stepping(backlog)
        if self._ended and self.cut is None and not self._backlog:
            self._ended = False
            yield from self.ending()

    def end(self) -> bytes:
        """The backend's body ended well: decide and send the rest. While gates wait for a verdict (``queued``), ``poll``
        sends what is left."""
        if self.finished and self.resting and not (self._entries or self.cuts or self._book.open_lines):
            return b""  # it ended by itself, as nearly all do
        return b"".join(self.ending())

    def ending(self) -> Iterator[bytes]:
        """As ``end``, in small steps."""
        if self.cut is not None:
            return
        rest = self._splitter.take()
        if rest:
            # an event that never ended: no client sees one that nobody can judge
            yield from self._stepping([rest], torn=True)
        if self._backlog:
            self._ended = True
        elif self.cut is None:
            out: list[bytes] = []
            self._close_all(ALL, out)
            self._after(out)
            yield b"".join(out)

    def fail(self, message: str, type: str, code: str | None) -> bytes:
        """The backend's body broke off: what is undecided is lost, and an error event says so. No ``[DONE]`` follows."""
        if self.cut is not None or (self.finished and not self._entries):
            return b""
        self._queue.clear()
        self._backlog.clear()
        return self._codec.error(message, type, code)

    # -- events ------------------------------------------------------------------------------------------------

    def _begin(self, data: bytes) -> bytes:
        raws, large = self._split(data)
        out: list[bytes] = []
        self._room = _ROOM
        for n, raw in enumerate(raws):
            if self.cut is not None:
                return b"".join(out)
            if self._room < 0 or len(raw) > _SHORT:
                self._rest, self._rest_large = raws[n:], large
                return b"".join(out)
            try:
                if not self._as_before(raw, out):
                    self._event(raw, out)
            except Unreadable:
                self._stop(UNREADABLE, None, out)
        if large:
            self._overflow(out)
        return out[0] if len(out) == 1 else b"".join(out)

    def _stepping(self, raws: list[bytes], *, torn: bool = False) -> Iterator[bytes]:
        """Events, one after the other. torn: the last one may be half an event, which counts as none."""
        for raw in raws:
            if self.cut is not None:
                return
            out: list[bytes] = []
            try:
                if len(raw) > LARGE or not self._as_before(raw, out):
                    yield from self._long_event(raw, out)
            except Unreadable:
                if not torn:
                    self._stop(UNREADABLE, None, out)
            yield out[0] if len(out) == 1 else b"".join(out)

    # -- out ---------------------------------------------------------------------------------------------------

    def _after(self, out: list[bytes]) -> None:
        """Let go of what is clear; mind the bounds; end a reply whose last choice was cut."""
        if self.cut is not None:
            return
        try:
            if not self._bounded_flush(out):
                return
        except Unreadable:
            self._stop(UNREADABLE, None, out)
            return
        if self.cuts and not self._entries and not self._goes_on():
            self._stop(next(iter(self.cuts.values())), None, out)

    def _goes_on(self) -> bool:
        """True while a choice that was not cut has not finished."""
        seen = self._codec.choices
        return any(not done and i not in self.cuts for i, done in seen.items()) or len(seen) < self._wanted

    def _others_wait(self) -> bool:
        """Events of choices that were not cut have not left: their text, and how they ended."""
        spoken = (i for e in self._entries for i in (e.parsed.choices if e.parsed else (s.line.channel.choice for s in e.spans)))
        return any(i not in self.cuts for i in spoken)

    def _cut(self, line: Line, cut: Cut, out: list[bytes]) -> None:
        """A gate stopped its choice: the choice ends, and with the last one the stream."""
        index = line.channel.choice
        self.cuts[index] = cut.reason
        self._codec.length = cut.reason == LENGTH
        if self._codec.per_choice and (self._goes_on() or self._others_wait()):
            self._book.mute(index, line)
            self._queue.add(Entry(self._codec.cut_choice(index, cut.message)))
        else:
            self._codec.choices[index] = False  # whatever its last event says: it has not left
            self._stop(cut.reason, cut.message, out)

    def _stop(self, reason: str, message: str | None, out: list[bytes]) -> None:
        """End the stream: what is clear, then the dialect's ending."""
        self.cut = reason
        self._codec.length = reason == LENGTH
        self._queue.stop(out)
        self._queue.ending(self._codec.cut(message, include_usage=self._include_usage), out)
