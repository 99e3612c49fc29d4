"""Text completions, POST /v1/completions: https://platform.openai.com/docs/api-reference/completions.

What lives here: where the text of a request and a whole reply is. Streams are in choices.py.
"""

from __future__ import annotations

from typing import Any, ClassVar

from policies.contract import Channel, Segment
from proxy.dialects.choices import CompletionsCodec, choice_index, choices_of, scrub_choice, whole_parts
from proxy.dialects.contract import Dialect, Part, Row, StreamCodec
from proxy.dialects.finder import Finder
from proxy.dialects.leading import of_completions

_SCHEMAS = (
    "response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "vllm_xargs",
)  # fmt: skip
_TEXTS = ("stop", "bad_words")


class Completions(Dialect):
    """Text completions; choices of a list of prompts are numbered prompt by prompt."""

    name = "completions"
    counts = True
    asks_usage = True
    per_choice = True
    needles = (b'"usage"', b'"finish_reason":"', b'"finish_reason": "', b'"error"', b"[DONE]")
    request_rows: ClassVar[tuple[str, ...]] = (
        "prompt (a text or texts; token ids cannot be read), suffix",
        "response_format, structured_outputs, guided_*, stop, bad_words; user, safety_identifier, metadata",
    )
    rows: ClassVar[tuple[Row, ...]] = (Row("text", "choices[].text", "choices[].text"),)
    notes: ClassVar[tuple[str, ...]] = (
        "the prompt is left context, so a value half in it is found; echo puts it into the text: read as text of the reply",
        "logprobs (tokens, top_logprobs, text_offset) and token_ids: as for chat",
    )

    def request(self, doc: Any) -> tuple[list[Segment], list[str]]:
        find = Finder()
        if isinstance(doc, dict):
            find.fields(doc, ("prompt",), find.prompt)
            find.fields(doc, ("suffix",), lambda box, key, at: find.texts(box, key, at))
            find.fields(doc, _SCHEMAS, lambda box, key, at: find.schema(box, key, at))
            find.fields(doc, _TEXTS, lambda box, key, at: find.texts(box, key, at, "system", "system"))
            find.metadata(doc)
            find.opaque_fields(doc, ("prompt_embeds",))
        return find.segments, find.opaque

    def lead(self, doc: Any, channel: Channel) -> str:
        return of_completions(doc, channel)

    def parts(self, doc: Any) -> list[Part]:
        return whole_parts(doc)

    def scrub_whole(self, doc: Any, changed: set[Channel]) -> None:
        touched = {channel.choice for channel in changed}
        for n, choice in enumerate(choices_of(doc)):
            if choice_index(choice, n) in touched:
                scrub_choice(choice)

    def cut_whole(self, doc: Any, cuts: dict[int, tuple[str, str | None]]) -> Any:
        for n, choice in enumerate(choices_of(doc)):
            cut = cuts.get(choice_index(choice, n))
            if cut is not None:
                choice["text"] = cut[1] or ""
                choice["finish_reason"] = "content_filter"
                scrub_choice(choice)
        return doc

    def codec(self) -> StreamCodec:
        return CompletionsCodec()
