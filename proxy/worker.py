"""What a worker process gets from its supervisor, and listening sockets; used by a single process too.

What lives here: binding, and the hand-over by descriptor. What must never live here: starting processes
(``proxy/supervisor.py``), traffic.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from proxy.settings import split_address

BACKLOG = 4096
VARIABLE = "HEADGATE_WORKER"
EX_SOFTWARE = 70
"""Exit code (sysexits.h): it had to be killed."""


@dataclass(frozen=True)
class WorkerContext:
    """What a worker gets from its supervisor. listen, admin: listening sockets. metrics: where the tallies lie."""

    index: int
    listen: list[socket.socket]
    admin: list[socket.socket]
    metrics: Path
    parent: int
    _alive: int
    _ready: int

    def ready(self) -> None:
        """Tell the supervisor that this worker takes connections."""
        with contextlib.suppress(OSError):
            os.write(self._ready, b"R")

    def follow_parent(self, patience: float) -> None:
        """When the parent dies, send this process SIGTERM, and end it ``patience`` seconds later if it still runs.

        In a thread of its own, so that it works when the event loop does not.
        """

        def wait() -> None:
            with contextlib.suppress(OSError):
                os.read(self._alive, 1)  # nobody writes: this returns when the parent's end is closed
            atexit.register(shutil.rmtree, self.metrics, ignore_errors=True)  # the parent cannot do it any more
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(patience)
            os._exit(EX_SOFTWARE)

        threading.Thread(target=wait, name="parent", daemon=True).start()


def inherited() -> WorkerContext | None:
    """What the supervisor handed down, None in a process that is no worker. To be called once.

    Raises ValueError when the variable is there and makes no sense.
    """
    text = os.environ.pop(VARIABLE, None)
    if text is None:
        return None
    try:
        given = json.loads(text)
        if not isinstance(given, dict):
            raise ValueError(text)
        sockets = {key: [_adopt(fd) for fd in given[key]] for key in ("listen", "admin")}
        for fd in (given["alive"], given["ready"]):
            os.set_inheritable(fd, False)
        return WorkerContext(
            int(given["index"]), sockets["listen"], sockets["admin"], Path(given["metrics"]), int(given["parent"]),
            int(given["alive"]), int(given["ready"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OSError) as e:
        raise ValueError(f"{VARIABLE} is for headgate's own workers; unset it") from e


def _adopt(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def bind(address: str, backlog: int | None = BACKLOG, *, spread: bool = False) -> list[socket.socket]:
    """Listening sockets for ``HOST:PORT``: one for every address the host has. Raises OSError.

    Port 0 takes any free port, the same for all. backlog None: bound, and not listening yet. spread: other sockets
    of this user may have the same port, and the system spreads connections over them (Linux: SO_REUSEPORT).
    """
    host, port = split_address(address)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, proto, _, where in dict.fromkeys(found):
            sock = socket.socket(family, kind, proto)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if spread:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((where[0], port, *where[2:]))
            if backlog is not None:
                sock.listen(backlog)
            sock.setblocking(False)
            port = sock.getsockname()[1]
    except OSError:
        _close(sockets)
        raise
    return sockets


class Doors:
    """The listening sockets of several processes on one port. Raises OSError when the port is taken.

    On Linux each process has sockets of its own, and the kernel spreads connections over them. One shared socket
    would not do: of idle processes the kernel always wakes the same one, which then has all the long streams. All
    are bound here, so what waits in a dead worker's queue waits for its successor. Elsewhere all share one set.
    """

    def __init__(self, address: str, count: int) -> None:
        self._spread = count > 1 and sys.platform == "linux"
        first = bind(address, None if self._spread else BACKLOG)
        if not self._spread:
            self._sets = [first] * count
            return
        # Bound without sharing it told whether somebody else has the port; with sharing nobody would object.
        self._address = f"{address.rpartition(':')[0]}:{first[0].getsockname()[1]}"
        _close(first)
        self._sets = []
        try:
            for _ in range(count):
                self._sets.append(bind(self._address, spread=True))
        except OSError:
            self.close()
            raise

    def names(self) -> list[str]:
        """``host:port`` of every address."""
        pairs = [sock.getsockname()[:2] for sock in self._sets[0]]
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in pairs]

    def of(self, index: int) -> list[socket.socket]:
        """The sockets of one process. After ``shut`` they listen as soon as the process asks them to."""
        if not self._sets[index]:
            self._sets[index] = bind(self._address, None, spread=True)
        return self._sets[index]

    def shut(self, index: int) -> None:
        """Take a process that will be away for long out of the spread, or its share of connections would hang."""
        if self._spread and sum(map(bool, self._sets)) > 1:
            _close(self._sets[index])
            self._sets[index] = []

    def close(self) -> None:
        for sockets in self._sets:
            _close(sockets)


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
