"""The vault: the values that one request's placeholders stand for.

What lives here: Vault, which gives each value its placeholder and finds it again. What must never live here: more than
one request; a way to show a value (``repr``, copies, pickles). It dies with its Exchange.

Numbers go by first appearance, so the next turn of a conversation, which sends the history again, gives the same ones.
Equal values have one number. A value that is spelt in another way (``Bob@x.org``, ``bob@x.org``) has the same number and
a letter, so that what comes back is what was written there.
"""

from __future__ import annotations

import base64
import hmac
import unicodedata
from collections.abc import Iterable
from typing import NoReturn

from policies.pii.placeholders import written

__all__ = ["Vault", "same"]

_MOST = 99_999
"""Longer numbers are not read: what looks like ``[phone 1234567]`` may be one."""
_SPELLINGS = "BCDEFGHIJKLMNOPQRSTUVWXYZ"


def same(value: str) -> str:
    """What two spellings of one value have in common. Addresses and URLs are compared without case (RFC 5321 2.4 asks for
    case only before the ``@``, and no large provider keeps it), values with digits by their letters and digits, anything
    else without case."""
    text = unicodedata.normalize("NFKC", value).casefold()
    if "@" in text or "://" in text:
        return text
    if any(c.isdigit() for c in text):
        return "".join(c for c in text if c.isalnum() or c in "+:")
    return " ".join(text.split())


class Vault:
    """taken: canonical forms that the request's own text has already; they are given to no value. key: with one, numbers
    are made of it and the value instead (the same in every request of a tenant)."""

    __slots__ = ("_back", "_count", "_groups", "_key", "_taken", "_told", "own")

    def __init__(self, taken: Iterable[str] = (), *, key: bytes | None = None) -> None:
        self._back: dict[str, str] = {}  # canonical form to value
        self._told: dict[tuple[str, str], str] = {}  # (tag, value) to placeholder
        self._groups: dict[tuple[str, str], tuple[str, int]] = {}  # (tag, what is the same) to (number, spellings)
        self._count: dict[str, int] = {}
        self._taken = frozenset(taken)
        self._key = key
        self.own: set[str] = set()
        """The values, as written."""

    def __repr__(self) -> str:
        return f"<Vault of {len(self._back)} values>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a vault is never copied or stored")

    def __len__(self) -> int:
        return len(self._back)

    def placeholder(self, tag: str, value: str, *, exact: bool = False) -> str:
        """The placeholder of a value; the same for the same value. exact: another spelling is another value (secrets)."""
        told = self._told.get((tag, value))
        if told is None:
            form = self._new(tag, value if exact else same(value))
            told = self._told[tag, value] = written(tag, form)
            self._back[f"{tag}_{form}"] = value
            self.own.add(value)
        return told

    def value(self, canonical: str) -> str | None:
        """What a form stands for; None when this request did not make it."""
        return self._back.get(canonical)

    def foreign(self, canonical: str) -> bool:
        """The request's own text had this form: it is no placeholder of ours."""
        return canonical in self._taken

    def _new(self, tag: str, common: str) -> str:
        number, spellings = self._groups.get((tag, common), ("", 0))
        if number and spellings <= len(_SPELLINGS):
            form = number + _SPELLINGS[spellings - 1]
            if self._free(tag, form):
                self._groups[tag, common] = number, spellings + 1
                return form
        form = self._numbered(tag) if self._key is None else self._keyed(tag, common)
        self._groups[tag, common] = form, 1
        return form

    def _free(self, tag: str, form: str) -> bool:
        return f"{tag}_{form}" not in self._taken and f"{tag}_{form}" not in self._back

    def _numbered(self, tag: str) -> str:
        at = self._count.get(tag, 0) + 1
        while not self._free(tag, str(at)):
            at += 1
        if at > _MOST:
            raise ValueError(f"more than {_MOST} values of one kind")
        self._count[tag] = at
        return str(at)

    def _keyed(self, tag: str, common: str) -> str:
        assert self._key is not None
        for salt in range(1 << 16):  # two values with one form are one in 2**50; text that has it, as rare
            digest = hmac.digest(self._key, b"%b\0%d\0%b" % (tag.encode(), salt, _bytes(common)), "sha256")
            form = "K" + base64.b32encode(digest[:10]).decode()[:10]
            if self._free(tag, form):
                return form
        raise ValueError("no free placeholder")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
