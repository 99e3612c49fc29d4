"""What one loaded policy.yaml is at run time: backends, and a Plan per route. Immutable once made; a reload makes a
new one, and running requests keep theirs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from weakref import WeakSet

from policies.chain import Hooks, Plan, PrepareError, RouteFacts, Step, close_all, compile_plan, prepare_all
from policies.contract import Deps
from proxy.backends import Backend, candidates
from proxy.callers.identify import CallerDeps, Identifier
from proxy.config import Config
from proxy.gated_pump import GatedStreamPump
from proxy.routes import ROUTES, Route
from proxy.store.opening import Stores, Told, make


class Runtime:
    """plans: by route name. loaded: unix seconds. deps: what policies may use. told: hears of the store's state."""

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        hooks: Hooks,
        previous: Runtime | None = None,
        *,
        caller_deps: CallerDeps | None = None,
        deps: Deps = Deps(),  # noqa: B008 - a tuple
        told: Told = lambda event, fields: None,
    ) -> None:
        self.config = config
        self.settings = config.settings
        self.loaded = time.time()
        self.backends: dict[str, Backend] = {}
        for name, settings in config.settings.backends.items():
            old = previous.backends.get(name) if previous is not None else None
            # an unchanged backend keeps its connections over a reload
            self.backends[name] = (
                old if old is not None and old.settings == settings else Backend(name, settings, loop, clock)
            )
        self.shared = (config.settings.store_settings, config.settings.workers)
        self.store: Stores
        self._before = previous
        if previous is not None and previous.shared == self.shared:
            self.store = previous.store  # unchanged, it keeps its counters and connections
        else:
            self.store = make(*self.shared, clock=clock, told=told)
        self.steps = steps_of(config)
        deps = deps._replace(store=self.store.open, wall=time.time)
        for step in self.steps:
            step.policy.deps = deps
        asked = config.settings.callers
        self.callers: Identifier | None = None
        if asked is not None and caller_deps is not None:
            self.callers = Identifier(asked, caller_deps._replace(store=self.store.open))
        self.keyless = asked is not None and not asked.pass_through
        """Callers' keys are for us, and no backend gets to see them."""
        self.candidates = candidates(self.backends, None)
        self.bounded = any(b.places is not None for b in self.backends.values())
        self.maps_models = any(b.settings.models for b in self.backends.values())
        self.plans: dict[str, Plan] = {r.name: compile_plan(self.steps, facts(r), hooks) for r in ROUTES}
        self.in_flight = 0
        self.gated: set[GatedStreamPump] = set()  # streams under way, for their heartbeats
        self.judging: WeakSet[GatedStreamPump] = WeakSet()  # those of them whose gates have to ask somebody

    async def prepare(self) -> None:
        """Let the policies open what they need. On an error everything half-open is closed again, and it is raised."""
        before, self._before = self._before, None
        try:
            await prepare_all(self.steps)
        except PrepareError:
            if before is None or before.store is not self.store:
                await self.store.close()
            raise
        if self.callers is not None:
            try:
                await self.callers.prepare()
            except (OSError, ValueError) as error:
                await self.close(keep=before)
                raise PrepareError("callers", error) from None
        for name, backend in self.backends.items():  # the last thing: from here on this runtime is the one in force
            if before is not None and name in before.backends:
                backend.take_over(before.backends[name])

    async def close(self, keep: Runtime | None = None) -> None:
        """Release policies, and the store and connections of backends that ``keep`` does not go on using."""
        await close_all(self.steps)
        if keep is None or keep.store is not self.store:
            await self.store.close()
        if self.callers is not None:
            await self.callers.close()
        for name, backend in self.backends.items():
            if keep is None or keep.backends.get(name) is not backend:
                backend.pool.close()

    def sweep(self, now: float) -> None:
        for backend in self.backends.values():
            backend.sweep(now)
        for pump in list(self.judging):
            pump.tick()

    def refuse_waiting(self) -> int:
        """Send away the requests that wait for a place at a backend; returns how many."""
        return sum(backend.refuse_waiting() for backend in self.backends.values())

    def beat(self, now: float) -> None:
        """Called about once a second: comments for clients whose text is held."""
        after = self.settings.stream.keepalive
        for pump in list(self.gated) if after else ():
            pump.beat(now, after)


def steps_of(config: Config) -> list[Step]:
    """The policies of a configuration, made, in their order."""
    return [Step(spec.cls(spec.entry.name, spec.options), spec.entry) for spec in config.policies]


def facts(route: Route) -> RouteFacts:
    """A route as the policy chain needs to know it."""
    return RouteFacts(
        name=route.name, method=route.method, path=route.path,
        reads_request=route.reads_request, reads_reply=route.reads_reply,
    )  # fmt: skip


def silent_hooks() -> Hooks:
    """Hooks that tell nobody: for ``explain`` and checks."""
    return Hooks(clock=time.monotonic, verdict=lambda *_: None, error=lambda *_: None)
