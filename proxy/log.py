"""The log: one line per request and per event on standard output, written by a thread of its own.

What lives here: the bounded queue, the thread, the writing. What must never live here: what a line says
(``proxy/lines.py``), work on the caller's side beyond an append.

Nothing that happens to the output can stall the caller. When the queue is full a line is lost, counted, and
later announced; a full disk is tried again every second; a reader that went away ends the writing.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal

from policies.exchange import Exchange
from proxy.lines import MAX_LINE, EventLine, Level, RequestLine, of_event, of_exchange, to_json, to_text

Format = Literal["json", "text", "off"]
Dropped = Callable[[Literal["queue_full", "write_failed"], int], None]

_LAGGING = 512  # entries; from here on a queued exchange is boiled down to its line: it may hold large headers
_RETRY = 1.0  # seconds between tries at an output that fails
_GONE = frozenset({errno.EPIPE, errno.EBADF, errno.ECONNRESET, errno.EINVAL})


class Log:
    """Lines to a file descriptor.

    format: ``json``, ``text`` for people (coloured on a terminal), or ``off``: no request lines, and events
    from ``warning`` up alone. limit: lines that may wait. linger: seconds to gather lines for one write.
    dropped: called with a reason and a number of lines lost; ``queue_full`` from the caller's thread,
    ``write_failed`` from the log's own.
    """

    def __init__(
        self,
        format: Format = "json",
        *,
        fd: int = 1,
        limit: int = 10_000,
        linger: float = 0.05,
        dropped: Dropped | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.format, self._fd, self._limit, self._linger, self._wall = format, fd, limit, linger, wall
        self.dropped = dropped
        self.refused = self.unwritten = 0
        self._queue: deque[Exchange | RequestLine | EventLine] = deque()
        self._idle = True
        self._wake, self._stop, self._open = threading.Event(), threading.Event(), threading.Event()
        self._open.set()
        self._broken = self._give_up = False
        self._lagging, self._carry = min(_LAGGING, limit), b""
        self._requests = format != "off"
        self._colour = format == "text" and _colours(fd)
        self._pipe = _is_pipe(fd)
        self._announced = 0
        self._due = 0  # lines to write before the next rest
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def request(self, x: Exchange) -> None:
        """Note an exchange that has ended, as the last thing done with it. Costs an append."""
        if not self._requests:
            return
        queue = self._queue
        waiting = len(queue)
        if waiting >= self._lagging:
            if waiting >= self._limit:
                self._refuse()
                return
            queue.append(of_exchange(x))
        else:
            queue.append(x)
        if self._idle:
            self._idle = False
            self._wake.set()

    def event(self, level: Level, name: str, **fields: Any) -> None:
        """Note something other than a request; fields must be on the allow-list. From any thread."""
        if self.format == "off" and level in ("debug", "info"):
            return
        if len(self._queue) >= self._limit:
            self._refuse()
            return
        self._queue.append(of_event(level, name, self._wall(), fields))
        if self._idle:
            self._idle = False
            self._wake.set()

    def exception(self, name: str, error: BaseException, **fields: Any) -> None:
        """An error's type and place; never its message, which may quote data."""
        self.event("error", name, error=type(error).__name__, where=place_of(error.__traceback__), **fields)

    def hold(self, on: bool) -> None:
        """Let lines wait, or write on: for a while in which the output belongs to somebody else."""
        if on:
            self._open.clear()
        else:
            self._open.set()

    def close(self, timeout: float = 2.0) -> bool:
        """Write what waits, for at most ``timeout`` seconds; True when all of it went out."""
        self._stop.set()
        self.hold(False)
        self._wake.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._give_up = True
            return False
        return not self._broken

    def _refuse(self) -> None:
        self.refused += 1
        if self.dropped is not None:
            self.dropped("queue_full", 1)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._queue or self._carry or self._untold():
                # Take what has gathered, then sleep again: a thread that kept up with every line would hand the
                # interpreter's lock to and fro for each. (It saves wake-ups; per request no gain was measurable.)
                self._stop.wait(self._linger)
                self._open.wait()
                self._due = len(self._queue)
                # the queue may shrink without us: when the reader has gone it is emptied
                while (self._due and self._queue) or self._carry or self._untold():
                    data, lines, told = self._batch()
                    if self._write(data):
                        self._announced = told
                    else:
                        self._lose(lines)
            self._idle = True
            if self._queue:  # one came in between, and saw a thread that was not idle
                self._wake.set()
            elif self._stop.is_set() or self._broken:
                return

    def _batch(self) -> tuple[bytes, int, int]:
        """The next lines, as many as one write may hold without stopping halfway; how many; losses told of in them."""
        most = MAX_LINE if self._pipe else 4 * MAX_LINE
        out = [self._carry] if self._carry else []
        size, self._carry = len(self._carry), b""
        while self._due and self._queue:
            self._due -= 1
            line = self._encode(self._queue.popleft())
            if out and size + len(line) > most:
                self._carry = line
                break
            out.append(line)
            size += len(line)
        lines, lost = len(out), self.refused + self.unwritten
        if lost != self._announced:
            line = self._encode(
                of_event("warning", "log_lines_dropped", self._wall(), {"count": lost - self._announced})
            )
            if size + len(line) <= most:
                out.append(line)
            else:
                lost = self._announced  # with the next one
        return b"".join(out), lines, lost

    def _encode(self, item: Exchange | RequestLine | EventLine) -> bytes:
        try:
            line = of_exchange(item) if isinstance(item, Exchange) else item
            return to_json(line) if self.format != "text" else to_text(line, self._colour)
        except Exception as e:  # a line that cannot be made must not end the log
            return to_json(of_event("error", "log_line_failed", self._wall(), {"error": type(e).__name__}))

    def _write(self, data: bytes) -> bool:
        """All of it, however long that takes; False when it cannot be done."""
        rest = memoryview(data)
        while rest and not self._broken and not self._give_up:
            try:
                if self._pipe and not self._writable():
                    continue
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody else made it non-blocking
                if not self._writable():
                    continue
            except OSError as e:
                if e.errno in _GONE:
                    self._end()
                elif self._stop.wait(_RETRY):
                    return False
        return not rest

    def _untold(self) -> bool:
        """Losses wait to be told, and can be."""
        return self.refused + self.unwritten != self._announced and not self._broken and not self._stop.is_set()

    def _writable(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(100))

    def _end(self) -> None:
        """Nobody reads any more: lose what waits and refuse what comes."""
        self._broken = True
        self._limit = self._lagging = 0
        self._lose(len(self._queue) + bool(self._carry))
        self._queue.clear()
        self._carry = b""

    def _lose(self, lines: int) -> None:
        self.unwritten += lines
        if self.dropped is not None and lines:
            self.dropped("write_failed", lines)


class StdlibHandler(logging.Handler):
    """Errors that libraries report through ``logging``, as events: their type and place, not their message."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        error = record.exc_info[1] if record.exc_info else None
        where = place_of(error.__traceback__) if error else f"{record.module}:{record.lineno}"
        name = type(error).__name__ if error else None
        self._log.event(level, "library", logger=record.name, error=name, where=where)


def place_of(trace: TracebackType | None) -> str:
    """The innermost frame as ``directory/file.py:line``."""
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    name = "/".join(trace.tb_frame.f_code.co_filename.split("/")[-2:])
    return f"{name}:{trace.tb_lineno}"


def _colours(fd: int) -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return not plain and os.isatty(fd)


def _is_pipe(fd: int) -> bool:
    """Pipes, sockets and terminals: outputs that can be full."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)
