"""``workers: N`` as processes: one port, the death of one under load, metrics that add up, a drain of all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from pathlib import Path

import aiohttp

from tests.kits.backend import Call, backend, hello
from tests.kits.client import Broken, Client, connect, request
from tests.kits.process import Process, serve
from tests.kits.stream import DEADLINE, until


async def metrics(p: Process) -> dict[str, float]:
    async with aiohttp.request("GET", f"http://127.0.0.1:{p.admin}/metrics") as reply:
        rows = re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", await reply.text(), re.MULTILINE)
        return {name: float(value) for name, value in rows}


async def test_a_killed_worker_is_replaced_and_costs_only_what_it_held(tmp_path: Path) -> None:
    good = bad = 0
    stop = asyncio.Event()

    async def load(p: Process) -> None:
        """Requests one after the other, on a fresh connection after each that broke."""
        nonlocal good, bad
        while not stop.is_set():
            with contextlib.suppress(ConnectionError):
                async with connect(p.port) as client:
                    try:
                        while not stop.is_set():
                            reply = await client.ask(request())
                            assert reply.status == 200, reply
                            good += 1
                    except Broken:
                        bad += 1

    async with backend(hello) as b, serve("--backend", b.url, "--workers", "2", cwd=tmp_path) as p:
        await p.event("start", n=2)
        pids = [line["pid"] for line in p.logged("start")]
        assert len(set(pids)) == 2 and p.pid not in pids
        tasks = [asyncio.create_task(load(p)) for _ in range(3)]
        await until(lambda: good > 50)
        os.kill(pids[0], signal.SIGKILL)
        died = await p.event("worker_died")
        assert (died["pid"], died["signal"]) == (pids[0], "SIGKILL")
        fresh = await p.event("worker_ready", n=3)
        assert fresh["worker"] == died["worker"] and fresh["pid"] not in pids
        seen = good
        await until(lambda: good > seen + 50)
        stop.set()
        await asyncio.gather(*tasks)
        assert bad <= len(tasks), "each connection that the dead worker held, once"
        shown = await metrics(p)
        counted = sum(v for k, v in shown.items() if k.startswith("headgate_requests_total{"))
        # a reply that left just before the kill may not have been counted, one on each of its connections at most
        assert good - len(tasks) <= counted <= good + bad, "what the dead worker had counted is still there"
        assert sum(v for k, v in shown.items() if k.startswith("headgate_worker_restarts_total{")) == 1
        assert sum(v for k, v in shown.items() if k.startswith("headgate_worker_up{")) == 2
        assert await p.stop() == 0


async def test_all_workers_drain_and_all_reload(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.begin_sse()
        await call.chunk(b"data: 0\n\n")
        await go.wait()
        await call.chunk(b"data: [DONE]\n\n")
        await call.end_chunked()

    async with backend(script) as b:
        text = f"backends: {{local: {{url: '{b.url}'}}}}\nworkers: 2\n"
        (tmp_path / "policy.yaml").write_text(f"version: 1\n{text}")
        async with contextlib.AsyncExitStack() as stack:
            p = await stack.enter_async_context(serve(cwd=tmp_path))
            clients: list[Client] = []
            for _ in range(8):
                client = await stack.enter_async_context(connect(p.port))
                await client.send(request("POST", "/v1/chat/completions", b"{}"))
                assert (await client.final_head()).status == 200
                assert await client.chunk() == b"data: 0\n\n"
                clients.append(client)
            (tmp_path / "policy.yaml").write_text(f"version: 1\n{text}policies: [{{use: request_guard, n: 2}}]\n")
            p.send(signal.SIGHUP)
            await p.event("policy_reloaded", n=2)
            p.send(signal.SIGTERM)
            await p.event("drain", n=2)
            assert not any(c.eof for c in clients)
            go.set()
            for client in clients:
                assert [await client.chunk(), await client.chunk()] == [b"data: [DONE]\n\n", b""]
            assert await p.ended(DEADLINE) == 0
            assert len(p.logged("request")) == 8
            assert [line["state"] for line in p.logged("stop")] == ["clean", "clean"]
            assert p.logged("supervisor_stop")[0]["code"] == 0
