"""The admin port: probes, metrics and what is loaded, for operators and machines; read-only.

What lives here: routes and their answers, all made from what ``AdminState`` tells. What must never live here:
decisions about traffic, prompts, replies, keys. It belongs on an address that callers cannot reach.
"""

from __future__ import annotations

import asyncio
import html
import socket
from collections.abc import Awaitable, Callable, Sequence
from math import ceil
from typing import Any, Protocol

import msgspec
from aiohttp import http_parser, web

from policies.store import StoreAway
from proxy.lines import timestamp
from proxy.tally import Snapshot
from proxy.usage import BadQuestion, Usage, as_csv, as_json, question


class Problem(msgspec.Struct, frozen=True):
    """One reason why a policy file was not taken. where: ``policy.yaml:7:3`` or a path of keys; no values."""

    where: str
    message: str


class FailedReload(msgspec.Struct, frozen=True):
    """at: unix seconds."""

    at: float
    problems: list[Problem]


class PolicyState(msgspec.Struct, frozen=True):
    """The live policy. source: the file, or ``(command line)``. hash: of its content. since: unix seconds. routes:
    the plan's rows as ``headgate explain`` shows them. failed: the last reload when it failed, otherwise None."""

    source: str
    hash: str
    since: float
    routes: list[dict[str, Any]]
    failed: FailedReload | None = None


class PlacesState(msgspec.Struct, frozen=True):
    """A backend's places. waiting: by class. held_s: for how long a request holds one, on average; None: not known yet."""

    limit: int
    taken: int
    waiting: dict[str, int]
    held_s: float | None

    def __str__(self) -> str:
        return f"{self.taken} of {self.limit} taken, {sum(self.waiting.values())} waiting"


class BackendState(msgspec.Struct, frozen=True):
    """A backend as this worker knows it. reachable: how the last connect went, None: not tried yet. places: where they are
    bounded."""

    name: str
    url: str
    reachable: bool | None
    in_flight: int = 0
    idle: int = 0
    places: PlacesState | msgspec.UnsetType = msgspec.UNSET


class WorkerState(msgspec.Struct, frozen=True):
    """name: its index. since: unix seconds."""

    name: str
    pid: int
    alive: bool
    since: float


def workers_of(snapshots: Sequence[Snapshot]) -> list[WorkerState]:
    """The workers among the processes that have a tally (``Metrics.snapshots``)."""
    return [WorkerState(s.name, s.pid, s.alive, s.started) for s in snapshots if s.name.isdigit()]


class AdminState(Protocol):
    """What the admin port asks of the application. All but ``metrics`` is called on the event loop and cheap."""

    @property
    def version(self) -> str: ...

    def listening(self) -> bool:
        """The traffic port takes connections."""

    def draining(self) -> bool:
        """A shutdown has begun."""

    def backends_ready(self) -> bool:
        """At least one backend is taken to be reachable, by the last known state; nothing is tried now."""

    def policy(self) -> PolicyState | None:
        """The live policy, None before the first is loaded."""

    def backends(self) -> Sequence[BackendState]: ...

    def workers(self) -> Sequence[WorkerState]:
        """All worker processes; one for a single process."""

    def worker(self) -> int:
        """The index of the one that answers."""

    async def metrics(self, accept: str | None) -> tuple[bytes, str]:
        """Body and Content-Type (``Metrics.page``)."""

    async def usage(self, month: str) -> Usage:
        """The accounts of a month (``2026-11``; empty: the current one). Raises StoreAway."""


class ParserMissing(RuntimeError):
    """A C parser of HTTP is not there; the pure-Python one is laxer and slower, so headgate does not start."""


def require_c_parser() -> None:
    """Raise ParserMissing when aiohttp was installed without its C parser."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ParserMissing(
            "aiohttp has no C parser here: install its binary wheel, and unset AIOHTTP_NO_EXTENSIONS if it is set"
        )


PATHS: dict[str, str] = {
    "/health": "alive: the process answers; says nothing about backends (liveness)",
    "/ready": "can serve: policy loaded, port open, not draining, a backend reachable (startup, readiness)",
    "/metrics": "Prometheus metrics of all workers",
    "/policies": "the live policy: plan, hash, since when, the last reload that failed",
    "/backends": "backends as this worker knows them",
    "/usage": "who has used what in a month, by the budgets: ?month=2026-11, ?by=tenant|caller|model, ?format=csv",
    "/version": "version, worker",
}
ALIASES = {"/healthz": "/health", "/health/live": "/health", "/readyz": "/ready", "/health/ready": "/ready"}


def build_admin(state: AdminState) -> web.Application:
    """The application that serves PATHS and ALIASES. Raises ParserMissing."""
    require_c_parser()
    app = web.Application(middlewares=[_errors], handler_args={"access_log": None})
    pages = _Pages(state)
    handlers: dict[str, Callable[[web.Request], Awaitable[web.Response]]] = {
        "/health": pages.health,
        "/ready": pages.ready,
        "/metrics": pages.metrics,
        "/policies": pages.policies,
        "/backends": pages.backends,
        "/usage": pages.usage,
        "/version": pages.version,
    }
    app.router.add_get("/", pages.index)
    for path in PATHS:
        app.router.add_get(path, handlers[path])
    for alias, path in ALIASES.items():
        app.router.add_get(alias, handlers[path])
    return app


async def start_admin(app: web.Application, sockets: Sequence[socket.socket]) -> web.AppRunner:
    """Serve on listening sockets; stop with ``await runner.cleanup()``, which waits a second for running answers."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=75.0, shutdown_timeout=1.0)
    await runner.setup()
    for sock in sockets:
        await web.SockSite(runner, sock, backlog=128).start()
    return runner


class _Pages:
    def __init__(self, state: AdminState) -> None:
        self._state = state

    async def health(self, _: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def ready(self, _: web.Request) -> web.Response:
        missing = self._missing()
        return _json({"status": "not ready" if missing else "ready", "missing": missing}, 503 if missing else 200)

    async def metrics(self, request: web.Request) -> web.Response:
        body, kind = await self._state.metrics(request.headers.get("Accept"))
        return web.Response(body=body, headers={"Content-Type": kind, **_HEADERS})

    async def policies(self, _: web.Request) -> web.Response:
        live = self._state.policy()
        if live is None:
            return _json({"status": "no policy is loaded"}, 503)
        failed = live.failed
        return _json(
            {
                "source": live.source,
                "hash": live.hash,
                "since": timestamp(live.since),
                "routes": live.routes,
                "last_failed_reload": failed and {"at": timestamp(failed.at), "problems": failed.problems},
            }
        )

    async def backends(self, _: web.Request) -> web.Response:
        return _json({"worker": self._state.worker(), "backends": list(self._state.backends())})

    async def version(self, _: web.Request) -> web.Response:
        workers = [
            {"name": w.name, "pid": w.pid, "alive": w.alive, "since": timestamp(w.since)} for w in self._state.workers()
        ]
        return _json({"version": self._state.version, "worker": self._state.worker(), "workers": workers})

    async def usage(self, request: web.Request) -> web.Response:
        try:
            asked = question(list(request.query.items()))
            found = await self._state.usage(asked.month)
        except BadQuestion as error:
            return _json({"error": str(error), "status": 400}, 400)
        except StoreAway as away:
            answer = _json({"error": "the store is away, and with it the account", "status": 503}, 503)
            answer.headers["Retry-After"] = str(max(1, ceil(away.retry_after_s)))
            return answer
        # in a thread: twelve thousand lines take some tens of milliseconds, and no stream may wait for them
        body = await asyncio.to_thread(as_csv if asked.csv else as_json, found, asked.by)
        fields = {"Content-Type": "application/json", **_HEADERS}
        if asked.csv:
            fields["Content-Type"] = "text/csv; charset=utf-8; header=present"
            fields["Content-Disposition"] = f'attachment; filename="headgate-usage-{found.month}.csv"'
        return web.Response(body=body, headers=fields)

    async def index(self, request: web.Request) -> web.Response:
        if "text/html" in request.headers.get("Accept", ""):
            page = _html(self._state, self._missing())
            return web.Response(text=page, content_type="text/html", headers=_HEADERS | _PAGE_HEADERS)
        return _json({"paths": PATHS, "aliases": ALIASES})

    def _missing(self) -> list[str]:
        state = self._state
        checks = {
            "policy": state.policy() is not None,
            "listener": state.listening(),
            "not draining": not state.draining(),
            "backend": state.backends_ready(),
        }
        return [name for name, holds in checks.items() if not holds]


_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


def _json(value: Any, status: int = 200) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    return web.Response(body=body, status=status, content_type="application/json", headers=_HEADERS)


@web.middleware
async def _errors(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    try:
        return await handler(request)
    except web.HTTPException as e:
        answer = _json({"error": e.reason, "status": e.status, "paths": list(PATHS)}, e.status)
        if "Allow" in e.headers:
            answer.headers["Allow"] = e.headers["Allow"]
        return answer


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}td,th{text-align:left;padding:.25rem .8rem .25rem 0;
border-bottom:1px solid #8884;vertical-align:top}code{font-size:.9em}.bad{color:#c33}.good{color:#2a7}
"""


def _html(state: AdminState, missing: list[str]) -> str:
    """The page for people: state, policy, backends, workers, paths."""
    live, good = state.policy(), not missing
    word = "ready" if good else "not ready: " + ", ".join(missing)
    parts = [f"<h1>headgate {_e(state.version)}</h1><p class={'good' if good else 'bad'}>{_e(word)}</p>"]
    if live is not None:
        parts.append(
            f"<h2>Policy</h2><p><code>{_e(live.source)}</code>, hash <code>{_e(live.hash[:16])}</code>,"
            f" live since {_e(timestamp(live.since))}</p>"
        )
        if live.failed is not None:
            parts.append(
                f"<p class=bad>The reload of {_e(timestamp(live.failed.at))} failed; the policy above stays:</p>"
            )
            parts.append(_table(("where", "problem"), [(p.where, p.message) for p in live.failed.problems]))
        columns = tuple(live.routes[0]) if live.routes else ()
        parts.append(_table(columns, [tuple(_cell(r.get(c)) for c in columns) for r in live.routes]))
    words = {True: "reachable", False: "unreachable", None: "not tried yet"}
    rows = [
        (b.name, b.url, words[b.reachable], str(b.in_flight), str(b.places or "unbounded"), str(b.idle)) for b in state.backends()
    ]
    parts.append("<h2>Backends</h2>" + _table(("name", "url", "state", "in flight", "places", "idle connections"), rows))
    workers = [(w.name, str(w.pid), "alive" if w.alive else "dead", timestamp(w.since)) for w in state.workers()]
    parts.append("<h2>Workers</h2>" + _table(("worker", "pid", "state", "since"), workers))
    links = "".join(f'<tr><td><a href="{p}"><code>{p}</code></a><td>{_e(text)}' for p, text in PATHS.items())
    parts.append(f"<h2>Paths</h2><table>{links}</table>")
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>headgate</title><style>{_STYLE}</style>"
    return head + "".join(parts)


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{_e(c)}" for c in columns)
    body = "".join("<tr>" + "".join(f"<td>{_e(cell)}" for cell in row) for row in rows)
    return f"<table><tr>{head}{body}</table>"


def _cell(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)


def _e(text: str) -> str:
    return html.escape(text)
