"""Watching the policy file: tells when it has changed, and not while it is half written.

What lives here: polling, settling, SIGHUP's trigger. What must never live here: reading policy, deciding what a bad
one means. It polls the content instead of asking the system for events: that sees an edit in place, a rename over the
file and the symbolic-link swap of a Kubernetes ConfigMap alike, on every file system.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Hashable


class Watcher:
    """Calls ``on_change`` when the fingerprint has changed and then stayed the same for a moment.

    known: the fingerprint of what is live. fingerprint: called in a thread, so it may block; what it raises
    counts as "no file now", which is no change. interval: seconds between looks. With the default a change
    is live within 0.75 s plus the time to load it; one that never rests is tried after three looks in any
    case. failed: told of what ``on_change`` or ``fingerprint`` raised (the latter once, until it works
    again). sleep: for tests.
    """

    def __init__(
        self,
        fingerprint: Callable[[], Hashable],
        on_change: Callable[[], Awaitable[None]],
        *,
        known: Hashable | None = None,
        interval: float = 0.5,
        failed: Callable[[Exception], None] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._fingerprint, self._on_change, self._failed, self._sleep = fingerprint, on_change, failed, sleep
        self._known, self._interval = known, interval
        self._asked = asyncio.Event()
        self._blind = False

    def trigger(self) -> None:
        """Reload now, changed or not (SIGHUP). From the event loop."""
        self._asked.set()

    async def run(self) -> None:
        """Watch until cancelled. Without a ``known`` what is there at the start counts as known."""
        known = self._known if self._known is not None else await self._look()
        while True:
            if await self._asked_within(self._interval):
                self._asked.clear()
                seen = await self._look()
            else:
                seen = await self._look()
                if seen is None or seen == known:
                    continue
                seen = await self._settled(seen)
                if seen is None or seen == known:
                    continue
            known = seen if seen is not None else known
            try:
                await self._on_change()
            except Exception as e:
                self._tell(e)

    async def _settled(self, seen: Hashable) -> Hashable | None:
        """Look again until two looks agree, at most twice more: a writer that never rests must not hold it off."""
        for _ in range(2):
            if await self._asked_within(self._interval / 4):
                return await self._look()
            again = await self._look()
            if again == seen:
                break
            seen = again
        return seen

    async def _look(self) -> Hashable | None:
        try:
            seen = await asyncio.to_thread(self._fingerprint)
        except Exception as e:
            if not self._blind:
                self._tell(e)
            self._blind = True
            return None
        self._blind = False
        return seen

    async def _asked_within(self, seconds: float) -> bool:
        """Wait; True as soon as ``trigger`` was called."""
        waits = [asyncio.ensure_future(self._sleep(seconds)), asyncio.ensure_future(self._asked.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self._asked.is_set()

    def _tell(self, error: Exception) -> None:
        if self._failed is not None:
            with contextlib.suppress(Exception):
                self._failed(error)
