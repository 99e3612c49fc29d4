"""Waiting for a place at a backend that works on so many requests at once and no more: the tasks' side of it.

What lives here: leases, and the wait, with its end whatever ends it. What must never live here: who is next (``queueing.py``),
connections, what a backend is (``backends.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from policies.contract import Candidate, Exchange, Kind
from policies.exchange import Queued
from policies.limits.subjects import subject_of
from policies.units import parse_duration
from proxy.faults import Fault
from proxy.queueing import FairQueue, Full, State, Ticket
from proxy.settings import Queue

if TYPE_CHECKING:
    from proxy.backends import Backend

#: Requests that make no model work: they take no place and never wait, so that a busy backend can still be looked at.
LIGHT = frozenset(("GET", "HEAD", "OPTIONS", "DELETE"))
#: What has become of a wait, as the log and the metrics say it.
OUTCOMES = {State.LATE: "timeout", State.PUSHED_OUT: "pushed_out", State.SENT_AWAY: "draining"}


class Lease:
    """A place at a backend, from its taking to the reply's last byte. ticket: with which it was waited for, if it was."""

    __slots__ = ("backend", "places", "since", "ticket")

    def __init__(self, backend: Backend, places: FairQueue, ticket: Ticket | None = None) -> None:
        self.backend = backend
        self.places = places
        self.ticket = ticket
        self.since = backend.clock()
        backend.in_flight += 1

    def give_back(self) -> None:
        """The place is free; whose turn it is gets it. To be called once."""
        self.backend.in_flight -= 1
        now = self.backend.clock()
        changed = self.places.release(self.ticket, now - self.since, now)
        if changed:
            tell(changed)


def tell(changed: Iterable[Ticket]) -> None:
    """Let those who wait know what has become of their tickets."""
    for ticket in changed:
        ticket.owner.told(ticket)


async def turn(
    x: Exchange, choices: list[Candidate], backends: dict[str, Backend], upgrade: bool = False
) -> tuple[Candidate, Lease | Backend]:
    """The first of the candidates that has room, with a lease of it; where none has, the first that gets room, waiting in the
    queues of all of them at once. The candidate is taken out of the choices. upgrade: a WebSocket is asked for. Raises Fault."""
    counts = upgrade or x.method not in LIGHT
    for at, candidate in enumerate(choices):
        lease = backends[candidate.backend].lease(counts)
        if lease is not None:
            del choices[at]
            return candidate, lease
    at, got = await Waiting(x, [backends[c.backend] for c in choices]).wait()
    return choices.pop(at), got


class Waiting:
    """A request in the queues of all backends that may have it: the first that has a place gets it, and at once it is in none
    of the others. Whatever ends the wait, nothing is left behind."""

    def __init__(self, x: Exchange, backends: Sequence[Backend]) -> None:
        self.x = x
        self.backends = backends
        self.tickets: dict[Ticket, int] = {}  # and whose they are, by their number
        self.lease: Lease | None = None
        self.at = 0  # the number of the backend that has given the lease
        self.state = State.WAITING
        self.future: asyncio.Future[None] = backends[0].pool.loop.create_future()

    async def wait(self) -> tuple[int, Lease]:
        """The number of the backend that has a place, and the lease of it. Raises Fault when the wait was for nothing."""
        backend = self.backends[0]
        began = backend.clock()
        why = self._join(began)
        if not self.tickets and self.lease is None:
            raise self._refused(why, 0.0)
        try:
            await self.future
        except BaseException:  # the client has left, or we are shut down
            self._abandon()
            self._note(backend, "gone", backend.clock() - began)
            raise
        waited = backend.clock() - began
        if self.lease is None:
            raise self._refused(OUTCOMES[self.state], waited)
        self._note(self.lease.backend, "served", waited)
        return self.at, self.lease

    def told(self, ticket: Ticket) -> None:
        """The state of one of the tickets has changed."""
        at = self.tickets.pop(ticket)
        if ticket.state is State.GRANTED:
            places = self.backends[at].places
            assert places is not None
            self.at, self.lease = at, Lease(self.backends[at], places, ticket)
            self._leave()
        elif self.tickets:
            return
        self.state = ticket.state
        if not self.future.done():  # its task may have been cancelled and not have run yet
            self.future.set_result(None)

    def _join(self, now: float) -> str:
        """Returns why not, where no queue took it."""
        until, why = deadline_of(self.x, self.backends), "full"
        for at, backend in enumerate(self.backends):
            try:
                ticket = backend.join(self.x, now, until, self)
            except Full as full:
                why = full.reason
            else:
                if ticket is not None:
                    self.tickets[ticket] = at
        return why

    def _leave(self) -> None:
        for ticket, at in self.tickets.items():
            places = self.backends[at].places
            if places is not None:
                places.leave(ticket)
        self.tickets.clear()

    def _abandon(self) -> None:
        self._leave()
        if self.lease is not None:  # granted between the cancellation and now
            self.lease.give_back()

    def _refused(self, why: str, waited: float) -> Fault:
        backend = self.backends[0]
        self._note(backend, why, waited)
        after = min((b.places.retry_after() for b in self.backends if b.places is not None), default=1.0)
        if why == "draining":
            return Fault(Kind.DRAINING)
        kind = Kind.QUEUE_TIMEOUT if why == "timeout" else Kind.QUEUE_FULL
        return Fault(kind, why, retry_after=after)

    def _note(self, backend: Backend, outcome: str, waited: float) -> None:
        x = self.x
        before = x.queued.seconds if x.queued is not None else 0.0
        x.queued = Queued(backend.name, backend.class_of(x), outcome, before + waited)
        x.upstream_wait += waited


def deadline_of(x: Exchange, backends: Iterable[Backend]) -> float:
    """When the client gives up, on the clock of ``x.started``, as far as it says so; infinity where it does not."""
    found = float("inf")
    for name in {name for b in backends if b.settings.queue is not None for name in b.settings.queue.deadline}:
        text = x.headers.get(name)
        if text is None:
            continue
        try:
            seconds = parse_duration(text)
        except ValueError:
            continue  # it is the client's own affair
        if seconds > 0:
            found = min(found, x.started + seconds)
    return found


def bounds(queue: Queue | None) -> dict[str, Any]:
    if queue is None:
        return {"size": 0}
    return {"size": queue.size, "per_key": queue.per_caller, "weights": queue.classes}


def readers(queue: Queue) -> tuple[Callable[[Exchange], str | None], Callable[[Exchange], str]]:
    """From a request to the name that may be its class, and to whose turn it is."""
    kind, _, name = (queue.priority or "").partition(":")
    readers: dict[str, Callable[[Exchange], str | None]] = {
        "": lambda x: None, "label": lambda x: x.labels.get(name), "claim": lambda x: x.claims.get(name),
        "header": lambda x: x.headers.get(name), "caller": lambda x: x.caller, "tenant": lambda x: x.tenant,
        "route": lambda x: x.route,
    }  # fmt: skip
    return readers[kind], subject_of((queue.fair_by,))
