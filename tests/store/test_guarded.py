"""The guard: what an outage costs, what is done instead, and the way back.

Each outage is made with a real server. On a machine whose processors are overbooked a sound Redis can take more than the
default deadline of 50 ms; so most tests have a longer one, and those that keep it look at nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator

import pytest

from policies.store import Lease, Part, Rate, Store, StoreAway, Taken, Window, undo
from proxy.store.guarded import Guarded
from proxy.store.redis import RedisStore
from proxy.store.state import Change, OnError
from proxy.store.urls import parse_store_url
from tests.kits.store_kit import RedisServer, free_port, front, until

pytestmark = [pytest.mark.wire, pytest.mark.deadline(60)]
START = float(int(time.time()))


class Gate:
    """A guarded store, and what it told."""

    def __init__(self, url: str, *, on_error: OnError = "local", n: int = 1, every: float = 0.1, timeout: float = 0.4) -> None:
        self.told: list[Change] = []
        remote = RedisStore(parse_store_url(url), prefix="t", timeout=timeout)
        self.guard = Guarded(
            remote, on_error=on_error, n=n, timeout=timeout, changed=self.told.append, probe_every=every
        )

    async def open(self) -> Store:
        return await self.guard.open("p")

    async def away(self) -> None:
        await until(lambda: not self.guard.up)

    async def back(self, within: float = 5) -> float:
        return await until(lambda: self.guard.up, within)


@contextlib.asynccontextmanager
async def gate(url: str, **more: object) -> AsyncIterator[tuple[Gate, Store]]:
    made = Gate(url, **more)  # type: ignore[arg-type]
    try:
        yield made, await made.open()
    finally:
        await made.guard.close()
        assert not made.guard._running and not made.guard._aside


def rate(cost: float = 1, limit: float = 1000) -> Rate:
    return Rate("r", cost, limit, 3600, limit)


def window(cost: float = 1, limit: float = 100) -> Window:
    return Window("w", cost, limit, START - 10, START + 5000)


async def timed(store: Store, parts: list[Part]) -> tuple[float, Taken]:
    began = time.monotonic()
    taken = await store.take(parts)
    return time.monotonic() - began, taken


# -- what an outage costs


async def test_a_hung_server_costs_one_deadline_once(own_server: RedisServer) -> None:
    async with gate(own_server.url, every=1.0) as (g, store):  # its deadline is 0.4 s here
        await store.take([rate()])
        own_server.send(signal.SIGSTOP)
        try:
            first = await asyncio.gather(*(timed(store, [rate()]) for _ in range(50)))
            assert all(t.ok and t.source == "local" for _, t in first)
            assert 0.39 < max(s for s, _ in first) < 0.6
            end = time.monotonic() + 2
            waits = []
            while time.monotonic() < end:
                waits.append((await timed(store, [rate()]))[0])
                await asyncio.sleep(0.005)
            assert sorted(waits)[len(waits) * 95 // 100] < 0.005, "nobody waits any more"
        finally:
            own_server.send(signal.SIGCONT)
        assert await g.back() < 5
        assert (await store.take([rate()])).source == "redis"
        assert [c.up for c in g.told] == [False, True] and g.guard.outages == 1
        assert g.told[0].reason == "timeout" and g.told[1].calls == len(waits) + 50


async def test_the_deadline_is_50_ms_where_nothing_else_is_said(own_server: RedisServer) -> None:
    async with gate(own_server.url, timeout=0.05) as (g, store):
        await until(lambda: g.guard.up)
        own_server.send(signal.SIGSTOP)
        try:
            waits = [(await timed(store, [rate()]))[0] for _ in range(100)]
        finally:
            own_server.send(signal.SIGCONT)
        assert sum(w > 0.04 for w in waits) <= 3 and sum(waits) < 0.5


async def test_what_hung_does_not_count_later(own_server: RedisServer) -> None:
    """The steps that lay in the socket of the hung server for longer than a second were done here instead."""
    async with gate(own_server.url, every=0.3) as (g, store):
        await store.take([window(1)])
        own_server.send(signal.SIGSTOP)
        try:
            answers = await asyncio.gather(*(store.take([Rate(f"k{i}", 1, 9, 3600, 9)]) for i in range(8)))
            assert all(a.source == "local" for a in answers)
            await asyncio.sleep(1.7)  # a call may begin up to its own deadline and one second late
        finally:
            own_server.send(signal.SIGCONT)
        await g.back()
        assert own_server.cli("KEYS", "*:r:k*") == []


async def test_a_killed_server_costs_no_request_anything(own_server: RedisServer) -> None:
    async with gate(own_server.url, every=1.0) as (g, store):
        await store.take([rate()])
        own_server.kill()
        spent = [await timed(store, [rate()]) for _ in range(200)]
        assert all(t.ok for _, t in spent) and max(s for s, _ in spent) < 0.1
        await g.away()
        assert g.told[0].reason == "connection"
        own_server.start()
        assert await g.back() < 5
        assert (await store.take([rate()])).source == "redis" and g.guard.outages == 1


async def test_a_slow_server_is_away(own_server: RedisServer) -> None:
    async with front(own_server.port) as slow, gate(slow.url) as (g, store):
        await store.take([rate()])
        slow.delay = 0.8
        seconds, taken = await timed(store, [rate()])
        assert taken.source == "local" and seconds < 0.7
        seconds, taken = await timed(store, [rate()])
        assert taken.source == "local" and seconds < 0.1
        await asyncio.sleep(2.0)
        assert not g.guard.up, "a probe must be as quick as a call"
        slow.delay = 0
        await g.back()


async def test_nonsense_is_an_outage(own_server: RedisServer) -> None:
    async with front(own_server.port) as odd, gate(odd.url) as (g, store):
        await store.take([rate()])
        odd.nonsense = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        answers = await asyncio.gather(*(store.take([rate()]) for _ in range(30)))
        assert all(a.ok for a in answers) and not g.guard.up
        odd.nonsense = None
        await g.back()


async def test_a_server_that_is_not_there_at_the_start(own_server: RedisServer) -> None:
    own_server.kill()
    async with gate(own_server.url) as (g, store):
        assert not g.guard.up and (await store.take([rate()])).source == "local"
        own_server.start()
        await g.back()
        assert (await store.take([rate()])).source == "redis"


async def test_a_wrong_password_is_told_once_and_without_it(own_server: RedisServer) -> None:
    own_server.cli("CONFIG", "SET", "requirepass", "right")
    async with gate(own_server.url.replace("://", "://:hunter2@"), every=0.05) as (g, store):
        for _ in range(100):
            assert (await store.take([rate()])).ok
        await until(lambda: g.guard.errors["auth"] >= 3)
        assert [c.reason for c in g.told] == ["auth"] and "hunter2" not in repr(g.told) + repr(g.guard.errors)


async def test_no_address_at_all(caplog: pytest.LogCaptureFixture) -> None:
    async with gate(f"redis://127.0.0.1:{free_port()}/0", every=0.05) as (g, store):
        for _ in range(500):
            assert (await store.take([rate()])).ok
        await until(lambda: g.guard.errors["connection"] >= 3)
        assert len(g.told) == 1
    assert caplog.records == [], "the client library says nothing, and asyncio finds no forgotten error"


async def test_a_burst_of_our_own_is_no_outage(own_server: RedisServer) -> None:
    async with gate(own_server.url) as (g, store):
        answers = await asyncio.gather(*(store.take([rate(limit=100)]) for _ in range(1500)))
        assert g.told == [] and sum(a.ok for a in answers) == 100


async def test_a_busy_loop_is_no_outage(own_server: RedisServer) -> None:
    async with gate(own_server.url) as (g, store):
        tasks = [asyncio.create_task(store.take([rate()])) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.6)  # noqa: ASYNC251 - the loop itself stands still
        assert {t.source for t in await asyncio.gather(*tasks)} == {"redis"} and g.guard.up


# -- what is done instead


async def test_closed_refuses_while_away(own_server: RedisServer) -> None:
    async with gate(own_server.url, on_error="closed") as (g, store):
        assert (await store.take([rate()])).ok and g.guard.mode == "shared"
        own_server.kill()
        for call in (store.take([rate()]), store.take([rate()]), store.read([rate()])):
            with pytest.raises(StoreAway):
                await call
        await store.adjust([rate(-1)])
        await store.renew([Lease("l", "a", 1, 9)])
        assert g.guard.mode == "closed" and g.guard.instead == {"closed": 3}


async def test_open_lets_pass_and_counts_nothing(own_server: RedisServer) -> None:
    async with gate(own_server.url, on_error="open") as (g, store):
        await store.take([window(60)])
        own_server.kill()
        taken = [await store.take([window(60), rate(10**6)]) for _ in range(3)]
        assert all(t.ok and t.source == "open" and t.parts[0].remaining == 100 for t in taken)
        await store.adjust(undo([window(60)]), taken[0])
        own_server.start()
        await g.back()
        assert (await store.read([window(0)])).parts[0].remaining == 100


async def test_local_grants_its_share(own_server: RedisServer) -> None:
    own_server.kill()
    async with gate(own_server.url, n=4) as (_, store):
        step: list[Part] = [rate(limit=100)]
        assert sum([(await store.take(step)).ok for _ in range(60)]) == 25
        slots = [(await store.take([Lease("l", f"i{i}", 3, 60)])).ok for i in range(3)]
        assert slots == [True, False, False], "at least one slot"
        (state,) = (await store.read(step)).parts
        assert state.limit == 100 and state.remaining < 1


async def test_an_outage_gives_no_second_budget(own_server: RedisServer) -> None:
    async with gate(own_server.url, n=2) as (_, store):
        assert (await store.take([window(80)])).ok
        own_server.kill()
        spent = [(await store.take([window(1)])).ok for _ in range(50)]
        assert sum(spent) == 10, "half of what was left"


async def test_values_are_unknown_while_away_whatever_the_setting(own_server: RedisServer) -> None:
    async with gate(own_server.url, on_error="open") as (_, store):
        await store.set("k", b"v", 60)
        assert await store.get("k") == b"v"
        own_server.kill()
        for _ in range(2):
            for call in (store.get("k"), store.set("k", b"w", 1), store.delete("k")):
                with pytest.raises(StoreAway):
                    await call


# -- the way back


async def test_windows_spent_in_an_outage_are_told(own_server: RedisServer) -> None:
    async with gate(own_server.url) as (g, store):
        before = await store.take([window(10)])
        own_server.send(signal.SIGSTOP)
        try:
            here = await store.take([window(7)])
            more = await store.take([window(5)])
            assert (here.source, more.source) == ("local", "local")
            await store.adjust([window(-2)], more)
            await store.adjust([window(-4)], before)  # waits for Redis
            assert g.guard.owed == 1
            await asyncio.sleep(1.6)  # so that the step which hung is too late
        finally:
            own_server.send(signal.SIGCONT)
        await g.back()
        assert (await store.read([window(0)])).parts[0].remaining == pytest.approx(100 - 10 - 7 - 3 + 4)
        await store.adjust([window(-6)], here)
        assert (await store.read([window(0)])).parts[0].remaining == pytest.approx(100 - 10 - 1 - 3 + 4)
        assert (g.guard.owed, g.guard.dropped) == (0, 0)


async def test_slots_held_in_an_outage_are_brought_over_and_all_return(own_server: RedisServer) -> None:
    async with gate(own_server.url) as (g, store):
        first, second, third = (Lease("l", i, 2, 60) for i in "abc")
        taken = await store.take([first])
        own_server.kill()
        await store.renew([first])
        instead = await store.take([second])
        assert instead.source == "local"
        own_server.start()  # it has forgotten everything
        await g.back()
        assert not (await store.take([third])).ok, "both are still held"
        await store.adjust([first], taken)
        await store.adjust([second], instead)
        assert (await store.read([third])).parts[0].remaining == 2
        assert len(g.guard.local._entries) == 0 or not any(o.leases for o in g.guard.local.drain())


async def test_what_is_owed_is_bounded_and_counted(own_server: RedisServer) -> None:
    async with gate(own_server.url) as (g, store):
        taken = await store.take([window(1, 10**6)])
        own_server.kill()
        await store.take([rate()])
        for _ in range(10_050 // 50):
            await store.adjust([window(1, 10**6)] * 50, taken)
        assert g.guard.owed == 10_000 and g.guard.dropped == 50
        own_server.start()
        await g.back()
        used = 10**6 - (await store.read([window(0, 10**6)])).parts[0].remaining
        assert used == 10_000 and g.guard.owed == 0


async def test_a_store_that_flaps_must_pass_more_probes(own_server: RedisServer) -> None:
    async with front(own_server.port) as odd, gate(odd.url) as (g, store):
        for need in (1, 2, 3, 3):
            odd.nonsense = b"?\r\n"
            await store.take([rate()])
            await g.away()
            assert g.guard._need == need
            odd.nonsense = None
            await g.back()


async def test_everything_is_forgotten_and_counting_goes_on(own_server: RedisServer) -> None:
    async with gate(own_server.url) as (g, store):
        await store.take([window(100)])
        own_server.cli("FLUSHALL")
        own_server.cli("SCRIPT", "FLUSH")
        assert [(await store.take([window(50)])).ok for _ in range(3)] == [True, True, False]
        assert g.told == []


# -- callers that go


async def test_what_a_cancelled_caller_took_is_given_back(own_server: RedisServer) -> None:
    async with front(own_server.port) as slow, gate(slow.url, timeout=2.0) as (g, store):
        parts: list[Part] = [rate(10), window(10), Lease("l", "a", 1, 60)]
        await store.read(parts)
        slow.delay = 0.05
        tasks = [asyncio.create_task(store.take([rate(10), window(10), Lease("l", f"i{i}", 9, 60)])) for i in range(6)]
        await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(d, asyncio.CancelledError) for d in done)
        await until(lambda: not g.guard._running and not g.guard._aside)
        slow.delay = 0
        answer = await store.read([rate(0), window(0), Lease("l", "z", 9, 60)])
        assert [p.remaining for p in answer.parts] == [1000, 100, 9]
        assert g.told == []


async def test_cancelled_at_any_moment_nothing_stays_taken(own_server: RedisServer) -> None:
    async with gate(own_server.url) as (g, store):
        for i in range(150):
            task = asyncio.create_task(store.take([rate(1), Lease("l", f"i{i}", 500, 60)]))
            for _ in range(i % 15):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await store.adjust(undo([rate(1), Lease("l", f"i{i}", 500, 60)]), await task)
        await until(lambda: not g.guard._running and not g.guard._aside)
        answer = await store.read([rate(0), Lease("l", "z", 500, 60)])
        assert [p.remaining for p in answer.parts] == [1000, 500] and g.told == []


async def test_closing_in_the_middle_ends_everything(own_server: RedisServer) -> None:
    made = Gate(own_server.url)
    store = await made.open()
    own_server.send(signal.SIGSTOP)
    tasks = [asyncio.create_task(store.take([rate()])) for _ in range(20)]
    await asyncio.sleep(0.01)
    await made.guard.close()
    assert {t.source for t in await asyncio.gather(*tasks)} == {"local"}
    own_server.send(signal.SIGCONT)
    await made.guard.close()


# -- accounts


async def test_an_account_is_told_after_an_outage_what_it_has_missed(own_server: RedisServer) -> None:
    async with gate(own_server.url) as (g, store):
        await store.count("k", {"a": 1}, 60)
        own_server.send(signal.SIGSTOP)
        try:
            await store.take([rate()])  # it is away from here on
            for _ in range(1000):
                await store.count("k", {"a": 1, "b": 0.5}, 60)
            assert g.guard.owed == 2, "additions to one name are one"
            with pytest.raises(StoreAway):
                await store.counts("k")
        finally:
            own_server.send(signal.SIGCONT)
        await g.back()
        await until(lambda: g.guard.owed == 0)
        assert await store.counts("k") == {"a": 1001, "b": 500} and g.guard.dropped == 0


async def test_additions_that_find_no_room_in_an_outage_are_dropped_and_counted(own_server: RedisServer) -> None:
    own_server.kill()
    async with gate(own_server.url, every=0.2) as (g, store):
        for n in range(12):
            await store.count("k", {f"{n}-{i}": 1.0 for i in range(1000)}, 60)
        assert (g.guard.owed, g.guard.dropped) == (10_000, 2000) and g.guard.state().dropped == 2000
        own_server.start()
        await g.back()
        await until(lambda: g.guard.owed == 0)
        assert len(await store.counts("k")) == 10_000


async def test_an_addition_under_way_when_redis_goes_is_not_sent_twice(own_server: RedisServer) -> None:
    async with gate(own_server.url) as (g, store):
        await store.count("k", {"a": 1}, 60)
        own_server.send(signal.SIGSTOP)
        try:
            await store.count("k", {"a": 1}, 60)
            assert g.guard.unsure == 1 and not g.guard.up
        finally:
            own_server.send(signal.SIGCONT)
        await g.back()
        assert (await store.counts("k"))["a"] in (1, 2)


async def test_what_the_state_says(own_server: RedisServer) -> None:
    async with gate(own_server.url, n=4) as (g, store):
        await store.take([rate()])
        assert g.guard.state()[:5] == ("shared", True, True, 4, 0)
        own_server.kill()
        for _ in range(3):
            taken = await store.take([rate()])
            assert (taken.source, taken.shares) == ("local", 4)
        state = g.guard.state()
        assert (state.mode, state.up, state.outages, dict(state.instead), state.keys) == ("local", False, 1, {"local": 3}, 1)
        assert sum(state.errors.values()) >= 1
