"""Waiting for a place: tasks that come, wait, are cancelled and end in any order leave nothing behind and hang nowhere."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from policies.contract import Candidate, Exchange, Headers, Kind
from proxy.backends import Backend
from proxy.faults import Fault
from proxy.places import Lease, turn
from proxy.settings import Backend as Settings


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def exchange(caller: str = "a", method: str = "POST", **fields: str) -> Exchange:
    headers = [(k.replace("_", "-").encode(), v.encode()) for k, v in fields.items()]
    x = Exchange("id", method, "/v1/chat/completions", "", Headers(headers), "127.0.0.1", 100.0, 0.0)
    x.caller = caller
    return x


def backends(clock: Clock, **settings: dict[str, Any]) -> dict[str, Backend]:
    loop = asyncio.get_running_loop()
    return {
        name: Backend(name, Settings.model_validate({"url": f"http://{name}.example"} | more), loop, clock)
        for name, more in settings.items()
    }


def of(mapping: dict[str, Backend]) -> list[Candidate]:
    return [Candidate(name) for name in mapping]


async def spin(n: int = 5) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


def idle(mapping: dict[str, Backend]) -> None:
    for b in mapping.values():
        assert b.in_flight == 0
        if b.places is not None:
            assert (b.places.busy, b.places.waiting, b.places._keys) == (0, 0, {})


async def test_the_first_with_room_is_taken_before_anybody_waits() -> None:
    mapping = backends(Clock(), one={"max_in_flight": 1, "queue": {}}, two={"max_in_flight": 1}, three={})
    got = []
    for _ in range(4):
        choices = of(mapping)
        candidate, lease = await turn(exchange(), choices, mapping)
        assert candidate not in choices and len(choices) == 2
        got.append((candidate.backend, lease))
    assert [name for name, _ in got] == ["one", "two", "three", "three"]
    for _, lease in got:
        lease.give_back()
    idle(mapping)


async def test_one_waits_for_all_and_takes_the_first_that_is_free() -> None:
    mapping = backends(Clock(), one={"max_in_flight": 1, "queue": {}}, two={"max_in_flight": 1, "queue": {}})
    _, first = await turn(exchange(), of(mapping), mapping)
    _, second = await turn(exchange(), of(mapping), mapping)
    x = exchange()
    choices = of(mapping)
    task = asyncio.create_task(turn(x, choices, mapping))
    await spin()
    assert [b.places.waiting for b in mapping.values() if b.places] == [1, 1] and not task.done()
    second.give_back()
    candidate, lease = await task
    assert candidate.backend == "two" and [c.backend for c in choices] == ["one"]
    assert [b.places.waiting for b in mapping.values() if b.places] == [0, 0]
    assert x.queued is not None and (x.queued.backend, x.queued.outcome) == ("two", "served")
    first.give_back()
    lease.give_back()
    idle(mapping)


async def test_what_is_light_takes_no_place() -> None:
    mapping = backends(Clock(), one={"max_in_flight": 1})
    _, lease = await turn(exchange(), of(mapping), mapping)
    for method in ("GET", "HEAD", "OPTIONS", "DELETE"):
        _, light = await turn(exchange(method=method), of(mapping), mapping)
        light.give_back()
    with pytest.raises(Fault):
        await turn(exchange(method="GET"), of(mapping), mapping, upgrade=True)
    lease.give_back()
    idle(mapping)


@pytest.mark.parametrize("queue", [None, {"size": 1}])
async def test_full(queue: dict[str, Any] | None) -> None:
    mapping = backends(Clock(), one={"max_in_flight": 1} | ({"queue": queue} if queue else {}))
    _, lease = await turn(exchange(), of(mapping), mapping)
    waiting = asyncio.create_task(turn(exchange(), of(mapping), mapping)) if queue else None
    await spin()
    x = exchange()
    with pytest.raises(Fault) as caught:
        await turn(x, of(mapping), mapping)
    assert caught.value.kind is Kind.QUEUE_FULL and caught.value.retry_after == 1.0
    assert x.queued is not None and (x.queued.outcome, x.queued.seconds) == ("full", 0.0)
    lease.give_back()
    if waiting is not None:
        (await waiting)[1].give_back()
    idle(mapping)


async def test_who_is_pushed_out_hears_of_it_at_once() -> None:
    mapping = backends(Clock(), one={"max_in_flight": 1, "queue": {"size": 2}})
    _, lease = await turn(exchange(), of(mapping), mapping)
    greedy = [asyncio.create_task(turn(exchange("greedy"), of(mapping), mapping)) for _ in range(2)]
    await spin()
    modest = asyncio.create_task(turn(exchange("modest"), of(mapping), mapping))
    await spin()
    assert greedy[1].done() and not greedy[0].done()
    with pytest.raises(Fault) as caught:
        await greedy[1]
    assert (caught.value.kind, caught.value.detail) == (Kind.QUEUE_FULL, "pushed_out")
    lease.give_back()
    (await greedy[0])[1].give_back()
    (await modest)[1].give_back()
    idle(mapping)


@pytest.mark.parametrize(
    ("fields", "after"),
    [
        ({}, 30), ({"X_Request_Timeout": "5"}, 5), ({"X_Request_Timeout": "250ms"}, 0.25), ({"X_Request_Timeout": "90"}, 30),
        ({"X_Stainless_Read_Timeout": "600.0"}, 30), ({"X_Stainless_Read_Timeout": "20", "X_Request_Timeout": "3s"}, 3),
        ({"X_Request_Timeout": "soon"}, 30), ({"X_Request_Timeout": "0"}, 30), ({"X_Request_Timeout": "-1"}, 30),
    ],
)  # fmt: skip
async def test_the_deadline_is_the_settings_or_the_clients(fields: dict[str, str], after: float) -> None:
    clock = Clock()
    mapping = backends(clock, one={"max_in_flight": 1, "queue": {}})
    _, lease = await turn(exchange(), of(mapping), mapping)
    x = exchange(**fields)
    task = asyncio.create_task(turn(x, of(mapping), mapping))
    await spin()
    clock.now += after - 0.01
    mapping["one"].sweep(clock.now)
    await spin()
    assert not task.done()
    clock.now += 0.02
    mapping["one"].sweep(clock.now)
    with pytest.raises(Fault) as caught:
        await task
    assert caught.value.kind is Kind.QUEUE_TIMEOUT
    assert x.queued is not None and x.queued.outcome == "timeout"
    assert x.queued.seconds == x.upstream_wait == pytest.approx(after + 0.01)
    clock.now += 10
    late = exchange(X_Request_Timeout="10")  # it has spent more than that before it came here
    with pytest.raises(Fault) as caught:
        await turn(late, of(mapping), mapping)
    assert caught.value.kind is Kind.QUEUE_TIMEOUT
    lease.give_back()
    idle(mapping)


async def test_a_second_wait_has_what_the_first_has_left() -> None:
    clock = Clock()
    mapping = backends(clock, one={"max_in_flight": 1, "queue": {"timeout": 10}})
    _, held = await turn(exchange(), of(mapping), mapping)
    x = exchange()
    for waited, outcome in ((6.0, "served"), (4.1, "timeout")):
        task = asyncio.create_task(turn(x, of(mapping), mapping))
        await spin()
        clock.now += waited
        mapping["one"].sweep(clock.now)
        if outcome == "served":
            held.give_back()
            _, held = await task
        else:
            with pytest.raises(Fault):
                await task
        assert x.queued is not None and x.queued.outcome == outcome
    held.give_back()
    idle(mapping)


async def test_cancelled_in_the_same_turn_of_the_loop_as_granted() -> None:
    """The place must go to the next, whichever of the two comes first."""
    for grant_first in (True, False):
        mapping = backends(Clock(), one={"max_in_flight": 1, "queue": {}}, two={"max_in_flight": 1, "queue": {}})
        leases = [(await turn(exchange(), of(mapping), mapping))[1] for _ in range(2)]
        x = exchange()
        gone = asyncio.create_task(turn(x, of(mapping), mapping))
        await spin()
        following = asyncio.create_task(turn(exchange("next"), of(mapping), mapping))
        await spin()
        steps = [leases[0].give_back, gone.cancel]
        for step in steps if grant_first else reversed(steps):
            step()
        candidate, lease = await asyncio.wait_for(following, 1)
        assert candidate.backend == "one"
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert x.queued is not None and x.queued.outcome == "gone"
        lease.give_back()
        leases[1].give_back()
        idle(mapping)


@pytest.mark.parametrize(
    ("priority", "classes", "want"),
    [
        (None, {"a": 2}, "*"), ("label:tier", {"pro": 2}, "pro"), ("label:tier", {"free": 2}, "*"),
        ("header:x-priority", {"high": 2}, "high"), ("claim:plan", {"gold": 2}, "gold"), ("tenant", {"acme": 2}, "acme"),
        ("caller", {"a": 2}, "a"), ("route", {"chat": 2}, "chat"), ("label:none", {"pro": 2}, "*"),
    ],
)  # fmt: skip
async def test_classes(priority: str | None, classes: dict[str, float], want: str) -> None:
    queue = {"classes": classes} | ({"priority": priority} if priority else {})
    mapping = backends(Clock(), one={"max_in_flight": 1, "queue": queue})
    x = exchange(X_Priority="high")
    x.labels["tier"], x.claims["plan"], x.tenant, x.route = "pro", "gold", "acme", "chat"
    assert mapping["one"].class_of(x) == want


@pytest.mark.parametrize(("fair_by", "same"), [("caller", False), ("tenant", True), ("address", True)])
async def test_whose_turn(fair_by: str, same: bool) -> None:
    mapping = backends(Clock(), one={"max_in_flight": 1, "queue": {"fair_by": fair_by, "per_caller": 1}})
    _, lease = await turn(exchange(), of(mapping), mapping)
    tasks = []
    for caller in "ab":
        x = exchange(caller)
        x.tenant = "acme"
        tasks.append(asyncio.create_task(turn(x, of(mapping), mapping)))
    await spin()
    assert [t.done() for t in tasks] == [False, same]
    lease.give_back()
    for task in tasks:
        if not (same and task is tasks[1]):
            (await task)[1].give_back()
    if same:
        with pytest.raises(Fault, match="queue_full"):
            await tasks[1]
    idle(mapping)


async def test_a_reload_takes_over_places_and_those_who_wait() -> None:
    clock = Clock()
    old = backends(clock, one={"max_in_flight": 1, "queue": {}})
    _, held = await turn(exchange(), of(old), old)
    tasks = [asyncio.create_task(turn(exchange(), of(old), old)) for _ in range(3)]
    await spin()
    new = backends(clock, one={"max_in_flight": 2, "queue": {"size": 5}})
    new["one"].take_over(old["one"])
    await spin()
    assert [t.done() for t in tasks] == [True, False, False], "there is one more place now"
    fresh = asyncio.create_task(turn(exchange("b"), of(new), new))
    await spin()
    assert not fresh.done(), "the old ones' requests count"
    free = backends(clock, one={})
    free["one"].take_over(new["one"])
    leases = [held, *[lease for _, lease in await asyncio.gather(*tasks, fresh)]]
    for lease in leases:
        lease.give_back()
    for mapping in (old, new, free):
        idle(mapping)


async def test_another_address_is_another_backend() -> None:
    clock = Clock()
    old = backends(clock, one={"max_in_flight": 1})
    _, held = await turn(exchange(), of(old), old)
    new = backends(clock, one={"max_in_flight": 1, "url": "http://elsewhere.example"})
    new["one"].take_over(old["one"])
    _, lease = await turn(exchange(), of(new), new)
    lease.give_back()
    held.give_back()
    idle(old)
    idle(new)


class _Run:
    """Tasks that want places; what is done to them comes from the test."""

    def __init__(self, mapping: dict[str, Backend], clock: Clock) -> None:
        self.mapping, self.clock = mapping, clock
        self.tasks: list[asyncio.Task[None]] = []
        self.ends: list[asyncio.Event] = []
        self.most = dict.fromkeys(mapping, 0)

    async def one(self, x: Exchange, names: list[str], end: asyncio.Event) -> None:
        try:
            candidate, lease = await turn(x, [Candidate(n) for n in names], self.mapping)
        except Fault:
            return
        assert isinstance(lease, Lease)
        try:
            here = self.mapping[candidate.backend]
            self.most[candidate.backend] = max(self.most[candidate.backend], here.in_flight)
            await end.wait()
        finally:
            lease.give_back()

    def start(self, caller: str, names: list[str], wait: float) -> None:
        end = asyncio.Event()
        x = exchange(caller, X_Request_Timeout=f"{self.clock.now - 100 + wait:.3f}")
        self.ends.append(end)
        self.tasks.append(asyncio.create_task(self.one(x, names, end)))


@hypothesis_settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), limits=st.lists(st.integers(1, 3), min_size=1, max_size=3), size=st.integers(1, 8))
def test_nothing_is_left_behind(seed: int, limits: list[int], size: int) -> None:
    async def main() -> None:
        rng, clock = random.Random(seed), Clock()
        settings = {f"b{n}": {"max_in_flight": limit, "queue": {"size": size}} for n, limit in enumerate(limits)}
        mapping = backends(clock, **settings)
        run = _Run(mapping, clock)
        for _ in range(150):
            match rng.randrange(6):
                case 0 | 1 | 2:
                    names = rng.sample(list(mapping), rng.randint(1, len(mapping)))
                    run.start(rng.choice("xyz"), names, rng.uniform(0.1, 9))
                case 3 if run.ends:
                    rng.choice(run.ends).set()
                case 4 if run.tasks:
                    rng.choice(run.tasks).cancel()
                case 5:
                    clock.now += rng.random()
                    for b in mapping.values():
                        b.sweep(clock.now)
            if rng.random() < 0.5:
                await asyncio.sleep(0)
        for end in run.ends:
            end.set()
        done, hanging = await asyncio.wait(run.tasks, timeout=5) if run.tasks else (set(), set())
        assert not hanging
        assert [t for t in done if not t.cancelled() and t.exception()] == []
        assert all(run.most[f"b{n}"] <= limit for n, limit in enumerate(limits))
        idle(mapping)

    asyncio.run(main())
