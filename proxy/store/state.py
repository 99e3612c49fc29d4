"""How a store is doing: for metrics and the admin port.

What lives here: records. What must never live here: how it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Mode = Literal["memory", "shared", "local", "closed", "open"]
"""``memory`` and ``shared`` (Redis): as the policy file says. The others: what is in force while Redis is away."""


OnError = Literal["open", "closed", "local"]


class Change(NamedTuple):
    """Told when the state changes. mode: what is in force while away. away_s: how long it has been, at the return.
    calls: how many were answered without Redis in that time. dropped: changes that Redis will never hear of, in all."""

    up: bool
    reason: str
    mode: OnError
    away_s: float
    calls: int
    dropped: int


class StoreState(NamedTuple):
    """mode: what is in force now. up: it answers. shared: what it counts is that of all workers and replicas. shares: by how
    many a process divides each limit when it counts alone. keys: in this process's memory. Totals since the store was made:
    errors by reason, outages, evicted keys that were still live, calls that were answered without Redis by the mode in force,
    changes that Redis will never hear of (dropped), and those under way when it went: done or not (unsure)."""

    mode: Mode
    up: bool
    shared: bool
    shares: int
    keys: int
    errors: Mapping[str, int] = {}
    outages: int = 0
    evicted: int = 0
    instead: Mapping[str, int] = {}
    dropped: int = 0
    unsure: int = 0
