"""Counters in this process: exact for one process, gone with it.

What lives here: the checks of rates, windows and leases. What must never live here: how their table stays bounded (``table.py``),
sockets, tasks. Everything is one synchronous step; the async calls only give it the face that policies know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from policies.store import Lease, Part, PartState, Rate, Source, Store, Taken, Window, check_parts
from proxy.store.entries import LeaseEntry, RateEntry, WindowEntry
from proxy.store.shares import as_asked, share
from proxy.store.state import StoreState
from proxy.store.table import Table
from proxy.store.values import MemoryValues

#: Float noise that must not refuse what fits: ten costs of 0.1 are a burst of 1.
SLACK = 1e-9
#: A window's counter is kept this long beyond its end (and at least a minute, at most the window's own length): the
#: clocks that say when it ends are not one.
MAX_GRACE = 3600.0


class Memory(Table):
    """A table as a store: in this process, and gone with it. Its arguments are those of Table."""

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


class MemoryScope(MemoryValues):
    """The counters of one policy in a table. ``take_now`` and its kin are the calls, without waiting."""

    source: Source = "memory"

    def __init__(self, table: Memory, name: str) -> None:
        super().__init__(table, name)
        self._table: Memory = table
        self._rates, self._windows, self._slots = "r" + self._scope, "w" + self._scope, "l" + self._scope

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
        table = self._table
        now = table.clock()
        look: Any
        looks: list[Any] = []  # what each part's own methods say to each other; the first item: it would go
        refused: int | None = None
        for part in parts:
            kind = type(part)
            if kind is Rate:
                look = self._rate(part, now)  # type: ignore[arg-type]
            elif kind is Window:
                look = self._window(part, now)  # type: ignore[arg-type]
            else:
                look = self._lease(part, now)  # type: ignore[arg-type]
            if not look[0] and refused is None:
                refused = len(looks)
            looks.append(look)
        goes = refused is None
        states: list[PartState] = []
        for part, look in zip(parts, looks, strict=True):
            kind = type(part)
            if kind is Rate:
                states.append(self._rate_state(part, look, now, goes and spend))  # type: ignore[arg-type]
            elif kind is Window:
                states.append(self._window_state(part, look, now, goes and spend))  # type: ignore[arg-type]
            else:
                states.append(self._lease_state(part, look, now, goes and spend))  # type: ignore[arg-type]
        table.sweep(2, now)
        return Taken(goes, refused, tuple(states), self.source)

    def _rate(self, part: Rate, now: float) -> tuple[bool, str, RateEntry | None, float, float]:
        key = self._rates + part.key
        rate = part.limit / part.period_s
        entry: RateEntry | None = self._table.get(key, now)
        level = _level(entry, rate, now) if entry is not None else 0.0
        return level + part.cost - part.burst <= SLACK * part.burst, key, entry, level, rate

    def _rate_state(self, part: Rate, look: Any, now: float, spend: bool) -> PartState:
        allowed, key, entry, level, rate = look
        retry: float | None = 0.0
        if spend:
            level += part.cost
            self._set_rate(key, entry, level, rate, now)
        elif not allowed:
            retry = None if part.cost > part.burst * (1 + SLACK) else (level + part.cost - part.burst) / rate
        left = part.burst - level
        return PartState(allowed, part.limit, left if left > 0 else 0.0, level / rate, retry)

    def _set_rate(self, key: str, entry: RateEntry | None, level: float, rate: float, now: float) -> None:
        if entry is None:
            if level <= 0:
                return
            entry = RateEntry(level, now, now + level / rate)
        else:
            entry.level, entry.at, entry.expires = level, now, now + level / rate
        self._table.put(key, entry, now)

    def _window(self, part: Window, now: float) -> tuple[bool, str, WindowEntry | None, float]:
        key = self._windows + part.key
        entry: WindowEntry | None = self._table.get(key, now)
        if entry is not None and entry.start < part.start:
            entry = None
        used = 0.0 if entry is None else entry.used + entry.lost
        return used + part.cost <= part.limit + SLACK + part.limit * 1e-12, key, entry, used

    def _window_state(self, part: Window, look: Any, now: float, spend: bool) -> PartState:
        allowed, key, entry, used = look
        wall = self._table.wall()
        reset = max(0.0, (part.end if entry is None else entry.end) - wall)
        retry: float | None = 0.0
        if spend:
            used += part.cost
            if part.cost > 0:
                self._add(key, entry, part, now, wall)
        elif not allowed:
            retry = reset if part.cost <= part.limit + SLACK else None
        return PartState(allowed, part.limit, max(0.0, part.limit - used), reset, retry)

    def _add(self, key: str, entry: WindowEntry | None, part: Window, now: float, wall: float) -> None:
        if entry is None:
            grace = min(MAX_GRACE, max(60.0, part.end - part.start))
            entry = WindowEntry(part.start, part.end, now + max(0.0, part.end - wall) + grace)
        entry.add(part.cost)
        self._table.put(key, entry, now)

    def _lease(self, part: Lease, now: float) -> tuple[bool, str, LeaseEntry | None, dict[str, float]]:
        key = self._slots + part.key
        entry: LeaseEntry | None = self._table.get(key, now)
        held = {} if entry is None else entry.held(now)
        return len(held) < part.limit or part.id in held, key, entry, held

    def _lease_state(self, part: Lease, look: Any, now: float, spend: bool) -> PartState:
        allowed, key, entry, held = look
        reset = entry.expires - now if held else 0.0
        retry: float | None = 0.0
        if spend:
            held = self._hold(key, entry, part, now)
            reset = max(reset, part.ttl_s)
        elif not allowed:
            retry = None if part.limit < 1 else max(0.0, min(held.values()) - now)
        return PartState(allowed, part.limit, max(0, part.limit - len(held)), reset, retry)

    def _hold(self, key: str, entry: LeaseEntry | None, part: Lease, now: float) -> dict[str, float]:
        entry = entry or LeaseEntry()
        end = entry.ids[part.id] = now + part.ttl_s
        if end > entry.expires:
            entry.expires = end
        if end < entry.first:
            entry.first = end
        self._table.put(key, entry, now)
        return entry.ids

    def adjust_now(self, changes: Sequence[Part]) -> None:
        check_parts(changes, changes=True)
        now = self._table.clock()
        for part in changes:
            if isinstance(part, Rate):
                key, rate = self._rates + part.key, part.limit / self._table.n / part.period_s
                entry: RateEntry | None = self._table.get(key, now)
                level = _level(entry, rate, now) if entry is not None else 0.0
                self._set_rate(key, entry, max(0.0, level + part.cost), rate, now)
            elif isinstance(part, Window):
                self._settle(part, now)
            elif (held := self._table.get(self._slots + part.key, now)) is not None:
                held.ids.pop(part.id, None)
                if not held.ids:
                    self._table.remove(self._slots + part.key)

    def _settle(self, part: Window, now: float) -> None:
        key = self._windows + part.key
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
            key = self._slots + lease.key
            self._hold(key, self._table.get(key, now), lease, now)

    def has(self, part: Part) -> bool:
        """There is a live entry for this part's key."""
        kind = "r" if isinstance(part, Rate) else "w" if isinstance(part, Window) else "l"
        return self._table.get(kind + self._scope + part.key, self._table.clock()) is not None


def _level(entry: RateEntry, rate: float, now: float) -> float:
    """What of a rate is spent and has not drained."""
    level = entry.level - (now - entry.at) * rate if now > entry.at else entry.level
    return level if level > 0 else 0.0

