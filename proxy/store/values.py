"""Small values and accounts in this process's table: what is kept under a key without a limit.

What lives here: those calls of ``policies/store.py``. What must never live here: the table itself, limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from policies.store import check_counts
from proxy.store.entries import CountEntry, Entry, ValueEntry


class Table(Protocol):
    @property
    def clock(self) -> Callable[[], float]: ...
    def get(self, key: str, now: float) -> Any: ...
    def put(self, key: str, entry: Entry, now: float) -> None: ...
    def remove(self, key: str) -> None: ...


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
        return {} if entry is None else {name: used + lost for name, (used, lost) in entry.sums.items()}
