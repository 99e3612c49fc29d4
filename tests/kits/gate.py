"""headgate itself for the tests: the real App on a free port of the running loop, with a clock that can be moved."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator
from typing import Any

import yaml

from policies.exchange import Exchange
from proxy import config
from proxy.app import App
from proxy.log import Log
from proxy.metrics import Metrics
from proxy.worker import bind
from tests.kits.stream import DEADLINE, until


class Clock:
    """Monotonic seconds that a test can move forward."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.offset


class Gate:
    """exchanges: every exchange that was settled, in order. clock: see ``advance``. text: the policy file that the
    next ``app.reload()`` reads."""

    def __init__(self, text: bytes, log_file: int) -> None:
        self.text = text
        self.clock = Clock()
        self.exchanges: list[Exchange] = []
        self._log_file = log_file
        self._log = Log("json", fd=log_file, linger=0.0)
        self.metrics = Metrics()
        self.app = App(self.load(), load=self.load, log=self._log, metrics=self.metrics, clock=self.clock)
        settled = self.app.relay.settled

        def note(x: Exchange) -> None:
            self.exchanges.append(x)
            settled(x)

        self.app.relay.settled = note
        self.port = 0

    def load(self) -> config.Config:
        return config.load("policy.yaml", text=self.text, env={})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def configure(self, backends: str | dict[str, Any], policy_yaml: str | None = None, **settings: Any) -> None:
        """Change the policy file; ``app.reload()`` puts it in force."""
        self.text = policy_text(backends, policy_yaml, settings)

    def advance(self, seconds: float) -> None:
        """Let the time limits see that ``seconds`` have gone by."""
        self.clock.offset += seconds
        self.sweep()

    def sweep(self) -> None:
        """Look at the time limits now, as the App does by itself every second."""
        now = self.clock()
        self.app.runtime.sweep(now)
        self.app.server.sweep(now)

    async def settled(self, n: int = 1) -> Exchange:
        """Wait until ``n`` exchanges have been settled; the last of them. Fails when there are more."""
        await until(lambda: len(self.exchanges) >= n)
        assert len(self.exchanges) == n, [(x.method, x.path, x.status, x.fault) for x in self.exchanges]
        return self.exchanges[n - 1]

    async def idle(self) -> None:
        """Wait until nothing is in flight: no task, no lease, no busy backend connection."""
        await until(lambda: not self.app.server.tasks and not self.in_flight)

    @property
    def in_flight(self) -> int:
        """Leases, busy backend connections and requests of the policy in force, together."""
        runtime = self.app.runtime
        return runtime.in_flight + sum(b.in_flight + len(b.pool.busy) for b in runtime.backends.values())

    def backend_connections(self, name: str = "local") -> tuple[int, int]:
        """(busy, idle) connections of a backend's pool."""
        pool = self.app.runtime.backends[name].pool
        return len(pool.busy), len(pool.idle)

    def buffered(self) -> int:
        """Bytes that wait in user memory for clients and backends to take them."""
        server = sum(c.transport.get_write_buffer_size() for c in self.app.server.connections)
        pools = [b.pool for b in self.app.runtime.backends.values()]
        return server + sum(c.transport.get_write_buffer_size() for p in pools for c in p.busy)

    async def log_lines(self, n: int = 1) -> list[dict[str, Any]]:
        """The log's lines so far, parsed; waits until there are ``n`` of them."""
        lines: list[bytes] = []

        def there() -> bool:
            size = os.fstat(self._log_file).st_size
            lines[:] = os.pread(self._log_file, size, 0).splitlines()
            return len(lines) >= n

        await until(there)
        return [json.loads(line) for line in lines]

    async def stop(self, timeout: float = 0.0) -> None:
        if self.app.server.draining:
            return
        await asyncio.wait_for(self.app.stop(timeout), DEADLINE)

    def close(self) -> None:
        self._log.close()


def policy_text(backends: str | dict[str, Any], policy_yaml: str | None, settings: dict[str, Any]) -> bytes:
    """The policy file as text: ``policy_yaml``, over it ``settings``, and the backends where it names none."""
    document: dict[str, Any] = (yaml.safe_load(policy_yaml) if policy_yaml else None) or {}
    document = {"version": 1, "listen": "127.0.0.1:0", "admin": "off", "usage": True} | document | settings
    if isinstance(backends, str):
        backends = {"local": {"url": backends}}
    document.setdefault("backends", backends)
    return yaml.safe_dump(document, sort_keys=False).encode()


@contextlib.asynccontextmanager
async def gate(
    backends: str | dict[str, Any], policy_yaml: str | None = None, *, drain: float = 0.0, **settings: Any
) -> AsyncIterator[Gate]:
    """headgate before one backend (its URL) or several (the ``backends:`` mapping). policy_yaml: more of the policy
    file. settings: top-level keys of it. At the end: drained for ``drain`` seconds, and nothing may be left over."""
    with tempfile.TemporaryFile() as log_file:
        made = Gate(policy_text(backends, policy_yaml, settings), log_file.fileno())
        try:
            sockets = bind("127.0.0.1:0")
            made.port = sockets[0].getsockname()[1]
            await made.app.start(sockets)
            await until(lambda: not any(b.probing for b in made.app.runtime.backends.values()))
            try:
                yield made
            finally:
                await made.stop(drain)
            await made.idle()
            await until(lambda: not made.app.server.connections)
            faults = [line for line in await made.log_lines(0) if line.get("event") == "internal_error"]
            assert not faults, faults
        finally:
            made.close()
