"""A limit as people write it: ``100 requests/minute``, ``2M tokens/day by tenant``, ``8 concurrent``, ``50 USD/month``.

What lives here: the grammar, and Limit. What must never live here: counters, requests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["DIMENSIONS", "Limit", "Measure", "parse_by", "parse_limit"]

Measure = Literal["requests", "tokens", "prompt_tokens", "completion_tokens", "concurrent", "streams", "money"]

_TEXT = re.compile(
    r"(?P<amount>[0-9][0-9_]*(?:\.[0-9]+)?)\s*(?P<scale>[kKMG]?)\s+(?P<unit>[A-Za-z]+(?:[ _](?:tokens|requests|streams))?)"
    r"(?:\s*(?:/|\sper\s)\s*(?P<every>[0-9]+\s*)?(?P<period>[a-z]+))?(?:\s+burst\s+(?P<burst>[0-9][0-9_]*)(?P<more>[kKMG]?))?"
    r"(?:\s+by\s+(?P<by>\S+(?:\s*\+\s*\S+)*))?"
)
_SCALE = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_UNITS: dict[str, Measure] = {
    "request": "requests", "requests": "requests", "token": "tokens", "tokens": "tokens", "prompt tokens": "prompt_tokens",
    "input tokens": "prompt_tokens", "completion tokens": "completion_tokens", "output tokens": "completion_tokens",
    "concurrent": "concurrent", "concurrent requests": "concurrent", "concurrent streams": "streams",
}  # fmt: skip
_RATES = {"s": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_WINDOWS = {"d": "day", "day": "day", "week": "week", "month": "month", "mo": "month"}
_NAMES = {1: "second", 60: "minute", 3600: "hour"}
_WORDS = {"prompt_tokens": "prompt tokens", "completion_tokens": "completion tokens", "streams": "concurrent streams",
          "concurrent": "concurrent requests"}  # fmt: skip
_HOW = "write it like `100 requests/minute`, `2M tokens/day by tenant`, `8 concurrent` or `50 USD/month`"

DIMENSIONS = ("caller", "tenant", "address", "model", "route")
"""What a limit can count by; and header:NAME, claim:NAME, label:NAME, or nothing (``all``): one count for everybody."""


@dataclass(frozen=True, slots=True)
class Limit:
    """measure: what is counted. amount: how much of it. seconds: the period of a rate, 0 for a calendar window and for
    concurrency. window: day, week or month, or empty. burst: how much of a rate at once. by: dimensions, together."""

    measure: Measure
    amount: float
    seconds: float
    window: str
    burst: float
    by: tuple[str, ...]
    currency: str = ""

    @property
    def holds(self) -> bool:
        """It counts what is there at the same time."""
        return self.measure in ("concurrent", "streams")

    @property
    def spends(self) -> bool:
        """What it counts is known for sure only at the end."""
        return self.measure in ("tokens", "prompt_tokens", "completion_tokens", "money")

    @property
    def identity(self) -> str:
        """The same for limits that count the same thing, whatever the amount: a caller who moves to another tier keeps its
        count."""
        return f"{self.measure}/{self.window}" if self.window else f"{self.measure}/{self.seconds:g}"

    def __str__(self) -> str:
        """As the caller is told: what, never whose."""
        amount = f"{self.amount:,.0f}" if self.amount == int(self.amount) else f"{self.amount:,g}"
        what = self.currency if self.measure == "money" else _WORDS.get(self.measure, self.measure)
        if self.holds:
            return f"{amount} {what}"
        period = self.window or _NAMES.get(int(self.seconds)) or f"{self.seconds:g} seconds"
        return f"{amount} {what} per {period}"


def parse_by(value: Any) -> tuple[str, ...]:
    """``tenant``, ``tenant+model``, a list of dimensions, or ``all`` for none. Raises ValueError."""
    parts = [p.strip() for p in value.split("+")] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(p, str) for p in parts):
        raise ValueError(f"write what it counts by: {', '.join(DIMENSIONS)}, header:NAME, claim:NAME, label:NAME or all")
    if list(parts) in ([], ["all"]):
        return ()
    for part in parts:
        kind, colon, name = part.partition(":")
        if part not in DIMENSIONS and not (kind in ("header", "claim", "label") and colon and name):
            known = ", ".join(DIMENSIONS)
            raise ValueError(f"{part!r} is nothing to count by; there are {known}, header:NAME, claim:NAME, label:NAME and all")
    if len(set(parts)) < len(parts):
        raise ValueError("it counts by the same thing twice")
    return tuple(parts)


def parse_limit(text: str, by: tuple[str, ...]) -> Limit:
    """by: what it counts by unless the text says so. Raises ValueError with the form to write."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no limit: {_HOW}")
    amount = float(found["amount"].replace("_", "")) * _SCALE[found["scale"]]
    by = parse_by(found["by"]) if found["by"] else by
    unit = found["unit"].replace("_", " ")
    measure = _UNITS.get(unit.lower())
    currency = ""
    if measure is None:
        if not re.fullmatch("[A-Z]{3}", unit):
            raise ValueError(f"{unit!r} is nothing to count: requests, tokens, prompt_tokens, completion_tokens, concurrent, USD")
        measure, currency = "money", unit
    if amount <= 0:
        raise ValueError("a limit is above 0; to refuse all, take the scope away or use request_guard")
    if measure in ("concurrent", "streams"):
        if found["period"] or found["burst"] or amount != int(amount):
            raise ValueError("concurrency is a whole number without a period: `8 concurrent`")
        return Limit(measure, amount, 0, "", 0, by)
    return _timed(found, measure, amount, by, currency)


def _timed(found: re.Match[str], measure: Measure, amount: float, by: tuple[str, ...], currency: str) -> Limit:
    period = found["period"]
    if not period:
        raise ValueError(f"{found[0]!r} says no period: {_HOW}")
    singular = period.removesuffix("s") if len(period) > 2 else period
    every = int(found["every"] or 1)
    burst = float(found["burst"].replace("_", "")) * _SCALE[found["more"] or ""] if found["burst"] else 0.0
    if singular in _WINDOWS:
        if every != 1 or burst:
            raise ValueError("a day, week or month is one of the calendar (UTC), without a burst")
        return Limit(measure, amount, 0, _WINDOWS[singular], 0, by, currency)
    if singular not in _RATES or every < 1:
        raise ValueError(f"{period!r} is no period: second, minute, hour, day, week, month")
    return Limit(measure, amount, _RATES[singular] * every, "", burst or amount, by, currency)
