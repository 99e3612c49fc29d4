"""The deadline of a call, which tells a server that is late from a loop of our own that is.

What lives here: one timer. What must never live here: what a deadline that passed means.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

#: Seconds for one look into the sockets: an event loop may run its timers before it reads.
LOOK = 0.002
#: A timer that fires this late says that our own process did not run: the answer may be there, unread.
LAG = 0.005
#: How often a call may be given more time, LAG times two each.
GRACE = 5


class Caller(Protocol):
    """answered: when (monotonic seconds) some call was last answered within its time."""

    @property
    def answered(self) -> float: ...
    def clock(self) -> float: ...


class Deadline:
    """Cancels the running task after ``seconds`` and one more look into the sockets.

    When a timer comes late, our own process did not run, and the answer may lie in the socket unread. The same when
    other calls are answered in time at this very moment: the server is there, and it is we who are behind. Then the
    loop gets some more time, a few times. A server that hangs, or that is slow for all, gets none.
    """

    __slots__ = ("_caller", "_grace", "_handle", "_loop", "_task", "_when", "passed")

    def __init__(self, seconds: float, caller: Caller) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._caller = caller
        self._when = 0.0
        self._grace = GRACE
        self.passed = False
        self._handle: asyncio.Handle = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._more(LOOK)

    def _more(self, seconds: float) -> None:
        self._when = self._caller.clock() + seconds
        self._handle = self._loop.call_later(seconds, self._fire)

    def _fire(self) -> None:
        now = self._caller.clock()
        if self._grace and (now - self._when > LAG or now - self._caller.answered < 2 * LAG):
            self._grace -= 1
            self._more(2 * LAG)
        else:
            self._handle = self._loop.call_soon(self._end)  # after those whose answer has just been read

    def _end(self) -> None:
        if self._task is not None:
            self.passed = True
            self._task.cancel()

    def cancel(self) -> None:
        self._handle.cancel()
