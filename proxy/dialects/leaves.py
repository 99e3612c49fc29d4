"""Walking JSON whose shape nobody fixed: tool inputs, schemas, unknown reply fields.

What lives here: walks over any JSON, without recursion (callers choose how deep their documents nest). What must never
live here: addresses made of the document's own keys (they can be personal data, and addresses are logged).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proxy.jsonio import Embedded, Number

__all__ = ["SKIP", "Place", "loose", "number_text", "place_at", "places", "respelt", "spelt", "strings"]

Keys = tuple[str | int, ...]

SKIP = frozenset({
    "type", "id", "role", "index", "format", "object", "status", "finish_reason", "signature", "data",
    "encrypted_content", "call_id", "item_id", "model", "response_id", "created", "logprobs", "usage", "tool_use_id",
    "output_index", "content_index", "summary_index", "sequence_number", "annotation_index", "system_fingerprint",
    "service_tier", "container_id", "file_id", "previous_item_id", "obfuscation", "event_id", "partial_image_b64",
})  # fmt: skip
"""Keys of a reply whose strings are no text of the model: identifiers, enums, opaque blobs."""


class Place:
    """Where a value stands in its dict or list."""

    __slots__ = ("box", "key")

    def __init__(self, box: Any, key: Any) -> None:
        self.box = box
        self.key = key

    def get(self) -> Any:
        return self.box[self.key]

    def set(self, value: Any) -> None:
        self.box[self.key] = value


def place_at(doc: Any, path: Keys) -> Place:
    """The place at a path that exists."""
    for key in path[:-1]:
        doc = doc[key]
    return Place(doc, path[-1])


def places(root: Place) -> Iterator[tuple[Place, Any]]:
    """Every leaf below a place with its value, in document order; dict keys come as (place, None) before their value."""
    todo: list[tuple[Place, bool]] = [(root, False)]
    while todo:
        place, is_key = todo.pop()
        if is_key:
            yield place, None
            continue
        value = place.get()
        if isinstance(value, Embedded):
            value = value.doc
        if isinstance(value, dict):
            below = [Place(value, k) for k in value]
            for p in reversed(below):
                todo += [(p, False), (p, True)]
        elif isinstance(value, list):
            todo += [(Place(value, n), False) for n in range(len(value) - 1, -1, -1)]
        elif isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
            yield place, value


def number_text(value: float) -> str:
    """A number as its document wrote it."""
    return value.text if isinstance(value, Number) else str(value)


def strings(doc: Any, path: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Every string below ``doc`` with its path, but those under SKIP keys. In document order."""
    todo: list[tuple[Keys, Any]] = [(path, doc)]
    while todo:
        here, value = todo.pop()
        if isinstance(value, str):
            if value:
                yield here, value
        elif isinstance(value, dict):
            todo += [((*here, k), v) for k, v in reversed(value.items()) if k not in SKIP]
        elif isinstance(value, list):
            todo += [((*here, n), value[n]) for n in range(len(value) - 1, -1, -1)]


def loose(
    box: dict[str, Any], known: frozenset[str], path: tuple[str | int, ...] = ()
) -> list[tuple[tuple[str | int, ...], str]]:
    """The strings of a dict that stand under keys which its shape does not have, with their paths."""
    if box.keys() <= known:
        return []
    return [
        found
        for key, value in box.items()
        if key not in known and key not in SKIP
        for found in strings(value, (*path, key))
    ]


def spelt(rows: Any) -> str | None:
    """The text that a list of logprobs spells; None when that cannot be told."""
    if not isinstance(rows, list):
        return None
    tokens: list[str] = []
    for row in rows:
        token = row.get("token") if isinstance(row, dict) else row
        if not isinstance(token, str):
            return None
        tokens.append(token)
    return "".join(tokens)


def respelt(rows: Any, text: str) -> list[str]:
    """What a list of logprobs spells beyond ``text``, by its tokens and by their bytes; empty where either is just that. Of
    anything but a list: all strings that it holds."""
    if not isinstance(rows, list):
        return [said] if (said := "".join(s for _, s in strings(rows))) else []
    tokens: list[str] = []
    raw = bytearray()
    for row in rows:
        token = row.get("token") if isinstance(row, dict) else row
        tokens.append(token if isinstance(token, str) else "")
        codes = row.get("bytes") if isinstance(row, dict) else None
        if isinstance(codes, list):
            raw += bytes(c for c in codes if type(c) is int and 0 <= c < 256)
    readings = ["".join(tokens), raw.decode("utf-8", "replace")]
    return [] if text in readings else [r for n, r in enumerate(readings) if r and r not in readings[:n]]
