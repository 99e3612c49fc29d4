"""What an account has to be told once Redis is back: additions by name, added up.

What lives here: one bounded table. What must never live here: calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from proxy.store.redis import RedisScope

#: Names kept; what would need more is dropped.
MOST = 10_000


class Owed(NamedTuple):
    """Additions to one account: the arguments of ``count``."""

    scope: RedisScope
    key: str
    fields: dict[str, float]
    ttl_s: float


class Unsent:
    """Additions to one name become one, so a long outage needs no more room than there are names."""

    def __init__(self) -> None:
        self._rows: dict[tuple[RedisScope, str], tuple[dict[str, float], float]] = {}
        self._size = 0

    def __len__(self) -> int:
        """Names."""
        return self._size

    def add(self, scope: RedisScope, key: str, fields: Mapping[str, float], ttl_s: float) -> int:
        """Keep additions; returns how many were dropped."""
        row, _ = self._rows.setdefault((scope, key), ({}, ttl_s))
        dropped = 0
        for name, amount in fields.items():
            if name in row:
                row[name] += amount
            elif self._size < MOST:
                row[name] = amount
                self._size += 1
            else:
                dropped += 1
        return dropped

    def take(self, most: int) -> Owed | None:
        """At most so many additions to one account, taken out; None when nothing is left."""
        for (scope, key), (row, ttl_s) in self._rows.items():
            names = list(row)[:most]
            fields = {name: row.pop(name) for name in names}
            self._size -= len(fields)
            if not row:
                del self._rows[scope, key]
            return Owed(scope, key, fields, ttl_s)
        return None
