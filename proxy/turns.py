"""Shares the event loop among streams that have more to judge than one turn of it allows.

What lives here: Turns, one per event loop. What must never live here: what the work is. Without it one read of 256 KiB,
judged at once, kept all other streams waiting for up to a second (``python -m bench.lag``).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

__all__ = ["BUDGET", "Turns", "turns"]

BUDGET = 0.001
"""Seconds of such work in one turn of the loop. Between two turns it looks at all sockets and timers, some 30 us."""

Work = Callable[[float], bool]
"""Works until a time of ``Turns.clock`` (seconds), and at least one step; True when nothing is left."""


class Turns:
    """schedule: calls back in the loop's next turn. clock: seconds, fine ones."""

    def __init__(self, schedule: Callable[[Callable[[], None]], object], clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._schedule = schedule
        self._queue: deque[Work] = deque()
        self._until = 0.0  # when this turn's time is over; 0: nobody has begun in it

    def begin(self, work: Work) -> bool:
        """Work at once for as long as this turn has time; True when that was enough. Else ``work`` is called in the next
        turns, as are others, each in its place, until it says True."""
        if not self._until:
            self._until = self.clock() + BUDGET
            self._schedule(self._turn)
        if not self._queue and self.clock() < self._until and work(self._until):
            return True
        self._queue.append(work)
        return False

    def _turn(self) -> None:
        queue, clock = self._queue, self.clock
        if not queue:
            self._until = 0.0
            return
        now = clock()
        self._until = until = now + BUDGET
        self._schedule(self._turn)
        while queue and now < until:
            work = queue.popleft()
            if not work(now + (until - now) / (len(queue) + 1)):
                queue.append(work)
            now = clock()


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns() -> Turns:
    """Those of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _turns.get(loop)
    if found is None:
        found = _turns[loop] = Turns(loop.call_soon)
    return found
