"""Who has used what: requests, tokens and money by month, tenant, caller and model.

What lives here: Ledger. What must never live here: limits, counters (the store's: so every worker and replica that shares it
tells the same, and a reload loses nothing); prompts, keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple

from policies.limits.meter import Cost
from policies.store import Store

__all__ = ["COLUMNS", "OTHER", "Entry", "Ledger", "Line", "lines_of", "month_of"]

COLUMNS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "money")
OTHER = "(other)"
"""The model of what came when the store had no room for more names; nobody's."""
MOST_SIGNS = 128
"""Of a name in the account."""
_KEPT = 400 * 86_400.0  # seconds that a month stays in the store: a year, and some time to fetch it
_SIGN = "\x1f"  # between the parts of a field; what follows the last is what the store adds up when it is full


class Entry(NamedTuple):
    """Whose line it is; empty for none. The names are as ``clean`` leaves them."""

    tenant: str
    caller: str
    model: str


class Line(NamedTuple):
    """One line of the account. money: in the ledger's currency. cached_tokens are among the prompt_tokens."""

    entry: Entry
    requests: float = 0.0
    prompt_tokens: float = 0.0
    cached_tokens: float = 0.0
    completion_tokens: float = 0.0
    money: float = 0.0


class Ledger:
    """currency: of the money. store: where it is kept; before there is one nothing is counted."""

    def __init__(self, currency: str) -> None:
        self.currency = currency
        self.store: Store | None = None

    async def add(self, wall: float, entry: Entry, cost: Cost, money: float) -> None:
        """One request's use. wall: unix seconds, when it ended. entry: names as they came."""
        if self.store is None:
            return
        whose = _SIGN.join(map(clean, entry))
        counts = (1.0, cost.prompt, cost.cached, cost.completion, money)
        fields = {f"{whose}{_SIGN}{name}": value for name, value in zip(COLUMNS, counts, strict=True) if value}
        await self.store.count(_key(month_of(wall)), fields, _KEPT)

    async def counted(self, month: str) -> dict[str, float]:
        """A month (``2026-11``) as it is kept; ``lines_of`` reads it. Raises StoreAway."""
        return await self.store.counts(_key(month)) if self.store is not None else {}

    async def lines(self, month: str) -> list[Line]:
        """The account of a month, by tenant, caller and model. Raises StoreAway."""
        return lines_of(await self.counted(month))


def lines_of(counted: Mapping[str, float]) -> list[Line]:
    """A month's lines, sorted. Some tens of milliseconds for a full month: not for the event loop."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in counted.items():
        whose, _, column = name.rpartition(_SIGN)
        if column in COLUMNS:
            row = rows.get(whose)
            if row is None:
                row = rows[whose] = {}
            row[column] = value
    lines = []
    for whose in sorted(rows):
        names = whose.split(_SIGN) if whose else ("", "", OTHER)
        if len(names) == 3:
            lines.append(Line(Entry(*names), **rows[whose]))
    return lines


def clean(name: str) -> str:
    """A name that came from a caller or a token, as the account has it: printable, not longer than MOST_SIGNS. One that had to be
    changed ends in a digest, so that two names do not become one."""
    if len(name) <= MOST_SIGNS and name.isprintable():
        return name
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    shown = "".join([sign if sign.isprintable() else "?" for sign in name[: MOST_SIGNS - 9]])
    return f"{shown}~{digest}"


def month_of(wall: float) -> str:
    """The month of a time, in UTC: ``2026-11``."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m")


def _key(month: str) -> str:
    return f"ledger:{month}"
