"""A supervisor with small workers, run as a script by test_supervisor.py: ``parent SETTINGS`` or ``worker ARGS``.

A worker answers one line per connection: ``<index> <pid>``, to ``metrics`` the page, to ``where`` the directory of
the tallies; after ``hold`` it keeps the connection open. What it should do wrong comes in the environment: EXIT (code
at start), CRASH (index of a worker that ends at once), STUBBORN (ignore SIGTERM).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from policies.exchange import Exchange, Headers
from proxy import supervisor
from proxy.metrics import Metrics
from proxy.settings import Settings


def parent(text: str) -> int:
    given = json.loads(text)
    grace = given.pop("grace", supervisor.GRACE)
    settings = Settings.model_validate({"backends": {"local": {"url": "http://127.0.0.1:1"}}, **given})
    command = lambda argv: [sys.executable, __file__, "worker", *argv]  # noqa: E731
    return supervisor.run(["serve"], settings, command=command, grace=grace)


async def worker() -> int:
    if code := os.environ.get("EXIT"):
        return int(code)
    context = supervisor.inherited()
    assert context is not None
    assert supervisor.inherited() is None
    if os.environ.get("CRASH") == str(context.index):
        return 1
    context.follow_parent(patience=1.0)
    metrics = Metrics(context.metrics, context.index)
    held = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readline()).strip()
        metrics.begin()
        if asked == b"hold":
            held.append(writer)
            writer.write(b"%d %d\n" % (context.index, os.getpid()))
            return
        x = Exchange("id", "GET", "/v1/models", "", Headers(), "127.0.0.1", 0.0, 0.0)
        x.route, x.status = "/v1/models", 200
        metrics.settle(x, 0.5)
        answers = {b"metrics": lambda: metrics.exposition()[0], b"where": lambda: os.fsencode(context.metrics)}
        writer.write(answers.get(asked, lambda: b"%d %d\n" % (context.index, os.getpid()))())
        await writer.drain()
        writer.close()

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, (lambda: None) if os.environ.get("STUBBORN") else stop.set)
    loop.add_signal_handler(signal.SIGHUP, metrics.reloaded, True, "fresh")
    servers = [await asyncio.start_server(answer, sock=sock) for sock in context.listen]
    context.ready()
    await stop.wait()
    for server in servers:
        server.close()
    return 0


if __name__ == "__main__":
    sys.exit(parent(sys.argv[2]) if sys.argv[1] == "parent" else asyncio.run(worker()))
