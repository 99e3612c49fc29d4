"""What the memory store keeps under a key: a rate, a window, leases, sums or a value.

What lives here: state and its arithmetic; ``expires`` is in monotonic seconds. What must never live here: clocks, keys.

A rate is kept as (level, time): what has been spent and not yet drained. That is GCRA with another unknown: its
theoretical arrival time is time + level * period / limit. Reason: a double of unix seconds has steps of 0.24 us, a
quarter of a token at a million tokens a second, and each request would round again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from policies.store import FULL


def added(used: float, lost: float, cost: float) -> tuple[float, float]:
    """A sum and what rounding took from it, with ``cost`` added (Neumaier's summation)."""
    total = used + cost
    return total, lost + ((used - total) + cost if abs(used) >= abs(cost) else (cost - total) + used)


class RateEntry:
    __slots__ = ("at", "expires", "level")

    def __init__(self, level: float, at: float, expires: float) -> None:
        self.level = level
        self.at = at
        self.expires = expires


class WindowEntry:
    """used + lost is the sum; lost is what rounding took from it."""

    __slots__ = ("end", "expires", "lost", "start", "used")

    def __init__(self, start: float, end: float, expires: float) -> None:
        self.start = start
        self.end = end
        self.used = 0.0
        self.lost = 0.0
        self.expires = expires

    def add(self, cost: float) -> None:
        self.used, self.lost = added(self.used, self.lost, cost)
        if self.used + self.lost <= 0.0:
            self.used = self.lost = 0.0


class LeaseEntry:
    """ids: holders, with the end of each. first: no slot ends before this. expires: none ends after."""

    __slots__ = ("expires", "first", "ids")

    def __init__(self) -> None:
        self.ids: dict[str, float] = {}
        self.first = math.inf
        self.expires = 0.0

    def held(self, now: float) -> dict[str, float]:
        """The slots that are held. Looks at all of them only when one may have ended since."""
        if now >= self.first:
            self.ids = {i: end for i, end in self.ids.items() if end > now}
            self.first = min(self.ids.values(), default=math.inf)
        return self.ids


class CountEntry:
    """sums: by name, each with what rounding took from it."""

    __slots__ = ("expires", "sums")

    def __init__(self, expires: float) -> None:
        self.sums: dict[str, tuple[float, float]] = {}
        self.expires = expires

    def add(self, fields: Mapping[str, float]) -> None:
        sums = self.sums
        for name, cost in fields.items():
            if name not in sums and len(sums) >= FULL:
                name = name.rpartition("\x1f")[2]
            used, lost = sums.get(name, (0.0, 0.0))
            sums[name] = added(used, lost, cost)


class ValueEntry(NamedTuple):
    data: bytes
    expires: float


GONE = ValueEntry(b"", -math.inf)
Entry = RateEntry | WindowEntry | LeaseEntry | CountEntry | ValueEntry
