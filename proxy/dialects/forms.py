"""The fields of forms, POST /v1/audio/transcriptions and /v1/images/edits: https://platform.openai.com/docs/api-reference.

What lives here: where the text of such a request is, as a form (``proxy/forms.py`` makes the document) or as JSON, which the
same endpoints take. What must never live here: bytes.
"""

from __future__ import annotations

from typing import Any, ClassVar

from policies.contract import Segment
from proxy.dialects.finder import Finder
from proxy.dialects.leaves import number_text
from proxy.dialects.tables import Table

__all__ = ["IMAGE_EDITS", "find_form"]

#: Numbers are settings under these names; under any other they are text, as a backend may take them for it.
_NUMBERS = frozenset((
    "model", "temperature", "seed", "top_p", "top_k", "min_p", "n", "stream", "frequency_penalty", "presence_penalty",
    "repetition_penalty", "length_penalty", "num_beams", "max_completion_tokens", "output_compression", "partial_images",
    "stream_include_usage", "stream_continuous_usage_stats", "logprobs",
))  # fmt: skip
#: Names that an address may show.
_NAMES = _NUMBERS | frozenset((
    "file", "prompt", "hotwords", "language", "to_language", "response_format", "image", "image[]", "images", "mask", "size",
    "quality", "style", "background", "input_fidelity", "moderation", "output_format", "user", "include[]", "include",
    "timestamp_granularities[]", "timestamp_granularities", "chunking_strategy", "known_speaker_names[]", "vllm_xargs",
))  # fmt: skip
#: Names whose content is sound or a picture also where it is a string (a data URL).
_MEDIA = frozenset(("known_speaker_references[]", "known_speaker_references", "image", "image[]", "images", "mask", "file"))


def find_form(find: Finder, doc: Any) -> None:
    """All text of a form but the model's name, and the files as what cannot be read; a file's own name is text."""
    if not isinstance(doc, dict):
        return
    for name in doc:
        if name == "model" or doc[name] is None:
            continue
        where = name if name in _NAMES else "*"
        value = doc[name]
        if isinstance(value, list):
            for n in range(len(value)):
                _entry(find, value, n, f"{where}[{n}]", name)
        else:
            _entry(find, doc, name, where, name)


def _entry(find: Finder, box: Any, key: Any, where: str, name: str) -> None:
    value = box[key]
    if isinstance(value, dict):
        if isinstance(value.get("filename"), str) and "size" in value:
            find.text(value, "filename", f"{where}.filename")
            find.opaque.append(f"{where}: file")
        else:
            find.part(box, key, where, "user", "user")
    elif name in _MEDIA:
        find.opaque.append(f"{where}: file")
    elif isinstance(value, str):
        find.text(box, key, where)
    elif isinstance(value, int | float) and not isinstance(value, bool) and name not in _NUMBERS:
        find.segments.append(Segment(where, number_text(value), lambda text: box.__setitem__(key, text)))


class FormTable(Table):
    """A table whose requests are forms."""

    request_rows: ClassVar[tuple[str, ...]] = ("every field of the form, and the names of files; files cannot be read",)

    def __init__(self, name: str, texts: tuple[tuple[str, ...], ...] = ()) -> None:
        super().__init__(name, (), texts, counts=True)
        self.request_rows = type(self).request_rows  # type: ignore[misc]

    def request(self, doc: Any) -> tuple[list[Segment], list[str]]:
        find = Finder()
        find_form(find, doc)
        return find.segments, find.opaque


IMAGE_EDITS = FormTable("image_edits", (("data", "*", "revised_prompt"),))
