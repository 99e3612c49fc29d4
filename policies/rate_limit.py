"""``rate_limit``: requests, tokens, money and simultaneous requests, by caller and much else.

What lives here: the policy's phases and options. What must never live here: how a limit is written (``limits/spec.py``), by
whom it counts (``subjects.py``), counters (the store's); whose limit it was in a message.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from policies.contract import Channel, Exchange, Gate, Kind, Policy, PolicyOptions, Refuse, ReplyHead
from policies.limits.counting import LEASE_TTL, Counting, Held
from policies.limits.fields import put_rate_fields, rate_fields, span
from policies.limits.meter import Cost, Meter
from policies.limits.overrun import Allowance
from policies.limits.prices import Price, Prices
from policies.limits.spec import Limit, parse_limit
from policies.limits.texts import By, LimitText
from policies.store import Lease, Part, Store, StoreAway, Taken, undo

__all__ = ["RateLimit", "RateLimitOptions"]

_NOTHING = Cost(0.0, 0.0)
SLOT_WAIT = 1.0
"""Seconds after which to try again for a slot: nobody knows when one will be free."""


class RateLimitOptions(PolicyOptions):
    """Limits are texts: an amount (``100``, ``1_000``, ``200k``, ``2M``), what is counted (``requests``, ``tokens``,
    ``prompt_tokens``, ``completion_tokens``, ``USD`` or another currency, ``concurrent``, ``concurrent streams``), and, for all
    but the last two, a period. ``/second``, ``/minute``, ``/10 minutes``, ``/hour`` refill evenly; ``/day``, ``/week``,
    ``/month`` begin anew with the calendar's (UTC). ``burst 20`` lets so much of a rate through at once, else all of it.
    ``by tenant`` at the end counts by something else than ``by``."""

    limits: list[LimitText] = Field(default=[], examples=[["100 requests/minute", "200k tokens/minute", "8 concurrent"]])
    """All of them hold; a request takes from all or from none."""
    by: By = Field(default=("caller",), examples=["caller", "tenant+model", ["header:X-Team"]])
    """Whose requests count together: caller (its address where it has no name), tenant, address, model, route, header:NAME,
    claim:NAME, label:NAME, several joined by ``+``; ``all``: everybody's."""
    tiers: dict[str, list[LimitText]] = Field(default={}, examples=[{"pro": ["1000 requests/minute"]}])
    """Other limits for requests whose label ``tier`` says so. A caller that moves to another tier keeps its count."""
    prices: dict[str, Price] = Field(default={}, examples=[{"gpt-4o*": {"input": 2.5, "output": 10}}])
    """Globs over models and their prices per million tokens, for limits in money; the first that fits counts."""
    on_overrun: Literal["finish", "cut"] = "finish"
    """A streamed reply that grows beyond all that its limits had left: let it finish, and count it; or end it there."""
    headers: bool = True
    """Tell callers in x-ratelimit fields what is left."""
    ask_usage: bool = True
    """Have the backend count the tokens of streams (``stream_options.include_usage``); who did not ask for that chunk does not
    get it."""

    @model_validator(mode="after")
    def _fits(self) -> RateLimitOptions:
        for limits in (self.limits, *self.tiers.values()):
            parsed = [parse_limit(text, self.by) for text in limits]
            same = {(limit.identity, limit.by) for limit in parsed}
            if len(same) < len(parsed):
                raise ValueError("two limits count the same thing for the same subject over the same period")
            if not self.prices and any(limit.measure == "money" for limit in parsed):
                raise ValueError("a limit in money needs `prices`")
        return self


class RateLimit(Policy):
    """Lets callers use so much of it, and no more: requests, tokens, money, simultaneous requests.

    Tokens are set aside before they are spent (the prompt's by its size, the completion's by ``max_tokens`` or by what the model
    usually gives) and settled by what the backend has counted. docs/limits.md tells what is promised.
    """

    USE = "rate_limit"
    Options = RateLimitOptions
    EXAMPLE = """\
limits: [100 requests/minute, 200k tokens/minute, 8 concurrent, 5k requests/minute by tenant]
by: caller
tiers:
  pro: [1000 requests/minute, 2M tokens/minute, 64 concurrent]
"""
    counts = True
    options: RateLimitOptions

    def __init__(self, name: str, options: RateLimitOptions) -> None:
        super().__init__(name, options)
        self._prices = Prices(options.prices)
        self._meter = Meter()
        self._default = self._counting(options.limits)
        self._tiers = {tier: self._counting(texts) for tier, texts in options.tiers.items()}
        self._all = [self._default, *self._tiers.values()]
        self._store: Store | None = None
        self._mine, self._ids = os.urandom(8).hex() + "-", itertools.count()
        self._leases: dict[str, Held] = {}
        self._renewing: asyncio.Task[None] | None = None

    def _counting(self, texts: list[str]) -> Counting:
        return Counting([parse_limit(text, self.options.by) for text in texts], self._prices)

    # -- what it takes part in

    @property
    def late(self) -> bool:
        """Tokens, models, streams: only the body tells of them."""
        told = [limit for counting in self._all for limit in counting.limits]
        return any(limit.spends or limit.measure == "streams" or "model" in limit.by for limit in told)

    @property
    def meters(self) -> bool:
        return self.options.ask_usage and any(counting.spends for counting in self._all)

    def phases(self) -> frozenset[str]:
        if not any(counting.limits for counting in self._all):
            return frozenset()
        wanted = {"admit", "settle"}
        if self.options.headers:
            wanted.add("respond")
        if self.options.on_overrun == "cut" and any(counting.spends for counting in self._all):
            wanted.add("guard")
        return frozenset(wanted)

    def describe(self) -> str:
        """The limits as they were written, and those of the tiers."""
        by = "+".join(self.options.by) or "all"
        tiers = [f"{tier}: {', '.join(texts)}" for tier, texts in self.options.tiers.items()]
        return "; ".join([f"{', '.join(self.options.limits) or 'no limits'}; counted by {by}", *tiers])

    async def prepare(self) -> None:
        self._store = await self.deps.store(self.name)
        if any(limit.holds for counting in self._all for limit in counting.limits):
            self._renewing = asyncio.create_task(self._renew())

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()

    # -- a request

    async def admit(self, x: Exchange) -> None:
        counting = self._tiers.get(x.labels.get("tier", ""), self._default)
        if not counting.limits or self._store is None:
            return
        cost = self._meter.reserve(x) if counting.spends else _NOTHING
        lease = self._mine + str(next(self._ids)) if counting.holds else ""
        limits, parts = counting.parts(x, cost, lease, self.deps.wall())
        if not parts:
            return
        try:
            taken = await self._store.take(parts)
        except StoreAway as away:
            raise Refuse(Kind.LIMITS_AWAY, retry_after=away.retry_after_s) from None
        if not taken.ok:
            raise self._refusal(x, limits, parts, taken)
        held = Held(counting, cost, parts, taken, lease)
        x.notes[self.name] = held, limits
        if lease:
            self._leases[lease] = held

    def _refusal(self, x: Exchange, limits: Sequence[Limit], parts: list[Part], taken: Taken) -> Refuse:
        """Names the limit that keeps the caller away for longest: one that never lets this request through, else the one to
        wait for."""
        fields = rate_fields(limits, taken.parts) if self.options.headers else []
        limit, wait = limits[taken.refused or 0], 0.0
        for one, part, state in zip(limits, parts, taken.parts, strict=True):
            if state.allowed:
                continue
            if isinstance(part, Lease):
                after = SLOT_WAIT
            elif state.retry_after_s is None:
                x.find(self.name, one.measure, action="refuse")
                message = f"The request needs {part.cost:,.6g} at once, more than the limit of {one} can ever give."
                return Refuse(Kind.RATE_LIMITED, message, headers=[*fields, ("x-should-retry", "false")])
            else:
                after = state.retry_after_s
            if after > wait:
                limit, wait = one, after
        x.find(self.name, limit.measure, action="refuse")
        wait = max(wait, 0.001)
        message = f"Rate limit reached: {limit}. Try again in {span(wait)}."
        return Refuse(Kind.RATE_LIMITED, message, retry_after=wait, headers=fields)

    def respond(self, x: Exchange, head: ReplyHead) -> None:
        found = x.notes.get(self.name)
        if found is not None and found[0].taken.source != "open":  # nobody has counted then
            held, limits = found
            put_rate_fields(head.headers, rate_fields(limits, held.taken.parts))

    def guard(self, x: Exchange, channel: Channel) -> Gate | None:
        found = x.notes.get(self.name)
        if found is None or x.stream is not True:  # a whole reply has been paid for when it is here
            return None
        held, limits = found
        if held.taken.source == "open":  # nobody has counted
            return None
        key = self.name + ":allowance"
        allowance = x.notes.get(key)
        if allowance is None:
            allowance = x.notes[key] = Allowance(held.counting.completion(x, limits, held))
        return allowance.gate()

    # -- the end

    async def settle(self, x: Exchange) -> None:
        found = x.notes.pop(self.name, None)
        x.notes.pop(self.name + ":allowance", None)
        if found is None or self._store is None:
            return
        held, limits = found
        if held.lease:
            self._leases.pop(held.lease, None)
        if not x.attempts:  # refused after this policy had let it in: it has used nothing
            changes = undo(held.parts)
        elif held.counting.spends:
            changes = held.counting.changes(x, limits, held, self._meter.spent(x, held.cost))
        else:
            changes = list(held.leases) if held.lease else []
        if changes:
            await self._store.adjust(changes, held.taken)

    async def _renew(self) -> None:
        """Keep the slots of requests that run for long."""
        while True:
            await asyncio.sleep(LEASE_TTL / 3)
            if self._store is not None:
                await self._renew_all(self._store)

    async def _renew_all(self, store: Store) -> None:
        leases = [lease for held in self._leases.values() for lease in held.leases]
        for at in range(0, len(leases), 500):
            batch = [lease for lease in leases[at : at + 500] if lease.id in self._leases]
            await store.renew(batch)
            # Released while the renewal was under way: the store may have seen that first, and would now hold it anew.
            over: list[Part] = [lease for lease in batch if lease.id not in self._leases]
            if over:
                await store.adjust(over)
