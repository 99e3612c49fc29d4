"""Walking JSON documents: what policies over request bodies share.

What lives here: pure functions over decoded documents. What must never live here: the text found there in any
message. Nothing here recurses: callers choose how deep their documents nest.

Most requests hold none of what these functions look for, and every request pays for the looking: what can be
settled by one pass in C (a set operation, an encoder, a search for a byte) is settled that way first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from policies.globs import StrTest, any_of, glob

__all__ = [
    "AllowTree", "DottedPath", "MediaHosts", "as_json", "find_c1", "find_escaped", "find_url_key", "has_control",
    "is_name", "media_urls", "shown", "strings",
]  # fmt: skip

# C0 without tab, line feed and carriage return; DEL; C1 (Unicode 16, table 2-3: general category Cc).
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SAFE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_URL = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?(?:/[!-\[\]-~]*)?", re.IGNORECASE)
# Where servers look for addresses to fetch: OpenAI and vLLM content parts, Responses input files and MCP
# tools; Messages use {"source": {"type": "url", "url": ...}}.
_URL_KEYS = frozenset({"image_url", "audio_url", "video_url", "file_url", "document_url", "server_url", "source"})


def strings(doc: Any) -> Iterator[str]:
    """Every string of a document, the keys of its objects included, in no stated order."""
    todo = [doc]
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value
            todo += value.values()
        elif isinstance(value, list):
            todo += value


def has_control(text: str) -> bool:
    """True when text holds a control character other than tab, line feed and carriage return."""
    return not text.isprintable() and _CONTROL.search(text) is not None


# All strings of a document in one piece, to be searched. Of what is no plain JSON value (numbers that keep their
# spelling, changed inner documents) no string is looked at. Raises RecursionError, and ValueError for lone surrogates.
as_json = msgspec.json.Encoder(enc_hook=lambda value: None).encode

# What ``as_json`` makes of control characters: C0 is escaped, C1 in UTF-8 (and DEL as it is). An escaped backslash
# before u, b or f looks alike. Then how all of _URL_KEYS end. Searches that begin with fixed bytes are the fast kind.
find_escaped = re.compile(rb"\\[ubf]").search
find_c1 = re.compile(b"\xc2[\x80-\x9f]").search
find_url_key = re.compile(rb'ur(?:l|ce)":').search


def shown(name: str) -> str | None:
    """A key of a request as an error may name it: only what looks like a parameter's name, never free
    text."""
    return name if _SAFE_NAME.fullmatch(name) else None


def is_name(path: str) -> bool:
    """True for a dotted path that is one key of the document itself, no glob."""
    return "." not in path and "*" not in path and "?" not in path


class DottedPath:
    """A path such as ``stream_options.include_usage``: each part a glob over keys; lists on the way are
    looked through, so that ``messages.name`` is the name of every message."""

    __slots__ = ("_key", "_parts", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._parts: tuple[StrTest, ...] = tuple(glob(p) for p in name.split("."))
        first = name.partition(".")[0]
        self._key = first if is_name(first) else None

    def find(self, doc: Any) -> Iterable[Any]:
        """The values there that are not null, in no stated order."""
        key = self._key
        if key is not None and isinstance(doc, dict) and doc.get(key) is None:
            return ()
        return self._walk(doc)

    def _walk(self, doc: Any) -> Iterator[Any]:
        todo: list[tuple[Any, int]] = [(doc, 0)]
        while todo:
            value, depth = todo.pop()
            if depth == len(self._parts):
                if value is not None:
                    yield value
            elif isinstance(value, list):
                todo += [(v, depth) for v in value]
            elif isinstance(value, dict):
                part = self._parts[depth]
                todo += [(v, depth + 1) for k, v in value.items() if part(k)]

    def within(self, doc: Any) -> bool:
        """True when there is a value that is not null."""
        return next(iter(self.find(doc)), None) is not None


class AllowTree:
    """A list of allowed parameters, dotted; the last part of each is a glob, the parts before it are keys.

    A parameter named without a dot is allowed with all that it holds.
    """

    __slots__ = ("_below", "_whole")

    def __init__(self, names: Iterable[str]) -> None:
        below: dict[str, list[str]] = {}
        whole: list[str] = []
        for name in names:
            head, dot, rest = name.partition(".")
            if dot:
                below.setdefault(head, []).append(rest)
            else:
                whole.append(name)
        self._whole = any_of(whole)
        self._below = {head: AllowTree(rest) for head, rest in below.items()}

    def denied(self, doc: dict[str, Any]) -> str | None:
        """The dotted keys down to a parameter that is not allowed, or None. Null counts as absent."""
        todo: list[tuple[AllowTree, Any, str]] = [(self, doc, "")]
        while todo:
            tree, value, above = todo.pop()
            if isinstance(value, list):
                todo += [(tree, v, above) for v in value]
            elif isinstance(value, dict):
                key: str
                for key, inner in value.items():
                    if inner is None or tree._whole(key):
                        continue
                    if key not in tree._below:
                        return above + key
                    todo.append((tree._below[key], inner, f"{above}{key}."))
        return None


def media_urls(doc: Any) -> Iterator[tuple[str, Any]]:
    """The addresses in a document that a server may fetch, as (key, address), the address as it was sent."""
    todo = [doc]
    while todo:
        value = todo.pop()
        if isinstance(value, list):
            todo += value
        elif isinstance(value, dict):
            for key in _URL_KEYS & value.keys():
                held = value[key]
                for one in held if isinstance(held, list) else [held]:
                    if isinstance(one, dict):
                        if one.get("url") is not None:
                            yield key, one["url"]
                    elif isinstance(one, str) and key != "source":
                        yield key, one
            todo += value.values()


class MediaHosts:
    """Which addresses a backend may be told to fetch: ``data:`` always, others by globs over the host name.

    An address is read strictly (http or https, host, port, path: no user part, no backslash, no white
    space): what URL parsers disagree about is not allowed.
    """

    __slots__ = ("_allowed",)

    def __init__(self, hosts: list[str]) -> None:
        self._allowed = any_of(hosts, fold=True)

    def allows(self, address: Any) -> bool:
        if not isinstance(address, str):
            return False
        if address[:5].lower() == "data:":
            return True
        m = _URL.fullmatch(address)
        return m is not None and self._allowed(m[1].rstrip("."))
