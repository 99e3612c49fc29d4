"""Token counts as the makers of the APIs write them, brought to one meaning.

What must never live here: prices, limits.
"""

from __future__ import annotations

from typing import Any

from policies.contract import Usage

__all__ = ["merge", "openai_usage"]

_ABSENT: Any = object()
_MOST = 1 << 53  # whatever is more is no count
_ANTHROPIC = ("cache_read_input_tokens", "cache_creation_input_tokens")


def merge(old: Usage | None, new: Usage) -> Usage:
    """Later counts replace earlier ones, but a count that is missing later (0) stays."""
    if old is None:
        return new
    return Usage(new.prompt or old.prompt, new.completion or old.completion, new.cached or old.cached)


def openai_usage(usage: Any) -> Usage | None:
    """Token counts in any of the makers' shapes: prompt_tokens/completion_tokens or input_tokens/output_tokens.

    ``prompt`` is all of the prompt. OpenAI counts the tokens that were in a cache among them (``*_tokens_details``);
    Anthropic counts them apart (docs.anthropic.com, "Tracking cache performance"), so there they are added.
    """
    if not isinstance(usage, dict):
        return None
    get = usage.get
    prompt, completion = get("prompt_tokens", _ABSENT), get("completion_tokens", _ABSENT)
    if prompt is _ABSENT:
        prompt = get("input_tokens")
    if completion is _ABSENT:
        completion = get("output_tokens")
    details = get("prompt_tokens_details")
    if not isinstance(details, dict):
        details = get("input_tokens_details")
    if isinstance(details, dict):
        return Usage(_count(prompt), _count(completion), _count(details.get("cached_tokens")))
    read, made = (_count(get(key)) for key in _ANTHROPIC)
    return Usage(_count(prompt) + read + made, _count(completion), read)


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < _MOST else 0
