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
from proxy.dialects.choice_text import BASE, choice_parts, top_parts
from proxy.dialects.contract import ALL, Parsed, Part, Path, StreamCodec, Unreadable, json_event, place
from proxy.dialects.leaves import respelt, spelt
from proxy.dialects.usage import openai_usage
from proxy.sse import Event, parse

_DONE = b"data: [DONE]\n\n"
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
        if event.odd:
            raise Unreadable("a line that is no field of an event")
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
                self._base = {k: doc[k] for k in BASE if k in doc}
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
        base = self.told() or {"id": "", "object": self.object, "created": 0, "model": ""}
        return json_event({**base, "choices": choices, **more})

    def told(self) -> dict[str, Any]:
        """What all chunks say alike; empty before the first."""
        if self._first and not self._base:
            doc = jsonio.decode_reply(parse(self._first).data or b"")
            self._base = {k: doc[k] for k in BASE if k in doc}
        return self._base

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

    quiet = True


class CompletionsCodec(ChoicesCodec):
    """A stream of text completions."""

    field = "text"
    quiet = True
    object = "text_completion"

    def piece(self, index: int, text: str | None, finish: str | None) -> dict[str, Any]:
        return {"index": index, "text": text or "", "logprobs": None, "finish_reason": finish}


def whole_parts(doc: Any) -> list[Part]:
    """The text of a whole reply with choices. Log-probabilities that spell another text than the choice has (reasoning that
    the backend leaves out, a stop string) are text of their own. Raises Unreadable."""
    parts: list[Part] = []
    for n, choice in enumerate(choices_of(doc)):
        first, index = len(parts), choice_index(choice, n)
        choice_parts(parts, choice, index, ("choices", n))
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict):
            at = ("choices", n, "logprobs")
            channel = Channel(index, "text" if "text" in choice else "content")
            rows = _rows(logprobs)
            texts = respelt(logprobs if rows is None else rows, "".join(p.text for p in parts[first:]))
            parts += [Part(channel, text, at, "whole") for text in texts]
    top_parts(parts, doc)
    return parts


def _spelt(logprobs: Any) -> str | None:
    if not isinstance(logprobs, dict):
        return None
    return spelt(_rows(logprobs))


def _rows(logprobs: dict[str, Any]) -> Any:
    """The tokens of a choice's logprobs: of a completion, or of a chat; no list where that cannot be told."""
    if "tokens" in logprobs:
        return logprobs["tokens"]
    lists = [logprobs.get(key) or [] for key in ("content", "refusal")]
    return [row for rows in lists for row in rows] if all(isinstance(rows, list) for rows in lists) else None


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
    return place(choice.get("index"), n)


def scrub_choice(choice: dict[str, Any]) -> None:
    """Drop what spells a choice's text in another form."""
    if choice.get("logprobs") is not None:
        choice["logprobs"] = None
    for key in _COPIES:
        choice.pop(key, None)
    for key in ("stop_reason", "matched_stop"):  # the stop string that ended the text, as a string
        if isinstance(choice.get(key), str):
            choice[key] = None
