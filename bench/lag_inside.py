"""``headgate serve`` with a clock inside its event loop, for ``bench/lag.py``: ``python -m bench.lag_inside FILE ARGS``.

Every two milliseconds the loop is asked to call back. FILE gets, at the end, three 64-bit integers for each call: when it
came (monotonic), how much too late it was, and how long the loop's thread had been on a CPU since the call before; all in
nanoseconds. The last one tells the loop's own work from other processes' load.
"""

from __future__ import annotations

import asyncio
import atexit
import socket
import sys
import time
from array import array
from collections.abc import Iterable
from pathlib import Path

from proxy.__main__ import main
from proxy.app import App

EVERY = 0.002  # seconds


class Probe:
    def __init__(self) -> None:
        self.seen = array("q")
        self._due = self._cpu = 0

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._cpu = time.thread_time_ns()
        self._again(time.monotonic_ns())

    def _again(self, now: int) -> None:
        self._due = now + int(EVERY * 1e9)
        self._loop.call_later(EVERY, self._look)

    def _look(self) -> None:
        now, cpu = time.monotonic_ns(), time.thread_time_ns()
        self.seen.extend((now, now - self._due, cpu - self._cpu))
        self._cpu = cpu
        self._again(now)

    def save(self, path: Path) -> None:
        path.write_bytes(self.seen.tobytes())


def run(path: Path, argv: list[str]) -> int:
    probe = Probe()
    start = App.start

    async def started(app: App, sockets: Iterable[socket.socket]) -> None:
        await start(app, sockets)
        probe.begin(asyncio.get_running_loop())

    App.start = started  # type: ignore[method-assign]
    atexit.register(probe.save, path)
    return main(argv)


if __name__ == "__main__":
    raise SystemExit(run(Path(sys.argv[1]), sys.argv[2:]))
