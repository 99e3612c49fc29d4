"""One process's life: from a loaded policy to its signals and its end.

What must never live here: arguments (serve.py), other processes (supervisor.py), what the parts do (app.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from policies.chain import PrepareError
from proxy import __version__
from proxy.app import App, tune_gc
from proxy.config import Config, fingerprint
from proxy.log import Log, StdlibHandler
from proxy.metrics import Metrics
from proxy.reload import Watcher
from proxy.supervisor import EX_CONFIG, EX_OK, EX_SOFTWARE, GRACE
from proxy.worker import WorkerContext


def run(main: Coroutine[Any, Any, int]) -> int:
    """On uvloop where there is one (no wheel for Windows); plain asyncio works, slower."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


async def process(
    config: Config,
    read: Callable[[], Config],
    listen: Sequence[socket.socket],
    admin: Sequence[socket.socket],
    *,
    worker: WorkerContext | None = None,
    meanwhile: Callable[[App], Awaitable[bool]] | None = None,
) -> int:
    """Serve on bound sockets until SIGTERM or SIGINT; returns the exit code.

    read: loads the policy file again. meanwhile: run once everything is up; True from it ends the process.
    """
    settings = config.settings
    models = [name for b in settings.backends.values() for name in b.models if name != "*"]
    index = worker.index if worker else 0
    metrics = Metrics(worker.metrics if worker else None, index, models=models)
    log = Log(settings.log.format, dropped=metrics.log_dropped)
    app = App(config, load=read, log=log, metrics=metrics)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _asked, stop, app)
    if worker is not None:
        worker.follow_parent(settings.drain_timeout + GRACE)
    try:
        await app.start(listen)
    except (PrepareError, OSError) as e:  # the latter: a certificate (ssl.SSLError is one)
        print(e if isinstance(e, PrepareError) else f"tls: {getattr(e, 'reason', None) or e}", file=sys.stderr)
        log.close()
        return EX_CONFIG
    library_errors = StdlibHandler(log)
    logging.getLogger().addHandler(library_errors)
    try:
        closing = await _admin(app, index, admin) if admin else None
    except RuntimeError as e:  # ParserMissing; its module is aiohttp's company and not imported here
        print(e, file=sys.stderr)
        log.close()
        return EX_CONFIG
    watcher = Watcher(
        partial(_stamp, app), partial(_reload, app), known=_stamp(app), failed=partial(log.exception, "watch_failed")
    )
    watching = asyncio.create_task(watcher.run()) if config.source is not None else None
    loop.add_signal_handler(signal.SIGHUP, watcher.trigger)
    tune_gc()
    log.event(
        "info", "start", version=__version__, pid=os.getpid(), listen=_names(listen), admin=_names(admin),
        policies=len(config.policies), backends=list(settings.backends), hash=config.short_hash, source=config.source,
    )  # fmt: skip
    if worker is not None:
        worker.ready()
    if meanwhile is not None and await meanwhile(app):
        stop.set()
    await stop.wait()
    log.event("info", "drain", running=len(app.server.tasks), deadline_s=settings.drain_timeout)
    if watching is not None:
        watching.cancel()
    clean = await app.stop()
    if closing is not None:
        await closing()
    log.event("info" if clean else "warning", "stop", state="clean" if clean else "cut off")
    logging.getLogger().removeHandler(library_errors)
    log.close()
    metrics.close()
    return EX_OK if clean else EX_SOFTWARE


async def _admin(app: App, index: int, sockets: Sequence[socket.socket]) -> Callable[[], Awaitable[None]]:
    """Start the admin port; returns what closes it. aiohttp's 11 MB are for those who have one."""
    from proxy.admin import build_admin, start_admin
    from proxy.status import Status

    runner = await start_admin(build_admin(Status(app, index)), sockets)
    return runner.cleanup


def _asked(stop: asyncio.Event, app: App) -> None:
    """Told to stop; told twice: do not wait for running requests."""
    if stop.is_set():
        app.server.hurry()
    stop.set()


async def _reload(app: App) -> None:
    await app.reload()


def _stamp(app: App) -> object:
    """What changes when the policy file or a secret's file does."""
    config = app.runtime.config
    return fingerprint(config.source, *config.files) if config.source is not None else None


def _names(sockets: Sequence[socket.socket]) -> list[str]:
    return ["{}:{}".format(*s.getsockname()[:2]) for s in sockets]
