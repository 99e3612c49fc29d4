"""The store that policy.yaml asks for, made.

What lives here: settings in, a store out; no connection is made before a policy asks for its counters. What must never
live here: the stores themselves. Redis's client library is loaded only where Redis is asked for: it costs every worker
start-up time and memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from policies.store import Store
from proxy.settings import StoreSettings
from proxy.store.memory import Memory
from proxy.store.state import Change, StoreState
from proxy.store.urls import parse_store_url

Told = Callable[[str, dict[str, Any]], None]
"""Hears of changes of state: the name of an event of the log, and its fields. Never called for a request."""


class Stores(Protocol):
    """A store and its life. ``open``: the counters of one policy, by its name; connects at the first call, and never
    fails because the other side does. ``state``: how it is doing. ``close``: once nobody counts any more."""

    async def open(self, name: str) -> Store: ...
    def state(self) -> StoreState: ...
    async def close(self) -> None: ...


def make(
    settings: StoreSettings,
    workers: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    told: Told = lambda event, fields: None,
) -> Stores:
    """workers: processes of this instance, which share its limits. clock: monotonic seconds. wall: unix seconds."""
    n = settings.replicas * workers
    if settings.url == "memory":
        full: Callable[[int], None] = lambda evicted: told("store_full", {"evicted": evicted})  # noqa: E731
        return Memory(clock=clock, wall=wall, n=n if settings.approximate else 1, on_evict=full)
    from proxy.store.guarded import Guarded
    from proxy.store.redis import RedisStore

    def changed(change: Change) -> None:
        if change.up:
            fields = {"away_s": round(change.away_s, 3), "calls": change.calls, "dropped": change.dropped}
            told("store_back", fields)
        else:
            told("store_away", {"reason": change.reason, "mode": change.mode})

    remote = RedisStore(
        parse_store_url(settings.url), timeout=settings.timeout, prefix=settings.prefix, ca=settings.ca, clock=clock
    )
    return Guarded(
        remote, on_error=settings.on_error, n=n, timeout=settings.timeout, clock=clock, wall=wall, changed=changed
    )
