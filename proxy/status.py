"""What the admin port may know of the application: read-only views, made on demand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxy import __version__, explain
from proxy.admin import BackendState, FailedReload, PolicyState, Problem, WorkerState, workers_of

if TYPE_CHECKING:
    from proxy.app import App


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
            BackendState(b.name, b.settings.url, b.reachable, b.in_flight, len(b.pool.idle))
            for b in self._app.runtime.backends.values()
        ]

    def workers(self) -> Sequence[WorkerState]:
        return workers_of(self._app.metrics.snapshots())

    def worker(self) -> int:
        return self._index

    async def metrics(self, accept: str | None) -> tuple[bytes, str]:
        return await self._app.metrics.page(accept)
