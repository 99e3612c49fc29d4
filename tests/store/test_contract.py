"""The pure parts: calendar windows, changes that undo a step, addresses of servers, shares."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.store import Lease, Rate, Unit, Window, undo, utc_window
from proxy.store.shares import share
from proxy.store.urls import parse_store_url


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("unit", "now", "start", "end"),
    [
        ("month", "2026-02-28T23:59:59", "2026-02-01", "2026-03-01"),
        ("month", "2028-02-29T12:00:00", "2028-02-01", "2028-03-01"),
        ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        ("month", "2027-01-01T00:00:00", "2027-01-01", "2027-02-01"),
        ("day", "2026-03-29T01:30:00", "2026-03-29", "2026-03-30"),  # clocks change in Europe; UTC does not
        ("day", "2026-11-01T06:30:00", "2026-11-01", "2026-11-02"),  # and in America
        ("week", "2026-01-01T00:00:00", "2025-12-29", "2026-01-05"),
        ("week", "2026-01-04T23:59:59", "2025-12-29", "2026-01-05"),
        ("year", "2028-12-31T23:59:59", "2028-01-01", "2029-01-01"),
        ("hour", "2026-06-30T23:59:59", "2026-06-30T23:00:00", "2026-07-01"),
        ("minute", "2026-06-30T23:59:59", "2026-06-30T23:59:00", "2026-07-01"),
        ("second", "2026-06-30T23:59:59", "2026-06-30T23:59:59", "2026-07-01"),
    ],
)
def test_windows_of_the_calendar(unit: Unit, now: str, start: str, end: str) -> None:
    assert utc_window(unit, at(now)) == (at(start), at(end))
    assert utc_window(unit, at(end)) != (at(start), at(end)), "the end is outside"
    assert utc_window(unit, at(end) - 1e-3) == (at(start), at(end))


@given(st.sampled_from(get_args(Unit)), st.floats(0, 4e9))
def test_every_moment_is_in_one_window_and_they_meet(unit: Unit, now: float) -> None:
    start, end = utc_window(unit, now)
    assert start <= now < end
    assert utc_window(unit, end)[0] == end
    assert utc_window(unit, start) == (start, end)
    days = timedelta(seconds=end - start).days
    assert unit not in ("month", "year") or days in (28, 29, 30, 31, 365, 366)


def test_undo() -> None:
    lease = Lease("l", "a", 1, 1)
    assert undo([Rate("r", 2, 1, 1, 1), Window("w", 3, 1, 0, 1), lease]) == [
        Rate("r", -2, 1, 1, 1), Window("w", -3, 1, 0, 1), lease,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost:6379"),
        ("redis://localhost:6380/3", "redis://localhost:6380/3"),
        ("rediss://:p%40ss@cache.example.com/0", "rediss://cache.example.com:6379"),
        ("redis://user:secret@[::1]:7000/1", "redis://[::1]:7000/1"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis+sentinel://a,b:26380/mymaster/2", "redis+sentinel://a:26379,b:26380/mymaster/2"),
        ("rediss+cluster://u:secret@a:7000,b:7001", "rediss+cluster://a:7000,b:7001"),
        ("redis+cluster://a:7000/0", "redis+cluster://a:7000"),
    ],
)
def test_addresses(url: str, shown: str) -> None:
    found = parse_store_url(url)
    assert found.shown == shown
    assert "secret" not in repr(found) and "secret" not in str(found)


def test_a_login_is_decoded() -> None:
    assert parse_store_url("redis://us%3Aer:p%40s%2Fs@h")[-2:] == ("us:er", "p@s/s")
    assert parse_store_url("redis://:only@h")[-2:] == (None, "only")
    assert parse_store_url("redis://h")[-2:] == (None, None)


@pytest.mark.parametrize(
    "url",
    [
        "", "memory", "localhost:6379", "http://h", "redis://", "redis:///0", "redis://h:0", "redis://h:70000", "redis://h:x",
        "redis://h/x", "redis://h/1/2", "redis://a,b", "redis://h/0?db=1", "redis://h#x", "redis+sentinel://a,b",
        "redis+cluster://a/1", "redis+cluster://a,,b", "unix://", "unix://host/path", "unix:/", "redis://h /0",
        "redis://u:hunter2@h:bad", "redis://u:hunter2@[::1/0", "redis+sentinel://u:hunter2@/x",
    ],
)  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_store_url(url)
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_plain_error(text: str) -> None:
    for url in (text, f"redis://{text}", f"redis+sentinel://{text}"):
        try:
            found = parse_store_url(url).shown
        except ValueError as error:
            found = str(error)
        known = ("redis", "unix", "write", "name", "the database", "a Redis Cluster", "several")
        assert found.startswith(known)


# -- shares


@given(st.integers(1, 50), st.floats(0, 100), st.floats(1, 100), st.floats(0, 100))
def test_a_share_of_a_window_grants_what_fits_the_whole_and_no_more_than_is_left(
    n: int, cost: float, limit: float, used: float
) -> None:
    found = share(Window("w", cost, limit, 0, 1), n, used)
    assert isinstance(found, Window)
    assert found.limit <= max(0.0, limit - used)
    assert (cost <= found.limit) == (cost <= max(0.0, limit - used)), "an untouched share takes any request that fits"
    assert found.limit <= max(max(0.0, limit - used) / n, cost)


def test_shares_of_rates_and_slots() -> None:
    assert share(Rate("r", 1, 100, 60, 100), 4) == Rate("r", 1, 25, 60, 25)
    assert share(Rate("r", 40, 100, 60, 100), 4) == Rate("r", 40, 25, 60, 40)
    assert share(Rate("r", 400, 100, 60, 100), 4) == Rate("r", 400, 25, 60, 100), "what never fits still never fits"
    assert [share(Lease("l", "a", limit, 1), 4).limit for limit in (0, 1, 4, 9)] == [0, 1, 1, 2]
