"""Backends with their connection pools and leases.

What lives here: one Backend per entry of ``backends:``, what its requests look like (Host, key, path prefix), how much
is in flight, its places where they are bounded. What must never live here: the order of attempts (policies' ``choose``), who
waits for a place (``places.py``) and is next (``queueing.py``), the reply.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

from policies.contract import Candidate, Exchange
from proxy.faults import Fault
from proxy.headers import KEY_FIELDS, Fields
from proxy.places import Lease, Waiting, bounds, readers, tell
from proxy.pool import ConnectionPool
from proxy.queueing import OTHERS, FairQueue, Full, Ticket
from proxy.settings import Backend as BackendSettings
from proxy.settings import BackendTls, Queue


def tls_context(tls: BackendTls) -> ssl.SSLContext:
    """The TLS settings of a backend. Raises OSError or ssl.SSLError when a named file cannot be used."""
    context = ssl.create_default_context(cafile=tls.ca)
    context.set_alpn_protocols(["http/1.1"])
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Backend:
    """A backend at work. in_flight: exchanges that hold a lease. reachable: how the last connect went; None: untried."""

    def __init__(
        self, name: str, settings: BackendSettings, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        self.name = name
        self.settings = settings
        url = urlsplit(settings.url)
        secure = url.scheme == "https"
        host, port = url.hostname or "", url.port or (443 if secure else 80)
        self.prefix = url.path.rstrip("/").encode("latin-1")
        default = url.port is None or url.port == (443 if secure else 80)
        shown = f"[{host}]" if ":" in host else host
        self.host_field = (b"Host", (shown if default else f"{shown}:{port}").encode("latin-1"))
        self.keep_host = settings.host == "keep"
        self.pool = ConnectionPool(
            loop, clock, host=host, port=port, tls=tls_context(settings.tls) if secure else None,
            limit=settings.max_connections, keepalive=settings.keepalive, connect_timeout=settings.timeouts.connect,
        )  # fmt: skip
        self.clock = clock
        self.in_flight = 0
        self.places = FairQueue(settings.max_in_flight, **bounds(settings.queue)) if settings.max_in_flight else None
        self._class, self._share = readers(settings.queue or Queue())
        self.reachable: bool | None = None
        self.probing = False

    def __repr__(self) -> str:
        return f"<backend {self.name} in_flight={self.in_flight} {self.pool!r}>"

    def model_for(self, asked: str | None) -> tuple[bool, str | None]:
        """(does it serve this model, the name to send there or None when as asked)."""
        models = self.settings.models
        if not models or asked is None:
            return True, None
        sent = models.get(asked, models.get("*"))
        if sent is None:
            return False, None
        return True, None if sent in ("*", asked) else sent

    def authorize(self, fields: Fields) -> None:
        """Put the backend's own key in the place of the caller's, in place; without one the caller's passes."""
        key = self.settings.key
        if key is None:
            return
        name = b"Authorization"
        for field in fields:
            low = field[0].lower()
            if low in KEY_FIELDS:
                name = field[0]
                break
        value = key.encode("latin-1", "replace")
        fields[:] = [f for f in fields if f[0].lower() not in KEY_FIELDS]
        fields.append((name, b"Bearer " + value if name.lower() == b"authorization" else value))

    # -- leases ------------------------------------------------------------------------------------------------

    def lease(self, counts: bool = True) -> Lease | Backend | None:
        """What an exchange holds while this backend works on it, or None where it has to wait. counts: it takes a place."""
        places = self.places
        if places is None or not counts:
            self.in_flight += 1
            return self
        return Lease(self, places) if places.take() else None

    def give_back(self) -> None:
        """A lease that takes no place ends."""
        self.in_flight -= 1

    def join(self, x: Exchange, now: float, until: float, owner: Waiting) -> Ticket | None:
        """Wait for a place, ``until`` then or the setting's time at most. None: waiting is not done here. Raises Full."""
        queue, places = self.settings.queue, self.places
        if queue is None or places is None:
            return None
        waited = x.queued.seconds if x.queued is not None else 0.0
        until = min(until, now + queue.timeout - waited)
        if until <= now:
            raise Full("timeout")
        ticket, changed = places.join(self.class_of(x), self._share(x), until, now, owner)
        tell(changed)
        return ticket

    def class_of(self, x: Exchange) -> str:
        """The class of a request, as the policy file calls it."""
        queue = self.settings.queue
        name = self._class(x)
        return name if name is not None and queue is not None and name in queue.classes else OTHERS

    def take_over(self, old: Backend) -> None:
        """After a reload: go on with the places of the one that had this name and address, and with those who wait there."""
        places = old.places
        if places is None or old is self or old.settings.url != self.settings.url:
            return
        if self.places is not None:
            self.places = places
        limit = self.settings.max_in_flight or sys.maxsize
        tell(places.configure(limit, self.clock(), **bounds(self.settings.queue)))

    def refuse_waiting(self) -> int:
        """Send away who waits: there is no time left. Returns how many."""
        gone = self.places.empty() if self.places is not None else ()
        tell(gone)
        return len(gone)

    def sweep(self, now: float) -> None:
        """Apply the timeouts; called ten times a second."""
        self.pool.sweep(now)
        if self.places is not None:
            tell(self.places.expire(now))

    async def probe(self) -> bool:
        """True when a TCP (and TLS) connection can be had; the connection is kept for use."""
        self.probing = True
        try:
            connection = self.pool.take() or await self.pool.connect()
        except Fault:
            self.reachable = False
            return False
        finally:
            self.probing = False
        self.reachable = True
        self.pool.put_back(connection)
        return True


def candidates(backends: dict[str, Backend], model: str | None) -> list[Candidate]:
    """The backends that serve a model, in the order of policy.yaml."""
    found = []
    for backend in backends.values():
        serves, sent = backend.model_for(model)
        if serves:
            found.append(Candidate(backend.name, sent))
    return found
