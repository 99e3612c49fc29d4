"""The supervisor with real processes: nothing is lost when one is killed, and nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy import supervisor
from proxy.worker import VARIABLE, Doors

SCRIPT = Path(__file__).with_name("supervised.py")
ROOT = SCRIPT.parents[2]


class Parent:
    """A running supervisor and the events it has logged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.port = 0

    async def event(self, name: str, timeout: float = 15.0, **fields: Any) -> dict[str, Any]:
        """The next event of this name with these fields."""
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout):
            while line := await self.process.stdout.readline():
                event = json.loads(line)
                self.events.append(event)
                if event["event"] == name and fields.items() <= event.items():
                    return event
        raise AssertionError(f"no {name} {fields} in {self.events}")

    async def ask(self, what: bytes = b"who", timeout: float = 10.0) -> str:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(what + b"\n")
            answer = await reader.read()
            writer.close()
            return answer.decode()

    async def metric(self, line_start: str) -> float:
        for line in (await self.ask(b"metrics")).splitlines():
            if line.startswith(line_start):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no {line_start}")

    async def ready(self, count: int) -> list[int]:
        """Wait for ``count`` workers; their pids by index."""
        pids = {}
        for _ in range(count):
            event = await self.event("worker_ready")
            pids[event["worker"]] = event["pid"]
        return [pids[i] for i in range(count)]

    async def leave(self, timeout: float = 15.0) -> int:
        async with asyncio.timeout(timeout):
            assert self.process.stdout is not None
            for line in (await self.process.stdout.read()).splitlines():
                self.events.append(json.loads(line))
            return await self.process.wait()


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    running: list[Parent] = []

    async def begin(env: dict[str, str] | None = None, **settings: Any) -> Parent:
        given = {"listen": "127.0.0.1:0", "admin": "off", "workers": 2, "drain_timeout": 5, **settings}
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), "parent", json.dumps(given),
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        )  # fmt: skip
        parent = Parent(process)
        running.append(parent)
        started = await parent.event("supervisor_start")
        parent.port = int(started["listen"][0].rpartition(":")[2])
        return parent

    yield begin
    for parent in running:
        if parent.process.returncode is None:
            parent.process.kill()
            await parent.process.wait()


def exists(path: str) -> bool:
    return Path(path).exists()


def state_of(pid: int) -> str:
    """The process's state letter as /proc shows it; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def gone(pid: int, timeout: float = 10.0) -> None:
    """Wait until no such process runs (a zombie that nobody here can reap counts as gone)."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if state_of(pid) in ("", "Z"):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"process {pid} still runs")


async def test_a_killed_worker_is_replaced_and_nothing_counted_is_lost(start: Any) -> None:
    parent = await start()
    pids = await parent.ready(2)
    for _ in range(20):
        await parent.ask()
    requests = 'headgate_requests_total{route="/v1/models",status="200",tier="opaque"}'
    before = await parent.metric(requests)
    assert before == 21

    reader, writer = await asyncio.open_connection("127.0.0.1", parent.port)
    writer.write(b"hold\n")
    survivor = int((await reader.readline()).split()[0])
    victim = 1 - survivor
    assert await parent.metric("headgate_requests_in_flight") == 1
    killed = time.monotonic()
    os.kill(pids[victim], signal.SIGKILL)
    died = await parent.event("worker_died", worker=victim)
    assert (died["signal"], died["pid"]) == ("SIGKILL", pids[victim])
    answered = [await parent.ask() for _ in range(10)]
    assert len(answered) == 10, "who comes meanwhile is served: by the other, or by the successor"
    back = await parent.event("worker_ready", worker=victim)
    assert time.monotonic() - killed < 2.0
    assert back["pid"] != pids[victim]
    assert await parent.metric(requests) == before + 1 + 10 + 1
    assert await parent.metric(f'headgate_worker_restarts_total{{worker="{victim}"}}') == 1
    assert await parent.metric("headgate_requests_in_flight") == 1, "what the survivor holds"
    writer.close()
    parent.process.send_signal(signal.SIGTERM)
    assert await parent.leave() == 0


async def test_gauges_of_a_killed_worker_vanish_and_queued_connections_are_served(start: Any) -> None:
    parent = await start(workers=1)
    (pid,) = await parent.ready(1)
    reader, writer = await asyncio.open_connection("127.0.0.1", parent.port)
    writer.write(b"hold\n")
    await reader.readline()
    assert await parent.metric("headgate_requests_in_flight") == 1
    os.kill(pid, signal.SIGKILL)
    answer = await parent.ask()  # connects while nobody is there to accept
    assert int(answer.split()[1]) != pid
    assert await parent.metric("headgate_requests_in_flight") == 0
    writer.close()


async def test_sigterm_ends_all_and_leaves_nothing_behind(start: Any) -> None:
    parent = await start()
    pids = await parent.ready(2)
    directory = await parent.ask(b"where")
    assert exists(directory)
    parent.process.send_signal(signal.SIGTERM)
    assert await parent.leave() == 0
    for pid in pids:
        await gone(pid)
    assert [e["event"] for e in parent.events][-2:] == ["supervisor_drain", "supervisor_stop"]
    assert not exists(directory)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", parent.port)


async def test_a_stubborn_worker_is_killed_after_the_drain(start: Any) -> None:
    parent = await start({"STUBBORN": "1"}, drain_timeout=0.2, grace=0.1)
    pids = await parent.ready(2)
    parent.process.send_signal(signal.SIGTERM)
    assert await parent.leave() == supervisor.EX_SOFTWARE
    killed = next(e for e in parent.events if e["event"] == "workers_killed")
    assert sorted(killed["workers"]) == [0, 1]
    for pid in pids:
        await gone(pid)


async def test_asked_twice_it_does_not_wait(start: Any) -> None:
    parent = await start({"STUBBORN": "1"}, drain_timeout=600)
    await parent.ready(2)
    parent.process.send_signal(signal.SIGTERM)
    await parent.event("supervisor_drain")
    parent.process.send_signal(signal.SIGINT)
    assert await parent.leave() == supervisor.EX_SOFTWARE


async def test_workers_that_cannot_start_end_it_with_their_code(start: Any) -> None:
    parent = await start({"EXIT": str(supervisor.EX_CONFIG)})
    assert await parent.leave() == supervisor.EX_CONFIG
    assert any(e["event"] == "worker_cannot_start" and e["code"] == 78 for e in parent.events)


async def test_crashes_in_a_row_are_tried_again_more_and_more_slowly(start: Any) -> None:
    parent = await start({"EXIT": "1"}, workers=1)
    waits = [(await parent.event("worker_died", code=1))["restart_in_s"] for _ in range(3)]
    assert waits == [0.1, 0.5, 1.0]
    parent.process.send_signal(signal.SIGTERM)
    assert await parent.leave() == 0


async def test_connections_are_spread_over_idle_workers(start: Any) -> None:
    parent = await start()
    await parent.ready(2)
    served = [int((await parent.ask()).split()[0]) for _ in range(60)]
    assert min(served.count(0), served.count(1)) >= 10


async def test_a_worker_that_stays_away_gets_no_connections(start: Any) -> None:
    parent = await start({"CRASH": "1"})
    while (await parent.event("worker_died", worker=1))["restart_in_s"] < 1.0:
        pass
    for _ in range(20):
        assert (await parent.ask(timeout=0.9)).startswith("0 ")
    parent.process.send_signal(signal.SIGTERM)
    assert await parent.leave() == 0


async def test_sighup_reaches_every_worker(start: Any) -> None:
    parent = await start()
    await parent.ready(2)
    parent.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 10
    while await parent.metric('headgate_config_reloads_total{result="success"}') < 2:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    assert await parent.metric('headgate_config_info{hash="fresh"}') == 1
    assert await parent.metric("headgate_config_last_reload_successful") == 1


async def test_workers_do_not_outlive_a_killed_parent(start: Any) -> None:
    parent = await start()
    pids = await parent.ready(2)
    directory = await parent.ask(b"where")
    parent.process.kill()
    for pid in pids:
        await gone(pid)
    assert not exists(directory), "the last one out clears up"


def test_a_process_that_is_no_worker_inherits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert supervisor.inherited() is None
    for nonsense in ("", "{}", "[]", '{"listen": [99999], "admin": []}', '{"listen": 3}'):
        monkeypatch.setenv(VARIABLE, nonsense)
        with pytest.raises(ValueError, match=VARIABLE):
            supervisor.inherited()


def test_a_port_that_another_has_is_refused() -> None:
    taken = Doors("127.0.0.1:0", 2)
    try:
        with pytest.raises(OSError, match="in use"):
            Doors(taken.names()[0], 2)
        with pytest.raises(OSError, match="in use"):
            supervisor.bind(taken.names()[0])
    finally:
        taken.close()


def test_one_port_on_every_address_of_a_host() -> None:
    sockets = supervisor.bind("localhost:0")
    try:
        assert len({s.getsockname()[1] for s in sockets}) == 1
        assert all(s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for s in sockets)
        with pytest.raises(OSError, match="in use"):
            supervisor.bind(f"127.0.0.1:{sockets[0].getsockname()[1]}")
    finally:
        for sock in sockets:
            sock.close()
    with pytest.raises(OSError):
        supervisor.bind("no-such-host.invalid:1")
