"""The request's side: from the spans found in its texts to the texts that the model gets.

What lives here: Rewrite, which decides every text before it writes the first (a policy that fails half-way has changed
nothing). What must never live here: detection; a value in a finding or a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from policies.contract import Segment
from policies.pii.placeholders import Forms
from policies.pii.tally import Tally

__all__ = ["Found", "Replace", "category", "conversation", "rewrite", "taken"]

_DEFINITIONS = frozenset((
    "tools", "functions", "response_format", "structured_outputs", "chat_template", "chat_template_kwargs",
    "web_search_options", "text", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "vllm_xargs",
    "output_format", "output_config",
))  # fmt: skip
_METADATA = frozenset(("user", "safety_identifier", "metadata"))
_CONVERSATION = ("messages", "input")
_END = str.maketrans("[#", "..")
_VALUE = "\x00"


class Found(NamedTuple):
    """A segment and what was found in it: (start, end, type), in order, without overlaps."""

    segment: Segment
    spans: Sequence[tuple[int, int, str]]


Replace = Callable[[str, str], str | None]
"""(type, value) to what stands in its place; None leaves it."""


def _head(where: str) -> str:
    return where.translate(_END).partition(".")[0]


def category(segment: Segment) -> str:
    """``definitions`` for what describes tools and formats, and for names of tools, which must stay what they are called
    there; ``metadata`` for what a request says about its sender; else the segment's trust."""
    head = _head(segment.where)
    if head in _METADATA:
        return "metadata"
    if head in _DEFINITIONS or (
        segment.trust in ("assistant", "tool") and segment.where.endswith(".name")
    ):
        return "definitions"
    return segment.trust


def conversation(found: Iterable[Found]) -> list[Found]:
    """In the order in which values are numbered: what stands beside the conversation first, for the next turn adds
    messages at the end of it."""
    return sorted(found, key=lambda f: _head(f.segment.where) in _CONVERSATION)


def taken(forms: Forms, segments: Iterable[Segment], found: Iterable[Found]) -> set[str]:
    """The placeholders that a request's own text has beside its values: they are no values' now."""
    spans = {id(f.segment): f.spans for f in found}
    out: set[str] = set()
    for segment in segments:
        text = segment.text
        if id(segment) in spans:
            at = 0
            pieces: list[str] = []
            for start, end, _ in spans[id(segment)]:
                pieces.append(text[at:start])
                at = end
            text = _VALUE.join([*pieces, text[at:]])
        out.update(forms.seen(text))
    return out


def rewrite(found: Sequence[Found], replace: Replace, tally: Tally, actions: Mapping[str, str]) -> None:
    """Put replacements for the spans into the document, and note what was done."""
    written: list[tuple[Segment, str]] = []
    for segment, spans in conversation(found):
        text, at = segment.text, 0
        out: list[str] = []
        for start, end, type in spans:
            new = replace(type, text[start:end])
            if new is not None:
                out += text[at:start], new
                at = end
        if at:
            written.append((segment, "".join([*out, text[at:]])))
    for segment, new_text in written:
        segment.text = new_text
    for segment, spans in found:
        where = segment.where.partition("#")[0]
        for _, _, type in spans:
            tally.note(type, where, actions[type])
