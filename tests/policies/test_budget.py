"""Budgets: what is set aside, settled, warned of and refused, and the account of it."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from policies.budget import FIELD, Budget, BudgetOptions
from policies.contract import Attempt, Deps, Exchange, Headers, Kind, Refuse, ReplyHead, Usage
from policies.limits.ledger import COLUMNS, OTHER, Entry, Ledger, clean, month_of
from policies.limits.meter import Cost
from policies.store import FULL, StoreAway, Window
from proxy.store.memory import Memory
from tests.kits.policy_kit import drive, exchange, plan
from tests.kits.store_kit import Clock

PRICES: dict[str, Any] = {"small": {"input": 1, "output": 4, "cached": 0.25}, "big*": {"input": 10, "output": 40}}
NOVEMBER = datetime(2026, 11, 30, 23, 59, 0, tzinfo=UTC).timestamp()


class Desk:
    """A budget with clocks and a store of its own; what it told the metrics."""

    def __init__(self, *limits: str, at: float = NOVEMBER, n: int = 1, **options: Any) -> None:
        self.clock = Clock(wall_offset=at - 1000.0)
        self.table = Memory(clock=self.clock, wall=self.clock.wall, n=n)
        self.spent: list[tuple[str, str, str, float]] = []
        self.given = {"limits": list(limits), "prices": PRICES, **options}
        self.policy = self.make()

    def make(self) -> Budget:
        made = Budget("money", BudgetOptions.model_validate(self.given))
        made.deps = Deps(store=self.table.open, wall=self.clock.wall, spent=lambda *told: self.spent.append(told))
        return made

    async def ready(self) -> Desk:
        await self.policy.prepare()
        return self

    async def left(self, x: Exchange | None = None) -> list[float]:
        _, parts = self.policy._counting.parts(x or asking(), Cost(0, 0), "", self.clock.wall())
        assert self.policy._store is not None
        return [state.remaining for state in (await self.policy._store.read([p._replace(cost=0) for p in parts])).parts]  # type: ignore[union-attr]


def asking(model: str | None = "small", tokens: int | None = 1000, **more: Any) -> Exchange:
    """A request of 4,000 bytes, thought to be 1,000 tokens."""
    given = {"text_in": 4000, "dialect": "chat", "stream": False, "tenant": "acme", "caller": "alice", **more}
    return exchange(model_asked=model, tokens_asked=tokens, **given)


def answered(x: Exchange, prompt: int = 800, completion: int = 200, cached: int = 0) -> Exchange:
    x.attempts, x.committed, x.status = [Attempt("b", 0.0, status=200)], True, 200
    x.usage = Usage(prompt, completion, cached)
    return x


async def ask(desk: Desk, x: Exchange, **used: int) -> Exchange:
    await desk.policy.admit(x)
    await desk.policy.settle(answered(x, **used))
    return x


async def test_money_is_set_aside_and_settled_by_the_backends_count() -> None:
    desk = await Desk("1 USD/month").ready()
    x = asking()
    await desk.policy.admit(x)
    assert await desk.left() == [pytest.approx(1 - (1000 * 1 + 1000 * 4) / 1e6)]
    await desk.policy.settle(answered(x, 800, 200, cached=400))
    spent = (400 * 1 + 400 * 0.25 + 200 * 4) / 1e6
    assert await desk.left() == [pytest.approx(1 - spent, abs=1e-12)]
    assert desk.spent == [("money", "acme", "USD", pytest.approx(spent))]
    (line,) = await desk.policy.ledger.lines("2026-11")
    assert line == (("acme", "alice", "small"), 1, 800, 400, 200, pytest.approx(spent))


@pytest.mark.parametrize("how", ["never sent", "cancelled before a reply", "500", "refused by the backend"])
async def test_what_came_to_nothing_is_given_back_and_is_no_line(how: str) -> None:
    desk = await Desk("1 USD/month", "50k tokens/day").ready()
    x = asking()
    await desk.policy.admit(x)
    if how != "never sent":
        x.attempts = [Attempt("b", 0.0)]
    if how in ("500", "refused by the backend"):
        x.committed, x.status = True, 500 if how == "500" else 404
    await desk.policy.settle(x)
    assert await desk.left() == [pytest.approx(1), pytest.approx(50_000)]
    assert desk.spent == [] and await desk.policy.ledger.lines("2026-11") == []


async def test_a_stream_that_was_left_is_charged_by_what_passed() -> None:
    desk = await Desk("1 USD/month").ready()
    x = asking(stream=True)
    await desk.policy.admit(x)
    x.attempts, x.committed, x.status, x.pieces, x.fault = [Attempt("b", 0.0)], True, 200, 7, Kind.CLIENT_GONE
    await desk.policy.settle(x)
    assert await desk.left() == [pytest.approx(1 - (1000 + 7 * 4) / 1e6)]


async def test_the_hard_stop_names_the_limit_and_never_whose_it_is() -> None:
    desk = await Desk("10 USD/month by caller", "0.01 USD/day").ready()
    await ask(desk, asking(), prompt=6000, completion=0)
    with pytest.raises(Refuse) as caught:
        await desk.policy.admit(asking())
    refusal = caught.value
    assert refusal.kind is Kind.QUOTA and refusal.retry_after is None
    assert refusal.message is not None and "0.01 USD per day" in refusal.message
    assert not {"acme", "alice"} & set(refusal.message.split())
    assert dict(refusal.headers) == {FIELD: 'limit="0.01 USD per day", used=0.600, reset=60'}
    assert (await desk.left())[0] == pytest.approx(10 - 0.006), "all or none"
    await desk.policy.admit(asking(tenant="other"))


async def test_the_soft_threshold_is_told_by_a_field_and_a_finding() -> None:
    desk = await Desk("0.1 USD/month", "1 USD/month by caller", soft=0.5).ready()
    head = ReplyHead(200, Headers([]))
    x = asking(tokens=12_000)  # reserves half of it, which is not spent
    await desk.policy.admit(x)
    desk.policy.respond(x, head)
    assert FIELD not in head.headers and x.findings == []
    await desk.policy.settle(answered(x, 10_000, 10_000))
    x = asking()
    await desk.policy.admit(x)
    desk.policy.respond(x, head)
    assert head.headers.get(FIELD) == 'limit="0.1 USD per month", used=0.500, reset=60'
    assert [(f.policy, f.kind, f.action) for f in x.findings] == [("money", "money", "warn")]


async def test_nothing_is_told_where_that_is_not_wanted() -> None:
    desk = await Desk("0.01 USD/month", soft=0.1, headers=False).ready()
    await ask(desk, asking(), prompt=9000, completion=0)
    x, head = asking(tokens=1), ReplyHead(200, Headers([]))
    x.text_in = 4
    await desk.policy.admit(x)
    desk.policy.respond(x, head)
    assert FIELD not in head.headers and len(x.findings) == 1
    with pytest.raises(Refuse) as caught:
        await desk.policy.admit(asking())
    assert caught.value.headers == ()


async def test_a_process_with_a_share_of_the_budget_thinks_of_the_others() -> None:
    desk = await Desk("1 USD/month", soft=0.5, n=4).ready()
    head = ReplyHead(200, Headers([]))
    x = asking()
    await desk.policy.admit(x)
    desk.policy.respond(x, head)
    assert FIELD not in head.headers, "three quarters are the others', not spent"
    await desk.policy.settle(answered(x, 0, 40_000))
    x = asking()
    await desk.policy.admit(x)
    desk.policy.respond(x, head)
    assert "used=0.640" in (head.headers.get(FIELD) or ""), "0.16 of this one's 0.25"


async def test_months_begin_at_their_first_second_in_utc() -> None:
    desk = await Desk("0.02 USD/month").ready()
    late = asking()
    await desk.policy.admit(late)
    await ask(desk, asking(), prompt=10_000, completion=0)
    with pytest.raises(Refuse):
        await desk.policy.admit(asking(tokens=3000))
    desk.clock.now += 60
    assert month_of(desk.clock.wall()) == "2026-12"
    await ask(desk, asking(), prompt=3000, completion=0)
    assert await desk.left() == [pytest.approx(0.017)]
    await desk.policy.settle(answered(late, 2000, 0))  # reserved in November, and less than that: what is given back is dropped
    assert await desk.left() == [pytest.approx(0.017)]
    november, december = [await desk.policy.ledger.lines(month) for month in ("2026-11", "2026-12")]
    assert [(line.requests, line.prompt_tokens) for line in november] == [(1, 10_000)]
    assert [(line.requests, line.prompt_tokens) for line in december] == [(2, 5000)], "by the end of the request"


async def test_budgets_and_the_account_outlive_a_reload() -> None:
    desk = await Desk("0.02 USD/month").ready()
    await ask(desk, asking(), prompt=10_000, completion=0)
    before = await desk.policy.ledger.lines("2026-11")
    await desk.policy.close()
    desk.given["limits"] = ["0.5 USD/month"]
    desk.policy = desk.make()
    await desk.ready()
    assert await desk.left() == [pytest.approx(0.49)] and await desk.policy.ledger.lines("2026-11") == before != []


async def test_models_without_a_price_are_free_or_refused() -> None:
    free = await Desk("1 USD/month").ready()
    await ask(free, asking("unknown"), prompt=10**6)
    assert await free.left() == [1] and free.spent == [("money", "acme", "USD", 0)]
    strict = await Desk("1 USD/month", unpriced="refuse").ready()
    for x in (asking("unknown"), asking(None)):
        with pytest.raises(Refuse) as caught:
            await strict.policy.admit(x)
        assert caught.value.kind is Kind.FORBIDDEN and caught.value.param == "model"
    for x in (asking("big-7"), asking(None, dialect="opaque", stream=None), asking(None, stream=None)):
        await strict.policy.admit(x)


async def test_without_limits_it_only_keeps_account_and_without_anything_it_is_idle() -> None:
    desk = await Desk().ready()
    assert desk.policy.phases() == {"settle"}
    await drive(plan(desk.policy), answered(asking(), 10, 20), None)
    await drive(plan(desk.policy), answered(asking(None, None, text_in=10**9), 0, 0), None)
    (line,) = await desk.policy.ledger.lines("2026-11")
    assert (line.requests, line.prompt_tokens, line.completion_tokens) == (1, 10, 20)
    assert Desk(unpriced="refuse").policy.phases() == {"admit", "settle"}
    idle = Budget("b", BudgetOptions())
    assert idle.phases() == frozenset() and not idle.meters


async def test_shadow_mode_tells_and_refuses_nothing_but_keeps_account() -> None:
    desk = await Desk("0.001 USD/month", soft=0.1).ready()
    shadow = plan(desk.policy, mode="shadow")
    x, head = answered(asking(), 900, 0), ReplyHead(200, Headers([]))
    x.tokens_asked, x.text_in = 0, 3900
    await drive(shadow, x, None, head)
    y = answered(asking(), 900, 0)
    await drive(shadow, y, None, head)
    assert head.headers.fields == [] and x.findings == []
    assert [(f.kind, f.action, f.shadow) for f in y.findings] == [
        ("money", "refuse", True), ("insufficient_quota", "would_refuse", True),
    ]  # fmt: skip
    (line,) = await desk.policy.ledger.lines("2026-11")
    assert (line.requests, line.prompt_tokens) == (2, 1800)


async def test_a_store_that_refuses_while_it_is_away_is_a_503() -> None:
    desk = await Desk("1 USD/month").ready()

    class Away:
        async def take(self, parts: list[Window]) -> None:
            raise StoreAway("away", 1.0)

    desk.policy._store = Away()  # type: ignore[assignment]
    with pytest.raises(Refuse) as caught:
        await desk.policy.admit(asking())
    assert caught.value.kind is Kind.LIMITS_AWAY and caught.value.retry_after == 1.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limits": ["5 USD/hour"]}, "per day, week or month"), ({"limits": ["5 requests/day"]}, "per day, week or month"),
        ({"limits": ["8 concurrent"]}, "per day, week or month"), ({"limits": ["5 EUR/day"]}, "the prices are in USD"),
        ({"limits": ["5 USD/day"], "prices": {}}, "write `prices`"), ({"prices": {}, "unpriced": "refuse"}, "write `prices`"),
        ({"limits": ["5 USD/day", "6 USD/day"]}, "two budgets count the same"), ({"currency": "usd"}, "pattern"),
        ({"soft": 0}, "greater than 0"), ({"soft": 1.1}, "less than or equal to 1"),
        ({"prices": {"m": {"input": -1}}}, "greater than or equal to 0"), ({"prices": {"m": {"input": math.nan}}}, "finite"),
        ({"prices": {"m": {}}}, "Field required"),
    ],
)  # fmt: skip
def test_options_without_meaning_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        BudgetOptions.model_validate({"prices": PRICES, **options})


# -- the account


@pytest.mark.parametrize(
    "name", ["a\x1fb\x1fc", "line\r\nbreak", "\x1b[31mred", "x" * 1000, "\ud800", "a\u202eb", "\u2028", "\x00"]
)
async def test_names_of_callers_cannot_break_the_account(name: str) -> None:
    desk = await Desk().ready()
    await ask(desk, asking(name, tenant=name, caller=name))
    (line,) = await desk.policy.ledger.lines("2026-11")
    for shown in line.entry:
        assert shown.isprintable() and 0 < len(shown) <= 128 and shown == clean(name)
    assert line.requests == 1 and clean(name + "x") != clean(name)


def test_names_that_are_fine_stay_as_they_are() -> None:
    for name in ("", "gpt-4o", "llama 3", "团队", "é", "x" * 128, "=1+1"):
        assert clean(name) == name


async def test_an_account_that_is_full_keeps_its_totals() -> None:
    table = Memory()
    ledger = Ledger("USD")
    ledger.store = table.scope("b")
    names = FULL // len(COLUMNS)
    for n in range(names + 50):
        await ledger.add(NOVEMBER, Entry("t", "c", f"made-up-{n}"), Cost(2, 1, 1), 0.5)
    lines = await ledger.lines("2026-11")
    assert len(lines) == names + 1 and lines[0] == (("", "", OTHER), 50, 100, 50, 50, 25)
    assert sum(line.money for line in lines) == pytest.approx((names + 50) * 0.5)


async def test_a_field_that_is_none_of_the_account_is_left_out() -> None:
    table = Memory()
    ledger = Ledger("USD")
    ledger.store = table.scope("b")
    await ledger.store.count("ledger:2026-11", {"a\x1frequests": 1, "a\x1fb\x1fc\x1fmoon": 1, "": 1}, 60)
    assert await ledger.lines("2026-11") == []
