"""What every store must do alike: memory, Redis, Redis behind the guard."""

from __future__ import annotations

import asyncio
import math

import pytest

from policies.store import FULL, Lease, Part, Rate, Taken, Window, undo, utc_window
from tests.kits.store_kit import Bench


def rate(cost: float = 1, *, key: str = "r", limit: float = 10, period: float = 3600, burst: float | None = None) -> Rate:
    return Rate(key, cost, limit, period, limit if burst is None else burst)


async def spent(each: Bench, part: Part) -> float:
    """What is gone of a part's limit."""
    asked = part if isinstance(part, Lease) else part._replace(cost=0)
    most = part.burst if isinstance(part, Rate) else part.limit
    return most - (await each.store.read([asked])).parts[0].remaining


# -- exactness


async def test_500_at_once_on_a_limit_of_100_admit_100(each: Bench) -> None:
    start, end = utc_window("month", each.wall())
    parts = lambda i: [rate(limit=100), Window("w", 1, 100, start, end), Lease("l", f"id{i}", 100, 60)]  # noqa: E731
    answers = await asyncio.gather(*(each.store.take(parts(i)) for i in range(500)))
    assert sum(a.ok for a in answers) == 100
    assert {a.refused for a in answers if not a.ok} == {0}


async def test_a_burst_then_the_rate(each: Bench) -> None:
    part = rate(limit=20, period=1, burst=3)
    assert [(await each.store.take([part])).ok for _ in range(4)] == [True, True, True, False]

    async def again() -> bool:
        return (await each.store.take([part])).ok

    await each.eventually(again, within=1)


async def test_fractions_of_cost(each: Bench) -> None:
    part = rate(0.1, limit=1, period=86_400)
    oks = [(await each.store.take([part])).ok for _ in range(12)]
    assert oks == [True] * 10 + [False] * 2


# -- what is told


async def test_what_a_rate_tells(each: Bench) -> None:
    taken = await each.store.take([rate(4, limit=10, period=1000)])
    (state,) = taken.parts
    assert (taken.ok, taken.refused, state.allowed, state.limit, state.retry_after_s) == (True, None, True, 10, 0)
    assert state.remaining == pytest.approx(6) and state.reset_after_s == pytest.approx(400, abs=2)
    refused = await each.store.take([rate(8, limit=10, period=1000)])
    (state,) = refused.parts
    assert (refused.ok, refused.refused, state.allowed) == (False, 0, False)
    assert state.remaining == pytest.approx(6, abs=0.05) and state.retry_after_s == pytest.approx(200, abs=5)
    assert refused.retry_after_s == state.retry_after_s


async def test_what_a_window_tells(each: Bench) -> None:
    now = each.wall()
    part = Window("w", 30, 100, now - 10, now + 500)
    (state,) = (await each.store.take([part])).parts
    assert (state.remaining, state.retry_after_s) == (70, 0) and state.reset_after_s == pytest.approx(500, abs=3)
    (state,) = (await each.store.take([part._replace(cost=71)])).parts
    assert (state.allowed, state.remaining) == (False, 70) and state.retry_after_s == pytest.approx(500, abs=3)


async def test_what_leases_tell(each: Bench) -> None:
    (state,) = (await each.store.take([Lease("l", "a", 2, 50)])).parts
    assert state.remaining == 1 and state.reset_after_s == pytest.approx(50, abs=2)
    await each.store.take([Lease("l", "b", 2, 100)])
    (state,) = (await each.store.take([Lease("l", "c", 2, 50)])).parts
    assert (state.allowed, state.remaining) == (False, 0)
    assert state.retry_after_s == pytest.approx(50, abs=2) and state.reset_after_s == pytest.approx(100, abs=2)


async def test_a_cost_that_never_fits(each: Bench) -> None:
    parts = [rate(11), Window("w", 11, 10, 0, each.wall() + 9), Lease("l", "a", 0, 9)]
    for part in parts:
        taken = await each.store.take([part])
        assert not taken.ok and taken.parts[0].retry_after_s is None and taken.retry_after_s is None


# -- all or none


@pytest.mark.parametrize("refused", [0, 1, 2, 3])
async def test_when_one_part_refuses_nothing_is_spent(each: Bench, refused: int) -> None:
    start, end = utc_window("day", each.wall())
    parts: list[Part] = [rate(5), rate(5, key="r2"), Window("w", 5, 10, start, end), Lease("l", "a", 1, 60)]
    full: Part = Lease("l", "other", 1, 60) if refused == 3 else parts[refused]
    more = [full] if refused == 3 else [full, full]
    for one in more:
        assert (await each.store.take([one])).ok
    before = [await spent(each, p) for p in parts]
    taken = await each.store.take(parts)
    assert (taken.ok, taken.refused) == (False, refused)
    assert [p.allowed for p in taken.parts] == [i != refused for i in range(4)]
    assert [await spent(each, p) for p in parts] == pytest.approx(before, abs=0.02)


async def test_the_first_part_refused_is_named(each: Bench) -> None:
    taken = await each.store.take([rate(1), rate(11, key="r2"), rate(11, key="r3")])
    assert taken.refused == 1 and [p.allowed for p in taken.parts] == [True, False, False]


async def test_an_empty_step_is_taken(each: Bench) -> None:
    assert (await each.store.take([])).ok
    await each.store.adjust([])
    await each.store.renew([])


async def test_reading_spends_nothing(each: Bench) -> None:
    start, end = utc_window("day", each.wall())
    parts = [rate(3), Window("w", 3, 10, start, end), Lease("l", "a", 1, 60)]
    for _ in range(5):
        taken = await each.store.read(parts)
        assert taken.ok and [p.remaining for p in taken.parts] == [10, 10, 1]


async def test_policies_do_not_share_keys(each: Bench) -> None:
    other = each.fresh("another-policy-of-" + each.kind)
    await each.store.take([rate(10)])
    assert (await other.read([rate(10)])).ok and not (await each.store.read([rate(10)])).ok


# -- settling


async def test_everything_returns_to_zero(each: Bench) -> None:
    start, end = utc_window("month", each.wall())
    parts: list[Part] = [rate(3.3), Window("w", 0.1, 10, start, end), Lease("l", "a", 1, 60)]
    taken = await each.store.take(parts)
    await each.store.adjust(undo(parts), taken)
    assert [await spent(each, p) for p in parts] == [0, 0, 0]


async def test_what_was_reserved_becomes_what_was_used(each: Bench) -> None:
    start, end = utc_window("month", each.wall())
    parts: list[Part] = [rate(8), Window("w", 8, 10, start, end)]
    taken = await each.store.take(parts)
    await each.store.adjust([p._replace(cost=-5) for p in parts if not isinstance(p, Lease)], taken)
    assert [await spent(each, p) for p in parts] == pytest.approx([3, 3], abs=0.01)


async def test_more_than_the_limit_may_be_added_and_blocks_until_it_has_drained(each: Bench) -> None:
    await each.store.adjust([rate(15), Window("w", 15, 10, 0, each.wall() + 99)])
    for part in (rate(0), Window("w", 0, 10, 0, each.wall() + 99)):
        taken = await each.store.take([part])
        assert not taken.ok and taken.parts[0].remaining == 0
    await each.store.adjust([rate(-6)])
    assert (await each.store.take([rate(0.5)])).ok


async def test_giving_back_too_much_never_gives_more_than_full(each: Bench) -> None:
    start, end = utc_window("month", each.wall())
    window = Window("w", 2, 10, start, end)
    await each.store.take([rate(2), window])
    await each.store.adjust([rate(-50), window._replace(cost=-50)])
    assert [await spent(each, p) for p in (rate(), window)] == [0, 0]
    taken = await each.store.take([rate(10), window._replace(cost=10)])
    assert taken.ok and not (await each.store.take([rate(1)])).ok


# -- windows


async def test_a_later_window_starts_anew_and_an_earlier_one_counts_into_it(each: Bench) -> None:
    now = each.wall()
    old, new = Window("w", 6, 10, now - 100, now + 100), Window("w", 6, 10, now + 100, now + 300)
    assert (await each.store.take([old])).ok
    assert (await each.store.take([new])).ok, "a window of its own"
    assert not (await each.store.take([old])).ok, "a slow clock counts into the stored one"
    assert (await each.store.take([old._replace(cost=4)])).ok
    assert await spent(each, new) == 10


async def test_what_is_given_back_to_a_window_that_is_over_is_dropped(each: Bench) -> None:
    now = each.wall()
    old, new = Window("w", 6, 10, now - 100, now + 1), Window("w", 3, 10, now + 1, now + 300)
    await each.store.take([old])
    await each.store.take([new])
    await each.store.adjust([old._replace(cost=-6)])
    assert await spent(each, new) == 3
    await each.store.adjust([old._replace(cost=2)])
    assert await spent(each, new) == 5, "what was spent counts"


async def test_giving_back_to_a_window_that_nobody_knows_does_nothing(each: Bench) -> None:
    window = Window("w", -5, 10, 0, each.wall() + 50)
    await each.store.adjust([window])
    assert await spent(each, window) == 0


async def test_a_month_of_small_amounts_is_exact_to_a_millionth(each: Bench) -> None:
    start, end = utc_window("month", each.wall())
    n = 20_000 if each.kind == "memory" else 500
    part = Window("w", 0.1, 1e9, start, end)
    await each.store.take([part._replace(cost=1e8)])
    for _ in range(n):
        await each.store.take([part])
    assert await spent(each, part) - 1e8 == pytest.approx(n * 0.1, abs=1e-6)


# -- leases


async def test_a_slot_is_free_again_when_released_and_twice_is_once(each: Bench) -> None:
    a, b, c = (Lease("l", i, 1, 60) for i in "abc")
    assert (await each.store.take([a])).ok and not (await each.store.take([b])).ok
    await each.store.adjust([a])
    await each.store.adjust([a])
    assert (await each.store.take([b])).ok and not (await each.store.take([c])).ok
    await each.store.adjust([a])
    assert not (await each.store.take([c])).ok, "somebody else's slot stays held"


async def test_a_slot_is_free_again_when_its_owner_has_died(each: Bench) -> None:
    await each.store.take([Lease("l", "dead", 1, 0.15)])
    assert not (await each.store.take([Lease("l", "next", 1, 5)])).ok

    async def free() -> bool:
        return (await each.store.take([Lease("l", "next", 1, 5)])).ok

    await each.eventually(free, within=1)


async def test_short_and_long_leases_end_each_in_its_time(each: Bench) -> None:
    await each.store.take([Lease("l", "long", 2, 60)])
    await each.store.take([Lease("l", "short", 2, 0.1)])

    async def free() -> bool:
        return (await each.store.take([Lease("l", "next", 2, 60)])).ok

    await each.eventually(free, within=1)
    assert not (await each.store.take([Lease("l", "fourth", 2, 60)])).ok


async def test_a_renewed_slot_stays_held(each: Bench) -> None:
    mine = Lease("l", "mine", 1, 0.4)
    await each.store.take([mine])
    for _ in range(6):
        await each.sleep(0.1)
        await each.store.renew([mine])
    assert not (await each.store.take([Lease("l", "next", 1, 5)])).ok
    assert (await each.store.take([mine])).ok, "one's own is no second one"
    assert await spent(each, mine) == 1


async def test_all_slots_of_a_caller_are_renewed_and_released_in_one_call(each: Bench) -> None:
    mine: list[Lease] = [Lease("l", f"i{i}", 4, 0.4) for i in range(3)]
    for lease in mine:
        assert (await each.store.take([lease])).ok
    await each.store.renew([lease._replace(ttl_s=60) for lease in mine])
    await each.sleep(0.5)
    assert await spent(each, mine[0]) == 3
    await each.store.adjust(mine)
    assert await spent(each, mine[0]) == 0
    with pytest.raises(ValueError):
        await each.store.renew([mine[0]._replace(ttl_s=math.nan)])


async def test_a_lost_slot_is_held_again_even_above_the_limit(each: Bench) -> None:
    await each.store.take([Lease("l", "b", 1, 60)])
    await each.store.renew([Lease("l", "a", 1, 60)])
    await each.store.adjust([Lease("l", "b", 1, 60)])
    assert not (await each.store.take([Lease("l", "c", 1, 60)])).ok, "its owner is alive"


# -- bad parts


@pytest.mark.parametrize(
    "parts",
    [
        [rate(-1)], [rate(math.nan)], [rate(math.inf)], [rate(limit=0)], [rate(period=0)], [rate(burst=0)],
        [rate(limit=math.nan)], [Window("w", -1, 1, 0, 1)], [Window("w", 1, -1, 0, 1)], [Window("w", 1, 1, 1, 1)],
        [Window("w", 1, 1, math.nan, 1)], [Lease("l", "a", -1, 1)], [Lease("l", "a", 1, 0)], [Lease("l", "a", 1, math.inf)],
        [rate(), rate()], [Lease("l", "a", 1, 1), Lease("l", "b", 1, 1)],
    ],
)  # fmt: skip
async def test_parts_without_meaning_are_refused(each: Bench, parts: list[Part]) -> None:
    for call in (each.store.take, each.store.read):
        with pytest.raises(ValueError):
            await call(parts)


async def test_changes_without_meaning_are_refused(each: Bench) -> None:
    for bad in (rate(math.nan), Window("w", math.inf, 1, 0, 1), rate(1, limit=0)):
        with pytest.raises(ValueError):
            await each.store.adjust([bad])


async def test_one_key_may_be_a_rate_a_window_and_a_lease(each: Bench) -> None:
    taken = await each.store.take([rate(key="k"), Window("k", 1, 1, 0, each.wall() + 9), Lease("k", "k", 1, 9)])
    assert taken.ok


@pytest.mark.parametrize("key", ["", " ", "é", "a}b{c", "x" * 500, "a\x00b", "line\nbreak", "\ud800"[:0] + "*"])
async def test_any_text_is_a_key(each: Bench, key: str) -> None:
    taken = [await each.store.take([rate(6, key=key), Lease(key, key, 1, 9)]) for _ in range(2)]
    assert [t.ok for t in taken] == [True, False]


# -- values


async def test_values(each: Bench) -> None:
    assert await each.store.get("k") is None
    await each.store.set("k", b"\x00\xff", 60)
    assert await each.store.get("k") == b"\x00\xff"
    assert await each.fresh("other-values-" + each.kind).get("k") is None
    await each.store.set("k", b"two", 60)
    assert await each.store.get("k") == b"two"
    await each.store.delete("k")
    await each.store.delete("k")
    assert await each.store.get("k") is None


async def test_a_value_ends_with_its_time(each: Bench) -> None:
    await each.store.set("k", b"v", 0.1)

    async def gone() -> bool:
        return await each.store.get("k") is None

    await each.eventually(gone, within=1)


def test_the_longest_wait_is_told() -> None:
    from policies.store import PartState

    states = (PartState(False, 1, 0, 5, 5.0), PartState(True, 1, 1, 0, 0.0), PartState(False, 1, 0, 9, 9.0))
    assert Taken(False, 0, states, "memory").retry_after_s == 9
    assert Taken(True, None, (), "memory").retry_after_s == 0


# -- accounts


async def test_an_account_adds_up_by_name(each: Bench) -> None:
    assert await each.store.counts("2026-11") == {}
    await each.store.count("2026-11", {"acme\x1frequests": 1, "acme\x1fmoney": 0.1, "\x1frequests": 1}, 60)
    await each.store.count("2026-11", {"acme\x1frequests": 2, "acme\x1fmoney": 0.2}, 60)
    await each.store.count("2026-12", {"acme\x1frequests": 7}, 60)
    await each.store.count("2026-11", {}, 60)
    found = await each.store.counts("2026-11")
    assert found == pytest.approx({"acme\x1frequests": 3, "acme\x1fmoney": 0.3, "\x1frequests": 1})
    assert await each.store.counts("2026-12") == {"acme\x1frequests": 7}
    assert await each.fresh("other-counts-" + each.kind).counts("2026-11") == {}


@pytest.mark.parametrize("name", ["", " ", "é", "日本", "line\nbreak", "a\x00b", "*", "x" * 500])
async def test_any_text_is_a_name_and_a_key(each: Bench, name: str) -> None:
    await each.store.count(name, {name: 1.5}, 60)
    assert await each.store.counts(name) == {name: 1.5}


async def test_an_account_ends_with_its_time_which_additions_renew(each: Bench) -> None:
    for _ in range(3):
        await each.store.count("k", {"a": 1}, 0.3)
        await each.sleep(0.15)
    assert await each.store.counts("k") == {"a": 3}

    async def gone() -> bool:
        return await each.store.counts("k") == {}

    await each.eventually(gone, within=2)


async def test_an_account_that_is_full_keeps_its_sums(each: Bench) -> None:
    for n in range(0, FULL - 1, 2000):
        await each.store.count("k", {f"{i}\x1frequests": 1.0 for i in range(n, min(n + 2000, FULL - 1))}, 60)
    await each.store.count("k", {"last\x1frequests": 1, "one-more\x1frequests": 1, "one-more\x1fmoney": 0.5}, 60)
    await each.store.count("k", {"and-more\x1frequests": 1, "last\x1frequests": 1}, 60)
    found = await each.store.counts("k")
    assert len(found) == FULL + 2 and sum(v for k, v in found.items() if k.endswith("requests")) == FULL - 1 + 4
    assert (found["requests"], found["money"], found["last\x1frequests"]) == (2, 0.5, 2)


async def test_many_small_additions_are_exact_to_a_millionth(each: Bench) -> None:
    n = 20_000 if each.kind == "memory" else 500
    await each.store.count("k", {"money": 1e8}, 60)
    for _ in range(n):
        await each.store.count("k", {"money": 0.1}, 60)
    assert (await each.store.counts("k"))["money"] - 1e8 == pytest.approx(n * 0.1, abs=1e-6)


@pytest.mark.parametrize(("fields", "ttl"), [({"a": math.nan}, 1), ({"a": math.inf}, 1), ({"a": 1.0}, 0), ({"a": 1.0}, math.nan)])
async def test_additions_without_meaning_are_refused(each: Bench, fields: dict[str, float], ttl: float) -> None:
    with pytest.raises(ValueError):
        await each.store.count("k", fields, ttl)
    assert await each.store.counts("k") == {}
