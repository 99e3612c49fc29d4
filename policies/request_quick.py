"""The quick look of ``request_guard``: one flat function that passes nearly every request, at a third of what the
checks cost one after the other.

What lives here: a condition under which no check of ``request_checks.py`` refuses. What must never live here:
refusals. True means that all checks which it stands for would pass; False means nothing, and then the checks decide.
So whatever is rare or unclear may be False here, and only that: a test compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from policies.contract import Exchange, RequestBody
from policies.document import as_json, find_c1, find_escaped, find_url_key, is_name
from policies.request_checks import Bounds, Number, model_test

if TYPE_CHECKING:
    from policies.request_guard import RequestGuardOptions

__all__ = ["Look", "quick_look"]

Look = Callable[[Exchange, RequestBody, dict[str, Any]], bool]

_MOST = sys.float_info.max  # no bound at all, but for infinity
_NEVER = (1, 0, True)


def quick_look(o: RequestGuardOptions, limits: list[Bounds]) -> tuple[Look, RequestGuardOptions]:
    """The look, and the options that it does not stand for. limits: all bounds of numbers that ``o`` has."""
    known: dict[str, tuple[Number, Number, bool]] = dict.fromkeys(filter(is_name, o.params.deny), _NEVER)
    for b in limits:
        if is_name(b.name):
            bounds = (-_MOST if b.low is None else b.low, _MOST if b.high is None else b.high, b.whole)
            known[b.name] = _NEVER if b.name in known else bounds  # bounded twice: a case for the checks
    passes = model_test(o.models, o.deny_models) if o.models or o.deny_models else None
    most, each, total = o.max_messages, o.max_text, o.max_total_text
    strings, urls = o.control_characters == "refuse", o.media_urls != "allow"

    def look(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> bool:
        if passes is not None:
            model = x.model_asked
            if model is None or doc.get("model") != model or not passes(model):
                return False
        for key in doc:
            if key in known:
                value = doc[key]
                if value is None:
                    continue
                low, high, whole = known[key]
                if value.__class__ is not int and (whole or not isinstance(value, float)):
                    return False
                if not low <= value <= high:
                    return False
        if most is not None:
            messages, items = doc.get("messages"), doc.get("input")
            if isinstance(items, list) and len(items) > most:
                return False
            if isinstance(messages, list):
                if len(messages) > most:
                    return False
                for message in messages:
                    if message.__class__ is not dict:  # several conversations, perhaps
                        return False
        if strings:
            # Searching for one byte is some fifty times as fast as looking at every character.
            try:
                data = as_json(doc)
            except (RecursionError, ValueError):  # a thousand levels, or text that UTF-8 cannot hold
                return False
            if b"\x7f" in data or (b"\\" in data and find_escaped(data)):
                return False
            if (b"\xc2" in data and find_c1(data)) or (urls and find_url_key(data)):
                return False
        if each is not None or total is not None:
            size = 0
            for segment in body.segments:
                length = len(segment.text)
                size += length
                if each is not None and length > each:
                    return False
            if total is not None and size > total:
                return False
        return True

    return look, _rest(o)


def _rest(o: RequestGuardOptions) -> RequestGuardOptions:
    """The options without those that the look stands for."""
    done: dict[str, Any] = dict.fromkeys(
        ("max_tokens", "n", "best_of", "logprobs", "top_logprobs", "max_messages", "max_text", "max_total_text")
    )
    done |= {"models": [], "deny_models": [], "control_characters": "allow"}
    if o.control_characters == "refuse":  # alone, addresses are looked for in another way: without reading long texts
        done["media_urls"] = "allow"
    done["ranges"] = {name: bounds for name, bounds in o.ranges.items() if not is_name(name)}
    done["params"] = o.params.model_copy(update={"deny": [name for name in o.params.deny if not is_name(name)]})
    return o.model_copy(update=done)
