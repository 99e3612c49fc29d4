"""The event stream of the Responses API: deltas, then the same text in *.done, content_part.done, output_item.done and
the last event's response.

What lives here: reading, rewriting and ending that stream. Event names are those of the OpenAI API reference,
"Streaming events"; every event has a ``type`` and a ``sequence_number`` without gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from policies.contract import Channel
from proxy import jsonio
from proxy.dialects.contract import (
    ALL,
    Mode,
    Parsed,
    Part,
    StreamCodec,
    Unreadable,
    get_path,
    json_event,
    place,
    set_path,
)
from proxy.dialects.items import RESPONSE, drop_copies, item_parts, part_parts, response_parts
from proxy.dialects.leaves import loose, spelt, strings
from proxy.dialects.usage import openai_usage
from proxy.sse import Event

_FIELDS = {
    "response.output_text": ("text", "content_index", "text"),
    "response.refusal": ("refusal", "content_index", "refusal"),
    "response.reasoning_text": ("reasoning", "content_index", "text"),
    "response.reasoning": ("reasoning", "content_index", "text"),
    "response.reasoning_summary_text": ("summary", "summary_index", "text"),
    "response.reasoning_summary": ("summary", "summary_index", "text"),
    "response.function_call_arguments": ("arguments", "", "arguments"),
    "response.mcp_call_arguments": ("arguments", "", "arguments"),
    "response.custom_tool_call_input": ("input", "", "input"),
    "response.code_interpreter_call_code": ("code", "", "code"),
    "response.audio.transcript": ("transcript", "content_index", "transcript"),
    "response.output_audio_transcript": ("transcript", "content_index", "transcript"),
}
_TERMINAL = frozenset(("response.completed", "response.incomplete", "response.failed", "response.cancelled"))
_META = frozenset((
    "type", "sequence_number", "item_id", "output_index", "content_index", "summary_index", "logprobs", "obfuscation",
))  # fmt: skip
_RESPONSE_EVENT = _META | {"response"}
# The keys that an event of a known type has; text under any other is read, too.
_KNOWN = {
    **{f"{stem}.delta": _META | {"delta"} for stem in _FIELDS},
    **{f"{stem}.done": _META | {key, "name"} for stem, (_, _, key) in _FIELDS.items()},
    **{
        f"response.{box}.{verb}": _META | {"part"}
        for box in ("content_part", "reasoning_summary_part")
        for verb in ("added", "done")
    },
    **{f"response.output_item.{verb}": _META | {"item"} for verb in ("added", "done")},
    "response.audio.delta": _META | {"delta"},  # sound
    "response.output_audio.delta": _META | {"delta"},
}


class ResponsesCodec(StreamCodec):
    """One stream of response events."""

    repeats = True
    varying = ("sequence_number", "obfuscation", "item_id")
    field = "text"

    def __init__(self) -> None:
        super().__init__()
        self._response: dict[str, Any] = {"id": "", "object": "response"}
        self._sequence = -1  # the last number sent
        self._items: dict[int, dict[str, Any]] = {}  # as sent; without "done" here they are open
        self._finished: dict[int, dict[str, Any]] = {}
        self._sent: dict[Channel, list[str]] = {}
        self._texts_done: set[Channel] = set()
        self._open_parts: dict[Channel, None] = {}

    # -- reading -----------------------------------------------------------------------------------------------

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
        parsed.track = True
        kind = doc.get("type")
        if not isinstance(kind, str):
            kind = "error" if doc.get("error") is not None else ""
        self._read(parsed, doc, kind)
        return parsed

    def _read(self, parsed: Parsed, doc: dict[str, Any], kind: str) -> None:
        stem, _, verb = kind.rpartition(".")
        index = _number(doc, "output_index")
        if stem in _FIELDS and verb in ("delta", "done"):
            self._text(parsed, doc, stem, verb, index)
        elif kind in ("response.content_part.added", "response.content_part.done"):
            self._part(parsed, doc, index, "content_index", None, verb)
        elif kind in ("response.reasoning_summary_part.added", "response.reasoning_summary_part.done"):
            self._part(parsed, doc, index, "summary_index", "summary", verb)
        elif kind in ("response.output_item.added", "response.output_item.done"):
            parsed.parts += item_parts(doc.get("item"), index, ("item",), "text" if verb == "added" else "repeat")
            if verb == "done":
                parsed.ends.append(index)
        elif kind == "error":
            parsed.error = True
            parsed.ends.append(ALL)
        elif isinstance(doc.get("response"), dict):
            self._whole(parsed, doc["response"], kind)
        known = _KNOWN.get(kind) or (_RESPONSE_EVENT if isinstance(doc.get("response"), dict) else _META)
        if not (parsed.error or doc.keys() <= known):
            for path, text in loose(doc, known):
                streams = path == ("delta",)
                field = stem if streams else "other"
                parsed.parts.append(Part(Channel(index, field), text, path, "text" if streams else "whole"))
        parsed.simple = (
            verb == "delta" and stem in _FIELDS and len(parsed.parts) == 1 and parsed.parts[0].path == ("delta",)
            and not doc.get("logprobs")
        )  # fmt: skip

    def _text(self, parsed: Parsed, doc: dict[str, Any], stem: str, verb: str, index: int) -> None:
        field, number, key = _FIELDS[stem]
        channel = Channel(index, field, _number(doc, number) if number else -1)
        key = "delta" if verb == "delta" else key
        text = doc.get(key)
        if isinstance(text, str) and text:
            parsed.parts.append(Part(channel, text, (key,), "text" if verb == "delta" else "repeat"))
            parsed.copies = bool(doc.get("logprobs")) and spelt(doc["logprobs"]) != text
        elif text is not None and not isinstance(text, str):
            raise Unreadable("a text that is not a string")
        if verb == "done":
            parsed.ends.append(channel)
            for path, value in strings(doc.get("name"), ("name",)):
                parsed.parts.append(Part(Channel(index, "name"), value, path, "whole"))

    def _part(self, parsed: Parsed, doc: dict[str, Any], index: int, number: str, field: str | None, verb: str) -> None:
        part = doc.get("part")
        if field is None and isinstance(part, dict) and part.get("type") == "reasoning_text":
            field = "reasoning"
        mode: Mode = "text" if verb == "added" else "repeat"
        parsed.parts += part_parts(part, index, _number(doc, number), ("part",), mode, field)
        if verb == "done":
            parsed.ends += {p.channel: None for p in parsed.parts}

    def _whole(self, parsed: Parsed, response: dict[str, Any], kind: str) -> None:
        parsed.parts += response_parts(response, ("response",), "repeat")
        if response.get("usage") is not None:
            parsed.usage = openai_usage(response["usage"])
        if response.get("output_messages"):
            parsed.follows.append(ALL)
        if kind in _TERMINAL:
            parsed.terminal = True
            parsed.error = kind == "response.failed"
            parsed.ends.append(ALL)

    def saw(self, parsed: Parsed) -> None:
        super().saw(parsed)
        self.events += any(part.mode == "text" for part in parsed.parts)
        response = get_path(parsed.doc, ("response",))
        if isinstance(response, dict) and not parsed.terminal:
            # what an ending of ours repeats: nothing of the reply, nothing that nobody knows
            kept = {k: v for k, v in response.items() if k in RESPONSE and k not in ("output_messages", "input_messages")}
            self._response = {**kept, "output": []} if "output" in kept else kept

    def scrub(
        self, doc: Any, parsed: Parsed, texts: Sequence[str], *, drop: frozenset[int], unfinished: frozenset[int]
    ) -> None:
        touched = [p.path[:-1] for p, text in zip(parsed.parts, texts, strict=True) if text != p.text]
        drop_copies(doc, touched)

    # -- what was sent -----------------------------------------------------------------------------------------

    def left(self, parsed: Parsed, texts: Sequence[str]) -> None:
        doc = parsed.doc
        if doc is None:
            return
        number = _number(doc, "sequence_number", -1)
        self._sequence = max(self._sequence, number)
        kind = doc.get("type")
        index = _number(doc, "output_index")
        for part, text in zip(parsed.parts, texts, strict=True):
            if part.mode == "text":
                self.said(part.channel, text, number)
        if kind == "response.output_item.added" and isinstance(doc.get("item"), dict):
            self._items[index] = doc["item"]
        elif kind == "response.output_item.done" and isinstance(doc.get("item"), dict):
            if any(p.text != t for p, t in zip(parsed.parts, texts, strict=True)):
                doc = jsonio.decode(jsonio.encode(doc))
                for part, text in zip(parsed.parts, texts, strict=True):
                    set_path(doc, part.path, jsonio.decode(text.encode()) if part.embedded else text)
                drop_copies(doc, [("item",)])
            self._items.pop(index, None)
            self._finished[index] = doc["item"]
            for channel in [c for c in self._sent if c.choice == index]:
                del self._sent[channel]
        elif kind in ("response.content_part.added", "response.reasoning_summary_part.added"):
            self._open_parts[_part_channel(doc, index)] = None
        elif kind in ("response.content_part.done", "response.reasoning_summary_part.done"):
            self._open_parts.pop(_part_channel(doc, index), None)
        for end in parsed.ends:
            if isinstance(end, Channel):
                self._texts_done.add(end)

    def said(self, channel: Channel, text: str, number: int) -> None:
        if number > self._sequence:
            self._sequence = number
        sent = self._sent.get(channel)
        if sent is None:
            sent = self._sent[channel] = []
        sent.append(text)

    # -- endings -----------------------------------------------------------------------------------------------

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._sequence += 1
        return json_event({"type": kind, "sequence_number": self._sequence, **fields}, kind)

    def cut(self, message: str | None, *, include_usage: bool) -> bytes:
        out: list[bytes] = []
        for index in sorted(self._items):
            self._finished[index] = self._close_item(index, self._items[index], message, out)
        response = {
            **self._response,
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens" if self.length else "content_filter"},
            "output": [self._finished[i] for i in sorted(self._finished)],
        }
        out.append(self._event("response.incomplete", response=response))
        return b"".join(out)

    def _close_item(self, index: int, item: dict[str, Any], message: str | None, out: list[bytes]) -> dict[str, Any]:
        """End an open item with what was sent of it."""
        item = {**item, "status": "incomplete"}
        at = {"item_id": item.get("id"), "output_index": index}
        open_parts = [c for c in self._open_parts if c.choice == index and c not in self._sent]
        for channel in (*(c for c in self._sent if c.choice == index), *open_parts):
            text = "".join(self._sent.get(channel, ()))
            if channel.field in ("arguments", "input", "code", "output"):
                item[channel.field] = text
                if channel not in self._texts_done and channel.field != "output":
                    out.append(self._event(_done_type(channel.field, item), **at, **{channel.field: text}))
                continue
            kind, number, box, shape = _PARTS.get(channel.field, _PARTS["text"])
            place = {**at, number: channel.tool}
            stopped = channel not in self._texts_done
            if stopped and message and channel.field == "text":
                out.append(self._event("response.output_text.delta", **place, delta=message, logprobs=[]))
                text += message
            key = "refusal" if shape == "refusal" else "text"
            shown = shape == "output_text"
            part = {"type": shape, key: text, **({"annotations": []} if shown else {})}
            if stopped:
                out.append(self._event(kind, **place, **{key: text}, **({"logprobs": []} if shown else {})))
            if channel in self._open_parts:
                name = "response.reasoning_summary_part.done" if box == "summary" else "response.content_part.done"
                out.append(self._event(name, **place, part=part))
            item[box] = [*(item.get(box) or ()), part]
        out.append(self._event("response.output_item.done", output_index=index, item=item))
        return item

    def error(self, message: str, type: str, code: str | None) -> bytes:
        return self._event("error", code=code or type, message=message, param=None)


_PARTS = {
    "text": ("response.output_text.done", "content_index", "content", "output_text"),
    "refusal": ("response.refusal.done", "content_index", "content", "refusal"),
    "reasoning": ("response.reasoning_text.done", "content_index", "content", "reasoning_text"),
    "summary": ("response.reasoning_summary_text.done", "summary_index", "summary", "summary_text"),
}


def _done_type(field: str, item: dict[str, Any]) -> str:
    if field == "arguments":
        return f"response.{'mcp' if item.get('type') == 'mcp_call' else 'function'}_call_arguments.done"
    return "response.custom_tool_call_input.done" if field == "input" else "response.code_interpreter_call_code.done"


def _part_channel(doc: dict[str, Any], index: int) -> Channel:
    if "summary_index" in doc:
        return Channel(index, "summary", _number(doc, "summary_index"))
    kind = get_path(doc, ("part", "type"))
    field = {"refusal": "refusal", "reasoning_text": "reasoning"}.get(kind, "text") if isinstance(kind, str) else "text"
    return Channel(index, field, _number(doc, "content_index"))


def _number(doc: dict[str, Any], key: str, default: int = 0) -> int:
    return place(doc.get(key), default)
