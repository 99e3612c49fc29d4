"""Server-sent events: bytes to events that keep their raw bytes, for any split of the stream.

What lives here: the grammar (HTML standard, "Server-sent events"): LF, CRLF and CR in any mixture, a byte order mark
at the start, comments, several ``data:`` lines, ``event``, ``id``, ``retry``. What must never live here: JSON, any
API's fields, changing a byte. Law: the raw bytes of all events and ``rest()`` joined are the input, whatever its split.
"""

from __future__ import annotations

import re

__all__ = ["MAX_EVENT", "Event", "EventTooLarge", "Oversize", "Splitter", "parse", "reframe"]

MAX_EVENT = 256 * 1024  # bytes

_BOM = b"\xef\xbb\xbf"
# An empty line after a line. Atomic groups: the two halves of one CRLF must never count as two line ends.
_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE = re.compile(rb"\r\n|\n|\r")


class EventTooLarge(Exception):
    """An event passed the cap. raw: its bytes so far; the splitter is at its end and must not be fed again."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(f"an event of more than {len(raw) - 1} bytes")
        self.raw = raw


class Event:
    """One event. raw: its bytes, empty line included. data: the ``data:`` lines joined by LF, None without any.
    event: the last ``event:`` value or None. has_id: an ``id:`` field was there. odd: a line was no field of the grammar
    and no comment: readers of event streams pass it over, those who take the body for something else do not."""

    __slots__ = ("data", "event", "has_id", "odd", "raw")

    def __init__(self, raw: bytes, data: bytes | None, event: bytes | None, has_id: bool, odd: bool = False) -> None:
        self.raw = raw
        self.data = data
        self.event = event
        self.has_id = has_id
        self.odd = odd

    def __repr__(self) -> str:
        return f"Event(event={self.event!r}, raw={len(self.raw)} bytes, id={self.has_id})"


def parse(raw: bytes) -> Event:
    """The fields of one event's raw bytes. A byte order mark is dropped before any event, not before the first alone: a
    lenient reader must not see data that was not seen here."""
    # What vLLM writes: an `event: ` line or none, one `data: ` line and LF LF.
    end = len(raw) - 2
    if raw.endswith(b"\n\n") and b"\r" not in raw:
        if raw.startswith(b"data: ") and raw.find(b"\n") == end:
            return Event(raw, raw[6:end], None, False)
        if raw.startswith(b"event: "):
            at = raw.find(b"\n")
            if raw.startswith(b"data: ", at + 1) and raw.find(b"\n", at + 1) == end:
                return Event(raw, raw[at + 7 : end], raw[7:at], False)
    data: list[bytes] = []
    name: bytes | None = None
    has_id = odd = False
    for line in _LINE.split(raw[3:] if raw.startswith(_BOM) else raw):
        key, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if key == b"data":
            data.append(value)
        elif key == b"event":
            name = value
        elif key == b"id":
            has_id = True
        elif key and key != b"retry":
            odd = True
    return Event(raw, b"\n".join(data) if data else None, name, has_id, odd)


def reframe(raw: bytes, data: bytes) -> bytes:
    """The same event with other data (one line): its comments, event, id and retry lines and line ends stay."""
    if raw.startswith(_BOM):
        raw = raw[3:]
    out: list[bytes] = []
    start, placed = 0, False
    for end in _LINE.finditer(raw):
        line = raw[start : end.start()]
        if line.partition(b":")[0] != b"data":
            out.append(raw[start : end.end()])
        elif not placed:
            placed = True
            out.append(b"data: " + data + end[0])
        start = end.end()
    tail = raw[start:]  # the stream ended inside this line
    if tail.partition(b":")[0] != b"data":
        out.append(tail)
    elif not placed:
        out.append(b"data: " + data)
    return b"".join(out)


class Oversize(bytes):
    """A piece of an event that passed the cap, from a splitter that was told to go on: it is not a whole event."""


class Splitter:
    """Cuts a stream into events. cap: bytes that one event may have. go_on: hand an event above the cap on in
    pieces (:class:`Oversize`), until it ends, instead of raising EventTooLarge."""

    __slots__ = ("_buffer", "_cap", "_from", "_go_on", "_skip_lf", "_skipping", "_tail", "idle")

    def __init__(self, cap: int = MAX_EVENT, *, go_on: bool = False) -> None:
        self._cap = cap
        self._go_on = go_on
        self._buffer = bytearray()
        self._from = 0  # where the search for the event's end goes on
        self._skip_lf = False  # the last event ended in CR: a first LF still belongs to it
        self._skipping = False  # inside an event above the cap
        self._tail = b""  # its last bytes: its end may be cut anywhere
        self.idle = True
        """True between two events: what comes next begins one."""

    def rest(self) -> bytes:
        """The bytes of the last, incomplete event that have not been handed out."""
        return bytes(self._buffer)

    def take(self) -> bytes:
        """As ``rest``, which is handed out by this."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._from = 0
        self.idle = not self._skip_lf and not self._skipping
        return rest

    def feed(self, data: bytes) -> list[Event]:
        """The events that end in ``data``. Raises EventTooLarge; who needs the events before it uses ``split``."""
        return [parse(raw) for raw in self.split(data)]

    def split(self, data: bytes, into: list[bytes] | None = None) -> list[bytes]:
        """The raw events that end in ``data``, added to ``into`` one by one, so that they survive EventTooLarge."""
        out: list[bytes] = [] if into is None else into
        size = len(data)
        # One whole event a piece is how backends write: about 0.5 us here.
        if (
            self.idle
            and 2 < size <= self._cap
            and data.find(b"\n\n") == size - 2
            and data[0] != 10
            and b"\r" not in data
        ):
            out.append(data)
        elif data:
            self._scan(data, out)
            self.idle = not self._buffer and not self._skip_lf and not self._skipping
        return out

    def _scan(self, data: bytes, out: list[bytes]) -> None:
        start = 0
        if self._skip_lf:
            self._skip_lf = False
            if data[0] == 10:
                out.append(b"\n")  # passes on as an event without fields
                start = 1
        elif self._skipping:
            start = self._skip(data, out)
        if self._buffer:
            self._buffer += data[start:]  # a bytearray grows in amortised linear time
            used = self._cut(self._buffer, 0, self._from, out)
            del self._buffer[:used]
        else:
            used = self._cut(data, start, start, out)
            self._buffer += data[used:]
        # The end may be cut between its bytes: look again at the last three.
        self._from = max(0, len(self._buffer) - 3)
        if len(self._buffer) > self._cap:
            self._too_large(self._buffer, 0, len(self._buffer), out)
            self._tail = bytes(self._buffer[-3:])
            self._buffer.clear()
            self._from = 0
            self._skipping = True

    def _cut(self, data: bytes | bytearray, start: int, search: int, out: list[bytes]) -> int:
        size = len(data)
        plain = data.find(b"\r", search) < 0  # then bytes.find does what the expression does, at a tenth of the time
        while start < size:
            if data[start] in b"\r\n":  # an empty line where an event would begin: an event without fields
                end = start + (2 if data[start : start + 2] == b"\r\n" else 1)
            elif plain:
                end = data.find(b"\n\n", max(search, start)) + 2
                if end == 1:
                    break
            else:
                found = _END.search(data, max(search, start))
                if found is None:
                    break
                end = found.end()
            if end - start > self._cap:
                self._too_large(data, start, end, out)
            else:
                out.append(bytes(data[start:end]))
            if end == size and data[end - 1] == 13:
                self._skip_lf = True
            start = end
        return start

    def _too_large(self, data: bytes | bytearray, start: int, end: int, out: list[bytes]) -> None:
        if not self._go_on:
            raw = bytes(data[start : start + self._cap + 1])
            self._buffer = bytearray()
            self._from = 0
            self.idle = True
            raise EventTooLarge(raw)
        out.append(Oversize(data[start:end]))

    def _skip(self, data: bytes, out: list[bytes]) -> int:
        """Hand on the rest of an event above the cap; returns where the next one begins."""
        known = len(self._tail)
        seen = self._tail + data
        found = _END.search(seen)
        if found is None:
            self._tail = seen[-3:]
            out.append(Oversize(data))
            return len(data)
        self._skipping = False
        end = found.end() - known
        out.append(Oversize(data[:end]))
        self._skip_lf = end == len(data) and data.endswith(b"\r")
        return end
