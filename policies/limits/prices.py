"""What tokens cost: a table of models, and the money that an exchange comes to.

Prices are per million tokens, as their makers publish them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from policies.contract import PolicyOptions
from policies.globs import glob
from policies.limits.meter import Cost

__all__ = ["Price", "Prices"]

Amount = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class Price(PolicyOptions):
    """Money per million tokens."""

    input: Amount
    """Tokens of the prompt."""
    output: Amount = 0.0
    """Tokens of the completion."""
    cached: Amount | None = None
    """Tokens of the prompt that the backend had in its cache; without this they cost as the others."""


class Prices:
    """table: globs over the model asked for, and their prices; the first that fits counts."""

    def __init__(self, table: dict[str, Price]) -> None:
        self._rows = [(glob(name), price) for name, price in table.items()]
        self._known: dict[str, Price | None] = {}

    def of(self, model: str | None) -> Price | None:
        """The price of a model, or None."""
        name = model or ""
        if name in self._known:
            return self._known[name]
        found = next((price for fits, price in self._rows if fits(name)), None)
        if len(name) <= 256:  # names come from callers
            if len(self._known) >= 1024:
                self._known.clear()
            self._known[name] = found
        return found

    def money(self, model: str | None, cost: Cost) -> float:
        """What tokens of a model cost; 0 for a model without a price."""
        price = self.of(model)
        if price is None:
            return 0.0
        cached = min(cost.cached, cost.prompt)
        cheap = price.input if price.cached is None else price.cached
        return ((cost.prompt - cached) * price.input + cached * cheap + cost.completion * price.output) / 1e6
