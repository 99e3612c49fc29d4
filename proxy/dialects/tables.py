"""Dialects that are a table of places: embeddings, scores, tokenizers, images and the like.

What lives here: request and reply places of endpoints whose replies are numbers or plain lists of text. A place is a
path of keys (``*`` is every item of a list) and the reading of what stands there. What must never live here: streams.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from policies.contract import Channel, Segment
from proxy.dialects.chat import find_message, find_messages
from proxy.dialects.contract import Dialect, Part, Path, Row, Unreadable, where
from proxy.dialects.finder import Finder

Read = Callable[[Finder, Any, Any, str], None]


class Spot(NamedTuple):
    """path: keys from the document's top; the last one is handed to ``read`` with its container."""

    path: tuple[str, ...]
    read: Read


def prompt(find: Finder, box: Any, key: Any, where: str) -> None:
    """Text, texts, parts or token ids."""
    find.prompt(box, key, where)


def text(find: Finder, box: Any, key: Any, where: str) -> None:
    """A string or a list of strings."""
    find.texts(box, key, where)


def parts(find: Finder, box: Any, key: Any, where: str) -> None:
    """A string, content parts, or lists of them (score and rerank inputs)."""
    value = box[key]
    if isinstance(value, dict) and "content" in value and "role" not in value:
        find.content(value, "content", f"{where}.content", "user", "document")
    elif isinstance(value, list):
        for n in range(len(value)):
            if isinstance(value[n], list):
                find.content(value, n, f"{where}[{n}]", "user", "document")
            else:
                parts(find, value, n, f"{where}[{n}]")
    else:
        find.content(box, key, where, "user", "document")


def messages(find: Finder, box: Any, key: Any, where: str) -> None:
    """Chat messages, or a list of conversations."""
    rows = box[key]
    if not isinstance(rows, list):
        return
    for n, row in enumerate(rows):
        if isinstance(row, list):
            find_messages(find, row, f"{where}[{n}]")
        elif isinstance(row, dict):
            find_message(find, row, f"{where}[{n}]")
        else:
            find.text(rows, n, f"{where}[{n}]")


def embed_input(find: Finder, box: Any, key: Any, where: str) -> None:
    """An embedding's input: what a prompt may be, or chat messages."""
    value = box[key]
    if isinstance(value, list) and any(isinstance(v, dict) and "role" in v for v in value):
        messages(find, box, key, where)
    else:
        find.prompt(box, key, where)


def grounding(find: Finder, box: Any, key: Any, where: str) -> None:
    """Documents of any shape: their strings."""
    find.free(box, key, where, "user", "document", keys=False, numbers=False)


def metadata(find: Finder, box: Any, key: Any, where: str) -> None:
    """What a request says about its sender."""
    find.free(box, key, where, "user", "user", keys=False, numbers=False)


def free(find: Finder, box: Any, key: Any, where: str) -> None:
    """Any JSON: its strings, keys and numbers."""
    find.free(box, key, where, "user", "user")


def schema(find: Finder, box: Any, key: Any, where: str) -> None:
    """JSON that describes something: its strings."""
    find.schema(box, key, where)


def ids(find: Finder, box: Any, key: Any, where: str) -> None:
    """Token ids, tensors, images: nothing that can be read."""
    if box[key]:
        find.opaque.append(f"{where}: token ids or tensors")


def _spots(doc: Any, path: tuple[str, ...]) -> list[tuple[Any, Path]]:
    """Every (container, path) that a path with ``*`` leads to; the last key of the path is the container's."""
    found: list[tuple[Any, Path]] = [({"": doc}, ("",))]
    for key in path:
        below: list[tuple[Any, Path]] = []
        for box, at in found:
            value = box[at[-1]]
            if key == "*":
                if isinstance(value, list):
                    below += [(value, (*at, n)) for n in range(len(value))]
            elif isinstance(value, dict) and value.get(key) is not None:
                below.append((value, (*at, key)))
        found = below
    return [(box, at[1:]) for box, at in found]


class Table(Dialect):
    """A dialect made of spots. spots: of the request. texts: paths of text in a whole reply; the channel has the name of
    the last key."""

    def __init__(
        self, name: str, spots: tuple[Spot, ...], texts: tuple[tuple[str, ...], ...] = (), *, counts: bool = False
    ) -> None:
        # one instance per table: these are class attributes of the other dialects
        self.name = name  # type: ignore[misc]
        self.counts = counts  # type: ignore[misc]
        self._spots = spots
        self._texts = texts
        self.request_rows = tuple(_say(s.path) for s in spots)  # type: ignore[misc]
        self.rows = tuple(Row(_field(path), _say(path), "") for path in texts)  # type: ignore[misc]

    def request(self, doc: Any) -> tuple[list[Segment], list[str]]:
        find = Finder()
        for spot in self._spots:
            for box, at in _spots(doc, spot.path):
                spot.read(find, box, at[-1], where(at))
        return find.segments, find.opaque

    def parts(self, doc: Any) -> list[Part]:
        if self._texts and not isinstance(doc, dict | list):
            raise Unreadable("a reply that is not an object")
        out: list[Part] = []
        for path in self._texts:
            for n, (box, at) in enumerate(_spots(doc, path)):
                if isinstance(box[at[-1]], str):
                    # the strings of a list are pieces of one text (token_strs), other places stand for themselves
                    out.append(Part(Channel(0 if path[-1] == "*" else n, _field(path)), box[at[-1]], at))
        return out

    def cut_whole(self, doc: Any, cuts: dict[int, tuple[str, str | None]]) -> Any:
        # These replies have no field that says "stopped by policy": an error object takes their place.
        message = cuts[min(cuts)][1] or "The reply was stopped by a content policy."
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": "content_filter"}}


def _field(path: tuple[str, ...]) -> str:
    return next(key for key in reversed(path) if key != "*")


def _say(path: tuple[str, ...]) -> str:
    return ".".join(path).replace(".*", "[]") or "the document"


_METADATA = tuple(Spot((key,), metadata) for key in ("user", "safety_identifier", "metadata"))
_EMBED = (
    Spot(("input",), embed_input), Spot(("messages",), messages), Spot(("texts",), text),
    Spot(("inputs", "*", "content"), parts), Spot(("images",), ids), Spot(("prompt_embeds",), ids),
    Spot(("chat_template",), text), Spot(("chat_template_kwargs",), schema), Spot(("instruction",), text), *_METADATA,
)  # fmt: skip
_SCORE = (
    *(
        Spot((key,), parts)
        for key in ("text_1", "text_2", "data_1", "data_2", "queries", "query", "documents", "items", "instruction")
    ),
    *_METADATA,
)
_DOCUMENTS = (("results", "*", "document", "text"), ("results", "*", "document"))

EMBEDDINGS = Table("embeddings", _EMBED, counts=True)
POOLING = Table(
    "pooling", (*_EMBED, *(Spot((k,), parts) for k in ("text_1", "text_2", "data_1", "data_2"))), counts=True
)
SCORE = Table("score", _SCORE, counts=True)
RERANK = Table("rerank", _SCORE, _DOCUMENTS, counts=True)
DECISIONS = Table(
    "decisions",
    tuple(Spot((key,), free) for key in ("input", "state", "questions", "instructions", "options", "labels")),
)
TOKENIZE = Table(
    "tokenize",
    (
        Spot(("prompt",), prompt),
        Spot(("messages",), messages),
        Spot(("chat_template",), text),
        Spot(("chat_template_kwargs",), schema),
        Spot(("tools",), schema),
    ),
    (("token_strs", "*"),),
)
DETOKENIZE = Table("detokenize", (Spot(("tokens",), ids),), (("prompt",),))
MODERATIONS = Table("moderations", (Spot(("input",), prompt),))
IMAGES = Table(
    "images", (Spot(("prompt",), text), Spot(("image",), ids), *_METADATA), (("data", "*", "revised_prompt"),), counts=True
)
SPEECH = Table("speech", (Spot(("input",), text), Spot(("instructions",), text)))
COHERE = Table(
    "cohere",
    (
        Spot(("messages",), messages), Spot(("documents",), grounding), Spot(("tools",), schema),
        Spot(("response_format",), schema), Spot(("stop_sequences",), text), *_METADATA,
    ),
)  # fmt: skip

TABLES = (
    EMBEDDINGS, POOLING, SCORE, RERANK, DECISIONS, TOKENIZE, DETOKENIZE, MODERATIONS, IMAGES, SPEECH, COHERE,
)  # fmt: skip
