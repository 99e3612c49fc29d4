"""Speech to text, POST /v1/audio/transcriptions and /translations: https://platform.openai.com/docs/api-reference/audio.

What lives here: replies; the fields of requests, which are forms, are in forms.py. vLLM streams transcription.chunk objects
with choices; OpenAI streams transcript.text.delta and transcript.text.done.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from policies.contract import Channel, Segment
from proxy.dialects.choices import ChoicesCodec
from proxy.dialects.contract import ALL, Dialect, Parsed, Part, Path, Row, StreamCodec, Unreadable
from proxy.dialects.finder import Finder
from proxy.dialects.forms import find_form
from proxy.dialects.leaves import loose, spelt, strings
from proxy.dialects.usage import openai_usage
from proxy.sse import Event

_LISTS = (("segments", "text"), ("words", "word"))
_META = frozenset(("type", "language", "duration", "task", "usage", "logprobs", "error"))
_REPLY = _META | {"text", "segments", "words"}
_EVENTS = {
    "transcript.text.delta": _META | {"delta"},
    "transcript.text.done": _META | {"text"},
    "transcript.text.segment": _META | {"text"},
}
_ROW = {"segments": frozenset(("text", "tokens")), "words": frozenset(("word",))}
# Scripts without spaces between words: Thai to Myanmar, Khmer, and those of Chinese and Japanese.
_UNSPACED = re.compile("[\u0e00-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


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
        Row("segments", "segments[].text, one text, with spaces between them", "transcript.text.segment"),
        Row("words", "words[].word, one text, with spaces between them", ""),
        Row("other", "any other text of the reply", "any other text of an event"),
    )
    notes: ClassVar[tuple[str, ...]] = (
        "transcript.text.done repeats the text: it gets the same replacements",
        "words, logprobs and the tokens of segments are dropped where the text was changed",
        "subtitles (srt, vtt) are read as they stand, so a phrase over two of them is not found",
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
                if not isinstance(row, dict):
                    parts += [Part(_OTHER, text, at, "whole") for at, text in strings(row, (name, n))]
                    continue
                if isinstance(row.get(key), str):
                    parts += _row(name, row[key], (name, n), key)
                parts += [Part(_OTHER, text, at, "whole") for at, text in loose(row, _ROW[name], (name, n))]
        parts += [Part(_OTHER, text, at, "whole") for at, text in loose(doc, _REPLY)]
        return parts

    def scrub_whole(self, doc: Any, changed: set[Channel]) -> None:
        doc.pop("logprobs", None)
        if any(channel.field != "words" for channel in changed):
            doc.pop("words", None)  # the same text, cut in a way in which a match may not show
        for name, key in _LISTS:
            rows = doc.get(name)
            for row in rows if isinstance(rows, list) else ():
                if isinstance(row, dict):
                    row.pop("tokens", None)
                    _close_gap(row, key)

    def cut_whole(self, doc: Any, cuts: dict[int, tuple[str, str | None]]) -> Any:
        return {"text": cuts[min(cuts)][1] or ""}

    def codec(self) -> StreamCodec:
        return TranscriptionCodec()

    def plain(self, body: bytes) -> str | None:
        try:
            return body.decode()
        except UnicodeDecodeError:
            return None


_OTHER = Channel(0, "other")


_GAP = "\0gap"  # where a replacement is written that begins in the space between two rows


def _row(field: str, text: str, path: Path, key: str) -> list[Part]:
    """A word or a segment as it stands in the whole text: with a space behind it, unless it brings its own or needs none."""
    parts = [Part(Channel(0, field), text, (*path, key))]
    if text and not text[0].isspace() and not text[-1].isspace() and not _UNSPACED.match(text[-1]):
        parts.append(Part(Channel(0, field), " ", (*path, _GAP)))
    return parts


def _close_gap(row: dict[str, Any], key: str) -> None:
    gap = row.pop(_GAP, "").strip(" ")
    if gap:
        row[key] += gap


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
        elif isinstance(doc.get("text"), str) and doc["text"]:
            parsed.parts += _row("segments", doc["text"], (), "text")
        known = _EVENTS.get(kind, _META)
        parsed.parts += [Part(_OTHER, text, at, "whole") for at, text in loose(doc, known)]
        parsed.simple = kind == "transcript.text.delta" and len(parsed.parts) == 1 and not doc.get("logprobs")
        parsed.copies = bool(doc.get("logprobs")) and (
            not parsed.parts or spelt(doc["logprobs"]) != parsed.parts[0].text
        )
        return parsed

    def _add(self, parsed: Parsed, doc: dict[str, Any], field: str, key: str, *, repeat: bool = False) -> None:
        text = doc.get(key)
        if isinstance(text, str):
            if text:
                parsed.parts.append(Part(Channel(0, field), text, (key,), "repeat" if repeat else "text"))
        elif text is not None:
            raise Unreadable("a text that is not a string")

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
        _close_gap(doc, "text")

    def cut(self, message: str | None, *, include_usage: bool) -> bytes:
        if not self._typed:
            return super().cut(message, include_usage=include_usage)
        # These streams have no finish_reason: an error event is their only way to say "stopped by policy".
        return self.error(
            message or "The reply was stopped by a content policy.", "invalid_request_error", "content_filter"
        )
