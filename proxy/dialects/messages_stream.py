"""The event stream of the Messages API: https://docs.anthropic.com/en/api/messages-streaming.

What lives here: reading, rewriting and ending that stream. Blocks are numbered, and only one is open at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from policies.contract import Channel
from proxy import jsonio
from proxy.dialects.contract import ALL, Parsed, Part, Path, StreamCodec, Unreadable, json_event, place
from proxy.dialects.leaves import SKIP, loose, strings
from proxy.dialects.usage import openai_usage
from proxy.sse import Event

_DELTAS = {"text": "text", "thinking": "thinking", "partial_json": "arguments"}
_META = frozenset(("type", "index"))
# The keys that an event of a known type, a message and its ending have; text under any other is read, too.
_KNOWN = {
    "message_start": _META | {"message"},
    "content_block_start": _META | {"content_block"},
    "content_block_delta": _META | {"delta"},
    "message_delta": _META | {"delta", "usage", "context_management"},
}
_ENDING = frozenset(("stop_reason", "stop_sequence", "stop_details", "container"))
_MESSAGE = _ENDING | {"id", "type", "role", "model", "content", "usage", "context_management", "error", "request_id"}
_EXPLANATION = "The reply was stopped by a content policy."


class MessagesCodec(StreamCodec):
    """One stream of message events."""

    field = "text"
    pads = True

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._message: dict[str, Any] = {}
        self._open: set[int] = set()
        self._output_tokens = 0

    def parse(self, event: Event) -> Parsed:
        data = event.data
        if event.odd:
            raise Unreadable("a line that is no field of an event")
        if not data:
            return Parsed(None)
        if data.startswith(b"[DONE]"):  # no part of this API, but gateways that translate to it send it
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
        kind = doc.get("type")
        index = _index(doc)
        if kind == "content_block_delta":
            self._delta(parsed, doc.get("delta"), index)
        elif kind == "content_block_start":
            parsed.track = True
            parsed.parts += block_parts(doc.get("content_block"), index, ("content_block",))
        elif kind == "content_block_stop":
            parsed.track = True
            parsed.ends.append(index)
        elif kind == "message_start":
            self._start(parsed, doc.get("message"))
        elif kind == "message_delta":
            delta = doc.get("delta")
            if isinstance(delta, dict):
                parsed.parts += [
                    Part(Channel(0, "other"), t, at, "whole") for at, t in loose(delta, _ENDING, ("delta",))
                ]
            elif delta is not None:
                raise Unreadable("a delta that is not an object")
            parsed.usage = openai_usage(doc.get("usage"))
            parsed.ends.append(ALL)
            parsed.follows.append(ALL)
        elif kind == "message_stop":
            parsed.terminal = True
            parsed.ends.append(ALL)
        elif kind == "error":
            parsed.error = True
            parsed.ends.append(ALL)
        if not parsed.error:
            known = _KNOWN.get(kind, _META) if isinstance(kind, str) else _META
            parsed.parts += [Part(Channel(index, "other"), text, path, "whole") for path, text in loose(doc, known)]
            parsed.simple &= len(parsed.parts) == 1
        return parsed

    def _delta(self, parsed: Parsed, delta: Any, index: int) -> None:
        if not isinstance(delta, dict):
            raise Unreadable("a delta that is not an object")
        for key, value in delta.items():
            if key == "signature":
                parsed.follows.append(Channel(index, "thinking"))
            elif key in _DELTAS and isinstance(value, str):
                if value:
                    parsed.parts.append(Part(Channel(index, _DELTAS[key]), value, ("delta", key)))
            elif value and key not in SKIP:
                where = ("delta", key)
                parsed.parts += [Part(Channel(index, "other"), t, path, "whole") for path, t in strings(value, where)]
        parsed.simple = len(parsed.parts) == 1 and parsed.parts[0].mode == "text" and not parsed.follows

    def _start(self, parsed: Parsed, message: Any) -> None:
        parsed.track = True
        if isinstance(message, dict):
            parsed.usage = openai_usage(message.get("usage"))
            parsed.parts += content_parts(message, ("message",))
        elif message is not None:
            raise Unreadable("a message that is not an object")

    def saw(self, parsed: Parsed) -> None:
        super().saw(parsed)
        self.events += bool(parsed.parts)
        if parsed.doc is not None and isinstance(parsed.doc.get("message"), dict):
            self._message = {k: v for k, v in parsed.doc["message"].items() if k in ("id", "model", "usage")}

    def scrub(
        self, doc: Any, parsed: Parsed, texts: Sequence[str], *, drop: frozenset[int], unfinished: frozenset[int]
    ) -> None:
        delta = doc.get("delta")
        if isinstance(delta, dict):
            if "signature" in delta:
                delta["signature"] = ""
            if delta.get("stop_sequence") is not None:
                delta["stop_sequence"] = None

    def left(self, parsed: Parsed, texts: Sequence[str]) -> None:
        doc = parsed.doc or {}
        kind = doc.get("type")
        if kind == "content_block_start":
            self._open.add(_index(doc))
        elif kind == "content_block_stop":
            self._open.discard(_index(doc))
        elif kind == "message_start":
            self._started = True

    def cut(self, message: str | None, *, include_usage: bool) -> bytes:
        out: list[bytes] = []
        if not self._started:
            shell = {
                "type": "message",
                "role": "assistant",
                "id": "",
                "model": "",
                "stop_reason": None,
                "stop_sequence": None,
            }
            usage = {"input_tokens": 0, "output_tokens": 0}
            first = {**shell, "usage": usage, **self._message, "content": []}
            out.append(json_event({"type": "message_start", "message": first}, "message_start"))
        out += [
            json_event({"type": "content_block_stop", "index": i}, "content_block_stop") for i in sorted(self._open)
        ]
        count = self.usage.completion if self.usage is not None else 0
        delta = {
            "type": "message_delta",
            "delta": {"stop_reason": "max_tokens", "stop_sequence": None} if self.length else refusal(message),
            "usage": {"output_tokens": max(count, self.events)},
        }
        out.append(json_event(delta, "message_delta"))
        out.append(json_event({"type": "message_stop"}, "message_stop"))
        return b"".join(out)

    def error(self, message: str, type: str, code: str | None) -> bytes:
        return json_event({"type": "error", "error": {"type": type, "message": message}}, "error")


def content_parts(message: dict[str, Any], path: Path) -> list[Part]:
    """The text of a message: its blocks, and what stands under keys that nobody knows."""
    parts: list[Part] = []
    content = message.get("content")
    if isinstance(content, list):
        for n, block in enumerate(content):
            parts += block_parts(block, n, (*path, "content", n))
    elif content is not None:
        parts += [Part(Channel(0, "other"), text, at, "whole") for at, text in strings(content, (*path, "content"))]
    parts += [Part(Channel(0, "other"), text, at, "whole") for at, text in loose(message, _MESSAGE, path)]
    return parts


def block_parts(block: Any, index: int, path: Path) -> list[Part]:
    """The text of one content block."""
    if not isinstance(block, dict):
        return [Part(Channel(index, "other"), text, at, "whole") for at, text in strings(block, path)]
    parts: list[Part] = []
    for key, value in block.items():
        at = (*path, key)
        if key in SKIP or not value:
            continue
        if key in ("text", "thinking") and isinstance(value, str):
            parts.append(Part(Channel(index, key), value, at))
        elif key == "input":
            # As JSON text it meets the same gate as the stream's partial_json.
            parts.append(Part(Channel(index, "arguments"), jsonio.encode(value).decode(), at, "whole", True))
        elif key == "name" and isinstance(value, str):
            parts.append(Part(Channel(index, "name"), value, at, "whole"))
        else:
            parts += [Part(Channel(index, "other"), text, where, "whole") for where, text in strings(value, at)]
    return parts


def refusal(message: str | None) -> dict[str, Any]:
    """The fields of a reply that a policy stopped (API reference, "Handling stop reasons")."""
    return {
        "stop_reason": "refusal",
        "stop_sequence": None,
        "stop_details": {"type": "refusal", "category": None, "explanation": message or _EXPLANATION},
    }


def _index(doc: dict[str, Any]) -> int:
    return place(doc.get("index"), 0)
