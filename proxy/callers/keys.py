"""API keys: rows by the SHA-256 of the key.

What lives here: KeyRing (keys of the policy file and of a file of their own) and making new keys. What must never live
here: a key in clear beyond the moment it is hashed; a key or a digest in a message.

A key of 256 random bits needs no slow hash: nobody can try so many (1.1 us each here).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable

from proxy.callers.settings import CallerKey

__all__ = ["PREFIX", "KeyRing", "digest", "new_key"]

PREFIX = "hg-"
"""Of the keys made here: scanners for leaked secrets can look for it."""


def new_key() -> str:
    """A new API key: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """Rows by digest. Immutable but for ``replace``, which swaps the second set of rows (those of the file)."""

    def __init__(self, rows: Iterable[CallerKey]) -> None:
        self._own = _by_digest(rows)
        self._more: dict[str, CallerKey] = {}

    def __len__(self) -> int:
        return len(self._own) + len(self._more)

    def replace(self, rows: Iterable[CallerKey]) -> None:
        """Other rows of the file."""
        self._more = _by_digest(rows)

    def find(self, hashed: str) -> CallerKey | None:
        """The row of a digest, whether or not it is still good. The comparison takes the same time for every wrong key."""
        for rows in (self._own, self._more):
            row = rows.get(hashed)
            if row is not None and hmac.compare_digest(_digest_of(row), hashed):
                return row
        return None


def usable(row: CallerKey, wall: float) -> bool:
    """Neither disabled nor expired. wall: unix seconds."""
    return not row.disabled and (row.expires is None or wall < row.expires)


def _digest_of(row: CallerKey) -> str:
    return row.sha256 or digest(row.key.get_secret_value() if row.key is not None else "")


def _by_digest(rows: Iterable[CallerKey]) -> dict[str, CallerKey]:
    out: dict[str, CallerKey] = {}
    for row in rows:
        hashed = _digest_of(row)
        out[hashed] = row.model_copy(update={"sha256": hashed, "key": None})  # the key itself is not kept
    return out
