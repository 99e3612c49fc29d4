"""The watched tier: reads along in a reply that is relayed as it is, for its token counts and how it ended.

What lives here: WatchedStream and watch_whole. What must never live here: anything that changes or delays a byte; an
unreadable reply is not this tier's business.
"""

from __future__ import annotations

from typing import Any

import msgspec

from policies.contract import Usage
from proxy.dialects.contract import Dialect, StreamCodec, Unreadable
from proxy.dialects.usage import openai_usage
from proxy.shapes import SHARED, quiet, shape
from proxy.sse import Splitter, parse

__all__ = ["WatchedStream", "watch_whole"]


class _Reply(msgspec.Struct):
    """All that is built of a reply: the rest is skipped, several times as fast (embeddings: megabytes of numbers)."""

    usage: Any = None


_read_reply = msgspec.json.Decoder(_Reply).decode
_MAX_EVENT = 1024 * 1024  # bytes kept of one event; the counts in a larger one are not read

_SHAPES = 2
_TRIES = 8  # events looked at for their shape, after the first, which has no text in most streams


class WatchedStream:
    """Reads along. usage: token counts so far. finishes: choice to finish reason. errors: failures that the backend
    reported inside the stream. finished: the backend said that the reply is complete. blind: an event was too
    large. pieces: events that were nothing but text, or nearly so."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._codec: StreamCodec | None = dialect.codec()
        self._needles = dialect.needles
        self._splitter = Splitter(_MAX_EVENT, go_on=True)
        self._shapes: list[tuple[bytes, bytes]] = []
        self._tries = _TRIES + 1
        self._quiets = _TRIES
        self.finishes: dict[int, str] = {}
        self.errors = 0
        self.pieces = 0
        self.finished = False
        self.blind = False

    @property
    def usage(self) -> Usage | None:
        """Token counts that the backend has reported so far."""
        return self._codec.usage if self._codec is not None else None

    @property
    def mid_event(self) -> bool:
        """True when the last byte seen was inside an event: an error event of ours would be lost in it."""
        return not self._splitter.idle

    def feed(self, data: bytes) -> None:
        """Look at bytes that have been relayed."""
        if self._splitter.idle and data.endswith(b"\n\n"):  # whole events
            # One event like an earlier one but for its text, as nearly always: 0.5 us.
            for prefix, suffix in self._shapes:
                if (
                    data.startswith(prefix)
                    and data.endswith(suffix)
                    and data.find(b'"', len(prefix)) == len(data) - len(suffix)  # nothing but one string between
                ):
                    self.pieces += 1
                    return
            for needle in self._needles:
                if needle in data:
                    break
            else:
                self.pieces += data.count(b"\n\n")
                self._learn(data)
                return
        for raw in self._splitter.split(data):
            if type(raw) is not bytes:
                self.blind = True
                continue
            for needle in self._needles:
                if needle in raw:
                    self._look(raw)
                    break
            else:
                self.pieces += 1

    def _learn(self, raw: bytes) -> None:
        """Keep the shape of an event that is nothing but text."""
        if not self._tries or self._codec is None:
            return
        self._tries -= 1
        if self._tries == _TRIES:
            return
        found = SHARED.find(raw, self._codec)
        if found is None:
            try:
                found = shape(raw, self._codec.parse(parse(raw)), self._codec)
            except Unreadable:
                return
            if found is not None and found.general:
                SHARED.add(found, self._codec)
        if found is None or found.tail is not None:  # what varies in every event takes longer than the needles
            return
        place = found.match(raw)
        if place is not None:
            self._shapes.insert(0, (raw[: place.start("text") + 1], raw[place.end("text") - 1 :]))
            del self._shapes[_SHAPES:]

    def fail(self, message: str, type: str, code: str | None) -> bytes | None:
        """An error event for a body that broke off; None where it could not be seen: break the body instead."""
        if self.mid_event or self._codec is None:
            return None
        return self._codec.error(message, type, code)

    def _look(self, raw: bytes) -> None:
        codec = self._codec
        if codec is None:
            return
        known = SHARED.find_quiet(raw, codec)
        if known is not None:
            codec.skipped(raw, known.choices)
            codec.ended(known.ends)
            self.finishes.update(known.finishes)
            self.finished |= known.terminal
            return
        try:
            parsed = codec.parse(parse(raw))
        except Unreadable:
            return
        codec.saw(parsed)
        if self._quiets and not parsed.parts:
            self._quiets -= 1
            known = quiet(raw, parsed, codec)
            if known is not None:
                SHARED.add_quiet(known, codec)
        self.errors += parsed.error
        self.finished |= parsed.terminal
        choices = parsed.doc.get("choices") if parsed.doc is not None else None
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            finish = choice.get("finish_reason")
            index = choice.get("index", 0)
            if isinstance(finish, str) and finish and isinstance(index, int):
                self.finishes[index] = finish


def watch_whole(dialect: Dialect, body: bytes) -> Usage | None:
    """Token counts of a whole reply; None when it has none or cannot be read."""
    if not dialect.counts:
        return None
    try:
        return openai_usage(_read_reply(body).usage)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
