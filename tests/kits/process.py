"""A command as a process of its own: its output line by line, its signals, its end. No process outlives its test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Seconds for whatever a starting interpreter has to do on a busy machine.
PATIENCE = 15.0


class Process:
    """stdout, stderr: the lines so far, without their ends. port, admin: of 127.0.0.1, where ``serve`` has set them;
    admin stays 0 when it is off."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.port = self.admin = 0
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._grown = asyncio.Event()
        self._readers = [
            asyncio.create_task(self._read(process.stdout, self.stdout)),
            asyncio.create_task(self._read(process.stderr, self.stderr)),
        ]

    async def _read(self, stream: asyncio.StreamReader | None, lines: list[str]) -> None:
        assert stream is not None
        while line := await stream.readline():
            lines.append(line.decode().rstrip("\n"))
            self._grown.set()
        self._grown.set()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def text(self) -> str:
        """All it has written."""
        return "\n".join((*self.stdout, *self.stderr))

    # -- waiting

    async def until(self, found: Callable[[], Any], timeout: float = PATIENCE) -> Any:
        """Wait for output that makes ``found`` return something true; returns that."""
        try:
            async with asyncio.timeout(timeout):
                while not (value := found()):
                    assert not all(r.done() for r in self._readers), f"it ended: {self.text}"
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(f"nothing of the kind in: {self.text}") from None
        return value

    def logged(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The JSON log lines of an event so far whose fields have these values."""
        found = [json.loads(line) for line in self.stdout if line.startswith("{")]
        return [x for x in found if x["event"] == event and all(x.get(k) == v for k, v in fields.items())]

    async def event(self, event: str, n: int = 1, timeout: float = PATIENCE, **fields: Any) -> dict[str, Any]:
        """Wait for the ``n``-th such log line."""
        found: dict[str, Any] = await self.until(lambda: self.logged(event, **fields)[n - 1 : n], timeout)
        return found[0]

    async def ended(self, timeout: float = PATIENCE) -> int:
        """Wait for the end; returns the exit code (minus the signal's number where one ended it)."""
        async with asyncio.timeout(timeout):
            await asyncio.gather(*self._readers)
            return await self._process.wait()

    # -- signals

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    async def stop(self, timeout: float = PATIENCE) -> int:
        """SIGTERM, then wait for the end."""
        self.send(signal.SIGTERM)
        return await self.ended(timeout)

    async def clean_up(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 3)
            except TimeoutError:
                self.kill()
                await self._process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)


@contextlib.asynccontextmanager
async def process(
    *argv: str, cwd: Path | None = None, env: dict[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> AsyncIterator[Process]:
    """Run a program. env: more of the environment; NO_COLOR is set, and the project is importable."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    made = Process(
        await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", **(env or {})},
            pass_fds=pass_fds,
        )
    )
    try:
        yield made
    finally:
        await made.clean_up()


def headgate(
    *argv: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> contextlib.AbstractAsyncContextManager[Process]:
    """``headgate ARGV`` by the interpreter that runs the tests."""
    return process(sys.executable, "-m", "proxy", *argv, cwd=cwd, env=env)


@contextlib.asynccontextmanager
async def serve(*argv: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> AsyncIterator[Process]:
    """``headgate serve ARGV`` on free ports, once every worker takes connections."""
    given = ["serve", *argv]
    for option in ("--listen", "--admin"):
        if option not in argv:
            given += [option, "127.0.0.1:0"]
    async with headgate(*given, cwd=cwd, env=env) as made:
        first = await made.event("start")
        supervised = made.logged("supervisor_start")
        if supervised:
            await made.event("worker_ready", n=supervised[0]["workers"])
        made.port, made.admin = (_port(first.get(side)) for side in ("listen", "admin"))
        yield made


def _port(addresses: list[str] | None) -> int:
    return int(addresses[0].rpartition(":")[2]) if addresses else 0
