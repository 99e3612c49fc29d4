"""What a reply goes on with: the end of the request, where the model is asked to continue a text.

What lives here: finding that text. The client wrote it and has it, so it is out; but a protected value may have its first
half there and its second in the reply. What must never live here: gates, rules.
"""

from __future__ import annotations

from typing import Any

from policies.contract import Channel

__all__ = ["MOST", "of_chat", "of_completions", "of_messages", "of_responses"]

MOST = 4096
"""Characters of left context; a gate takes of them what its rules can reach."""

_SPOKEN = ("content", "reasoning", "reasoning_content")  # a parser may tell either from the same tokens
_GOES_ON = ("prefix", "partial")  # of the last message: DeepSeek's and Mistral's word for it; Qwen's and Moonshot's


def of_chat(doc: Any, channel: Channel) -> str:
    """Chat: the last message, where ``continue_final_message`` or a mark in that message asks for more of it. With ``echo``
    the reply begins with the message itself."""
    if not isinstance(doc, dict) or channel.field not in _SPOKEN or doc.get("echo") is True:
        return ""
    last = _last(doc.get("messages"))
    if isinstance(last, list):  # a batch of conversations: one choice for each
        last = _last(doc["messages"][channel.choice]) if 0 <= channel.choice < len(doc["messages"]) else None
    if not isinstance(last, dict):
        return ""
    if doc.get("continue_final_message") is not True and not any(last.get(key) is True for key in _GOES_ON):
        return ""
    return _end(last.get("content"))


def of_completions(doc: Any, channel: Channel) -> str:
    """Text completions: the prompt of a choice; nothing for token ids, and with ``echo``, which repeats it."""
    if not isinstance(doc, dict) or channel.field != "text" or doc.get("echo") is True:
        return ""
    prompt, n = doc.get("prompt"), doc.get("n")
    if isinstance(prompt, list):
        at = channel.choice // (n if type(n) is int and n > 0 else 1)
        prompt = prompt[at] if 0 <= at < len(prompt) else None
    return prompt[-MOST:] if isinstance(prompt, str) else ""


def of_messages(doc: Any, channel: Channel) -> str:
    """Messages: a last message of the assistant's, which the first block goes on with."""
    if not isinstance(doc, dict) or channel.field != "text" or channel.choice:
        return ""
    last = _last(doc.get("messages"))
    return _end(last.get("content")) if isinstance(last, dict) and last.get("role") == "assistant" else ""


def of_responses(doc: Any, channel: Channel) -> str:
    """Responses: a last item of the assistant's that is not complete, which vLLM goes on with."""
    if not isinstance(doc, dict) or channel.field != "text":
        return ""
    last = _last(doc.get("input"))
    if not isinstance(last, dict) or last.get("role") != "assistant" or last.get("status") not in ("in_progress", "incomplete"):
        return ""
    return _end(last.get("content"))


def _last(items: Any) -> Any:
    return items[-1] if isinstance(items, list) and items else None


def _end(content: Any) -> str:
    """The end of a message's content: a text, or parts of which the last is one."""
    if isinstance(content, list) and content and isinstance(content[-1], dict):
        content = content[-1].get("text")
    return content[-MOST:] if isinstance(content, str) else ""
