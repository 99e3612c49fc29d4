"""What limits cost, without network: ``python -m bench.micro_limits``; with ``--redis URL`` also against a Redis server.

A request is one ``admit`` (what it may cost, one step of all its limits), ``respond`` where told, and one ``settle``, in
microseconds, the best of several passes. The counters are real; the exchange is made before the clock runs.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from policies import load
from policies.contract import Attempt, Exchange, Headers, Policy, ReplyHead, Usage
from policies.store import Lease, Rate, Store
from proxy.settings import StoreSettings
from proxy.store.memory import Memory
from proxy.store.opening import make

ROWS: dict[str, dict[str, Any]] = {
    "1 rate": {"limits": ["1G requests/minute"]},
    "2 rates, 1 lease": {"limits": ["1G requests/minute", "1G tokens/minute", "1k concurrent"]},
    "2 rates, 1 lease, no fields": {"limits": ["1G requests/minute", "1G tokens/minute", "1k concurrent"], "headers": False},
    "2 rates, 1 window, 1 lease, by 3 subjects": {
        "limits": ["1G requests/minute by tenant", "1G tokens/minute by caller+model", "1G tokens/day by tenant", "1k concurrent"]
    },
}
CALLERS = 100


def exchanges(n: int) -> list[Exchange]:
    """Requests of CALLERS callers whose replies have been counted."""
    out = []
    for i in range(n):
        x = Exchange(f"req-{i}", "POST", "/v1/chat/completions", "", Headers(), "127.0.0.1", 0.0, 0.0)
        x.route, x.dialect, x.model_asked, x.stream = "chat", "chat", "llama-3.1-8b", True
        x.caller, x.tenant, x.text_in = f"caller-{i % CALLERS}", f"tenant-{i % 10}", 800
        x.tokens_asked = 256
        out.append(x)
    return out


async def policy(options: dict[str, Any], opens: Callable[[str], Coroutine[Any, Any, Store]]) -> Policy:
    cls = load("rate_limit")
    made = cls("limits", cls.Options.model_validate(options))
    made.deps = made.deps._replace(clock=time.monotonic, wall=time.time, store=opens)
    await made.prepare()
    return made


async def one(limits: Policy, x: Exchange, responds: bool) -> None:
    await limits.admit(x)
    if responds:
        limits.respond(x, ReplyHead(200, Headers([(b"content-type", b"application/json")])))
    x.attempts = [_ATTEMPT]
    x.usage = Usage(200, 90, 0)
    await limits.settle(x)


_ATTEMPT = Attempt("local", 0.0)


async def passes(limits: Policy, n: int, times: int) -> tuple[float, float]:
    """Microseconds of admit and settle, and of all three; the best pass."""
    best = [float("inf"), float("inf")]
    for _ in range(times):
        for which, responds in enumerate((False, "respond" in limits.phases())):
            found = exchanges(n)
            gc.collect()
            gc.disable()
            began = time.perf_counter()
            for x in found:
                await one(limits, x, responds)
            best[which] = min(best[which], (time.perf_counter() - began) / n * 1e6)
            gc.enable()
    return best[0], best[1]


async def store_alone(store: Store, n: int = 1000, times: int = 40) -> float:
    """A step of two rates and a lease, and its settlement, without a policy."""
    best = float("inf")
    for _ in range(times):
        gc.collect()
        began = time.perf_counter()
        for i in range(n):
            slot = Lease("c", str(i), 1000, 60)
            taken = await store.take([Rate("a", 1, 1e9, 60, 1e9), Rate("b", 456, 1e9, 60, 1e9), slot])
            await store.adjust([Rate("b", -166, 1e9, 60, 1e9), slot], taken)
        best = min(best, (time.perf_counter() - began) / n * 1e6)
    return best


async def memory(n: int, times: int) -> None:
    print(f"{'memory store':44} admit+settle   with fields")
    for name, options in ROWS.items():
        table = Memory()
        limits = await policy(options, table.open)
        bare, all_three = await passes(limits, n, times)
        await limits.close()
        print(f"{name:44} {bare:9.1f} us {all_three:9.1f} us")
    print(f"{'the store alone (2 rates, 1 lease)':44} {await store_alone(Memory().scope('x')):9.1f} us")


async def redis(url: str, n: int, times: int) -> None:
    """p50 and p99 of admit, the settlement beside; the round trips are counted at the client."""
    for name, options in ROWS.items():
        stores = make(StoreSettings(url=url, prefix="bench"), 1)
        limits = await policy(options, stores.open)
        best: tuple[float, float, float] | None = None
        for _ in range(times):
            took, ended = [], []
            for x in exchanges(n):
                began = time.perf_counter()
                await limits.admit(x)
                took.append(time.perf_counter() - began)
                x.attempts, x.usage = [_ATTEMPT], Usage(200, 90, 0)
                began = time.perf_counter()
                await limits.settle(x)
                ended.append(time.perf_counter() - began)
            found = (statistics.median(took) * 1e6, sorted(took)[int(n * 0.99)] * 1e6, statistics.median(ended) * 1e6)
            best = found if best is None else min(best, found)
        await limits.close()
        await stores.close()
        assert best is not None
        print(f"{name:44} admit p50 {best[0]:5.0f} us, p99 {best[1]:5.0f} us; settle p50 {best[2]:5.0f} us")


async def main() -> None:
    given = argparse.ArgumentParser(prog="bench.micro_limits")
    given.add_argument("--redis", metavar="URL")
    given.add_argument("-n", type=int, default=1000)
    given.add_argument("--times", type=int, default=40)
    args = given.parse_args()
    await memory(args.n, args.times)
    if args.redis:
        await redis(args.redis, args.n, min(args.times, 9))


if __name__ == "__main__":
    uvloop.run(main())
