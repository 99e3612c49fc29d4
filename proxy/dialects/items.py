"""Output items of the Responses API: where their text is, in whole replies and in events that hold items.

What lives here: the shapes of items and content parts, and what repeats their text. What must never live here: order of
events.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from policies.contract import Channel
from proxy import jsonio
from proxy.dialects.contract import Mode, Part, Path, get_path
from proxy.dialects.leaves import SKIP, loose, respelt, strings

_PLAIN = {"arguments": "arguments", "input": "input", "output": "output", "code": "code"}
_PART = {"text": "text", "refusal": "refusal", "transcript": "transcript"}


# The keys of a response that hold no text of the reply: most repeat the request.
RESPONSE = frozenset((
    "id", "object", "created_at", "completed_at", "status", "error", "incomplete_details", "instructions", "max_output_tokens",
    "max_tool_calls", "model", "output", "parallel_tool_calls", "previous_response_id", "prompt", "prompt_cache_key",
    "prompt_cache_retention", "reasoning", "safety_identifier", "service_tier", "store", "temperature", "text", "tool_choice",
    "tools", "top_logprobs", "top_p", "truncation", "usage", "user", "metadata", "conversation", "background", "billing",
    "content_filters", "input_messages", "output_messages", "kv_transfer_params", "frequency_penalty", "presence_penalty",
))  # fmt: skip


def response_parts(response: dict[str, Any], path: Path, mode: Mode = "text") -> list[Part]:
    """The text of a response object: its output, and what stands under keys that nobody knows."""
    parts: list[Part] = []
    output = response.get("output")
    if isinstance(output, list):
        for n, item in enumerate(output):
            parts += item_parts(item, n, (*path, "output", n), mode)
    elif output is not None:
        parts += [Part(Channel(0, "other"), text, at, "whole") for at, text in strings(output, (*path, "output"))]
    parts += [Part(Channel(0, "other"), text, at, "whole") for at, text in loose(response, RESPONSE, path)]
    # vLLM's raw messages: what the model wrote and, with a stored response before, what it wrote then
    for key in ("output_messages", "input_messages") if response.get("previous_response_id") else ("output_messages",):
        if response.get(key):
            parts += [Part(Channel(0, "other"), text, at, "whole") for at, text in strings(response[key], (*path, key))]
    return parts


def item_parts(item: Any, index: int, path: Path, mode: Mode = "text") -> list[Part]:
    """The text of one output item. mode: that of its main texts; names and unknown fields always stand for themselves."""
    if not isinstance(item, dict):
        return [Part(Channel(index, "other"), text, at, "whole") for at, text in strings(item, path)]
    parts: list[Part] = []
    reasoning = item.get("type") == "reasoning"
    for key, value in item.items():
        at = (*path, key)
        if key in SKIP or not value:
            continue
        if key in ("content", "summary") and isinstance(value, list):
            for n, part in enumerate(value):
                field = "summary" if key == "summary" else "reasoning" if reasoning else None
                parts += part_parts(part, index, n, (*at, n), mode, field)
        elif key in _PLAIN and isinstance(value, str):
            parts.append(Part(Channel(index, _PLAIN[key]), value, at, mode))
        elif key == "arguments":
            parts.append(Part(Channel(index, key), jsonio.encode(value).decode(), at, "whole", True))
        elif key == "name" and isinstance(value, str):
            parts.append(Part(Channel(index, "name"), value, at, "whole"))
        else:
            parts += [Part(Channel(index, "other"), text, where, "whole") for where, text in strings(value, at)]
    return parts


def part_parts(part: Any, index: int, n: int, path: Path, mode: Mode = "text", field: str | None = None) -> list[Part]:
    """The text of one content part. field: the channel's field where the item decides it."""
    if not isinstance(part, dict):
        return [Part(Channel(index, field or "other", n), text, at, "whole") for at, text in strings(part, path)]
    parts: list[Part] = []
    for key, value in part.items():
        at = (*path, key)
        if key in SKIP or not value:
            continue
        if key in _PART and isinstance(value, str):
            name = field if field and key == "text" else _PART[key]
            parts.append(Part(Channel(index, name, n), value, at, mode))
            if key == "text" and part.get("logprobs"):
                spelt = respelt(part["logprobs"], value)
                parts += [Part(Channel(index, name, n), text, (*path, "logprobs"), "whole") for text in spelt]
        else:
            parts += [Part(Channel(index, "other", n), text, where, "whole") for where, text in strings(value, at)]
    return parts


def drop_copies(doc: Any, paths: Iterable[Path]) -> None:
    """Empty the logprobs at and below the given places, and drop the raw messages of a response."""
    for path in paths:
        box = get_path(doc, path)
        if isinstance(box, list):
            continue
        for place in (box, *_contents(box)):
            if isinstance(place, dict) and place.get("logprobs"):
                place["logprobs"] = []
    for box in (doc, get_path(doc, ("response",))):
        if isinstance(box, dict):
            box.pop("output_messages", None)
            if box.get("logprobs"):
                box["logprobs"] = []


def _contents(item: Any) -> list[Any]:
    content = item.get("content") if isinstance(item, dict) else None
    return content if isinstance(content, list) else []
