"""An identity provider's public keys (RFC 7517): fetched, kept, fetched again.

What lives here: when keys are fetched, and how long old ones count. What must never live here: tokens; sockets (the way to
fetch is lent).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

__all__ = ["JwksKeys", "KeysUnavailable", "PublicKey"]

BACK_OFF = 5.0
"""Seconds between two fetches for the sake of key ids that nobody knows: made-up ones must not become a load on the provider."""
_MOST_KEYS = 64


class PublicKey(NamedTuple):
    """key: as PyJWT takes it. algorithm: the only one that it is for, where the provider says so."""

    key: Any
    algorithm: str | None


class KeysUnavailable(Exception):
    """There are no keys, or they are too old. The message names the exception's type alone."""


class JwksKeys:
    """fetch: gives the document's bytes, and raises OSError or TimeoutError. refresh, stale: seconds, see ``Jwt``. clock:
    monotonic seconds. tell: told of changes for the worse and the better, once each."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[bytes]],
        *,
        refresh: float,
        stale: float,
        clock: Callable[[], float],
        tell: Callable[..., None],
    ) -> None:
        self._fetch = fetch
        self._refresh = refresh
        self._stale = stale
        self._clock = clock
        self._tell = tell
        self._keys: dict[str, PublicKey] = {}
        self._good: float | None = None  # when the keys came
        self._tried = -BACK_OFF
        self._failed = False
        self._under_way: asyncio.Task[None] | None = None
        self._rounds: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fetch for the first time, and from then on again and again. A provider that is down now is asked again."""
        await self._update()
        self._rounds = asyncio.create_task(self._go_round())

    async def close(self) -> None:
        for task in (self._rounds, self._under_way):
            if task is not None:
                task.cancel()

    def known(self, kid: str | None) -> PublicKey | None:
        """The key of an id; without an id the only key there is. Raises KeysUnavailable when there are none that count."""
        if self._good is None or self._clock() - self._good > self._stale:
            raise KeysUnavailable
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def worth_asking(self) -> bool:
        """A fetch may help: the last one was a while ago. One that is under way may help, too."""
        return self._under_way is not None or self._clock() - self._tried >= BACK_OFF

    async def ask(self) -> None:
        """Fetch now, for a key id that nobody knows; all who ask at once wait for one fetch."""
        if self._under_way is None:
            self._under_way = asyncio.create_task(self._update())
            self._under_way.add_done_callback(lambda _: setattr(self, "_under_way", None))
        await asyncio.shield(self._under_way)

    async def _go_round(self) -> None:
        while True:
            await asyncio.sleep(self._refresh if not self._failed else min(self._refresh, BACK_OFF))
            await self._update()

    async def _update(self) -> None:
        self._tried = self._clock()
        try:
            keys = _read(await self._fetch())
        except (OSError, TimeoutError, ValueError) as error:
            if not self._failed:
                self._tell("warning", "jwks_unavailable", error=type(error).__name__)
            self._failed = True
            return
        if self._failed:
            self._tell("info", "jwks_available", keys=len(keys))
        self._failed = False
        self._keys = keys
        self._good = self._clock()


def _read(document: bytes) -> dict[str, PublicKey]:
    """Keys for signatures by id; those of unknown kinds are left out. Raises ValueError for what is no key set."""
    from jwt import PyJWK, PyJWTError

    doc = json.loads(document)
    rows: Any = doc.get("keys") if isinstance(doc, dict) else None
    if not isinstance(rows, list):
        raise ValueError("no key set")
    out: dict[str, PublicKey] = {}
    for n, row in enumerate(rows[:_MOST_KEYS]):
        # a shared secret has no place in a public document, and could turn a public key into one
        if not isinstance(row, dict) or row.get("kty") == "oct" or row.get("use", "sig") != "sig":
            continue
        kid = row.get("kid")
        try:
            key = PyJWK.from_dict(row).key
        except PyJWTError:
            continue
        said = row.get("alg")
        out[kid if isinstance(kid, str) else f"#{n}"] = PublicKey(key, said if isinstance(said, str) else None)
    if not out:
        raise ValueError("no key that can be used")
    return out
