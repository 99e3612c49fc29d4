"""What a request asks for, as far as it says what the reply may cost. The same words over all endpoints that generate.

What must never live here: policies, estimates.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ask_usage", "completions", "tokens"]

_BOUNDS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_tokens_to_sample")
_MOST = 1 << 31  # what is more is no bound


def tokens(doc: Any) -> int | None:
    """The bound on completion tokens, the highest of those it names, since backends differ in which one counts; None where it
    names none that makes sense."""
    if not isinstance(doc, dict):
        return None
    found = [v for key in _BOUNDS if type(v := doc.get(key)) is int and 0 <= v < _MOST]
    return max(found) if found else None


def completions(doc: Any) -> int:
    """How many completions: the larger of n and best_of, for each prompt, or each conversation of a batch."""
    if not isinstance(doc, dict):
        return 1
    each = max([v for key in ("n", "best_of") if type(v := doc.get(key)) is int and 0 < v <= 1024], default=1)
    many = doc.get("prompt")
    if many is None:
        many = doc.get("messages")
        return each * max(1, sum(isinstance(row, list) for row in many)) if isinstance(many, list) else each
    if not isinstance(many, list) or not many or not isinstance(many[0], str | list):
        return each
    return each * len(many)


def ask_usage(doc: Any) -> bool:
    """Have a chat or text completion's stream end with its token counts. True when the document was changed for it: then the
    client has not asked for that chunk."""
    if not isinstance(doc, dict) or doc.get("stream") is not True:
        return False
    options = doc.get("stream_options")
    if options is None:
        options = {}
    if not isinstance(options, dict) or options.get("include_usage") is True:
        return False
    doc["stream_options"] = {**options, "include_usage": True}
    return True
