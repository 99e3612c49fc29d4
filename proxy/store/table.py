"""A bounded table of counters in this process.

What lives here: which entries are kept and for how long. What must never live here: what an entry counts (``entries.py``),
sockets, tasks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from policies.store import Lease, Part, Window
from proxy.store.entries import GONE, Entry, LeaseEntry, WindowEntry

#: Keys kept at once: about 40 MB.
MAX_KEYS = 100_000
#: Entries looked at for one that is over, or soon is, when the table is full.
SAMPLE = 32


class Owed(NamedTuple):
    """What a table held, to be told to another store. scope: whose. changes: for ``adjust``. leases: for ``renew``."""

    scope: str
    changes: list[Part]
    leases: list[Lease]


class Table:
    """A table of counters. clock: monotonic seconds, for rates and leases. wall: unix seconds, for windows. n: this is one
    of so many processes, and grants its share of each limit.

    Expired entries are removed a few at each step, by a hand that goes round; nothing is ever scanned whole. A full
    table gives up, of SAMPLE entries, the one that ends first: a flood of new keys ends before a caller's spent limit.
    evicted: how many that were still live. on_evict: told at the first of them, and then at every 10,000th.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        max_keys: int = MAX_KEYS,
        n: int = 1,
        on_evict: Callable[[int], None] | None = None,
    ) -> None:
        self.clock = clock
        self.wall = wall
        self.max_keys = max_keys
        self.n = n
        self.evicted = 0
        self.on_evict = on_evict
        self._entries: dict[str, Entry] = {}
        self._round: deque[str] = deque()

    def __len__(self) -> int:
        """Keys held, with those that are over but not yet met by the hand."""
        return len(self._entries)

    def clear(self) -> None:
        self._entries.clear()
        self._round.clear()

    def get(self, key: str, now: float) -> Any:
        """The live entry of a key, else None."""
        entry = self._entries.get(key)
        return entry if entry is not None and entry.expires > now else None

    def put(self, key: str, entry: Entry, now: float) -> None:
        """Keep an entry. For a new one the hand moves on by two, so it is faster than the table grows."""
        entries = self._entries
        if key in entries:
            entries[key] = entry
            return
        if len(entries) >= self.max_keys:
            self._make_room(now)
        self._round.append(key)
        entries[key] = entry
        self.sweep(2, now)

    def sweep(self, steps: int, now: float) -> None:
        """Move the hand on: what it meets and is over goes."""
        entries, ring = self._entries, self._round
        for _ in range(min(steps, len(ring))):
            entry = entries.get(ring[0])
            if entry is None or entry.expires <= now:
                entries.pop(ring.popleft(), None)
            else:
                ring.rotate(-1)

    def _make_room(self, now: float) -> None:
        self.sweep(SAMPLE, now)
        if len(self._entries) < self.max_keys:
            return
        sample = [self._round.popleft() for _ in range(min(SAMPLE, len(self._round)))]
        victim = min(sample, key=lambda key: self._entries[key].expires)
        self._round.extend(key for key in sample if key != victim)
        del self._entries[victim]
        self.evicted += 1
        if self.on_evict is not None and (self.evicted - 1) % 10_000 == 0:
            self.on_evict(self.evicted)

    def remove(self, key: str) -> None:
        """Ends an entry at once. The hand drops the key when it comes by, so that none stands twice in its round."""
        if key in self._entries:
            self._entries[key] = GONE

    def drain(self) -> list[Owed]:
        """All windows, which are taken out, and all leases, which stay, by scope; for handing them over. Looks at every
        entry."""
        now = self.clock()
        found: dict[str, Owed] = {}
        for key, entry in list(self._entries.items()):
            if entry.expires <= now or not isinstance(entry, WindowEntry | LeaseEntry):
                continue
            scope, name = key[1:].split("\0", 1)
            owed = found.setdefault(scope, Owed(scope, [], []))
            if isinstance(entry, WindowEntry):
                if (used := entry.used + entry.lost) > 0:
                    owed.changes.append(Window(name, used, 0, entry.start, entry.end))
                self.remove(key)
            else:
                owed.leases.extend(Lease(name, i, 0, end - now) for i, end in entry.held(now).items())
        return [owed for owed in found.values() if owed.changes or owed.leases]
