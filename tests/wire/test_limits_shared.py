"""Limits that several real headgate processes share through a real Redis: exact under concurrency, and what outages do."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kits.backend import Call, backend
from tests.kits.client import Client, Reply, connect, fetch, request
from tests.kits.gate import gate
from tests.kits.process import Process, serve
from tests.kits.store_kit import RedisServer, free_port

JSON = (b"Content-Type", b"application/json")
CALLERS = 500


def policies(**parts: dict[str, Any]) -> list[dict[str, Any]]:
    """A rate_limit for each name, which acts on requests whose field X-Part says that name."""
    return [
        {"use": "rate_limit", "name": name, "when": {"headers": {"X-Part": name}}, **options} for name, options in parts.items()
    ]


def chat(part: str, caller: int = 0, **more: Any) -> bytes:
    doc = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], **more}
    fields = [JSON, (b"X-Part", part.encode()), (b"Authorization", b"Bearer key-%d" % caller)]
    return request("POST", "/v1/chat/completions", json.dumps(doc).encode(), fields)


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Behind:
    """A backend that measures: calls at once, and tokens it has told of. Every third reply is a stream."""

    def __init__(self, wait: float = 0.0) -> None:
        self.wait = wait
        self.now = self.most = self.tokens = self.calls = 0
        self.rng = random.Random(5)

    async def __call__(self, call: Call) -> None:
        self.now += 1
        self.calls += 1
        self.most = max(self.most, self.now)
        asked = json.loads(call.body)
        prompt, completion = self.rng.randrange(1, 20), self.rng.randrange(1, asked.get("max_tokens", 20) + 1)
        self.tokens += prompt + completion
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        if self.wait:
            await asyncio.sleep(self.wait)
        if asked.get("stream"):
            await call.begin_sse()
            await call.chunk(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
            self.now -= 1
            await call.chunk(b"data: [DONE]\n\n")
            await call.end_chunked()
        else:
            self.now -= 1
            await call.reply(json.dumps({"choices": [], "usage": usage}).encode(), fields=[JSON])


@contextlib.asynccontextmanager
async def instances(
    tmp_path: Path, n: int, workers: int, url: str, backend_url: str, rules: list[dict[str, Any]], **store: Any
) -> AsyncIterator[list[Process]]:
    """n headgates of so many workers before one backend, with CALLERS callers of one tenant."""
    text = {
        "version": 1,
        "backends": {"local": {"url": backend_url}},
        "workers": workers,
        "callers": {"keys": [{"name": f"c{i}", "sha256": digest(f"key-{i}"), "tenant": "acme"} for i in range(CALLERS)]},
        "store": {"url": url, "replicas": n, **store},
        "policies": rules,
    }
    (tmp_path / "policy.yaml").write_text(json.dumps(text))
    async with contextlib.AsyncExitStack() as stack:
        # one after the other: so many interpreters at once would take each other's time
        yield [await stack.enter_async_context(serve(cwd=tmp_path)) for _ in range(n)]


async def at_once(processes: list[Process], make: Callable[[int], bytes], n: int = CALLERS) -> list[Reply]:
    """n callers, all connected before the first one asks."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(processes[i % len(processes)].port)) for i in range(n)]
        return await asyncio.gather(*[client.ask(make(i), timeout=60) for i, client in enumerate(clients)])


@pytest.mark.wire
@pytest.mark.deadline(150)
async def test_eight_workers_share_exact_limits(tmp_path: Path) -> None:
    rules = policies(
        rates={"limits": ["100 requests/hour"], "by": "tenant"},
        slots={"limits": ["7 concurrent"], "by": "tenant"},
        tokens={"limits": ["20k tokens/day"], "by": "tenant"},
    )
    behind = Behind()
    with RedisServer(tmp_path) as server:
        # a long timeout, for so many processes on few processors: Redis is sound, and may still have to wait for one
        async with backend(behind) as b, instances(tmp_path, 2, 4, server.url, b.url, rules, timeout="5s") as both:
            await rates(both, behind)
            await slots(both, behind)
            await tokens(both, behind, server)
            for p in both:
                assert not p.logged("store_away"), "exactness was not owed to shares"
                assert await p.stop() == 0


async def rates(both: list[Process], behind: Behind) -> None:
    began = time.monotonic()
    replies = await at_once(both, lambda i: chat("rates", i))
    took = time.monotonic() - began
    print(f"500 callers on 100 requests/hour: {took:.2f} s")
    assert took < 36, "one more is let in every 36 s"
    assert Counter(r.status for r in replies) == {200: 100, 429: 400} and behind.calls == 100
    refused = next(r for r in replies if r.status == 429)
    assert b"acme" not in refused.body and 1 <= int(refused.value(b"retry-after") or 0) <= 36


async def slots(both: list[Process], behind: Behind) -> None:
    """Each caller tries until it was served; a slot is free again when the reply has ended."""
    behind.wait, behind.most, behind.calls = 0.02, 0, 0

    async def served(client: Client, i: int) -> int:
        for tries in range(1, 2000):
            reply = await client.ask(chat("slots", i, stream=i % 3 == 0), timeout=60)
            if reply.status == 200:
                return tries
            assert reply.status == 429 and reply.value(b"retry-after") == b"1"
            await asyncio.sleep(0.02)
        raise AssertionError("never served")

    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(both[i % 2].port)) for i in range(60)]
        await asyncio.gather(*[served(client, i) for i, client in enumerate(clients)])
    assert behind.calls == 60 and behind.most == 7, behind.most
    behind.wait = 0.0


async def tokens(both: list[Process], behind: Behind, server: RedisServer) -> None:
    """What is reserved is never less than what is used here, so the budget is never passed; what was not used comes back."""
    behind.tokens = 0
    served = 0
    for _ in range(20):
        replies = await at_once(both, lambda i: chat("tokens", i, max_tokens=100, stream=i % 3 == 0), 100)
        good = sum(r.status == 200 for r in replies)
        served += good
        assert good + sum(r.status == 429 for r in replies) == 100
        assert behind.tokens <= 20_000
        used = await settled(server, behind.tokens)
        assert used == behind.tokens, "what was counted is what the backend told"
        if not good:
            break
    assert served > 190 and 20_000 - behind.tokens < 160, "the budget was used up, but for less than one more request"


async def settled(server: RedisServer, expected: float) -> float:
    """The one window's sum once all requests are settled, which happens after their replies."""

    def sums() -> list[float]:
        keys = server.cli("KEYS", "*:w:*")
        return [sum(map(float, server.cli("GET", key)[0].split()[2:])) for key in keys]

    end = time.monotonic() + 10
    while sums() != [expected] and time.monotonic() < end:  # noqa: ASYNC110 - it happens in other processes
        await asyncio.sleep(0.02)
    (found,) = sums()
    return found


# -- outages


class Load:
    """Callers that ask one after the other, each on its own connection."""

    def __init__(self, port: int, n: int = 12) -> None:
        self.port = port
        self.statuses: Counter[int] = Counter()
        self._stop = False
        self._tasks = [asyncio.create_task(self._run(i)) for i in range(n)]

    async def _run(self, i: int) -> None:
        async with connect(self.port) as client:
            while not self._stop:
                self.statuses[(await client.ask(chat("free", i), timeout=30)).status] += 1

    async def more(self, n: int = 100) -> None:
        """Until so many more have been answered."""
        goal = self.statuses.total() + n
        while self.statuses.total() < goal:
            assert not any(task.done() for task in self._tasks)
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)


OUTAGES = ["kill", "stop", "flush"]


@pytest.mark.wire
@pytest.mark.deadline(90)
@pytest.mark.parametrize("how", OUTAGES)
async def test_an_outage_under_load_fails_no_request(tmp_path: Path, how: str) -> None:
    rules = policies(
        free={"limits": ["1G requests/hour", "1G tokens/hour", "1000 concurrent"], "by": "tenant"},
        bound={"limits": ["50 requests/day"], "by": "tenant"},
    )
    with RedisServer(tmp_path) as server:
        async with backend(Behind()) as b, instances(tmp_path, 1, 1, server.url, b.url, rules, replicas=2) as (p,):
            assert await granted(p, 10) == 10
            load = Load(p.port)
            await load.more()
            calm = added(p)
            if how == "flush":
                await asyncio.to_thread(server.cli, "SCRIPT", "FLUSH")
                await asyncio.to_thread(server.cli, "FLUSHALL")
                await load.more(300)
                assert not p.logged("store_away"), "forgotten scripts are no outage"
            else:
                await away_and_back(p, server, how, load)
            await load.more()
            await load.stop()
            print(f"{how}: {load.statuses.total()} requests, at most {added(p):.0f} ms added, before it {calm:.0f} ms")
            assert load.statuses.keys() == {200}, load.statuses
            assert added(p) < 1000
            assert await p.stop() == 0


def added(p: Process) -> float:
    """The most milliseconds that headgate has added to a request: its own count, without what the backend took, since this
    process has other things to do as well."""
    return max(float(line["overhead_ms"]) for line in p.logged("request"))


async def away_and_back(p: Process, server: RedisServer, how: str, load: Load) -> None:
    if how == "kill":
        await asyncio.to_thread(server.kill)  # the callers' clocks go on meanwhile
    else:
        server.send(signal.SIGSTOP)
    began = time.monotonic()
    gone = await p.event("store_away")
    assert gone["mode"] == "local" and gone["reason"] in ("connection", "timeout")
    assert await granted(p, 50) == 20, "two replicas share what was left of 50 when 10 were spent"
    while time.monotonic() < began + 2:
        await load.more(20)
    if how == "kill":
        await asyncio.to_thread(server.start)
    else:
        server.send(signal.SIGCONT)
    back = time.monotonic()
    await p.event("store_back")
    took = time.monotonic() - back
    print(f"used again after {took:.2f} s")
    assert took < 5
    # a killed Redis has forgotten the first ten; it was told of those that were let in without it
    spent = 20 if how == "kill" else 30
    assert await granted(p, 60) == 50 - spent


async def granted(p: Process, n: int) -> int:
    """How many of so many requests the limit of 50 a day lets in, one after the other."""
    async with connect(p.port) as client:
        return [(await client.ask(chat("bound"))).status for _ in range(n)].count(200)


@pytest.mark.parametrize("on_error", ["closed", "open", "local"])
async def test_without_redis_requests_go_as_the_setting_says(on_error: str) -> None:
    text = json.dumps({"policies": policies(two={"limits": ["2 requests/day"]}), "store": {"url": "memory"}})
    nobody = {"url": f"redis://127.0.0.1:{free_port()}/0", "on_error": on_error}
    async with backend(Behind()) as b, gate(b.url, text, store=nobody) as g:
        replies = [await fetch(g.port, chat("two")) for _ in range(3)]
        codes = [reply.status for reply in replies]
        assert codes == {"closed": [503] * 3, "open": [200] * 3, "local": [200, 200, 429]}[on_error]
        if on_error == "closed":
            error = json.loads(replies[0].body)["error"]
            assert error["code"] == "limits_unavailable" and set(error) >= {"message", "type", "param", "code"}
            assert int(replies[0].value(b"retry-after") or 0) >= 1 and b"redis" not in replies[0].body.lower()
            asked = request("POST", "/v1/messages", b'{"messages":[],"max_tokens":1}', [JSON, (b"X-Part", b"two")])
            messages = await fetch(g.port, asked)
            assert messages.status == 503 and json.loads(messages.body)["type"] == "error"
        else:
            told = replies[0].value(b"x-ratelimit-remaining-requests")
            assert told == (b"1" if on_error == "local" else None), "where nobody counts, nothing is told"


