"""Backends with their connection pools and leases.

What lives here: one Backend per entry of ``backends:``, what its requests look like (Host, key, path prefix), how much
is in flight. What must never live here: the order of attempts (policies' ``choose``), the reply.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from policies.contract import Candidate
from proxy.callers.identify import KEY_FIELDS
from proxy.faults import Fault
from proxy.headers import Fields
from proxy.pool import ConnectionPool
from proxy.settings import Backend as BackendSettings
from proxy.settings import BackendTls


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
        self.in_flight = 0
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
