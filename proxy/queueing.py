"""Who is next at a backend that works on so many requests at once and no more.

What lives here: places, and the queue in front of them: classes by weight, callers in turn, deadlines, bounds. Pure state;
times are handed in (seconds on one clock), and what a step has changed is handed back. What must never live here: futures,
tasks, clocks, requests (``proxy/backends.py`` has those).

Classes share the backend's time by their weights: start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996), a turn costing
what a request of its class holds a place for on average. Strict priorities would starve the lowest class for as long as the
others keep the backend busy, and ageing only postpones that; a share cannot starve, and ``100`` to ``1`` is all but strict.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import Any

__all__ = ["OTHERS", "FairQueue", "Full", "State", "Ticket"]

OTHERS = "*"
"""The class of whoever belongs to none that is named."""
LEARN = 0.1
"""Weight of the newest observation in the averages of how long a place is held."""
SOONEST, LATEST = 1.0, 60.0
"""Bounds of what a refused client is told to wait, in seconds. OpenAI's SDKs follow no longer advice than 60 s."""


class State(Enum):
    """What has become of a ticket."""

    WAITING = "waiting"
    GRANTED = "granted"  # it has a place
    LATE = "late"  # its deadline came first
    PUSHED_OUT = "pushed out"  # the queue was full, and its caller had more than others in it
    SENT_AWAY = "sent away"  # the queue was emptied
    LEFT = "left"


class Full(Exception):
    """There is no room to wait. reason: ``full``, or ``caller_full``: this caller has as many waiting as one may."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Ticket:
    """One request's place in one queue. owner: whatever whoever waits wants to find here."""

    __slots__ = ("deadline", "group", "key", "owner", "state")

    def __init__(self, group: _Group, key: str, deadline: float, owner: Any) -> None:
        self.group = group
        self.key = key
        self.deadline = deadline
        self.owner = owner
        self.state = State.WAITING


_Line = OrderedDict[Ticket, None]  # tickets of one caller, in their order; a plain dict is slow to give its first after deletions


class _Group:
    """The waiting requests of one class: a line for each caller, the callers in turn."""

    __slots__ = ("by_length", "count", "longest", "mean", "name", "ring", "start", "weight")

    def __init__(self, name: str, weight: float) -> None:
        self.name = name
        self.weight = weight
        self.count = 0
        self.start = 0.0  # virtual time of its next turn
        self.mean: float | None = None  # seconds for which its requests hold a place
        self.ring: OrderedDict[str, _Line] = OrderedDict()
        self.by_length: dict[int, OrderedDict[str, None]] = {}
        self.longest = 0  # tickets in its longest line

    def add(self, ticket: Ticket) -> None:
        line = self.ring.get(ticket.key)
        if line is None:
            line = self.ring[ticket.key] = OrderedDict()
        line[ticket] = None
        self.count += 1
        self._resized(ticket.key, len(line) - 1, len(line))

    def remove(self, ticket: Ticket) -> None:
        line = self.ring[ticket.key]
        del line[ticket]
        self.count -= 1
        self._resized(ticket.key, len(line) + 1, len(line))
        if not line:
            del self.ring[ticket.key]

    def next(self) -> Ticket:
        """The one whose turn it is; its caller goes to the end of the ring."""
        key, line = next(iter(self.ring.items()))
        self.ring.move_to_end(key)
        return next(iter(line))

    def newest_of_longest(self) -> Ticket:
        """The last that came of the caller with the most."""
        return next(reversed(self.ring[next(iter(self.by_length[self.longest]))]))

    def _resized(self, key: str, before: int, after: int) -> None:
        if before:
            same = self.by_length[before]
            del same[key]
            if not same:
                del self.by_length[before]
        if after:
            self.by_length.setdefault(after, OrderedDict())[key] = None
        if after > self.longest:
            self.longest = after
        elif before == self.longest and before not in self.by_length:
            self.longest = after  # lengths change by one: the line that was the longest still is


class FairQueue:
    """limit: places. size: how many may wait, 0: none. per_key: how many of them of one caller, 0: no bound of its own.
    weights: of the classes by name, with OTHERS for the rest.

    Steps return the tickets whose state they have changed, other than those given to them. Each step takes O(log waiting) at
    most, and O(classes). While anybody waits no place is free.
    """

    def __init__(self, limit: int, *, size: int = 0, per_key: int = 0, weights: Mapping[str, float] | None = None) -> None:
        self.busy = 0
        self.waiting = 0
        self.mean: float | None = None
        self._virtual = 0.0
        self._groups: dict[str, _Group] = {}
        self._keys: dict[str, int] = {}
        self._due: list[tuple[float, int, Ticket]] = []  # a heap; who has gone stays in it for a while
        self._number = 0
        self.configure(limit, 0.0, size=size, per_key=per_key, weights=weights)

    def configure(
        self, limit: int, now: float, *, size: int, per_key: int = 0, weights: Mapping[str, float] | None = None
    ) -> Sequence[Ticket]:
        """Other bounds. Who waits goes on waiting, and who has a place keeps it, even where that is above them."""
        self.limit, self.size, self.per_key = limit, size, per_key
        weights = {OTHERS: 1.0} | dict(weights or {})
        for name in weights.keys() | self._groups.keys():
            weight = weights.get(name, weights[OTHERS])
            group = self._groups.get(name)
            if group is not None:
                group.weight = weight
            else:
                self._groups[name] = _Group(name, weight)
        for name in [n for n, g in self._groups.items() if n not in weights and not g.count]:
            del self._groups[name]
        return self._grant(now)

    def take(self) -> bool:
        """A place at once, or False where one has to wait."""
        if self.busy >= self.limit:
            return False
        self.busy += 1
        return True

    def join(self, name: str, key: str, deadline: float, now: float, owner: Any = None) -> tuple[Ticket, Sequence[Ticket]]:
        """Wait as one of a class and of a caller (key). Returns the ticket, and whom it has pushed out. Raises Full.

        A full queue has room for a class or a caller that has less than its share in it: the newest request of whoever has
        the most must go. Places in the queue are shared as turns are.
        """
        changed: list[Ticket] = []
        self._expire(now, changed)
        group = self._groups.get(name) or self._groups[OTHERS]
        if self.per_key and self._keys.get(key, 0) >= self.per_key:
            raise Full("caller_full")
        if self.waiting >= self.size:
            greedy = self._greediest(group, key)
            if greedy is None:
                raise Full("full")
            self._remove(greedy, State.PUSHED_OUT)
            changed.append(greedy)
        if not group.count and group.start < self._virtual:
            group.start = self._virtual  # what it did not use is gone
        ticket = Ticket(group, key, deadline, owner)
        group.add(ticket)
        self.waiting += 1
        self._keys[key] = self._keys.get(key, 0) + 1
        self._number += 1
        heappush(self._due, (deadline, self._number, ticket))
        return ticket, changed

    def leave(self, ticket: Ticket) -> None:
        """Wait no longer. Nothing happens to one that does not wait any more."""
        if ticket.state is State.WAITING:
            self._remove(ticket, State.LEFT)

    def release(self, ticket: Ticket | None, held: float, now: float) -> Sequence[Ticket]:
        """A place is free again after ``held`` seconds. ticket: with which it was waited for, if it was."""
        self.busy -= 1
        self.mean = held if self.mean is None else self.mean + LEARN * (held - self.mean)
        if ticket is not None:
            mean = ticket.group.mean
            ticket.group.mean = held if mean is None else mean + LEARN * (held - mean)
        return self._grant(now) if self.waiting else ()

    def expire(self, now: float) -> Sequence[Ticket]:
        """Those whose deadline has come."""
        due = self._due
        if not due or due[0][0] > now:
            return ()
        changed: list[Ticket] = []
        self._expire(now, changed)
        return changed

    def empty(self) -> Sequence[Ticket]:
        """Send all away who wait."""
        gone = [ticket for _, _, ticket in sorted(self._due, key=lambda e: e[1]) if ticket.state is State.WAITING]
        for ticket in gone:
            self._remove(ticket, State.SENT_AWAY)
        return gone

    def lengths(self) -> dict[str, int]:
        """How many wait in each class."""
        return {group.name: group.count for group in self._groups.values()}

    def retry_after(self) -> float:
        """Seconds until about as many places have become free as requests wait now, by how long places were held so far."""
        wait = (self.waiting + 1) * (self.mean or 0.0) / max(self.limit, 1)
        return min(max(wait, SOONEST), LATEST)

    # -- inside

    def _grant(self, now: float) -> Sequence[Ticket]:
        changed: list[Ticket] = []
        self._expire(now, changed)
        while self.waiting and self.busy < self.limit:
            group = min((g for g in self._groups.values() if g.count), key=lambda g: (g.start, -g.weight))
            ticket = group.next()
            self._remove(ticket, State.GRANTED)
            self.busy += 1
            self._virtual = group.start
            cost = group.mean if group.mean is not None else self.mean
            group.start += max(cost if cost is not None else 1.0, 1e-6) / group.weight
            changed.append(ticket)
        return changed

    def _greediest(self, group: _Group, key: str) -> Ticket | None:
        """Whose request has to go for one more of this class and caller; None: nobody has more than they would have."""
        most = max((g for g in self._groups.values() if g.count), key=lambda g: g.count / g.weight, default=None)
        if most is None:
            return None
        if most is not group and most.count / most.weight > (group.count + 1) / group.weight:
            return most.newest_of_longest()
        own = len(group.ring.get(key, ()))
        return group.newest_of_longest() if group.longest > own + 1 else None

    def _expire(self, now: float, changed: list[Ticket]) -> None:
        due = self._due
        while due and due[0][0] <= now:
            ticket = heappop(due)[2]
            if ticket.state is State.WAITING:
                self._remove(ticket, State.LATE)
                changed.append(ticket)

    def _remove(self, ticket: Ticket, state: State) -> None:
        ticket.state = state
        ticket.group.remove(ticket)
        self.waiting -= 1
        left = self._keys[ticket.key] - 1
        if left:
            self._keys[ticket.key] = left
        else:
            del self._keys[ticket.key]
        if len(self._due) > 2 * self.waiting + 64:  # mostly of those who have gone
            self._due[:] = [entry for entry in self._due if entry[2].state is State.WAITING]
            heapify(self._due)
