"""Counters in this process: exact for one process, gone with it.

What lives here: the checks of rates, windows and leases, and a bounded table of them (``entries.py``). What must never live here:
sockets, tasks. Everything is one synchronous step; the async calls only give it the face that policies know.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from policies.store import Lease, Part, PartState, Rate, Source, Store, Taken, Window, check_parts
from proxy.store.entries import GONE, Entry, LeaseEntry, RateEntry, WindowEntry
from proxy.store.shares import as_asked, share
from proxy.store.state import StoreState
from proxy.store.values import MemoryValues

#: Keys kept at once: about 40 MB.
MAX_KEYS = 100_000
#: Entries looked at for one that is over, or soon is, when the table is full.
SAMPLE = 32
#: Float noise that must not refuse what fits: ten costs of 0.1 are a burst of 1.
SLACK = 1e-9
#: A window's counter is kept this long beyond its end (and at least a minute, at most the window's own length): the
#: clocks that say when it ends are not one.
MAX_GRACE = 3600.0


class Owed(NamedTuple):
    """What a table held, to be told to another store. scope: whose. changes: for ``adjust``. leases: for ``renew``."""

    scope: str
    changes: list[Part]
    leases: list[Lease]


class Memory:
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

    def scope(self, name: str) -> MemoryScope:
        """The counters of one policy."""
        return MemoryScope(self, name)

    async def open(self, name: str) -> Store:
        return self.scope(name)

    def state(self) -> StoreState:
        """For metrics; cheap."""
        return StoreState("memory", True, False, self.n, len(self._entries), evicted=self.evicted)

    async def close(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._entries.clear()
        self._round.clear()

    # -- the table

    def get(self, key: str, now: float) -> Any:
        """The live entry of a key, else None."""
        entry = self._entries.get(key)
        return entry if entry is not None and entry.expires > now else None

    def put(self, key: str, entry: Entry, now: float) -> None:
        """Keep an entry; the hand moves on by two, so it is faster than the table grows by one."""
        if key not in self._entries:
            if len(self._entries) >= self.max_keys:
                self._make_room(now)
            self._round.append(key)
        self._entries[key] = entry
        self._sweep(2, now)

    def _sweep(self, steps: int, now: float) -> None:
        entries, ring = self._entries, self._round
        for _ in range(min(steps, len(ring))):
            key = ring.popleft()
            entry = entries.get(key)
            if entry is None or entry.expires <= now:
                entries.pop(key, None)
            else:
                ring.append(key)

    def _make_room(self, now: float) -> None:
        self._sweep(SAMPLE, now)
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


class MemoryScope(MemoryValues):
    """The counters of one policy in a table. ``take_now`` and its kin are the calls, without waiting."""

    source: Source = "memory"

    def __init__(self, table: Memory, name: str) -> None:
        super().__init__(table, name)
        self._table: Memory = table

    # -- the calls of policies/store.py

    async def take(self, parts: Sequence[Part]) -> Taken:
        return self.take_now(parts)

    async def read(self, parts: Sequence[Part]) -> Taken:
        return self.read_now(parts)

    async def adjust(self, changes: Sequence[Part], taken: Taken | None = None) -> None:
        self.adjust_now(changes)

    async def renew(self, leases: Sequence[Lease]) -> None:
        self.renew_now(leases)

    # -- the same, at once

    def take_now(self, parts: Sequence[Part]) -> Taken:
        check_parts(parts)
        n = self._table.n
        if n == 1:
            return self.step(parts, spend=True)
        return as_asked(self.step([share(p, n) for p in parts], spend=True), parts, "local", n)

    def read_now(self, parts: Sequence[Part]) -> Taken:
        check_parts(parts)
        n = self._table.n
        if n == 1:
            return self.step(parts, spend=False)
        return as_asked(self.step([share(p, n) for p in parts], spend=False), parts, "local", n)

    def step(self, parts: Sequence[Part], *, spend: bool) -> Taken:
        """Parts that are known to be sound: all or none."""
        now = self._table.clock()
        looks = [
            self._rate(p, now) if isinstance(p, Rate)
            else self._window(p, now) if isinstance(p, Window) else self._lease(p, now)
            for p in parts
        ]
        refused = next((i for i, look in enumerate(looks) if not look[0].allowed), None)
        if refused is not None or not spend:
            return Taken(refused is None, refused, tuple([look[0] for look in looks]), self.source)
        return Taken(True, None, tuple([look[1](now) for look in looks]), self.source)

    def _rate(self, part: Rate, now: float) -> _Look:
        key = "r" + self._scope + part.key
        rate = part.limit / part.period_s
        entry: RateEntry | None = self._table.get(key, now)
        level = 0.0 if entry is None else max(0.0, entry.level - max(0.0, now - entry.at) * rate)
        over = level + part.cost - part.burst
        allowed = over <= SLACK * part.burst
        retry = 0.0 if allowed else None if part.cost > part.burst * (1 + SLACK) else over / rate

        def spend(now: float) -> PartState:
            self._set_rate(key, entry, level + part.cost, rate, now)
            left = max(0.0, part.burst - level - part.cost)
            return PartState(True, part.limit, left, (level + part.cost) / rate, 0.0)

        return PartState(allowed, part.limit, max(0.0, part.burst - level), level / rate, retry), spend

    def _set_rate(self, key: str, entry: RateEntry | None, level: float, rate: float, now: float) -> None:
        expires = now + level / rate
        if entry is not None:
            entry.level, entry.at, entry.expires = level, now, expires
            self._table.put(key, entry, now)
        elif level > 0:
            self._table.put(key, RateEntry(level, now, expires), now)

    def _window(self, part: Window, now: float) -> _Look:
        key = "w" + self._scope + part.key
        entry: WindowEntry | None = self._table.get(key, now)
        if entry is not None and entry.start < part.start:
            entry = None
        used = 0.0 if entry is None else entry.used + entry.lost
        wall = self._table.wall()
        reset = max(0.0, (part.end if entry is None else entry.end) - wall)
        allowed = used + part.cost <= part.limit + SLACK + part.limit * 1e-12
        retry = 0.0 if allowed else reset if part.cost <= part.limit + SLACK else None

        def spend(now: float) -> PartState:
            if part.cost > 0:
                self._add(key, entry, part, now, wall)
            return PartState(True, part.limit, max(0.0, part.limit - used - part.cost), reset, 0.0)

        return PartState(allowed, part.limit, max(0.0, part.limit - used), reset, retry), spend

    def _add(self, key: str, entry: WindowEntry | None, part: Window, now: float, wall: float) -> None:
        if entry is None:
            grace = min(MAX_GRACE, max(60.0, part.end - part.start))
            entry = WindowEntry(part.start, part.end, now + max(0.0, part.end - wall) + grace)
        entry.add(part.cost)
        self._table.put(key, entry, now)

    def _lease(self, part: Lease, now: float) -> _Look:
        key = "l" + self._scope + part.key
        entry: LeaseEntry | None = self._table.get(key, now)
        held = {} if entry is None else entry.held(now)
        allowed = part.id in held or len(held) < part.limit
        reset = 0.0 if entry is None or not held else entry.expires - now
        retry = 0.0 if allowed else None if part.limit < 1 else max(0.0, min(held.values()) - now)

        def spend(now: float) -> PartState:
            left = part.limit - len(self._hold(key, part, now))
            return PartState(True, part.limit, max(0, left), max(reset, part.ttl_s), 0.0)

        return PartState(allowed, part.limit, max(0, part.limit - len(held)), reset, retry), spend

    def _hold(self, key: str, part: Lease, now: float) -> dict[str, float]:
        entry: LeaseEntry = self._table.get(key, now) or LeaseEntry()
        end = entry.ids[part.id] = now + part.ttl_s
        entry.expires, entry.first = max(entry.expires, end), min(entry.first, end)
        self._table.put(key, entry, now)
        return entry.ids

    def adjust_now(self, changes: Sequence[Part]) -> None:
        check_parts(changes, changes=True)
        now = self._table.clock()
        for part in changes:
            if isinstance(part, Rate):
                key, rate = "r" + self._scope + part.key, part.limit / self._table.n / part.period_s
                entry: RateEntry | None = self._table.get(key, now)
                level = 0.0 if entry is None else max(0.0, entry.level - max(0.0, now - entry.at) * rate)
                self._set_rate(key, entry, max(0.0, level + part.cost), rate, now)
            elif isinstance(part, Window):
                self._settle(part, now)
            elif (held := self._table.get("l" + self._scope + part.key, now)) is not None:
                held.ids.pop(part.id, None)
                if not held.ids:
                    self._table.remove("l" + self._scope + part.key)

    def _settle(self, part: Window, now: float) -> None:
        key = "w" + self._scope + part.key
        entry: WindowEntry | None = self._table.get(key, now)
        if part.cost > 0:
            current = entry if entry is not None and entry.start >= part.start else None
            self._add(key, current, part, now, self._table.wall())
        elif entry is not None and entry.start == part.start:
            entry.add(part.cost)

    def renew_now(self, leases: Sequence[Lease]) -> None:
        check_parts(leases, renewed=True)
        now = self._table.clock()
        for lease in leases:
            self._hold("l" + self._scope + lease.key, lease, now)

    def has(self, part: Part) -> bool:
        """There is a live entry for this part's key."""
        kind = "r" if isinstance(part, Rate) else "w" if isinstance(part, Window) else "l"
        return self._table.get(kind + self._scope + part.key, self._table.clock()) is not None


_Look = tuple[PartState, Callable[[float], PartState]]

