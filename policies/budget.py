"""``budget``: how much money (or how many tokens) may be spent in a day, a week or a month, and what was.

What lives here: the policy's phases and options. What must never live here: how a limit is written, by whom it counts, counters;
whose budget it was in a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Annotated, Literal

from pydantic import Field, model_validator

from policies.contract import Exchange, Kind, Policy, PolicyOptions, Refuse, ReplyHead
from policies.limits.counting import Counting, Held
from policies.limits.ledger import Entry, Ledger
from policies.limits.meter import GENERATES, Cost, Meter
from policies.limits.prices import Price, Prices
from policies.limits.spec import Limit, parse_limit
from policies.limits.texts import By, LimitText
from policies.store import Part, PartState, Store, StoreAway, Taken, undo

__all__ = ["Budget", "BudgetOptions"]

FIELD = "x-headgate-budget"
"""In replies, from the soft threshold on."""


class BudgetOptions(PolicyOptions):
    """Budgets are limits of the calendar: ``50 USD/month``, ``5 USD/day by caller``, ``20M tokens/week``."""

    limits: list[LimitText] = Field(default=[], examples=[["500 USD/month", "20 USD/day by caller"]])
    """All of them hold; a request takes from all or from none. None, but `prices`: only keep account."""
    by: By = Field(default=("tenant",), examples=["tenant", "caller"])
    """Whose spending counts together; see ``rate_limit``."""
    prices: dict[str, Price] = Field(default={}, examples=[{"gpt-4o*": {"input": 2.5, "output": 10, "cached": 1.25}}])
    """Globs over the model asked for and prices per million tokens; the first that fits counts."""
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    """Of the prices."""
    unpriced: Literal["allow", "refuse"] = "allow"
    """Models without a price: free of charge, or refused."""
    soft: Annotated[float, Field(gt=0, le=1)] = 0.8
    """When this share of a budget has been spent, replies carry ``x-headgate-budget``, and the log has a finding."""
    headers: bool = True
    """Tell callers in ``x-headgate-budget``."""
    ask_usage: bool = True
    """Have the backend count the tokens of streams; see ``rate_limit``."""

    @model_validator(mode="after")
    def _fits(self) -> BudgetOptions:
        parsed = [parse_limit(text, self.by) for text in self.limits]
        if any(not limit.window or not limit.spends for limit in parsed):
            raise ValueError("a budget is money or tokens per day, week or month; for the rest there is rate_limit")
        money = [limit for limit in parsed if limit.measure == "money"]
        if any(limit.currency != self.currency for limit in money):
            raise ValueError(f"the prices are in {self.currency}, and so must the budgets be")
        if not self.prices and (money or self.unpriced == "refuse"):
            raise ValueError("write `prices`: without them nothing costs anything")
        if len({(limit.identity, limit.by) for limit in parsed}) < len(parsed):
            raise ValueError("two budgets count the same thing for the same subject over the same period")
        return self


class Budget(Policy):
    """Keeps account of what callers spend, warns when a budget is nearly spent, and stops when it is.

    What a request may cost is set aside before it is sent, and settled by the backend's count. The account is at the admin port:
    ``/usage`` (JSON, and CSV with ``?format=csv``).
    """

    USE = "budget"
    Options = BudgetOptions
    EXAMPLE = """\
limits: [500 USD/month, 20 USD/day by caller]
by: tenant
prices:
  llama-3.1-8b: {input: 0.05, output: 0.08}
  "*": {input: 2.5, output: 10, cached: 1.25}
"""
    counts = True
    options: BudgetOptions

    def __init__(self, name: str, options: BudgetOptions) -> None:
        super().__init__(name, options)
        self._prices = Prices(options.prices)
        self._meter = Meter()
        self._counting = Counting([parse_limit(text, options.by) for text in options.limits], self._prices)
        self._store: Store | None = None
        self.ledger = Ledger(options.currency)

    @property
    def late(self) -> bool:
        """Only the body tells of the model and of what is asked for."""
        return True

    @property
    def meters(self) -> bool:
        return self.options.ask_usage and bool(self.phases())

    def phases(self) -> frozenset[str]:
        if not self.options.limits and not self.options.prices:
            return frozenset()
        if not self.options.limits:
            return frozenset(("admit", "settle") if self.options.unpriced == "refuse" else ("settle",))
        return frozenset(("admit", "respond", "settle"))

    def describe(self) -> str:
        """The budgets as they were written."""
        by = "+".join(self.options.by) or "all"
        what = f"{', '.join(self.options.limits)} by {by}" if self.options.limits else "keeps account"
        return f"{what}; {len(self.options.prices)} prices"

    async def prepare(self) -> None:
        self._store = self.ledger.store = await self.deps.store(self.name)

    # -- a request

    async def admit(self, x: Exchange) -> None:
        if self.options.unpriced == "refuse" and _generates(x) and self._prices.of(x.model_asked) is None:
            x.find(self.name, "unpriced", action="refuse")
            raise Refuse(Kind.FORBIDDEN, "This model has no price here, so it cannot be used.", param="model")
        if self._store is None or not self._counting.limits:
            return
        cost = self._meter.reserve(x)
        limits, parts = self._counting.parts(x, cost, "", self.deps.wall())
        try:
            taken = await self._store.take(parts)
        except StoreAway as away:
            raise Refuse(Kind.LIMITS_AWAY, retry_after=away.retry_after_s) from None
        if not taken.ok:
            raise self._refusal(x, limits, parts, taken)
        x.notes[self.name] = Held(self._counting, cost, parts, taken), limits

    def _refusal(self, x: Exchange, limits: Sequence[Limit], parts: Sequence[Part], taken: Taken) -> Refuse:
        which = taken.refused or 0
        limit = limits[which]
        x.find(self.name, limit.measure, action="refuse")
        message = f"The budget of {limit} is spent, or what is left of it is less than this request may cost."
        told = _told(limit, taken.parts[which], _used(taken, which, 0.0))
        return Refuse(Kind.QUOTA, message, headers=[(FIELD, told)] if self.options.headers else ())

    def respond(self, x: Exchange, head: ReplyHead) -> None:
        found = x.notes.get(self.name)
        if found is None:
            return
        held, limits = found
        used = [_used(held.taken, n, part.cost) for n, part in enumerate(held.parts)]
        most = max(range(len(used)), key=used.__getitem__)
        if used[most] < self.options.soft:
            return
        if self.options.headers:
            head.headers.set(FIELD, _told(limits[most], held.taken.parts[most], used[most]))
        x.find(self.name, limits[most].measure, action="warn")

    # -- the end

    async def settle(self, x: Exchange) -> None:
        found = x.notes.pop(self.name, None)
        if found is None:
            if x.attempts and x.model_asked is not None:
                await self._account(x, self._meter.spent(x, self._meter.reserve(x)))
            return
        held, limits = found
        spent = self._meter.spent(x, held.cost) if x.attempts else Cost(0.0, 0.0)
        changes = held.counting.changes(x, limits, held, spent) if x.attempts else undo(held.parts)
        if changes and self._store is not None:
            await self._store.adjust(changes, held.taken)
        await self._account(x, spent)

    async def _account(self, x: Exchange, spent: Cost) -> None:
        """What was used: replies that failed cost nothing and are no line, so nobody fills the account with invented names."""
        answered = bool(x.attempts) and x.committed and x.status < 400 and x.model_asked is not None
        if not answered and not spent.total:
            return
        money = self._prices.money(x.model_asked, spent)
        entry = Entry(x.tenant or "", x.caller or "", x.model_asked or "")
        await self.ledger.add(self.deps.wall(), entry, spent, money)
        self.deps.spent(self.name, x.tenant or "", self.options.currency, money)


def _generates(x: Exchange) -> bool:
    """It is known to want a model: it names one, or was read as a request that has one, by default."""
    return x.model_asked is not None or (x.dialect in GENERATES and x.stream is not None)


def _used(taken: Taken, which: int, cost: float) -> float:
    """What share of a budget had been spent before this step took ``cost``. Where each process has its share of the budget,
    the others are taken to have spent as much as this one."""
    state = taken.parts[which]
    left = (max(state.remaining, 0.0) + cost) * taken.shares
    return min(1.0, max(0.0, 1.0 - left / state.limit)) if state.limit else 1.0


def _told(limit: Limit, state: PartState, used: float) -> str:
    """A dictionary of RFC 8941: which budget, how much of it is spent (0 to 1), seconds until it begins anew."""
    return f'limit="{limit}", used={used:.3f}, reset={ceil(state.reset_after_s)}'
