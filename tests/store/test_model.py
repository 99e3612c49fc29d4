"""Random steps against a slow model in exact fractions, for memory and for the Lua that runs in Redis.

The model is GCRA as it is usually written (a theoretical arrival time); the stores keep another unknown.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from policies.store import Lease, Part, Rate, Store, Window
from proxy.store.memory import Memory
from proxy.store.redis import RedisStore
from proxy.store.urls import parse_store_url
from tests.kits.store_kit import Clock, RedisServer, on_clock_of

BASE = 1_790_000_000
#: A decision this near its limit (relative to it) may go either way: stores count in floats.
EDGE = Fraction(1, 10**7)


class Model:
    """grace: a window is forgotten this long after its end, or after its first cost when that came later. In Redis that
    goes by its own time, which does not pass here."""

    def __init__(self, grace: float) -> None:
        self.grace = Fraction(grace) if grace < 1e9 else Fraction(10**12)
        self.over: dict[str, Fraction] = {}
        self.tat: dict[str, Fraction] = {}
        self.windows: dict[str, tuple[Fraction, Fraction]] = {}
        self.leases: dict[str, dict[str, Fraction]] = {}

    def forget(self, now: Fraction) -> None:
        for key in [k for k, over in self.over.items() if over <= now]:
            del self.over[key], self.windows[key]

    def look(self, part: Part, now: Fraction) -> tuple[Fraction, Fraction]:
        """(what fits, how far the limit is from being exceeded by this cost, relative to it)."""
        if isinstance(part, Rate):
            emission = Fraction(part.period_s) / Fraction(part.limit)
            ahead = max(Fraction(0), self.tat.get(part.key, now) - now)
            left = Fraction(part.burst) - ahead / emission
            return left, (left - Fraction(part.cost)) / Fraction(part.burst)
        if isinstance(part, Window):
            start, used = self.windows.get(part.key, (Fraction(part.start), Fraction(0)))
            used = used if start >= part.start else Fraction(0)
            left = Fraction(part.limit) - used
            return left, (left - Fraction(part.cost)) / max(1, Fraction(part.limit))
        held = {i for i, end in self.leases.get(part.key, {}).items() if end > now}
        left = Fraction(part.limit - len(held))
        return left, Fraction(1 if part.id in held or left > 0 else -1)

    def add(self, part: Part, now: Fraction, *, release: bool) -> None:
        if isinstance(part, Rate):
            emission = Fraction(part.period_s) / Fraction(part.limit)
            tat = max(now, self.tat.get(part.key, now)) + Fraction(part.cost) * emission
            self.tat[part.key] = max(now, tat)
        elif isinstance(part, Window):
            start, used = self.windows.get(part.key, (None, Fraction(0)))
            if part.cost < 0 and start != Fraction(part.start):
                return
            if start is None or start < part.start:
                start, used = Fraction(part.start), Fraction(0)
                if part.cost == 0:
                    return  # a step that costs nothing leaves no trace
                self.over[part.key] = max(Fraction(part.end), now) + self.grace
            self.windows[part.key] = (start, max(Fraction(0), used + Fraction(part.cost)))
        elif release:
            self.leases.get(part.key, {}).pop(part.id, None)
        else:
            self.leases.setdefault(part.key, {})[part.id] = now + Fraction(part.ttl_s)


cost = st.one_of(st.integers(0, 12), st.floats(0, 12, allow_subnormal=False), st.sampled_from([0.1, 1e-6]))
#: Of each key; the two ways of counting agree only where the rate of a key stays what it is.
RATES = {"a": (10, 1.0, 10), "b": (3, 60.0, 3), "c": (0.5, 1.0, 7), "d": (1000, 1.0, 5.5)}
rates = st.builds(lambda key, cost: Rate(key, cost, *RATES[key]), st.sampled_from(sorted(RATES)), cost)
windows = st.builds(
    lambda key, cost, limit, month: Window(key, cost, limit, BASE + 20 * month, BASE + 20 * (month + 1)),
    st.sampled_from(["a", "b"]), cost, st.sampled_from([0, 10, 25.5]), st.integers(0, 3),
)  # fmt: skip
leases = st.builds(
    Lease, st.sampled_from(["a", "b"]), st.sampled_from("uvwxyz"), st.integers(0, 3), st.sampled_from([0.5, 5.0, 30.0])
)
parts = st.lists(st.one_of(rates, windows, leases), min_size=1, max_size=3, unique_by=lambda p: (type(p), p.key))
steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "read", "adjust", "back", "renew"]),
        parts,
        st.one_of(st.just(0), st.integers(0, 3_000_000), st.integers(0, 30_000_000)),  # us that pass before it
    ),
    min_size=1,
    max_size=30,
)


async def run(store: Store, script: list[Any], set_clock: Callable[[Fraction], None], grace: float) -> None:
    model, now = Model(grace), Fraction(BASE)
    for what, asked, pause in script:
        now += Fraction(pause, 1_000_000)
        set_clock(now)
        model.forget(now)
        if what in ("take", "read"):
            taken = await (store.take if what == "take" else store.read)(asked)
            looks = [model.look(p, now) for p in asked]
            for part, (left, margin), state in zip(asked, looks, taken.parts, strict=True):
                if abs(margin) > EDGE:
                    assert state.allowed == (margin > 0), (what, part, float(margin), state)
                gone = part.cost if taken.ok and what == "take" and not isinstance(part, Lease) else 0
                if not isinstance(part, Lease):
                    assert state.remaining == pytest.approx(max(0.0, float(left - Fraction(gone))), abs=1e-5)
            assert taken.ok == all(s.allowed for s in taken.parts)
            for part in asked if taken.ok and what == "take" else ():
                model.add(part, now, release=False)
        elif what == "renew":
            held = [p for p in asked if isinstance(p, Lease)]
            await store.renew(held)
            for part in held:
                model.add(part, now, release=False)
        else:
            sign = -1 if what == "back" else 1
            changes = [p if isinstance(p, Lease) else p._replace(cost=sign * p.cost) for p in asked]
            await store.adjust(changes)
            for part in changes:
                model.add(part, now, release=True)


@settings(max_examples=300, deadline=None, phases=[Phase.generate])
@given(steps)
def test_memory_does_as_the_model(script: list[Any]) -> None:
    clock = Clock(wall_offset=BASE)

    def set_clock(now: Fraction) -> None:
        clock.now = float(now - BASE)  # as monotonic clocks are: of the machine's start

    asyncio.run(run(Memory(clock=clock, wall=clock.wall).scope("p"), script, set_clock, 60))


@pytest.mark.wire
def test_redis_does_as_the_model(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    set_redis = on_clock_of(server, monkeypatch.setattr)
    scopes = itertools.count()

    async def on_redis(script: list[Any]) -> None:
        # a clock that stands still in the future of nobody: `late` is about Redis's own clock, which is patched away
        store = RedisStore(parse_store_url(server.url), prefix="model", clock=lambda: 0.0, timeout=1e9)
        try:
            await run(store.scope(f"p{next(scopes)}"), script, lambda now: set_redis(float(now)), 1e9)
        finally:
            await store.close()

    @settings(max_examples=60, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
    @given(steps)
    def one(script: list[Any]) -> None:
        asyncio.run(on_redis(script))

    one()


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([(100, 60.0, 10), (1_000_000, 1.0, 50_000), (3, 86_400.0, 1), (0.25, 1.0, 4)]),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 3)), min_size=1, max_size=60),
)
def test_no_span_of_time_gets_more_than_its_rate_and_one_burst(
    kind: tuple[float, float, float], asks: list[tuple[float, float]]
) -> None:
    limit, period, burst = kind
    clock = Clock()
    store = Memory(clock=clock, wall=clock.wall).scope("p")
    granted: list[tuple[float, float]] = []
    for share, pause in asks:
        clock.now += pause * period / limit
        if store.take_now([Rate("k", share * burst, limit, period, burst)]).ok:
            granted.append((clock.now, share * burst))
    for i, (begin, _) in enumerate(granted):
        total = 0.0
        for at, cost in granted[i:]:
            total += cost
            assert total <= burst + (at - begin) * limit / period + 1e-6 * burst


@settings(max_examples=200, deadline=None)
@given(st.floats(0.1, 10), st.floats(0, 10), st.sampled_from([(10, 1.0, 10), (1_000_000, 60.0, 10), (7, 3600.0, 10)]))
def test_the_wait_that_is_told_is_enough_and_not_too_long(first: float, second: float, kind: tuple[float, float, float]) -> None:
    clock = Clock(now=0.0)
    store = Memory(clock=clock, wall=clock.wall).scope("p")
    assert store.take_now([Rate("k", first, *kind)]).ok
    refused = store.take_now([Rate("k", second, *kind)])
    if refused.ok:
        return
    wait = refused.retry_after_s
    assert wait is not None and wait > 0
    clock.now = wait * 0.999 - 1e-6
    if wait > 1e-3:
        assert not store.read_now([Rate("k", second, *kind)]).ok
    clock.now = wait
    assert store.take_now([Rate("k", second, *kind)]).ok
