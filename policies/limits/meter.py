"""What a request will cost before anybody knows, and what it has cost in the end.

What lives here: estimates that learn from the replies, per model. What must never live here: text, counters of callers.
"""

from __future__ import annotations

from typing import NamedTuple

from policies.contract import Exchange

__all__ = ["GENERATES", "Cost", "Meter"]

GENERATES = frozenset(("chat", "chat_batch", "completions", "responses", "messages"))
"""Dialects whose replies are generated; elsewhere a request costs its prompt."""
PER_BYTE = 0.25
"""Prompt tokens per byte of a request's body before anything is learnt: four bytes a token is about right for English text,
and JSON's own signs come on top of it."""
FIRST_GUESS = 512.0
"""Completion tokens of a request that names no bound, of a model nobody has seen."""
_WEIGHT = 0.1  # of the newest in the average
_SPREAD = 1.5  # above the average, so that most requests cost no more than was reserved
_MOST_MODELS = 1024


class Cost(NamedTuple):
    """Tokens: of the prompt, those of them that the backend had in its cache, of the completion."""

    prompt: float
    completion: float
    cached: float = 0.0

    @property
    def total(self) -> float:
        return self.prompt + self.completion


class _Learnt:
    """per_byte: prompt tokens per byte of a body. completion: tokens of a reply."""

    __slots__ = ("completion", "per_byte")

    def __init__(self) -> None:
        self.per_byte = PER_BYTE
        self.completion: float | None = None


class Meter:
    """One per policy. Averages are this process's own: they only make reservations better, what is charged is counted."""

    def __init__(self) -> None:
        self._models: dict[str, _Learnt] = {}

    def reserve(self, x: Exchange) -> Cost:
        """What to set aside for a request: its body's size tells of the prompt; the completion is what the request allows, or
        what this model usually gives, times the completions asked for."""
        known = self._models.get(x.model_asked or "")
        prompt = x.text_in * (known.per_byte if known is not None else PER_BYTE)
        if x.dialect not in GENERATES:
            return Cost(prompt, 0.0)
        if x.tokens_asked is not None:
            return Cost(prompt, float(x.tokens_asked) * x.times)
        usual = known.completion if known is not None else None
        return Cost(prompt, (FIRST_GUESS if usual is None else usual * _SPREAD) * x.times)

    def spent(self, x: Exchange, reserved: Cost) -> Cost:
        """What an exchange has cost: what the backend counted; without that, the prompt as it was estimated and the pieces of
        text that passed. Nothing for one that the backend has refused or never seen."""
        if x.usage is not None:
            self._learn(x)
            return Cost(x.usage.prompt, x.usage.completion, x.usage.cached)
        if not x.attempts or not x.committed or x.status >= 400:
            return Cost(0.0, 0.0)
        if x.dialect not in GENERATES or x.stream is None:
            return Cost(reserved.prompt, 0.0)
        if not x.stream:  # a whole reply without a count
            return Cost(reserved.prompt, min(reserved.completion, x.bytes_out * PER_BYTE))
        return Cost(reserved.prompt, float(x.pieces))

    def _learn(self, x: Exchange) -> None:
        usage, name = x.usage, x.model_asked or ""
        if usage is None or not x.text_in:
            return
        known = self._models.get(name)
        if known is None:
            if len(self._models) >= _MOST_MODELS or len(name) > 256:
                return  # names come from callers
            known = self._models[name] = _Learnt()
        if usage.prompt:
            known.per_byte += _WEIGHT * (min(max(usage.prompt / x.text_in, 0.01), 2.0) - known.per_byte)
        if usage.completion and x.fault is None:
            each = usage.completion / x.times
            known.completion = each if known.completion is None else known.completion + _WEIGHT * (each - known.completion)
