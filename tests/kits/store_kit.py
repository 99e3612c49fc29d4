"""Stores for tests: Redis servers of our own on the loopback interface, ways to break them, and clocks.

A server has its own directory and port, writes nothing to disk unless asked, and is killed at the end of its test.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from policies.store import Store
from proxy.store import redis as redis_module
from proxy.store.guarded import Guarded
from proxy.store.memory import Memory
from proxy.store.packing import Script, script_of
from proxy.store.redis import RedisStore
from proxy.store.scripts import ADJUST, TAKE
from proxy.store.state import Change
from proxy.store.urls import parse_store_url
from tests.kits.nginx import program

#: Seconds for whatever another process has to do on a busy machine.
PATIENCE = 15.0


def free_port() -> int:
    """A port that was free a moment ago: redis-server takes no socket that is already open."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RedisServer:
    """redis-server on ``port``. at: an empty directory. more: further options, such as ``--requirepass x``."""

    def __init__(self, at: Path, *more: str) -> None:
        self.at = at
        self.more = more
        self.port = free_port()
        self.conf: Path | None = None
        """A sentinel's configuration, which it writes to; it makes this server a sentinel."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True) -> RedisServer:
        argv = [program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.at)]
        argv += ["--save", "", "--appendonly", "no", "--daemonize", "no", *self.more]
        if self.conf is not None:
            argv = [program("redis-server"), str(self.conf), "--sentinel"]
        with (self.at / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        if wait:
            self._until_up()
        return self

    def _until_up(self) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self._process is not None
            assert self._process.poll() is None, (self.at / "log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                sock.sendall(b"PING\r\n")
                if sock.recv(64)[:1] in (b"+", b"-"):  # an error is an answer: it may want a password
                    return
            time.sleep(0.01)
        raise AssertionError((self.at / "log").read_text())

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; what it had is lost."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def cli(self, *command: str) -> list[str]:
        """A command by a plain socket of our own; the lines of the reply."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as sock:
            words = [c.encode() for c in command]
            sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
            file = sock.makefile("rb")
            return list(_reply(file.readline))

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)
        self.kill()


def _reply(line: Callable[[], bytes]) -> list[str]:
    head = line().decode().rstrip("\r\n")
    if head[:1] == "$":
        return [] if head == "$-1" else [line().decode("utf-8", "replace").rstrip("\r\n")]
    if head[:1] == "*":
        return [text for _ in range(int(head[1:])) for text in _reply(line)]
    return [head.lstrip("+:")]


class Front:
    """A TCP relay before a server that can be slow, or answer nonsense. delay: seconds before an answer goes on.
    nonsense: sent for each answer instead."""

    def __init__(self, port: int) -> None:
        self.behind = port
        self.delay = 0.0
        self.nonsense: bytes | None = None
        self.port = 0
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        behind, to = await asyncio.open_connection("127.0.0.1", self.behind)
        mine = asyncio.create_task(self._back(behind, writer))
        self._tasks.add(mine)
        try:
            while data := await reader.read(65536):
                to.write(data)
        except OSError:
            pass
        finally:
            to.close()
            mine.cancel()
            writer.close()

    async def _back(self, behind: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await behind.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data if self.nonsense is None else self.nonsense)


@contextlib.asynccontextmanager
async def front(port: int) -> AsyncIterator[Front]:
    made = Front(port)
    server = await asyncio.start_server(made._one, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in made._tasks:
            task.cancel()


async def until(check: Callable[[], bool], timeout: float = PATIENCE) -> float:
    """Poll until it holds; returns the seconds it took."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < timeout, "it did not come true"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


@dataclass
class Clock:
    """Both clocks of a memory store, moved by hand."""

    now: float = 1000.0
    wall_offset: float = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.wall_offset


@dataclass
class Bench:
    """A store under test. sleep: let this much time pass for it, by hand or in truth. fresh: a store of another scope."""

    kind: str
    store: Store
    sleep: Callable[[float], Awaitable[None]]
    fresh: Callable[[str], Store]
    wall: Callable[[], float]
    server: RedisServer | None = None
    changes: list[Change] = field(default_factory=list)

    async def eventually(self, check: Callable[[], Awaitable[bool]], within: float) -> None:
        """Let time pass in small steps until it holds; fails after ``within`` seconds."""
        steps = 50
        for _ in range(steps + 1):
            if await check():
                return
            await self.sleep(within / steps)
        raise AssertionError("not within its time")


@contextlib.asynccontextmanager
async def bench(kind: str, scope: str, server: RedisServer | None) -> AsyncIterator[Bench]:
    """kind: memory, redis or guarded. scope: the policy's name, of its own for each test."""
    if kind == "memory":
        clock = Clock()
        table = Memory(clock=clock, wall=clock.wall)

        async def sleep(seconds: float) -> None:
            clock.now += seconds

        yield Bench(kind, table.scope(scope), sleep, table.scope, clock.wall)
        return
    assert server is not None
    remote = RedisStore(parse_store_url(server.url), prefix="test")
    changes: list[Change] = []
    if kind == "redis":
        try:
            yield Bench(kind, remote.scope(scope), asyncio.sleep, remote.scope, time.time, server)
        finally:
            await remote.close()
        return
    guard = Guarded(remote, changed=changes.append, timeout=1.0)  # these tests are not about time
    try:
        yield Bench(kind, await guard.open(scope), asyncio.sleep, guard.scope, time.time, server, changes)
        assert not changes, "Redis was there all the time"
    finally:
        await guard.close()


def on_clock_of(server: RedisServer, monkeypatch_setattr: Callable[..., None]) -> Callable[[float], None]:
    """Let the scripts read their time from two keys instead of TIME. Returns what sets it, in unix seconds."""

    def patched(text: str) -> Script:
        assert text.count("redis.call('TIME')") == 1
        return script_of(text.replace("redis.call('TIME')", "redis.call('MGET', 'clock:s', 'clock:us')"))

    monkeypatch_setattr(redis_module, "_TAKE", patched(TAKE))
    monkeypatch_setattr(redis_module, "_ADJUST", patched(ADJUST))

    def set_clock(now: float) -> None:
        us = round(now * 1e6)
        server.cli("MSET", "clock:s", str(us // 1_000_000), "clock:us", str(us % 1_000_000))

    return set_clock
