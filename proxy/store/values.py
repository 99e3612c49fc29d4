"""Small values and accounts in this process's table: what is kept under a key without a limit.

What lives here: those calls of ``policies/store.py``. What must never live here: the table itself, limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from policies.store import check_counts
from proxy.store.entries import CountEntry, ValueEntry
from proxy.store.table import Table


class MemoryValues:
    """name: of the policy whose keys they are."""

    def __init__(self, table: Table, name: str) -> None:
        self._table = table
        self._scope = name + "\0"

    async def get(self, key: str) -> bytes | None:
        entry: ValueEntry | None = self._table.get("v" + self._scope + key, self._table.clock())
        return None if entry is None else entry.data

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        now = self._table.clock()
        self._table.put("v" + self._scope + key, ValueEntry(bytes(value), now + ttl_s), now)

    async def delete(self, key: str) -> None:
        self._table.remove("v" + self._scope + key)

    async def count(self, key: str, fields: Mapping[str, float], ttl_s: float) -> None:
        check_counts(fields, ttl_s)
        now = self._table.clock()
        entry: CountEntry | None = self._table.get("c" + self._scope + key, now)
        if entry is None:
            entry = CountEntry(now + ttl_s)
        entry.expires = now + ttl_s
        entry.add(fields)
        self._table.put("c" + self._scope + key, entry, now)

    async def counts(self, key: str) -> dict[str, float]:
        entry: CountEntry | None = self._table.get("c" + self._scope + key, self._table.clock())
        if entry is None:
            return {}
        sums = entry.sums.copy()  # half a millisecond for a full one; the rest takes some
        return _totals(sums) if len(sums) < 2000 else await asyncio.to_thread(_totals, sums)


def _totals(sums: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    return {name: used + lost for name, (used, lost) in sums.items()}
