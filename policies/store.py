"""Counters that workers and replicas share: what a policy asks of a store, and what it hears.

What lives here: the parts of a step, the answer, the calls; no store. What must never live here: sockets, clocks,
anything beyond the standard library.

A *step* is several parts, taken all or none: when one refuses, nothing is spent anywhere. Costs and limits are
numbers of any unit (requests, tokens, money), whole or not. A store is exact to 1e-6 over a month of additions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, Protocol

__all__ = [
    "FULL", "Lease", "Part", "PartState", "Rate", "Source", "Store", "StoreAway", "Taken", "Unit", "Window", "check_counts",
    "check_parts", "undo", "utc_window",
]  # fmt: skip

Source = Literal["memory", "redis", "local", "open"]
"""Who answered. ``local``: this process alone, with its share of each limit: the shared store is away, or there is none.
``open``: nobody; everything was let through and nothing counted."""

Unit = Literal["second", "minute", "hour", "day", "week", "month", "year"]


class Rate(NamedTuple):
    """``cost`` out of a rate of ``limit`` in ``period_s`` seconds that allows ``burst`` at once (GCRA).

    It drains evenly: the emission interval is period_s / limit, the tolerance burst times that. limit, period_s and
    burst are above 0. A cost above ``burst`` never fits.
    """

    key: str
    cost: float
    limit: float
    period_s: float
    burst: float


class Window(NamedTuple):
    """``cost`` out of ``limit`` in one fixed window of the calendar, from ``start`` to ``end`` (unix seconds, UTC; see
    ``utc_window``).

    The store keeps the latest start it has heard of. A later one resets the counter; an earlier one, from a machine
    whose clock is behind, counts into the stored window. So a key needs no date in it.
    """

    key: str
    cost: float
    limit: float
    start: float
    end: float


class Lease(NamedTuple):
    """One of ``limit`` slots that are held at the same time. id: unique to the holder; taking it again renews it.
    ttl_s: the slot is free again after this unless it is renewed: its owner may have died."""

    key: str
    id: str
    limit: int
    ttl_s: float


Part = Rate | Window | Lease


FULL = 60_000
"""Numbers under one key of ``count``. When so many are there, new names are added up under what follows their last \\x1f."""


class PartState(NamedTuple):
    """One part of an answer. allowed: this part alone would have gone. limit: as asked. remaining: what fits now, after
    this step. reset_after_s: until all of it is there again, if nobody takes more. retry_after_s: until this cost would
    fit (0 when it does); None: never. For a Lease both times are the latest: a holder may release its slot earlier."""

    allowed: bool
    limit: float
    remaining: float
    reset_after_s: float
    retry_after_s: float | None


class Taken(NamedTuple):
    """The answer to a step. ok: all parts were taken. refused: the index of the first part that was not. parts: in the
    order asked. source: who counted; hand the Taken back to ``adjust``, so that what it settles goes to the same place.
    shares: each limit was divided among so many processes, and ``remaining`` is what this one's share has left."""

    ok: bool
    refused: int | None
    parts: tuple[PartState, ...]
    source: Source
    shares: int = 1

    @property
    def retry_after_s(self) -> float | None:
        """Seconds until the whole step would fit; None when one part says never."""
        waits = [part.retry_after_s for part in self.parts]
        return None if None in waits else max((w for w in waits if w is not None), default=0.0)


class StoreAway(Exception):
    """The store cannot answer, and its setting is to refuse then (``on_error: closed``). reason: one of a few words,
    never a message of the server. retry_after_s: when it is looked for again."""

    def __init__(self, reason: str, retry_after_s: float = 1.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class Store(Protocol):
    """The counters of one policy: keys of another policy cannot be reached, and closing is the owner's business.

    Keys are any text; hash what is long or secret. Each Rate, Window and Lease key is of its own kind; within one step
    no key may stand twice in one kind. Every call raises ValueError for parts that make no sense (see ``check_parts``).
    """

    async def take(self, parts: Sequence[Part]) -> Taken:
        """All parts or none, in one step. Raises StoreAway only where the setting is ``closed``. When the caller is
        cancelled in the middle, what was taken is given back."""

    async def read(self, parts: Sequence[Part]) -> Taken:
        """What ``take`` would answer, spending nothing. With a cost of 0: how it stands."""

    async def adjust(self, changes: Sequence[Part], taken: Taken | None = None) -> None:
        """Settle, without a check. A Rate's or Window's ``cost`` is added, or given back when negative; a Lease is
        released. taken: the step that is settled.

        A rate is never more than full. A window never falls below 0; what is given back to a window that is over is
        dropped, what is added counts into the current one. Releasing what is not held does nothing. Raises no
        StoreAway: what the store has missed is counted by the store.
        """

    async def renew(self, leases: Sequence[Lease]) -> None:
        """Hold these slots for another ``ttl_s``. One that had expired or was lost is held again, even above the limit:
        its owner is alive. Raises no StoreAway."""

    async def get(self, key: str) -> bytes | None:
        """A small value, None where there is none. Raises StoreAway whatever the setting: "not there" and "cannot be
        known" differ for a list of revoked keys."""

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a small value for ``ttl_s`` seconds. Raises StoreAway, as ``get``."""

    async def delete(self, key: str) -> None:
        """Forget a value. Raises StoreAway, as ``get``."""

    async def count(self, key: str, fields: Mapping[str, float], ttl_s: float) -> None:
        """Add to the numbers under a key, by name; a name that is not there begins at 0. No limits, no checks: an account.

        The key is kept for ``ttl_s`` after the last addition. It holds FULL names; then a new one counts under its last part,
        after \\x1f, so that sums stay right. Raises no StoreAway: what the store has missed it is told later, as far as there is
        room, and the rest is counted as dropped."""

    async def counts(self, key: str) -> dict[str, float]:
        """The numbers under a key; none where there is no such key. Looks at all of them. Raises StoreAway, as ``get``."""


def check_parts(parts: Sequence[Part], *, changes: bool = False, renewed: bool = False) -> None:
    """ValueError for numbers that mean nothing (negative costs, NaN, infinity, limits below 0, empty windows) and for a
    key that stands twice in its kind. changes: costs may be negative, and of a Lease only key and id count. renewed: they
    are leases to renew. In both keys may repeat."""
    inf = math.inf
    for part in parts:
        if type(part) is Lease:
            # a year is longer than any request, and a slot that is held for ever is a slot lost
            if not changes and not (part.limit >= 0 and 0 < part.ttl_s <= 366 * 86400):
                raise ValueError("a lease needs a limit of at least 0 and a ttl above 0, of at most 366 days")
            continue
        if not (0 <= part.cost < inf or (changes and -inf < part.cost < 0)):  # type: ignore[union-attr]
            raise ValueError("a cost must be a number of at least 0")
        if type(part) is Rate:
            if not (0 < part.limit < inf and 0 < part.period_s < inf and 0 < part.burst < inf):
                raise ValueError("a rate needs a limit, a period and a burst above 0")
        elif not (0 <= part.limit < inf and -inf < part.start < part.end < inf):  # type: ignore[union-attr]
            raise ValueError("a window needs a limit of at least 0, and an end after its start")
    if changes or renewed or len({part[0] for part in parts}) == len(parts):
        return
    if len({(type(part), part.key) for part in parts}) != len(parts):
        raise ValueError("a key stands twice in one step")


def check_counts(fields: Mapping[str, float], ttl_s: float) -> None:
    """ValueError for numbers to count that are none (NaN, infinity), and for times that are none."""
    if not all(map(math.isfinite, fields.values())):
        raise ValueError("what is counted must be a number")
    if not 0 < ttl_s < math.inf:
        raise ValueError("a time to live is above 0")


def undo(parts: Sequence[Part]) -> list[Part]:
    """The changes that give back a step which was taken."""
    return [part if isinstance(part, Lease) else part._replace(cost=-part.cost) for part in parts]


def utc_window(unit: Unit, now: float) -> tuple[float, float]:
    """Start and end, in unix seconds, of the calendar window around ``now``, in UTC: no daylight saving, months as long
    as they are, weeks from Monday (ISO 8601)."""
    at = datetime.fromtimestamp(math.floor(now), UTC)
    if unit == "second":
        start, end = at, at + timedelta(seconds=1)
    elif unit == "minute":
        start = at.replace(second=0)
        end = start + timedelta(minutes=1)
    elif unit == "hour":
        start = at.replace(minute=0, second=0)
        end = start + timedelta(hours=1)
    else:
        day = at.replace(hour=0, minute=0, second=0)
        if unit == "day":
            start, end = day, day + timedelta(days=1)
        elif unit == "week":
            start = day - timedelta(days=day.weekday())
            end = start + timedelta(days=7)
        elif unit == "month":
            start = day.replace(day=1)
            end = (start + timedelta(days=31)).replace(day=1)
        else:
            start = day.replace(month=1, day=1)
            end = start.replace(year=start.year + 1)
    return start.timestamp(), end.timestamp()
