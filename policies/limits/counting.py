"""Limits made ready: from a request to the parts of one step, and from what it has cost to what is settled.

What lives here: Counting and Held. What must never live here: the store's calls, refusals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from policies.contract import Exchange
from policies.limits.meter import Cost
from policies.limits.prices import Prices
from policies.limits.spec import Limit
from policies.limits.subjects import Subject, subject_of
from policies.store import Lease, Part, Rate, Taken, Unit, Window, utc_window

__all__ = ["LEASE_TTL", "Counting", "Held"]

LEASE_TTL = 60.0
"""Seconds after which a slot is free whose holder has died; holders that live renew it three times as often."""


class Held:
    """What one exchange has taken. counting: by which limits. lease: the id of its slots, empty where it can have none."""

    __slots__ = ("cost", "counting", "lease", "parts", "taken")

    def __init__(self, counting: Counting, cost: Cost, parts: list[Part], taken: Taken, lease: str = "") -> None:
        self.counting = counting
        self.lease = lease
        self.cost = cost
        self.parts = parts
        self.taken = taken

    @property
    def leases(self) -> list[Lease]:
        return [part for part in self.parts if type(part) is Lease]


class Counting:
    """Limits of one policy that count together. prices: for limits in money."""

    def __init__(self, limits: Sequence[Limit], prices: Prices) -> None:
        self.limits = tuple(limits)
        self._prices = prices
        subjects = list(dict.fromkeys(limit.by for limit in limits))
        self._subjects: list[Subject] = [subject_of(by) for by in subjects]
        self._rows = [(limit, limit.measure, _prefix(limit), subjects.index(limit.by)) for limit in limits]
        self.spends = any(limit.spends for limit in limits)
        self.holds = any(limit.holds for limit in limits)
        self._windows: dict[str, tuple[float, float]] = {}

    def parts(self, x: Exchange, cost: Cost, lease: str, wall: float) -> tuple[Sequence[Limit], list[Part]]:
        """The limits that apply to a request, and the parts of its step, in the same order."""
        whose = [subject(x) for subject in self._subjects]
        parts: list[Part] = []
        for limit, measure, prefix, at in self._rows:
            if measure == "concurrent":
                parts.append(Lease(prefix + whose[at], lease, int(limit.amount), LEASE_TTL))
            elif measure == "streams":
                if x.stream:
                    parts.append(Lease(prefix + whose[at], lease, int(limit.amount), LEASE_TTL))
            else:
                amount = 1.0 if measure == "requests" else self.amount(limit, x, cost)
                if limit.window:
                    parts.append(Window(prefix + whose[at], amount, limit.amount, *self._window(limit.window, wall)))
                else:
                    parts.append(Rate(prefix + whose[at], amount, limit.amount, limit.seconds, limit.burst))
        if len(parts) < len(self.limits):
            return [limit for limit in self.limits if limit.measure != "streams"], parts
        return self.limits, parts

    def amount(self, limit: Limit, x: Exchange, cost: Cost) -> float:
        """How much of a limit so many tokens are."""
        measure = limit.measure
        if measure == "tokens":
            return cost.prompt + cost.completion
        if measure == "prompt_tokens":
            return cost.prompt
        if measure == "completion_tokens":
            return cost.completion
        return self._prices.money(x.model_asked, cost) if measure == "money" else 1.0

    def changes(self, x: Exchange, limits: Sequence[Limit], held: Held, spent: Cost) -> list[Part]:
        """What is to be settled: the difference to what was reserved, and the slots."""
        out: list[Part] = []
        for limit, part in zip(limits, held.parts, strict=True):
            kind = type(part)
            if kind is Lease:
                out.append(part)
                continue
            if limit.measure == "requests":
                continue
            key, cost, most, *rest = part
            difference = self.amount(limit, x, spent) - cost  # type: ignore[operator]
            if difference:
                out.append(kind(key, difference, most, *rest))  # type: ignore[arg-type]
        return out

    def completion(self, x: Exchange, limits: Sequence[Limit], held: Held) -> float:
        """How many completion tokens fit before the first of the limits is gone, with what is set aside; infinity where none
        counts completions."""
        most = math.inf
        for limit, state in zip(limits, held.taken.parts, strict=True):
            each = 1.0
            if limit.measure == "money":
                price = self._prices.of(x.model_asked)
                each = price.output / 1e6 if price is not None else 0.0
            elif limit.measure not in ("tokens", "completion_tokens"):
                continue
            if each:
                most = min(most, held.cost.completion + max(state.remaining, 0.0) / each)
        return most

    def _window(self, unit: str, wall: float) -> tuple[float, float]:
        known = self._windows.get(unit)
        if known is None or not known[0] <= wall < known[1]:
            known = self._windows[unit] = utc_window(_UNITS[unit], wall)
        return known


def _prefix(limit: Limit) -> str:
    return f"{limit.identity}:{'+'.join(limit.by) or 'all'}:"


_UNITS: dict[str, Unit] = {"day": "day", "week": "week", "month": "month"}
