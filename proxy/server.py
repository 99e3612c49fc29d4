"""The listening side: sockets, the connections they gave, tasks, and the drain.

What must never live here: HTTP (connection.py), policies, backends.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any

from proxy.connection import ClientConnection
from proxy.faults import Fault
from proxy.incoming import Incoming
from proxy.settings import ServerLimits
from proxy.tcp import peer_left

#: Seconds between "no new connections" and closing the idle ones, at a drain.
GRACE = 0.3
#: Seconds in which those who are refused at the end of a drain get their answers.
LAST_WORDS = 0.1

Handler = Callable[[ClientConnection, Incoming], Coroutine[Any, Any, None]]


class Server:
    """Listening sockets and their connections. handler: called once per request, as a task of its own."""

    def __init__(
        self,
        handler: Handler,
        limits: ServerLimits,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        on_refused: Callable[[Fault, str, str], None],
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.clock = clock
        self.new_id = new_id
        self.on_refused = on_refused
        self.connections: set[ClientConnection] = set()
        self.unread: set[ClientConnection] = set()  # those of which we do not read for the moment
        self.tasks: set[asyncio.Task[None]] = set()
        self.draining = False
        #: Called when a drain's time is up, before what still runs is cut off; returns to how many it has given an answer.
        self.last_call: Callable[[], int] = int
        self._servers: list[asyncio.AbstractServer] = []
        self._deadline = inf
        self._loop = asyncio.get_running_loop()

    @property
    def listening(self) -> bool:
        """New connections are taken."""
        return any(server.is_serving() for server in self._servers)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is kept until it is done."""
        task = self._loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def listen(self, sockets: list[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Serve on sockets that are bound (and listen, or will)."""
        patience = self.limits.head_timeout or None if tls is not None else None  # for the handshake
        for sock in sockets:
            self._servers.append(
                await self._loop.create_server(
                    lambda: ClientConnection(self), sock=sock, backlog=4096, ssl=tls, ssl_handshake_timeout=patience
                )
            )

    def look(self) -> None:
        """Find the clients that left while their socket is left unread; called every tenth of a second."""
        for connection in list(self.unread):
            if peer_left(connection.transport):
                connection.transport.abort()

    def sweep(self, now: float) -> None:
        for connection in list(self.connections):
            connection.sweep(now)

    def hurry(self) -> None:
        """Wait no longer in a drain, now or later: cut off what runs."""
        self._deadline = 0.0

    async def drain(self, timeout: float) -> bool:
        """Stop listening, let running requests end, close. False: some had to be cut off after ``timeout`` seconds."""
        self.draining = True  # from now on replies say Connection: close
        for server in self._servers:
            server.close()
        # Requests that are on their way over connections we hold still get their turn: closing at once lost some
        # 60 of 13,000 requests of an aiohttp server in a rolling restart, 0.3 s lost none.
        await asyncio.sleep(min(GRACE, timeout))
        for connection in list(self.connections):
            if connection.idle:
                connection.transport.close()
        self._deadline = min(self._deadline, self._loop.time() + timeout)
        while self.tasks and (left := self._deadline - self._loop.time()) > 0:
            await asyncio.wait(set(self.tasks), timeout=min(0.2, left))
        clean = not self.tasks
        if self.tasks and self.last_call():
            await asyncio.sleep(LAST_WORDS)
        for connection in list(self.connections):
            if connection.current is not None:
                connection.abort()
            else:
                connection.transport.close()
        for task in list(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(set(self.tasks), timeout=1)
        return clean
