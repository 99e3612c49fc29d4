"""Replies made of choices: the streams of chat, completions and transcription, and the parts they share with whole
replies.

What lives here: reading, rewriting and ending chunks with a ``choices`` list, and the data ``[DONE]`` at the end. What
must never live here: requests. vLLM sends one choice per chunk; several are allowed and read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from policies.contract import Channel
from proxy import jsonio
from proxy.dialects.contract import ALL, Parsed, Part, Path, StreamCodec, Unreadable, json_event, openai_usage
from proxy.dialects.leaves import SKIP, loose, spelt, strings
from proxy.sse import Event, parse

_DONE = b"data: [DONE]\n\n"
_BASE = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
# The keys of a chunk or reply and of a choice that hold no text of the model: OpenAI's, Azure's, vLLM's, SGLang's.
_TOP = frozenset((
    *_BASE, "choices", "usage", "error", "obfuscation", "provider", "prompt_filter_results", "prompt_text",
    "prompt_token_ids", "prompt_logprobs", "prompt_routed_experts", "kv_transfer_params", "metrics", "request_id",
))  # fmt: skip
_CHOICE = frozenset((
    "index", "delta", "message", "text", "logprobs", "finish_reason", "native_finish_reason", "stop_reason", "matched_stop",
    "token_ids", "tokens", "hidden_states", "routed_experts", "prompt_token_ids", "prompt_logprobs",
    "content_filter_results", "content_filter_result", "content_filter_offsets",
))  # fmt: skip
_COPIES = ("token_ids", "tokens", "hidden_states", "routed_experts")


class ChoicesCodec(StreamCodec):
    """One stream of chunks with choices."""

    per_choice = True
    varying = ("id", "created", "obfuscation")
    object: ClassVar[str] = "chat.completion.chunk"

    def __init__(self) -> None:
        super().__init__()
        self._base: dict[str, Any] = {}
        self._first = b""  # an event to read ``_base`` from, should it be needed
        self._counts: dict[str, Any] | None = None

    def parse(self, event: Event) -> Parsed:
        data = event.data
        if not data:
            return Parsed(None)
        if data.startswith(b"[DONE]"):
            parsed = Parsed(None)
            parsed.terminal = True
            parsed.ends.append(ALL)
            return parsed
        try:
            doc = jsonio.decode_reply(data)
        except jsonio.JsonError:
            raise Unreadable("an event that is not JSON") from None
        if not isinstance(doc, dict):
            raise Unreadable("an event that is not an object")
        parsed = Parsed(doc)
        if doc.get("usage") is not None:
            parsed.usage = openai_usage(doc["usage"])
        if doc.get("error") is not None:
            parsed.error = True
            parsed.ends.append(ALL)
        choices = doc.get("choices")
        if choices is None or isinstance(choices, list):
            plain = True
            for n, choice in enumerate(choices or ()):
                if not isinstance(choice, dict):
                    raise Unreadable("a choice that is not an object")
                plain &= self._choice(parsed, choice, choice_index(choice, n), ("choices", n))
            top_parts(parsed.parts, doc)
            parsed.simple = (
                plain and len(parsed.parts) == 1 and parsed.parts[0].mode == "text" and parsed.usage is None
                and not parsed.ends and not parsed.parts[0].embedded
            )  # fmt: skip
        else:
            raise Unreadable("choices that are not a list")
        return parsed

    def _choice(self, parsed: Parsed, choice: dict[str, Any], index: int, path: Path) -> bool:
        """Read one choice; True when it is nothing but text."""
        first = len(parsed.parts)
        choice_parts(parsed.parts, choice, index, path)
        parsed.choices += (index,)
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            parsed.ends.append(index)
        logprobs = choice.get("logprobs")
        if logprobs is not None:
            spelt = _spelt(logprobs)
            if spelt is None or spelt != "".join(p.text for p in parsed.parts[first:]):
                parsed.copies = True
        if isinstance(choice.get("stop_reason"), str) or isinstance(choice.get("matched_stop"), str):
            parsed.follows.append(index)
        copies = [key for key in _COPIES if choice.get(key)]
        if copies:
            parsed.copies = True
        return logprobs is None and not copies

    def saw(self, parsed: Parsed) -> None:
        super().saw(parsed)
        doc = parsed.doc
        if doc is not None:
            if not self._base and not self._first and "id" in doc:
                self._base = {k: doc[k] for k in _BASE if k in doc}
            if parsed.usage is not None:
                self._counts = doc["usage"]
            if parsed.parts:
                self.events += 1

    def skipped(self, raw: bytes, choices: Sequence[int]) -> None:
        super().skipped(raw, choices)
        if not self._base and not self._first and b'"id"' in raw:
            self._first = raw

    def scrub(
        self, doc: Any, parsed: Parsed, texts: Sequence[str], *, drop: frozenset[int], unfinished: frozenset[int]
    ) -> None:
        choices = doc.get("choices")
        if not isinstance(choices, list):
            return
        touched = {p.channel.choice for p, text in zip(parsed.parts, texts, strict=True) if text != p.text}
        kept = []
        for n, choice in enumerate(choices):
            index = choice_index(choice, n)
            if index in drop:
                continue
            if parsed.copies or index in touched:
                scrub_choice(choice)
            if index in unfinished and choice.get("finish_reason") is not None:
                choice["finish_reason"] = None
            kept.append(choice)
        doc["choices"] = kept

    # -- endings -----------------------------------------------------------------------------------------------

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        """A chunk of our own under the reply's id."""
        if self._first and not self._base:
            doc = jsonio.decode_reply(parse(self._first).data or b"")
            self._base = {k: doc[k] for k in _BASE if k in doc}
        base = self._base or {"id": "", "object": self.object, "created": 0, "model": ""}
        return json_event({**base, "choices": choices, **more})

    def piece(self, index: int, text: str | None, finish: str | None) -> dict[str, Any]:
        """One choice of a chunk of our own."""
        delta = {} if text is None else {"content": text}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}

    def cut_choice(self, index: int, message: str | None) -> bytes:
        self.choices[index] = True
        shown = self.chunk([self.piece(index, message, None)]) if message else b""
        last = self.piece(index, None, "length" if self.length else "content_filter")
        if self.reasons is not None and not self.length:
            last["content_filter_results"] = filter_results(self.reasons.get(index, "policy"))
        return shown + self.chunk([last])

    def cut(self, message: str | None, *, include_usage: bool) -> bytes:
        out = [self.cut_choice(i, message) for i, done in sorted((self.choices or {0: False}).items()) if not done]
        if include_usage:
            # Without counts from the backend: one token per event is what vLLM writes; the prompt's are not known.
            count = {"prompt_tokens": 0, "completion_tokens": self.events, "total_tokens": self.events}
            out.append(self.chunk([], usage=self._counts or count))
        out.append(_DONE)
        return b"".join(out)


class ChatCodec(ChoicesCodec):
    """A stream of chat chunks."""


class CompletionsCodec(ChoicesCodec):
    """A stream of text completions."""

    field = "text"
    object = "text_completion"

    def piece(self, index: int, text: str | None, finish: str | None) -> dict[str, Any]:
        return {"index": index, "text": text or "", "logprobs": None, "finish_reason": finish}


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
        tool = call.get("index")
        tool = tool if type(tool) is int and tool >= 0 else n
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


def _spelt(logprobs: Any) -> str | None:
    if not isinstance(logprobs, dict):
        return None
    if "tokens" in logprobs:
        return spelt(logprobs["tokens"])
    return spelt([*(logprobs.get("content") or ()), *(logprobs.get("refusal") or ())])


def filter_results(reason: str) -> dict[str, Any]:
    """Azure's ``content_filter_results`` for a choice that a policy ended. reason: a rule's or a category's name."""
    return {reason: {"filtered": True, "detected": True}}


def choices_of(doc: Any) -> list[dict[str, Any]]:
    """The choices of a whole reply; an error object has none. Raises Unreadable for anything else."""
    if isinstance(doc, dict) and "choices" not in doc and doc.get("error") is not None:
        return []
    choices = doc.get("choices") if isinstance(doc, dict) else None
    if not isinstance(choices, list) or not all(isinstance(c, dict) for c in choices):
        raise Unreadable("no choices in the reply")
    return choices


def choice_index(choice: dict[str, Any], n: int) -> int:
    """The index a choice gives itself, or its place."""
    index = choice.get("index")
    return index if type(index) is int and index >= 0 else n


def scrub_choice(choice: dict[str, Any]) -> None:
    """Drop what spells a choice's text in another form."""
    if choice.get("logprobs") is not None:
        choice["logprobs"] = None
    for key in _COPIES:
        choice.pop(key, None)
    for key in ("stop_reason", "matched_stop"):  # the stop string that ended the text, as a string
        if isinstance(choice.get(key), str):
            choice[key] = None
