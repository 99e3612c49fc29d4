"""The text of a chunk or reply made of choices: of a completion, of a chat, and under keys that nobody knows.

What lives here: where it stands. What must never live here: order, endings, what repeats it in another form.
"""

from __future__ import annotations

from typing import Any

from policies.contract import Channel
from proxy import jsonio
from proxy.dialects.contract import Part, Path, Unreadable, place
from proxy.dialects.leaves import SKIP, loose, strings

__all__ = ["BASE", "choice_parts", "top_parts"]

BASE = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
# The keys of a chunk or reply and of a choice that hold no text of the model: OpenAI's, Azure's, vLLM's, SGLang's.
_TOP = frozenset((
    *BASE, "choices", "usage", "error", "obfuscation", "provider", "prompt_filter_results", "prompt_text",
    "prompt_token_ids", "prompt_logprobs", "prompt_routed_experts", "kv_transfer_params", "metrics", "request_id",
))  # fmt: skip
_CHOICE = frozenset((
    "index", "delta", "message", "text", "logprobs", "finish_reason", "native_finish_reason", "stop_reason", "matched_stop",
    "token_ids", "tokens", "hidden_states", "routed_experts", "prompt_token_ids", "prompt_logprobs",
    "content_filter_results", "content_filter_result", "content_filter_offsets",
))  # fmt: skip


def top_parts(parts: list[Part], doc: dict[str, Any]) -> None:
    """Text of a chunk or reply outside its choices, where nobody expects any."""
    if not doc.keys() <= _TOP:
        parts += [Part(Channel(0, "other"), text, at, "whole") for at, text in loose(doc, _TOP)]


def choice_parts(parts: list[Part], choice: dict[str, Any], index: int, path: Path) -> None:
    """The text of one choice: of a completion, of a chat, and under keys that nobody knows."""
    text = choice.get("text")
    if isinstance(text, str):
        if text:
            parts.append(Part(Channel(index, "text"), text, (*path, "text")))
    elif text is not None:
        raise Unreadable("a text that is not a string")
    message_parts(parts, choice, index, path)
    if not choice.keys() <= _CHOICE:
        parts += [Part(Channel(index, "other"), text, at, "whole") for at, text in loose(choice, _CHOICE, path)]


def message_parts(parts: list[Part], choice: dict[str, Any], index: int, path: Path) -> None:
    """The text of a chat choice's ``delta`` or ``message``: every string that is not a known identifier, whatever its
    name, so that a backend's own field is not a way around the gates."""
    for holder in ("delta", "message"):
        message = choice.get(holder)
        if message is None:
            continue
        if not isinstance(message, dict):
            raise Unreadable("a message that is not an object")
        for key, value in message.items():
            at = (*path, holder, key)
            if isinstance(value, str):
                if value and key not in SKIP:
                    parts.append(Part(Channel(index, key), value, at))
            elif not value or key in SKIP:
                continue
            elif key == "tool_calls":
                _calls(parts, value, index, at)
            elif key == "function_call":
                _call(parts, value, index, -1, at, "function_call")
            elif key == "audio" and isinstance(value, dict) and isinstance(value.get("transcript"), str):
                if value["transcript"]:
                    parts.append(Part(Channel(index, "transcript"), value["transcript"], (*at, "transcript")))
            else:
                parts += [Part(Channel(index, key), text, where) for where, text in strings(value, at)]


def _calls(parts: list[Part], calls: Any, index: int, path: Path) -> None:
    if not isinstance(calls, list):
        raise Unreadable("tool calls that are not a list")
    for n, call in enumerate(calls):
        if not isinstance(call, dict):
            raise Unreadable("a tool call that is not an object")
        tool = place(call.get("index"), n)
        for kind, value in call.items():
            if kind in SKIP or value is None:
                continue
            _call(parts, value, index, tool, (*path, n, kind), "arguments")


def _call(parts: list[Part], call: Any, index: int, tool: int, path: Path, field: str) -> None:
    if not isinstance(call, dict):
        parts += [Part(Channel(index, "other", tool), text, where, "whole") for where, text in strings(call, path)]
        return
    for key, value in sorted(call.items(), key=_name_first) if "name" in call else call.items():
        at = (*path, key)
        if value in (None, "") or key in SKIP:
            continue
        if key == "arguments":
            if isinstance(value, str):
                parts.append(Part(Channel(index, field, tool), value, at))
            else:
                parts.append(Part(Channel(index, field, tool), jsonio.encode(value).decode(), at, "whole", True))
        elif key == "input" and isinstance(value, str):
            parts.append(Part(Channel(index, "input", tool), value, at))
        elif key == "name" and isinstance(value, str):
            parts.append(Part(Channel(index, "name", tool), value, at, "whole"))
        else:
            parts += [Part(Channel(index, "other", tool), text, where, "whole") for where, text in strings(value, at)]


def _name_first(item: tuple[str, Any]) -> bool:
    """Whom a call is for is known before its arguments are judged."""
    return item[0] != "name"
