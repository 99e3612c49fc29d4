"""Whose count a limit looks at.

What lives here: from an exchange to the key of a counter. What must never live here: a caller's key or name in clear in a
key of the store; counters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b

from policies.contract import Exchange

__all__ = ["Subject", "subject_of"]

Subject = Callable[[Exchange], str]
"""The key's part that says whose."""

_NOBODY = "-"


def subject_of(by: tuple[str, ...]) -> Subject:
    """The subject of a limit. Callers without a name count by their address."""
    readers = [_reader(part) for part in by]
    if not readers:
        return lambda x: _NOBODY
    if len(readers) == 1:
        only = readers[0]
        return lambda x: _hashed(only(x))
    return lambda x: _hashed("\0".join([read(x) for read in readers]))


def _hashed(text: str) -> str:
    # names come from callers: a long one is hashed again each time, so that what is remembered stays small
    return _remembered(text) if len(text) <= _LONG else _digest(text)


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


_LONG = 256
_remembered = lru_cache(4096)(_digest)


def _reader(part: str) -> Subject:
    kind, _, name = part.partition(":")
    if kind == "header":
        return lambda x: "h:" + (x.headers.get(name) or _NOBODY)
    if kind == "claim":
        return lambda x: "c:" + x.claims.get(name, _NOBODY)
    if kind == "label":
        return lambda x: "l:" + x.labels.get(name, _NOBODY)
    return _READERS[part]


def _caller(x: Exchange) -> str:
    return f"caller:{x.tenant or ''}:{x.caller}" if x.caller is not None else "address:" + (x.address or x.client)


_READERS: dict[str, Subject] = {
    "caller": _caller,
    "tenant": lambda x: "tenant:" + (x.tenant or _NOBODY),
    "address": lambda x: "address:" + (x.address or x.client),
    "model": lambda x: "model:" + (x.model_asked or _NOBODY),
    "route": lambda x: "route:" + x.route,
}
