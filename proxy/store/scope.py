"""The counters of one policy behind the guard: Redis while it is there, and what is done instead.

What lives here: for each call of ``policies/store.py`` where it goes. What must never live here: the breaker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from policies.store import Lease, Part, PartState, Rate, StoreAway, Taken, Window, check_counts, check_parts, undo
from proxy.store.memory import MemoryScope
from proxy.store.redis import RedisScope
from proxy.store.shares import as_asked, share

if TYPE_CHECKING:
    from proxy.store.guarded import Guarded

#: Windows whose last known counter is kept, per policy, for the day when Redis is away.
MAX_SEEN = 10_000


class GuardedScope:
    """It also remembers, of each window that this process took from, what had been spent by anybody: an outage must not
    give out a month's budget once more."""

    def __init__(self, guard: Guarded, remote: RedisScope, local: MemoryScope) -> None:
        self.remote = remote
        self._guard = guard
        self._local = local
        self._seen: dict[str, tuple[float, float]] = {}

    async def take(self, parts: Sequence[Part]) -> Taken:
        check_parts(parts)
        guard = self._guard
        if guard.up:
            try:
                taken = await guard.call(lambda: self.remote.take(parts), lambda done: self._give_back(parts, done))
            except StoreAway:
                pass
            else:
                self._remember(parts, taken)
                return taken
        return self._instead(parts, spend=True)

    async def read(self, parts: Sequence[Part]) -> Taken:
        check_parts(parts)
        try:
            return await self._guard.call(lambda: self.remote.read(parts))
        except StoreAway:
            return self._instead(parts, spend=False)

    def _give_back(self, parts: Sequence[Part], taken: Taken) -> None:
        """The caller went while Redis was asked: it does not know that it holds anything."""
        if taken.ok:
            self._guard.aside(self.adjust(undo(parts), taken))

    def _remember(self, parts: Sequence[Part], taken: Taken) -> None:
        for part, state in zip(parts, taken.parts, strict=True):
            if isinstance(part, Window):
                if len(self._seen) >= MAX_SEEN and part.key not in self._seen:
                    del self._seen[next(iter(self._seen))]
                self._seen[part.key] = (part.start, part.limit - state.remaining)

    def _instead(self, parts: Sequence[Part], *, spend: bool) -> Taken:
        guard = self._guard
        guard.instead[guard.on_error] += 1
        if guard.on_error == "closed":
            raise StoreAway("away")
        if guard.on_error == "open":
            states = tuple(PartState(True, part.limit, _most(part), 0.0, 0.0) for part in parts)
            return Taken(True, None, states, "open")
        shares = [share(part, guard.n, self._spent(part)) for part in parts]
        return as_asked(self._local.step(shares, spend=spend), parts, "local", guard.n)

    def _spent(self, part: Part) -> float:
        start, used = self._seen.get(part.key, (0.0, 0.0)) if isinstance(part, Window) else (0.0, 0.0)
        return used if isinstance(part, Window) and start >= part.start else 0.0

    async def adjust(self, changes: Sequence[Part], taken: Taken | None = None) -> None:
        check_parts(changes, changes=True)
        if taken is not None and taken.source == "open":
            return  # nothing was counted
        here, there = self._sort(changes, taken)
        if here:
            self._local.adjust_now(here)
        if not there:
            return
        guard = self._guard
        if not guard.up:
            guard.owe(self.remote, there)
            return
        try:
            await guard.call(lambda: self.remote.adjust(there))
        except StoreAway:
            guard.unsure += len(there)  # sent, perhaps done: to send it again could charge twice

    def _sort(self, changes: Sequence[Part], taken: Taken | None) -> tuple[list[Part], list[Part]]:
        """What goes to the local store, and what to Redis.

        A step is settled where it was counted. Of a step that was counted here, windows and leases are told to Redis
        when it comes back, and from then on they are settled there. A slot is released on both sides: a renewal may
        have brought it over, and releasing what is not held does nothing.
        """
        if (taken is None and self._guard.up) or (taken is not None and taken.source == "redis"):
            return [c for c in changes if isinstance(c, Lease) and self._local.has(c)], list(changes)
        here: list[Part] = []
        there: list[Part] = []
        up = self._guard.up
        for change in changes:
            if isinstance(change, Window) and (up or (change.cost < 0 and not self._local.has(change))):
                there.append(change)  # it is there by now, or on its way
            else:
                here.append(change)
                if isinstance(change, Lease) and up:
                    there.append(change)
        return here, there

    async def renew(self, leases: Sequence[Lease]) -> None:
        if not leases:
            return
        check_parts(leases, renewed=True)
        guard = self._guard
        try:
            await guard.call(lambda: self.remote.renew(leases))
        except StoreAway:
            if guard.on_error == "local":
                self._local.renew_now(leases)
        else:
            held = [lease for lease in leases if self._local.has(lease)]
            if held:
                self._local.adjust_now(held)  # Redis has them now

    # -- values: no answer is not "nothing there"

    async def get(self, key: str) -> bytes | None:
        return await self._guard.call(lambda: self.remote.get(key))

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        await self._guard.call(lambda: self.remote.set(key, value, ttl_s))

    async def delete(self, key: str) -> None:
        await self._guard.call(lambda: self.remote.delete(key))

    # -- accounts: nobody waits for them, and nothing is refused for them

    async def count(self, key: str, fields: Mapping[str, float], ttl_s: float) -> None:
        check_counts(fields, ttl_s)
        guard = self._guard
        if not guard.up:
            guard.owe_counts(self.remote, key, fields, ttl_s)
            return
        try:
            await guard.call(lambda: self.remote.count(key, fields, ttl_s))
        except StoreAway:
            guard.unsure += len(fields)  # sent, perhaps done: to send it again could charge twice

    async def counts(self, key: str) -> dict[str, float]:
        found: dict[str, float] = {}
        at = 0
        while True:
            at, page = await self._guard.call(lambda at=at: self.remote.counts_page(key, at))  # type: ignore[misc]
            found |= page
            if not at:
                return found


def _most(part: Part) -> float:
    return part.burst if isinstance(part, Rate) else part.limit
