"""Ending a reply that grows beyond what its limits had left.

What lives here: Allowance, shared by all channels of one reply. What must never live here: the store; text.
"""

from __future__ import annotations

import math

from policies.contract import LENGTH, Cut, Gate

__all__ = ["CHARACTERS", "Allowance"]

CHARACTERS = 4.0
"""Of text per token, about what tokenizers make of English; pieces that come one by one count as a token at least."""


class Allowance:
    """How many completion tokens a reply may have before one of its limits is gone: what was reserved for it, and what was
    left beside that when it was let in. Others may have used that since; the limit is then passed by as much, and the next
    request pays for it.

    most: tokens; infinity: no limit counts completions, and nothing is cut."""

    def __init__(self, most: float) -> None:
        self.tokens = 0.0
        self.most = most

    def gate(self) -> Gate | None:
        """A gate that counts, holds nothing, and cuts when the allowance is spent."""
        return _Counting(self) if self.most < math.inf else None


class _Counting(Gate):
    def __init__(self, allowance: Allowance) -> None:
        super().__init__()
        self._allowance = allowance
        self._pushed = 0

    def push(self, text: str) -> int:
        allowance = self._allowance
        if text:
            allowance.tokens += max(1.0, len(text) / CHARACTERS)
            if allowance.tokens > allowance.most:
                raise Cut(LENGTH, at=self._pushed)
        self._pushed += len(text)
        return self._pushed

    def close(self) -> int:
        return self._pushed
