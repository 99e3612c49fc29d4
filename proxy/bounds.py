"""The bounds of a gated stream, and what happens where one is passed.

What lives here: Bounded: text that is held, events that wait, channels, and events too large to be judged. What must never live
here: how events are read, how a stream ends.
"""

from __future__ import annotations

from proxy.channels import Guard
from proxy.dialects.contract import Dialect, StreamCodec
from proxy.judging import Judging
from proxy.sse import EventTooLarge, Splitter
from proxy.waiting import Entry
from proxy.whole import OVERFLOW

__all__ = ["Bounded"]

_WAITING = 16  # events of the greatest size, together, that may wait for a decision


class Bounded(Judging):
    """releases: what passes a bound leaves unjudged; else it ends the stream. The others: see GatedStream."""

    def __init__(
        self, dialect: Dialect, codec: StreamCodec, guard: Guard, *, closes_on_switch: bool, max_event: int, max_held: int,
        max_arguments: int, releases: bool, after: int,
    ) -> None:  # fmt: skip
        super().__init__(codec, guard, closes_on_switch=closes_on_switch, max_held=max_held, after=after)
        self.overflowed = False
        """A bound was passed."""
        max_event = max(max_event, dialect.max_event)
        self._max_arguments = max_arguments
        self._max_queue = _WAITING * max_event
        self._few = min(max_held, max_arguments, self._max_queue)
        self._releases = releases
        self._splitter = Splitter(max_event, go_on=releases)
        self._put_off_size = 0  # bytes of the events in the backlog

    def _after(self, out: list[bytes]) -> None:
        """Let go of what is clear."""
        raise NotImplementedError

    def _stop(self, reason: str, message: str | None, out: list[bytes]) -> None:
        """End the stream."""
        raise NotImplementedError

    def _split(self, data: bytes) -> tuple[list[bytes], bool]:
        """The events that end here; whether one that is too large follows them."""
        raws: list[bytes] = []
        try:
            self._splitter.split(data, raws)
        except EventTooLarge:
            return raws, True
        return raws, False

    def _too_much(self) -> bool:
        if self._queue.size <= self._few:  # text that is held stands in events that wait, a byte or more for each character
            return False
        arguments, held = self._book.held()
        if self.judges and any(judge.waits for judge in self.judges):  # ``full`` bounds what waits for verdicts
            return self._queue.size > self._max_queue
        return held > self._max_held or arguments > self._max_arguments or self._queue.size > self._max_queue

    def _bounded_flush(self, out: list[bytes]) -> bool:
        """Let go of what is clear, and mind the bounds. False when that ended the stream. Raises Unreadable."""
        self._queue.flush(out)
        if self._entries and self._too_much():
            self._overflow(out)
            if self.cut is not None:
                return False
            self._queue.flush(out)
        return True

    def _overflow(self, out: list[bytes]) -> None:
        """A bound was passed: the stream ends, or all that is held is released, unjudged."""
        if self.cut is not None:
            return
        self.overflowed = True
        if not self._releases:
            self._stop(OVERFLOW, None, out)
            return
        for line in self._book.live():
            if line.cleared < line.pushed:
                line.release()

    def _overflowing(self, raw: bytes, out: list[bytes]) -> None:
        """An event that passes a bound by itself: the stream ends, or it leaves unjudged, behind all before it."""
        self._overflow(out)
        if self.cut is None:
            self._queue.add(Entry(raw))
            self._after(out)

    def _put_off(self, raw: bytes, out: list[bytes]) -> None:
        """An event that cannot be judged yet, and all behind it."""
        self._backlog.append(raw)
        self._put_off_size += len(raw)
        if self._queue.size + self._put_off_size > self._max_queue:
            self.overflowed = True
            self._stop(OVERFLOW, None, out)  # there is no order in which it could be released
