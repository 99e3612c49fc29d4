"""The connections to one backend: connecting, TLS, keep-alive, timeouts.

What must never live here: HTTP (upstream.py), which backend to take (backends.py, the policies).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable

from policies.contract import Kind
from proxy.faults import Fault
from proxy.upstream import BackendConnection


class ConnectionPool:
    """Connections to one backend. Decisions are sync; only ``connect`` waits. ``clock``: monotonic seconds."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        *,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        limit: int,
        keepalive: float,
        connect_timeout: float,
    ) -> None:
        self.loop = loop
        self.clock = clock
        self.host, self.port, self.tls = host, port, tls
        self.limit = limit
        self.keepalive = keepalive
        self.connect_timeout = connect_timeout
        self.idle: deque[BackendConnection] = deque()
        self.busy: set[BackendConnection] = set()
        self.connecting = 0

    def __repr__(self) -> str:
        state = f"{len(self.busy)} busy, {len(self.idle)} idle, {self.connecting} connecting"
        return f"<pool {self.host}:{self.port} {state}>"

    def take(self) -> BackendConnection | None:
        """An idle connection, the most recently used one, or None."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if connection.alive and not connection.transport.is_closing():
                connection.reused = True
                self.busy.add(connection)
                return connection
        return None

    async def connect(self) -> BackendConnection:
        """A fresh connection. Raises Fault: BACKEND_CONNECT, BACKEND_TIMEOUT, or BACKEND_UNAVAILABLE at the limit."""
        if len(self.busy) + self.connecting >= self.limit:
            raise Fault(Kind.BACKEND_UNAVAILABLE, "connection limit", retry_after=1)
        self.connecting += 1
        try:
            async with asyncio.timeout(self.connect_timeout or None):
                _, protocol = await self.loop.create_connection(
                    lambda: BackendConnection(self), self.host, self.port, ssl=self.tls
                )
        except TimeoutError:
            raise Fault(Kind.BACKEND_TIMEOUT, "connect") from None
        except (ssl.SSLError, ssl.CertificateError) as e:
            raise Fault(Kind.BACKEND_CONNECT, f"TLS: {getattr(e, 'reason', None) or type(e).__name__}") from None
        except OSError as e:
            raise Fault(Kind.BACKEND_CONNECT, type(e).__name__) from None
        finally:
            self.connecting -= 1
        self.busy.add(protocol)
        return protocol

    def put_back(self, connection: BackendConnection) -> None:
        self.busy.discard(connection)
        if self.keepalive <= 0:
            connection.discard()
            return
        connection.idle_since = self.clock()
        self.idle.append(connection)

    def forget(self, connection: BackendConnection) -> None:
        self.busy.discard(connection)
        if not connection.alive or connection.transport.is_closing():
            try:
                self.idle.remove(connection)
            except ValueError:
                pass

    def sweep(self, now: float) -> None:
        """Apply the timeouts; called a few times a second, so that no exchange pays for a timer of its own."""
        while self.idle and now - self.idle[0].idle_since > self.keepalive:
            self.idle.popleft().discard()
        for c in list(self.busy):
            if c.tunnel is not None or c._parser is None:
                continue
            if c._reply is None:  # a head that drips byte by byte does not put this off
                waiting = c._stalled or not c.request_open  # not while the client is still sending
                if waiting and c.first_byte_timeout and now - c.since > c.first_byte_timeout:
                    c.fail(Fault(Kind.BACKEND_TIMEOUT, "first byte"))
            elif c.heard:
                c.heard = False
                c.since = now
            elif c.idle_timeout and not c._paused and now - c.since > c.idle_timeout:
                c.fail(Fault(Kind.BACKEND_IDLE, "silence"))

    def close(self) -> None:
        """Close the idle connections; running exchanges end by themselves and are not kept."""
        self.keepalive = 0
        while self.idle:
            self.idle.popleft().discard()
