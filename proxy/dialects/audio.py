"""Speech to text, POST /v1/audio/transcriptions and /translations: https://platform.openai.com/docs/api-reference/audio.

What lives here: replies; the fields of requests, which are forms, are in forms.py. vLLM streams transcription.chunk objects
with choices; OpenAI streams transcript.text.delta and transcript.text.done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from policies.contract import Channel, Segment
from proxy.dialects.choices import ChoicesCodec
from proxy.dialects.contract import ALL, Dialect, Parsed, Part, Row, StreamCodec, Unreadable, openai_usage
from proxy.dialects.finder import Finder
from proxy.dialects.forms import find_form
from proxy.dialects.leaves import spelt
from proxy.sse import Event

_LISTS = (("segments", "text"), ("words", "word"))


class Transcription(Dialect):
    """Transcriptions and translations."""

    name = "transcription"
    counts = True
    needles = (b'"usage"', b"transcript.text.done", b'"finish_reason":"', b'"error"', b"[DONE]")
    request_rows: ClassVar[tuple[str, ...]] = (
        "prompt, hotwords and every other field of the form, and the name of the file; its sound cannot be read",
    )
    rows: ClassVar[tuple[Row, ...]] = (
        Row("text", "text; the body when it is not JSON (text, srt, vtt)", "transcript.text.delta"),
        Row("content", "", "choices[].delta.content"),
        Row("segments", "segments[].text", "transcript.text.segment"),
        Row("words", "words[].word, one text joined by spaces", ""),
    )
    notes: ClassVar[tuple[str, ...]] = (
        "transcript.text.done repeats the text: it gets the same replacements",
    )

    def request(self, doc: Any) -> tuple[list[Segment], list[str]]:
        find = Finder()
        find_form(find, doc)
        return find.segments, find.opaque

    def parts(self, doc: Any) -> list[Part]:
        if not isinstance(doc, dict):
            raise Unreadable("a reply that is not an object")
        parts: list[Part] = []
        if isinstance(doc.get("text"), str):
            parts.append(Part(Channel(0, "text"), doc["text"], ("text",)))
        for name, key in _LISTS:
            rows = doc.get(name)
            for n, row in enumerate(rows if isinstance(rows, list) else ()):
                if isinstance(row, dict) and isinstance(row.get(key), str):
                    parts.append(Part(Channel(0, name), row[key], (name, n, key)))
        return parts

    def scrub_whole(self, doc: Any, changed: set[Channel]) -> None:
        doc.pop("logprobs", None)
        for row in doc.get("segments") or ():
            if isinstance(row, dict):
                row.pop("tokens", None)

    def cut_whole(self, doc: Any, cuts: dict[int, tuple[str, str | None]]) -> Any:
        return {"text": cuts[min(cuts)][1] or ""}

    def codec(self) -> StreamCodec:
        return TranscriptionCodec()

    def plain(self, body: bytes) -> str | None:
        try:
            return body.decode()
        except UnicodeDecodeError:
            return None


class TranscriptionCodec(ChoicesCodec):
    """Both streams: chunks with choices, and transcript events."""

    object = "transcription.chunk"
    repeats = True

    def __init__(self) -> None:
        super().__init__()
        self._typed = False
        self.ready = False

    def parse(self, event: Event) -> Parsed:
        parsed = super().parse(event)
        doc = parsed.doc
        kind = doc.get("type") if doc is not None else None
        if doc is None or not isinstance(kind, str) or not kind.startswith("transcript."):
            return parsed
        parsed = Parsed(doc)
        if kind == "transcript.text.delta":
            self._add(parsed, doc, "text", "delta")
        elif kind == "transcript.text.done":
            self._add(parsed, doc, "text", "text", repeat=True)
            parsed.usage = openai_usage(doc.get("usage"))
            parsed.terminal = True
            parsed.ends.append(ALL)
        else:
            self._add(parsed, doc, "segments", "text")
        parsed.simple = kind == "transcript.text.delta" and len(parsed.parts) == 1 and not doc.get("logprobs")
        parsed.copies = bool(doc.get("logprobs")) and (
            not parsed.parts or spelt(doc["logprobs"]) != parsed.parts[0].text
        )
        return parsed

    def _add(self, parsed: Parsed, doc: dict[str, Any], field: str, key: str, *, repeat: bool = False) -> None:
        text = doc.get(key)
        if isinstance(text, str) and text:
            parsed.parts.append(Part(Channel(0, field), text, (key,), "repeat" if repeat else "text"))

    def saw(self, parsed: Parsed) -> None:
        super().saw(parsed)
        self.ready |= parsed.doc is not None
        if parsed.doc is not None and isinstance(parsed.doc.get("type"), str):
            self._typed = True

    def scrub(
        self, doc: Any, parsed: Parsed, texts: Sequence[str], *, drop: frozenset[int], unfinished: frozenset[int]
    ) -> None:
        super().scrub(doc, parsed, texts, drop=drop, unfinished=unfinished)
        doc.pop("logprobs", None)

    def cut(self, message: str | None, *, include_usage: bool) -> bytes:
        if not self._typed:
            return super().cut(message, include_usage=include_usage)
        # These streams have no finish_reason: an error event is their only way to say "stopped by policy".
        return self.error(
            message or "The reply was stopped by a content policy.", "invalid_request_error", "content_filter"
        )
