"""Several worker processes on one port: binding, starting, replacing and stopping them.

What lives here: processes and signals. What must never live here: traffic, policies, what metrics mean. The parent
binds the sockets and hands them down by descriptor, so connections that wait to be accepted outlive a worker that
dies. A worker learns what it is from one environment variable (``worker.inherited``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence

from proxy import blocks, tally
from proxy.log import Log
from proxy.settings import Settings
from proxy.worker import EX_SOFTWARE, VARIABLE, Doors, WorkerContext, bind, inherited

__all__ = [
    "EX_CONFIG",
    "EX_OK",
    "EX_SOFTWARE",
    "EX_UNAVAILABLE",
    "Supervisor",
    "WorkerContext",
    "bind",
    "inherited",
    "run",
]

GRACE = 5.0
"""Seconds after the drain timeout before a worker is killed."""
STEADY = 10.0
"""Seconds; a worker that lived that long is replaced at once, and its earlier crashes are forgotten."""
BACKOFF = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the next try after the first, second, ... crash in a row."""
AWAY = 1.0
"""Seconds; a worker that stays away that long gets no share of the new connections meanwhile."""

EX_OK, EX_UNAVAILABLE, EX_CONFIG = 0, 69, 78
"""Exit codes as sysexits.h names them: asked to stop and done; a port or service is not there; bad policy."""
_FATAL = frozenset({2, EX_CONFIG, EX_UNAVAILABLE})


class _Worker:
    """One place among the workers, and the process that fills it now."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: asyncio.subprocess.Process | None = None
        self.crashes = 0
        self.ready = False
        self.ever_ready = False

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None


class Supervisor:
    """command: what starts a worker. doors, admin: sockets already bound; they are closed at the end."""

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        doors: Doors,
        admin: Sequence[socket.socket],
        log: Log,
        *,
        drain_timeout: float,
        grace: float = GRACE,
        backoff: Sequence[float] = BACKOFF,
    ) -> None:
        self._command, self._log = list(command), log
        self._doors, self._admin = doors, list(admin)
        self._patience = drain_timeout + grace
        self._backoff = backoff
        self._workers = [_Worker(i) for i in range(count)]
        self._asked = asyncio.Event()
        self._kill = asyncio.Event()
        self._code = EX_OK
        self._directory = tally.run_directory()
        self._tally = tally.Tally(tally.path_of(self._directory, "supervisor"), blocks.GAUGES)
        # Held open by the parent alone: workers see its end when the parent dies, however that happens.
        self._alive = os.pipe()

    async def run(self) -> int:
        """Start the workers and keep them running until SIGTERM or SIGINT; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        names, count = self._doors.names(), len(self._workers)
        self._log.event("info", "supervisor_start", pid=os.getpid(), workers=count, listen=names)
        keepers = [asyncio.create_task(self._keep(w)) for w in self._workers]
        try:
            await self._asked.wait()
            await self._finish(keepers)
        finally:
            self._close()
        self._log.event("info", "supervisor_stop", code=self._code)
        return self._code

    def _stop(self, number: int) -> None:
        if self._asked.is_set():  # asked twice: do not wait
            self._kill.set()
            return
        self._log.event("info", "supervisor_drain", signal=signal.Signals(number).name, deadline_s=self._patience)
        self._asked.set()
        self._forward(signal.SIGTERM)
        self._doors.close()  # or connections would go on queueing where nobody accepts

    def _reload(self) -> None:
        """Pass SIGHUP on. A worker that is not ready reads the new file anyway, and might not handle the signal yet."""
        for worker in self._workers:
            if worker.ready:
                self._send(worker, signal.SIGHUP)

    def _forward(self, number: int) -> None:
        for worker in self._workers:
            self._send(worker, number)

    def _send(self, worker: _Worker, number: int) -> None:
        if worker.running and worker.process is not None:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(number)

    async def _finish(self, keepers: list[asyncio.Task[None]]) -> None:
        """Wait for the drain to end, then kill what still runs."""
        kill = asyncio.create_task(self._kill.wait())
        everyone = asyncio.gather(*keepers, return_exceptions=True)
        await asyncio.wait((everyone, kill), timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
        kill.cancel()
        if not everyone.done():
            self._log.event("error", "workers_killed", workers=[w.index for w in self._workers if w.running])
            self._code = EX_SOFTWARE
            self._forward(signal.SIGKILL)
        await everyone

    async def _keep(self, worker: _Worker) -> None:
        """Keep one place filled until the stop."""
        restarts = self._tally.row(blocks.RESTART.name, blocks.RESTART.size, (str(worker.index),))
        while not self._asked.is_set():
            started = time.monotonic()
            try:
                process = worker.process = await self._spawn(worker)
            except OSError as e:  # no processes or descriptors left: the others go on, this one is tried again
                self._log.exception("worker_cannot_start", e, worker=worker.index)
            else:
                if self._asked.is_set():  # the stop came while it was being started
                    self._send(worker, signal.SIGTERM)
                code = await process.wait()
                worker.ready = False
                tally.mark_dead(tally.path_of(self._directory, worker.index))
                if self._asked.is_set():
                    self._note_code(code)
                    return
                if code in _FATAL and not worker.ever_ready:
                    self._give_up(worker, code)
                    return
                self._tally.values[restarts] += 1.0
            await self._back_off(worker, time.monotonic() - started)

    async def _back_off(self, worker: _Worker, lived: float) -> None:
        """Tell of a death and wait as long as its crashes in a row deserve, or until the stop."""
        worker.crashes = 0 if lived >= STEADY else worker.crashes + 1
        wait = self._backoff[min(worker.crashes, len(self._backoff)) - 1] if worker.crashes else 0.0
        code = worker.process.returncode if worker.process is not None else None
        by_signal = code is not None and code < 0
        self._log.event(
            "error",
            "worker_died",
            worker=worker.index,
            pid=worker.process.pid if worker.process is not None else None,
            code=None if by_signal else code,
            signal=signal.Signals(-code).name if code is not None and by_signal else None,
            uptime_s=round(lived, 3),
            restart_in_s=wait,
        )
        if wait >= AWAY:
            self._doors.shut(worker.index)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), wait)

    async def _spawn(self, worker: _Worker) -> asyncio.subprocess.Process:
        listen = self._doors.of(worker.index)
        receiving, sending = os.pipe()
        sockets = {"listen": [s.fileno() for s in listen], "admin": [s.fileno() for s in self._admin]}
        given = {
            **sockets, "index": worker.index, "metrics": str(self._directory), "parent": os.getpid(),
            "alive": self._alive[0], "ready": sending,
        }  # fmt: skip
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, VARIABLE: json.dumps(given)},
                pass_fds=(*sockets["listen"], *sockets["admin"], self._alive[0], sending),
                process_group=0,  # Ctrl-C is the parent's: workers hear of it once, from here
            )
        except BaseException:
            os.close(receiving)
            raise
        finally:
            os.close(sending)
        worker.ready = False
        self._on_ready(worker, process.pid, receiving)
        return process

    def _on_ready(self, worker: _Worker, pid: int, fd: int) -> None:
        loop, begun = asyncio.get_running_loop(), time.monotonic()

        def readable() -> None:
            loop.remove_reader(fd)
            if os.read(fd, 1):
                worker.ready = worker.ever_ready = True
                took = round((time.monotonic() - begun) * 1000, 1)
                self._log.event("info", "worker_ready", worker=worker.index, pid=pid, duration_ms=took)
            os.close(fd)

        loop.add_reader(fd, readable)

    def _give_up(self, worker: _Worker, code: int) -> None:
        """It could not start, and a second try would end the same way."""
        self._log.event("error", "worker_cannot_start", worker=worker.index, code=code)
        if not self._asked.is_set():
            self._code = code
            self._stop(signal.SIGTERM)

    def _note_code(self, code: int) -> None:
        if code not in (0, -signal.SIGTERM) and self._code == EX_OK:
            self._code = EX_SOFTWARE if code < 0 else code

    def _close(self) -> None:
        self._doors.close()
        for sock in self._admin:
            sock.close()
        for fd in self._alive:
            os.close(fd)
        self._tally.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def run(
    argv: Sequence[str],
    settings: Settings,
    *,
    command: Callable[[Sequence[str]], Sequence[str]] = lambda argv: [sys.executable, "-m", "proxy", *argv],
    log: Log | None = None,
    grace: float = GRACE,
) -> int:
    """Serve with ``settings.workers`` processes until told to stop. argv: the workers' arguments (``serve ...``).

    Returns the exit code: 0, or one of the EX_ codes, or the code with which workers could not start. Raises
    OSError when an address cannot be bound.
    """
    doors = Doors(settings.listen, settings.workers)
    try:
        admin = [] if settings.admin == "off" else bind(settings.admin)
    except OSError:
        doors.close()
        raise
    own = log or Log(settings.log.format)

    async def main() -> int:
        supervisor = Supervisor(
            command(argv), settings.workers, doors, admin, own, drain_timeout=settings.drain_timeout, grace=grace
        )
        return await supervisor.run()

    try:
        return asyncio.run(main())
    finally:
        if log is None:
            own.close()
