"""The composition root: one process's parts, built from a loaded policy file. Nothing imports it but ``__main__``,
the demo and the tests.

What lives here: what is made of what, reload, drain. What must never live here: any behaviour of a part.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from policies.chain import Hooks, PrepareError
from policies.contract import Deps
from policies.exchange import Exchange, Kind
from proxy.callers.identify import CallerDeps
from proxy.config import Config
from proxy.config_keys import read_keys
from proxy.config_report import ConfigError
from proxy.faults import Fault
from proxy.log import Log
from proxy.metrics import Metrics
from proxy.post import Poster
from proxy.relay import Relay
from proxy.runtime import Runtime
from proxy.server import Server
from proxy.tls import ListenerTls

#: Seconds between two looks at the timeouts: of backends, and (every tenth) of clients.
TICK = 0.1
#: Seconds between two probes of a backend that the last connect could not reach.
PROBE_EVERY = 1.0


class App:
    """One process. load: reads the policy file again (for a reload). clock: monotonic seconds."""

    def __init__(
        self,
        config: Config,
        *,
        load: Callable[[], Config] | None = None,
        log: Log,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log = log
        self.metrics = metrics
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self._load = load
        self._hooks = Hooks(clock=clock, verdict=metrics.policy, error=self._policy_error)
        self._post = Poster()
        self._deps = Deps(self._post.open, clock, spent=metrics.spent)
        self._caller_deps = CallerDeps(self._post.get, read_keys, clock, time.time, log.event)
        self.runtime = Runtime(config, self.loop, clock, self._hooks, caller_deps=self._caller_deps, deps=self._deps,
                               told=self._store_told)  # fmt: skip
        prefix, counter = os.urandom(6).hex(), itertools.count(1)
        new_id = lambda: f"{prefix}-{next(counter):x}"  # noqa: E731 - unique over restarts and workers
        self.relay = Relay(
            self.runtime, clock=clock, new_id=new_id, settled=self._settled, begun=metrics.begin, report=self._bug
        )
        self.server = Server(
            self.relay.handle, config.settings.limits, clock=clock, new_id=new_id, on_refused=self._refused
        )
        self.server.last_call = lambda: sum(r.refuse_waiting() for r in (self.runtime, *self._retired))
        #: (unix seconds, [(where, message)]) of the last reload, when it failed
        self.failed_reload: tuple[float, list[tuple[str, str]]] | None = None
        self._tls: ListenerTls | None = None
        self._ticks = 0
        self._ticker: asyncio.TimerHandle | None = None
        self._probes: set[asyncio.Task[bool]] = set()
        self._retired: list[Runtime] = []
        self._reloading = asyncio.Lock()

    # -- life --------------------------------------------------------------------------------------------------

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Prepare the policies and serve on bound sockets. Raises what a policy's ``prepare`` raises."""
        if self.runtime.settings.tls is not None:
            self._tls = ListenerTls(self.runtime.settings.tls, self.log.event)
        await self.runtime.prepare()
        self.metrics.reloaded(True, self.runtime.config.hash, self.runtime.loaded)
        self._tell_store()
        self._tick()
        await self.server.listen(list(sockets), self._tls.context if self._tls is not None else None)
        self.probe()

    async def stop(self, timeout: float | None = None) -> bool:
        """Drain for at most ``timeout`` seconds (default: the setting); True when nothing was cut off."""
        settings = self.runtime.settings
        clean = await self.server.drain(settings.drain_timeout if timeout is None else timeout)
        if self._ticker is not None:
            self._ticker.cancel()
        for task in list(self._probes):
            task.cancel()
        for runtime in (self.runtime, *self._retired):
            await runtime.close()
        await self._post.close()
        return clean

    async def reload(self) -> bool:
        """Read the policy file again and put it in force, whole or not at all. False: the old one stays."""
        if self._load is None:
            return False
        async with self._reloading:
            try:
                config = await asyncio.to_thread(self._load)
                now = self.runtime.config
                if config.same_as(now):
                    self.failed_reload = None  # a bad file was put right
                    self.metrics.reloaded(True, now.hash, self.runtime.loaded)
                    return True
                # in a thread: compiling ten thousand phrases takes half a second, and no stream may wait for it
                fresh = await asyncio.to_thread(
                    Runtime, config, self.loop, self.clock, self._hooks, previous=self.runtime,
                    caller_deps=self._caller_deps, deps=self._deps, told=self._store_told,
                )  # fmt: skip
                await fresh.prepare()
            except Exception as error:
                self._keep_old(error)
                return False
            old, self.runtime = self.runtime, fresh
            self.relay.runtime = fresh
            self.server.limits = fresh.settings.limits
            self.failed_reload = None
            self.metrics.reloaded(True, config.hash, fresh.loaded)
            self.log.event("info", "policy_reloaded", hash=config.short_hash, source=_source(config))
            for name in ("listen", "admin", "workers", "tls"):
                if getattr(old.settings, name) != getattr(fresh.settings, name):
                    self.log.event("warning", "restart_needed", setting=name)
            for name in old.backends.keys() - fresh.backends.keys():
                self.metrics.backend_gone(name)
            self._retired.append(old)  # until the requests that run under it have ended
            self.probe()
            return True

    def _keep_old(self, error: Exception) -> None:
        """A reload failed: shout, and go on as before."""
        if isinstance(error, ConfigError):
            problems = [(p.where, p.text) for p in error.problems]
        else:
            problems = [
                (_source(self.runtime.config), str(error) if isinstance(error, PrepareError) else type(error).__name__)
            ]
        self.failed_reload = (time.time(), problems)
        self.metrics.reloaded(False)
        for where, message in problems:
            self.log.event("error", "policy_rejected", where=where, message=message)

    # -- time --------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._ticker = self.loop.call_later(TICK, self._tick)
        now = self.clock()
        self._ticks += 1
        self.runtime.sweep(now)
        for old in self._retired:
            old.sweep(now)
        self.server.look()
        if self._ticks % 10:
            return
        self.server.sweep(now)
        if self._tls is not None:
            self._tls.refresh()
        for runtime in (self.runtime, *self._retired):
            runtime.beat(now)
        connections = self.server.connections
        self.metrics.now(streams=sum(c.streaming for c in connections), connections=len(connections))
        self._tell_store()
        for old in [r for r in self._retired if not r.in_flight]:
            self._retired.remove(old)
            self.server.spawn(old.close(keep=self.runtime))
        for backend in self.runtime.backends.values():
            pool = backend.pool
            self.metrics.backend(
                backend.name, active=len(pool.busy), idle=len(pool.idle), up=backend.reachable is not False,
                waiting=backend.places.waiting if backend.places is not None else 0,
            )
        self.probe(only_lost=True)

    def _tell_store(self) -> None:
        self.metrics.store(self.runtime.store, self.runtime.store.state())

    def probe(self, *, only_lost: bool = False) -> None:
        """Look whether backends can be reached; results show in ``ready`` and at the admin port."""
        for backend in self.runtime.backends.values():
            if backend.reachable is False or (not only_lost and backend.reachable is None):
                if not backend.probing:
                    task = self.loop.create_task(backend.probe())
                    self._probes.add(task)
                    task.add_done_callback(self._probes.discard)

    # -- what the parts tell -----------------------------------------------------------------------------------

    def _settled(self, x: Exchange) -> None:
        self.metrics.settle(x, x.ended or self.clock())
        self.log.request(x)

    def _refused(self, fault: Fault, request_id: str, client: str) -> None:
        self.metrics.fault(fault.kind)
        if fault.kind is not Kind.OVERLOADED:  # a flood must not flood the log
            self.log.event(
                "warning", "refused", id=request_id, client=client, fault=fault.kind.value, detail=fault.detail
            )

    def _policy_error(self, policy: str, phase: str, error: str) -> None:
        self.log.event("error", "policy_error", policy=policy, phase=phase, error=error)

    def _store_told(self, event: str, fields: dict[str, Any]) -> None:
        self.log.event("info" if event == "store_back" else "error", event, **fields)

    def _bug(self, request_id: str, error: BaseException) -> None:
        self.log.exception("internal_error", error, id=request_id)


def _source(config: Config) -> str:
    return config.source or "command line"


def tune_gc() -> None:
    """Fewer collections of what is old: what a relay allocates dies by reference counting; cycles are rare and small. More
    of what is new than by default (700, 10, 10) would be: many states of a rule set looked at together took up to 100 ms.

    And what runs in a thread (large bodies, a reload) gives the interpreter back after half a millisecond, not after five:
    the event loop waits for it at each of its turns."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 4, 500)
    sys.setswitchinterval(0.0005)
