"""What only the memory store promises: bounded, swept as it goes, shares for several workers."""

from __future__ import annotations

import time

import pytest

from policies.store import Lease, Part, Rate, Window
from proxy.store.memory import Memory, MemoryScope
from tests.kits.store_kit import Clock


def made(**more: object) -> tuple[MemoryScope, Memory, Clock]:
    clock = Clock()
    table = Memory(clock=clock, wall=clock.wall, **more)  # type: ignore[arg-type]
    return table.scope("p"), table, clock


def rate(key: str, cost: float = 1, limit: float = 100) -> Rate:
    return Rate(key, cost, limit, 60, limit)


def test_the_past_is_swept_while_others_take() -> None:
    store, table, clock = made()
    for i in range(1000):
        store.take_now([rate(f"old{i}"), Lease(f"l{i}", "a", 1, 5)])
    assert len(table) == 2000
    clock.now += 60
    for _ in range(1100):
        store.take_now([rate("new", 0.01)])
    assert len(table) == 1


def test_the_table_never_grows_beyond_its_bound_and_says_what_it_gave_up() -> None:
    told: list[int] = []
    store, table, _ = made(max_keys=100, on_evict=told.append)
    for i in range(5000):
        store.take_now([rate(f"k{i}")])
        assert len(table) <= 100
    assert table.evicted == 4900 and told == [1]


def test_a_flood_of_new_keys_does_not_free_a_caller_of_its_spent_limit() -> None:
    store, table, clock = made(max_keys=200)
    heavy: list[Part] = [rate("heavy", 100), Window("heavy", 10, 10, clock.wall(), clock.wall() + 86_400)]
    assert store.take_now(heavy).ok
    for i in range(20_000):
        store.take_now([rate(f"flood{i}")])
    assert table.evicted > 19_000
    assert [p.allowed for p in store.read_now([rate("heavy", 50), heavy[1]]).parts] == [False, False]


def test_a_removed_key_can_come_back() -> None:
    store, table, _ = made()
    lease = Lease("l", "a", 1, 60)
    for _ in range(50):
        assert store.take_now([lease]).ok
        store.adjust_now([lease])
    assert len(table._round) == len(table) == 1


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    store, _, clock = made()
    assert store.take_now([rate("k", 100)]).ok
    clock.now -= 30
    assert not store.take_now([rate("k", 1)]).ok


def test_a_step_of_the_wall_clock_does_not_end_a_window() -> None:
    store, _, clock = made()
    now = clock.wall()
    part = Window("w", 10, 10, now, now + 100)
    assert store.take_now([part]).ok
    clock.wall_offset += 10_000
    assert not store.take_now([part]).ok
    clock.wall_offset -= 20_000
    assert not store.take_now([part]).ok


async def test_workers_that_count_for_themselves_grant_their_share() -> None:
    clock = Clock()
    workers = [Memory(clock=clock, wall=clock.wall, n=4).scope("p") for _ in range(4)]
    now = clock.wall()
    step: list[Part] = [rate("k", 1, 100), Window("w", 1, 60, now, now + 3600)]
    granted = [sum([(await w.take(step)).ok for _ in range(200)]) for w in workers]
    assert granted == [15] * 4, "the window's share is the smaller one"
    (state,) = (await workers[0].read([rate("k", 1, 100)])).parts
    assert state.limit == 100 and state.remaining == pytest.approx(10)
    taken = await workers[1].take([rate("other", 1, 100)])
    assert (taken.source, taken.shares) == ("local", 4)


async def test_what_fits_the_limit_fits_an_untouched_share() -> None:
    clock = Clock()
    worker = Memory(clock=clock, wall=clock.wall, n=10).scope("p")
    step = [rate("k", 40, 100), Lease("l", "a", 1, 9)]
    assert (await worker.take(step)).ok
    taken = await worker.take([rate("k", 40, 100)])
    assert not taken.ok and taken.parts[0].retry_after_s == pytest.approx(40 / (100 / 60 / 10))


async def test_a_window_whose_share_is_spent_says_when_the_next_one_begins() -> None:
    clock = Clock()
    worker = Memory(clock=clock, wall=clock.wall, n=10).scope("p")
    part = Window("w", 3, 10, clock.wall(), clock.wall() + 77)
    assert (await worker.take([part])).ok
    taken = await worker.take([part])
    assert not taken.ok and taken.parts[0].retry_after_s == pytest.approx(77)


def test_drained_windows_are_taken_out_and_leases_stay() -> None:
    store, table, clock = made()
    now = clock.wall()
    window = Window("w", 2.5, 10, now, now + 99)
    store.take_now([window, Lease("l", "a", 3, 60), rate("r")])
    clock.now += 10
    (owed,) = table.drain()
    assert owed.scope == "p" and owed.changes == [Window("w", 2.5, 0, now, now + 99)]
    assert owed.leases == [Lease("l", "a", 0, 50)]
    assert [o.changes for o in table.drain()] == [[]]
    store.take_now([window])
    assert table.drain()[0].changes == [Window("w", 2.5, 0, now, now + 99)]


def test_a_step_of_three_is_quick() -> None:
    """Far above what is measured (12 us): it finds a scan, not a slow machine."""
    store, _, clock = made()
    now = clock.wall()
    for i in range(50_000):
        store.take_now([rate(f"k{i}")])
    parts = [Rate("a", 1, 1e9, 1, 1e9), Window("a", 1, 1e9, now, now + 1e6), Lease("a", "x", 1000, 60)]
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(500):
            store.take_now(parts)
        best = min(best, (time.perf_counter() - began) / 500)
    assert best < 150e-6
