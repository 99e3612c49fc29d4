"""What the admin port may know of the application: read-only views, made on demand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from policies.limits.ledger import Ledger, lines_of, month_of
from proxy import __version__, explain
from proxy.admin import BackendState, FailedReload, PlacesState, PolicyState, Problem, WorkerState, workers_of
from proxy.usage import Account, Usage

if TYPE_CHECKING:
    from proxy.app import App
    from proxy.backends import Backend


class Status:
    """The AdminState of one process."""

    version = __version__

    def __init__(self, app: App, index: int = 0) -> None:
        self._app = app
        self._index = index

    def listening(self) -> bool:
        return self._app.server.listening

    def draining(self) -> bool:
        return self._app.server.draining

    def backends_ready(self) -> bool:
        return any(b.reachable for b in self._app.runtime.backends.values())

    def policy(self) -> PolicyState | None:
        runtime, failed = self._app.runtime, self._app.failed_reload
        config = runtime.config
        return PolicyState(
            source=config.source or "command line",
            hash=config.hash,
            since=runtime.loaded,
            routes=explain.rows(runtime),
            failed=None if failed is None else FailedReload(failed[0], [Problem(w, m) for w, m in failed[1]]),
        )

    def backends(self) -> Sequence[BackendState]:
        return [
            BackendState(b.name, b.settings.url, b.reachable, b.in_flight, len(b.pool.idle), _places(b))
            for b in self._app.runtime.backends.values()
        ]

    def workers(self) -> Sequence[WorkerState]:
        return workers_of(self._app.metrics.snapshots())

    def worker(self) -> int:
        return self._index

    async def metrics(self, accept: str | None) -> tuple[bytes, str]:
        return await self._app.metrics.page(accept)

    async def usage(self, month: str) -> Usage:
        runtime = self._app.runtime
        month = month or month_of(time.time())
        accounts = []
        for step in runtime.steps:
            ledger = getattr(step.policy, "ledger", None)
            if isinstance(ledger, Ledger):
                limits = tuple(step.policy.options.limits)
                lines = await asyncio.to_thread(lines_of, await ledger.counted(month))
                accounts.append(Account(step.policy.name, ledger.currency, limits, lines))
        alone = runtime.settings.workers > 1 and not runtime.store.state().shared
        return Usage(month, self._index if alone else None, accounts)


def _places(backend: Backend) -> PlacesState | UnsetType:
    places = backend.places
    if places is None:
        return UNSET
    return PlacesState(places.limit, places.busy, places.lengths(), places.mean and round(places.mean, 3))
