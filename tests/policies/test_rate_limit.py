"""The policy itself, without a proxy: its steps, its refusals, its slots, what it says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from policies import rate_limit
from policies.contract import LENGTH, Attempt, Channel, Cut, Deps, Exchange, Headers, Kind, Refuse, ReplyHead, Usage
from policies.limits import subjects
from policies.rate_limit import RateLimit, RateLimitOptions
from policies.store import Lease, Part, Rate, Taken
from proxy.store.memory import Memory
from tests.kits.policy_kit import exchange
from tests.kits.store_kit import Clock


class Table(Memory):
    """A memory store on clocks of its own. taken, adjusted: the steps that were asked for."""

    def __init__(self) -> None:
        self.time = Clock()
        self.taken: list[list[Part]] = []
        self.adjusted: list[list[Part]] = []
        super().__init__(clock=self.time, wall=self.time.wall)

    async def policy(self, *limits: str, **more: Any) -> RateLimit:
        made = RateLimit("limits", RateLimitOptions.model_validate({"limits": list(limits), **more}))
        made.deps = Deps(clock=self.time, wall=self.time.wall, store=self._spied)
        await made.prepare()
        return made

    async def _spied(self, name: str) -> Any:
        scope, table = self.scope(name), self
        take, adjust = scope.take, scope.adjust

        async def spy_take(parts: Sequence[Part]) -> Taken:
            table.taken.append(list(parts))
            return await take(parts)

        async def spy_adjust(changes: Sequence[Part], taken: Taken | None = None) -> None:
            table.adjusted.append(list(changes))
            await adjust(changes, taken)

        scope.take, scope.adjust = spy_take, spy_adjust  # type: ignore[method-assign]
        return scope


def asking(**known: Any) -> Exchange:
    return exchange(**{"dialect": "chat", "model_asked": "m", "text_in": 400, "stream": False, "tokens_asked": 100, **known})


def answered(x: Exchange, prompt: int = 80, completion: int = 20) -> Exchange:
    x.attempts, x.committed, x.status = [Attempt("local", 0.0)], True, 200
    x.usage = Usage(prompt, completion)
    return x


async def left(policy: RateLimit, x: Exchange) -> list[float]:
    _, parts = policy._default.parts(x, rate_limit._NOTHING, "reader", policy.deps.wall())
    assert policy._store is not None
    empty = [p if isinstance(p, Lease) else p._replace(cost=0.0) for p in parts]
    return [state.remaining for state in (await policy._store.read(empty)).parts]


async def refused(policy: RateLimit, x: Exchange) -> Refuse:
    with pytest.raises(Refuse) as found:
        await policy.admit(x)
    assert policy.name not in x.notes and not policy._leases
    return found.value


async def test_one_step_for_all_limits_and_one_to_settle() -> None:
    table = Table()
    limits = ("10 requests/minute", "1000 tokens/day", "500 prompt_tokens/hour", "4 concurrent", "2 concurrent streams")
    policy = await table.policy(*limits)
    x = asking(stream=True)
    await policy.admit(x)
    assert [len(parts) for parts in table.taken] == [5] and not table.adjusted
    assert await left(policy, x) == [9, 800, 400, 3, 1]
    await policy.settle(answered(x))
    assert [len(changes) for changes in table.adjusted] == [4], "requests have nothing to settle"
    assert await left(policy, x) == [9, 900, 420, 4, 2] and not x.notes and not policy._leases
    await policy.settle(x)
    assert len(table.adjusted) == 1, "once"


async def test_nothing_to_settle_asks_nobody() -> None:
    table = Table()
    policy = await table.policy("10 requests/minute", "1000 tokens/day")
    x = asking()
    await policy.admit(x)
    await policy.settle(answered(x, 100, 100))
    assert not table.adjusted, "the reserve was right"


async def test_a_request_that_never_left_is_given_back_whole() -> None:
    table = Table()
    policy = await table.policy("10 requests/minute", "1000 tokens/day", "4 concurrent")
    x = asking()
    await policy.admit(x)
    await policy.settle(x)
    assert await left(policy, x) == [10, 1000, 4]


async def test_streams_are_counted_where_there_is_one() -> None:
    table = Table()
    policy = await table.policy("1 concurrent streams")
    whole = asking()
    await policy.admit(whole)
    assert not table.taken and not whole.notes
    await policy.admit(asking(stream=True))
    with pytest.raises(Refuse) as found:
        await policy.admit(asking(stream=True))
    assert found.value.kind is Kind.RATE_LIMITED
    assert found.value.retry_after == 1.0, "nobody knows when a slot will be free"


@pytest.mark.parametrize(
    ("limits", "named", "wait"),
    [
        (["1 requests/minute", "1 requests/hour"], "1 requests per hour", 3600),
        (["1 requests/hour", "1 requests/minute"], "1 requests per hour", 3600),
        (["1 concurrent", "1 requests/minute"], "1 requests per minute", 60),
        (["1 requests/second burst 1", "1 concurrent"], "1 requests per second", 1),
        (["1 concurrent", "2 requests/minute"], "1 concurrent requests", 1),
    ],
)
async def test_the_limit_to_wait_for_longest_is_named(limits: list[str], named: str, wait: float) -> None:
    policy = await Table().policy(*limits)
    await policy.admit(asking())
    with pytest.raises(Refuse) as found:
        await policy.admit(asking())
    assert named in (found.value.message or "") and found.value.retry_after == pytest.approx(wait)


async def test_what_can_never_fit_says_so_even_when_something_else_is_full_too() -> None:
    policy = await Table().policy("1 requests/hour", "150 tokens/day", "1 concurrent")
    await policy.admit(asking(tokens_asked=0))
    with pytest.raises(Refuse) as found:
        await policy.admit(asking(tokens_asked=9000))
    refusal = found.value
    assert "needs 9,100 at once, more than the limit of 150 tokens per day can ever give" in (refusal.message or "")
    assert refusal.retry_after is None and ("x-should-retry", "false") in refusal.headers


async def test_a_refused_request_is_told_what_is_left_unless_unwanted() -> None:
    policy = await Table().policy("1 requests/hour")
    await policy.admit(asking())
    with pytest.raises(Refuse) as found:
        await policy.admit(asking())
    assert ("x-ratelimit-remaining-requests", "0") in found.value.headers
    quiet = await Table().policy("1 requests/hour", headers=False)
    await quiet.admit(asking())
    with pytest.raises(Refuse) as found:
        await quiet.admit(asking())
    assert found.value.headers == () and "respond" not in quiet.phases()


async def test_what_the_backend_says_of_its_own_limits_stays_where_it_is_less() -> None:
    policy = await Table().policy("10 requests/hour", "1000 tokens/hour")
    x = asking()
    await policy.admit(x)
    theirs = [(b"X-RateLimit-Remaining-Requests", b"3"), (b"x-ratelimit-limit-requests", b"5")]
    head = ReplyHead(200, Headers([*theirs, (b"x-ratelimit-remaining-tokens", b"9000")]))
    policy.respond(x, head)
    assert head.headers.get("x-ratelimit-remaining-requests") == "3" and head.headers.get("x-ratelimit-limit-requests") == "5"
    assert head.headers.get("x-ratelimit-remaining-tokens") == "800" and head.headers.get("x-ratelimit-limit-tokens") == "1000"


async def test_tiers_have_limits_of_their_own_and_one_count() -> None:
    policy = await Table().policy("2 requests/day", tiers={"pro": ["5 requests/day"]})
    for _ in range(2):
        await policy.admit(asking())
    await refused(policy, asking())
    for _ in range(3):
        await policy.admit(asking(labels={"tier": "pro"}))
    await refused(policy, asking(labels={"tier": "pro"}))
    await refused(policy, asking(labels={"tier": "unheard of"}))


async def test_calendar_windows_begin_anew() -> None:
    table = Table()
    policy = await table.policy("1 requests/day")
    await policy.admit(asking())
    wait = (await refused(policy, asking())).retry_after
    assert wait is not None and 0 < wait <= 86_400
    table.time.now += wait + 0.001
    await policy.admit(asking())


async def test_what_was_reserved_before_midnight_is_not_given_back_after_it() -> None:
    table = Table()
    policy = await table.policy("1000 tokens/day")
    x = asking()
    await policy.admit(x)
    table.time.now += 86_400
    await policy.settle(answered(x))
    assert await left(policy, x) == [1000]


# -- slots


async def test_slots_are_renewed_while_requests_run(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table()
    policy = await table.policy("2 concurrent")
    running = asking()
    await policy.admit(running)
    assert policy._store is not None
    for _ in range(6):
        table.time.now += rate_limit.LEASE_TTL / 3
        await policy._renew_all(policy._store)
    assert await left(policy, running) == [1], "held for two minutes"
    table.time.now += rate_limit.LEASE_TTL + 1
    assert await left(policy, running) == [2], "a holder that died is forgotten"
    await policy.close()


async def test_a_slot_that_is_released_while_it_is_renewed_is_free() -> None:
    """The store may see the release first, and the renewal then."""
    table = Table()
    policy = await table.policy("1 concurrent")
    x = asking()
    await policy.admit(x)
    store = policy._store
    assert store is not None
    renew = store.renew
    under_way = asyncio.Event()
    go = asyncio.Event()

    async def slow(leases: Sequence[Lease]) -> None:
        under_way.set()
        await go.wait()
        await renew(leases)

    store.renew = slow  # type: ignore[method-assign]
    renewing = asyncio.create_task(policy._renew_all(store))
    await under_way.wait()
    await policy.settle(answered(x))
    assert await left(policy, x) == [1]
    go.set()
    await renewing
    assert await left(policy, x) == [1], "and not held by nobody for a minute"


async def test_close_ends_the_renewal() -> None:
    policy = await Table().policy("1 concurrent")
    task = policy._renewing
    assert task is not None
    await policy.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await Table().policy("1 requests/day"))._renewing is None


# -- ends of replies


async def test_channels_of_a_reply_share_what_is_left() -> None:
    policy = await Table().policy("130 completion_tokens/day", on_overrun="cut")
    x = asking(stream=True)
    await policy.admit(x)
    gates = [policy.guard(x, Channel(n, "content")) for n in range(2)]
    assert all(gates)
    for n in range(130):
        gates[n % 2].push("w")  # type: ignore[union-attr]
    with pytest.raises(Cut) as found:
        gates[0].push("w")  # type: ignore[union-attr]
    assert found.value.reason == LENGTH and found.value.message is None


@pytest.mark.parametrize("limits", [["100 requests/day"], ["100 prompt_tokens/day", "5 concurrent"]])
async def test_limits_that_no_completion_counts_into_cut_nothing(limits: list[str]) -> None:
    policy = await Table().policy(*limits, on_overrun="cut")
    x = asking(stream=True)
    await policy.admit(x)
    assert policy.guard(x, Channel(0, "content")) is None


# -- who


async def test_names_of_any_length_count_and_only_short_ones_are_remembered() -> None:
    policy = await Table().policy("1 requests/day by model")
    before = subjects._remembered.cache_info().currsize
    for name in ("m" * 10_000, "n" * 10_000, "\ud800"):
        await policy.admit(asking(model_asked=name))
        await refused(policy, asking(model_asked=name))
    assert subjects._remembered.cache_info().currsize <= before + 1


async def test_no_key_holds_a_name() -> None:
    table = Table()
    policy = await table.policy("1 requests/day", "9 tokens/hour by tenant+model", "2 concurrent by header:X-Team")
    await policy.admit(asking(caller="alice", tenant="acme", headers=Headers([(b"x-team", b"blue")]), tokens_asked=0, text_in=4))
    keys = repr(table._entries.keys())
    assert len(table._entries) == 3
    assert not [name for name in ("alice", "acme", "blue", "'m'") if name in keys]


# -- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limits": ["5 requests/day", "6 requests/day"]}, "count the same thing"),
        ({"limits": ["5 USD/day"]}, "needs `prices`"), ({"limits": [5]}, "write a limit like"),
        ({"limits": ["5 requests/day"], "tiers": {"pro": ["5 requests"]}}, "says no period"),
        ({"limits": ["5 requests/day"], "by": "moon"}, "nothing to count by"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RateLimitOptions.model_validate(options)


def made(*limits: str, **more: Any) -> RateLimit:
    return RateLimit("limits", RateLimitOptions.model_validate({"limits": list(limits), **more}))


def test_the_phases_it_takes_part_in() -> None:
    assert made("5 requests/day").phases() == {"admit", "settle", "respond"}
    assert made("5 requests/day", on_overrun="cut").phases() == {"admit", "settle", "respond"}
    assert made("5 tokens/day", on_overrun="cut", headers=False).phases() == {"admit", "settle", "guard"}


def test_it_reads_the_body_only_where_it_must() -> None:
    assert not made("5 requests/day", "2 concurrent by tenant").late
    for limit in ("5 tokens/day", "2 concurrent streams", "5 requests/day by model", "5 requests/day by tenant+model"):
        assert made(limit).late, limit
    assert made("5 requests/day", tiers={"pro": ["5 tokens/day"]}).late
    assert made("5 tokens/day").meters and not made("5 requests/day").meters
    assert not made("5 tokens/day", ask_usage=False).meters


def test_it_says_what_it_does() -> None:
    assert made("5 requests/day", tiers={"pro": ["9 requests/day"]}, by="tenant+model").describe() == (
        "5 requests/day; counted by tenant+model; pro: 9 requests/day"
    )


def test_a_part_is_what_the_limit_says() -> None:
    policy = made("100 requests/10 minutes burst 7")
    (limit,), (part,) = policy._default.parts(asking(), rate_limit._NOTHING, "", 0.0)
    assert str(limit) == "100 requests per 600 seconds" and isinstance(part, Rate)
    assert part[1:] == (1.0, 100.0, 600, 7.0)
