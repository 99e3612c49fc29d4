"""From a request's head to its caller.

What lives here: the order in which proofs are looked at, what is refused, scopes. What must never live here: how a proof is
checked (the modules beside this one), limits, policies.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from policies.contract import Exchange, Kind, Refuse
from policies.globs import path_test
from policies.store import Store, StoreAway
from proxy.callers.addresses import Hops
from proxy.callers.certificates import of_dn, of_xfcc
from proxy.callers.jwks import JwksKeys
from proxy.callers.keys import KeyRing, digest, usable
from proxy.callers.settings import CallerKey, CallerKeys, Callers
from proxy.callers.tokens import BadToken, Tokens, looks_like_one
from proxy.headers import KEY_FIELDS
from proxy.reload import Watcher

__all__ = ["CallerDeps", "Identifier"]

STORE = "callers"
"""Whose counters they would be, were they any: the name under which rows stand in the store."""
_REMEMBERED = 5.0
"""Seconds that an answer of the store holds, also that it knows no such key."""
_STALE = 300.0
"""Seconds that a key which the store has known goes on counting while the store is away."""
_MOST_REMEMBERED = 16_384
_LENGTHS = frozenset(map(len, KEY_FIELDS))
_FETCH = 2.0  # seconds for a key set
_FILE_MOST = 10_000_000  # bytes


async def _no_store(name: str) -> Store:
    raise OSError("nobody has lent a store")


class CallerDeps(NamedTuple):
    """What the proxy lends. fetch: a GET (address, seconds) to its body, raising OSError or TimeoutError. read: a file of keys
    to its rows, raising ValueError with words that hold no key. clock: monotonic seconds; wall: unix seconds. tell: writes an
    event to the log. store: opens the store, for ``keys_in_store``."""

    fetch: Callable[[str, float], Awaitable[bytes]]
    read: Callable[[str], CallerKeys]
    clock: Callable[[], float]
    wall: Callable[[], float]
    tell: Callable[..., None]
    store: Callable[[str], Awaitable[Store]] = _no_store


class Identifier:
    """The ``callers:`` of one policy file at work."""

    def __init__(self, settings: Callers, deps: CallerDeps) -> None:
        self._settings = settings
        self._deps = deps
        self._hops = Hops(settings.trusted_proxies)
        self._ring = KeyRing(settings.keys)
        self._scopes = [(path_test([path]), scope) for path, scope in settings.scopes.items()]
        self._jwks: JwksKeys | None = None
        self._tokens: Tokens | None = None
        self._watching: asyncio.Task[None] | None = None
        self._store: Store | None = None
        self._stored: dict[str, tuple[float, CallerKey | None]] = {}  # when it was looked up, what was there
        fields = [settings.certificate.header, settings.certificate.verified_by] if settings.certificate is not None else []
        self._drop = [field for field in fields if field is not None]
        if settings.jwt is not None:
            if settings.jwt.jwks is not None:
                self._jwks = JwksKeys(
                    partial(self._key_set, settings.jwt.jwks), refresh=settings.jwt.refresh, stale=settings.jwt.stale,
                    clock=deps.clock, tell=deps.tell,
                )  # fmt: skip
            self._tokens = Tokens(settings.jwt, self._jwks, deps.wall)

    # -- life --------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Read the key file, fetch the key set. Raises OSError or ValueError for a key file that cannot be used; a provider
        that is down is no error."""
        name = self._settings.keys_file
        if name is not None:
            known = await asyncio.to_thread(_fingerprint, name)
            self._ring.replace((await asyncio.to_thread(self._deps.read, name)).keys)
            watcher = Watcher(partial(_fingerprint, name), self._reread, known=known, failed=self._unreadable)
            self._watching = asyncio.create_task(watcher.run())
        if self._settings.keys_in_store:
            self._store = await self._deps.store(STORE)
        if self._jwks is not None:
            await self._jwks.start()

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if self._jwks is not None:
            await self._jwks.close()

    # -- one request -------------------------------------------------------------------------------------------

    def identify(self, x: Exchange) -> Awaitable[None] | None:
        """Set the caller on the exchange, or return what has to be awaited for it. Raises Refuse (401, 403), then or there."""
        trusted = self._hops.any and self._hops.trusts(x.client)
        x.address = self._hops.client(x.client, x.headers.get_all("X-Forwarded-For")) if trusted else x.client
        subject = self._certificate(x, trusted)
        token = _credential(x)
        if token is None:
            self._without(x, subject)
        elif self._tokens is not None and looks_like_one(token):
            return self._token(x, self._tokens, token)
        else:
            hashed = digest(token)
            row = self._ring.find(hashed)
            if row is None and self._settings.keys_in_store:
                return self._from_store(x, hashed)
            self._key(x, row)
        return None

    def _certificate(self, x: Exchange, trusted: bool) -> tuple[str, str | None] | None:
        told = self._settings.certificate
        if told is None:
            return None
        value, verified = x.headers.get_all(told.header), told.verified_by and x.headers.get_all(told.verified_by)
        for field in self._drop:
            x.headers.remove(field)
        if not trusted or len(value) != 1 or (told.verified_by and verified != ["SUCCESS"]):
            return None
        return of_xfcc(value[0]) if told.format == "xfcc" else of_dn(value[0])

    def _without(self, x: Exchange, subject: tuple[str, str | None] | None) -> None:
        """No credential: a certificate, or nobody in particular."""
        told, anonymous = self._settings.certificate, self._settings.anonymous
        if subject is not None and told is not None:
            self._is(x, subject[0], told.tenant or subject[1], told.scopes, told.tier)
        elif anonymous is not None:
            self._is(x, None, anonymous.tenant, anonymous.scopes, anonymous.tier)
        else:
            raise Refuse(Kind.UNAUTHENTICATED, "No API key was given: send it as `Authorization: Bearer KEY`.")

    def _key(self, x: Exchange, row: CallerKey | None) -> None:
        if row is None or not usable(row, self._deps.wall()):
            raise Refuse(Kind.UNAUTHENTICATED, "The API key is not valid.")
        self._is(x, row.name, row.tenant, row.scopes, row.tier)

    def _is(
        self, x: Exchange, name: str | None, tenant: str | None, scopes: list[str] | frozenset[str], tier: str | None
    ) -> None:
        x.caller, x.tenant, x.scopes = name, tenant, frozenset(scopes)
        if tier is not None:
            x.labels["tier"] = tier
        for fits, scope in self._scopes:
            if fits(x.path):
                if scope not in x.scopes:
                    raise Refuse(Kind.FORBIDDEN, f"This needs the scope `{scope}`.", code="insufficient_scope")
                return

    # -- tokens ------------------------------------------------------------------------------------------------

    def _token(self, x: Exchange, tokens: Tokens, token: str) -> Awaitable[None] | None:
        try:
            claimed = tokens.read(token)
        except BadToken as bad:
            if bad.unknown and self._jwks is not None and self._jwks.worth_asking():
                return self._again(x, tokens, token, self._jwks)
            raise _refused(bad) from None
        x.claims = claimed.claims
        self._is(x, claimed.name, claimed.tenant, claimed.scopes, claimed.tier)
        return None

    async def _again(self, x: Exchange, tokens: Tokens, token: str, keys: JwksKeys) -> None:
        """Its key may be new: fetch the key set, and look once more."""
        await keys.ask()
        try:
            claimed = tokens.read(token)
        except BadToken as bad:
            raise _refused(bad) from None
        x.claims = claimed.claims
        self._is(x, claimed.name, claimed.tenant, claimed.scopes, claimed.tier)

    async def _key_set(self, where: str) -> bytes:
        if not where.startswith("/"):
            return await self._deps.fetch(where, _FETCH)
        return await asyncio.to_thread(_bytes, where)

    # -- keys elsewhere ----------------------------------------------------------------------------------------

    async def _from_store(self, x: Exchange, hashed: str) -> None:
        now = self._deps.clock()
        seen = self._stored.get(hashed)
        if seen is None or now >= seen[0] + _REMEMBERED:
            try:
                row = await self._stored_row(hashed)
            except StoreAway as away:
                if seen is None or seen[1] is None or now >= seen[0] + _STALE:
                    # nobody can say whether the key is good: that is no reason to tell its owner that it is not
                    raise Refuse(Kind.LIMITS_AWAY, "API keys cannot be checked now.", retry_after=away.retry_after_s) from None
                row = seen[1]
            else:
                if len(self._stored) >= _MOST_REMEMBERED:
                    self._stored.clear()
                self._stored[hashed] = now, row
        else:
            row = seen[1]
        self._key(x, row)

    async def _stored_row(self, hashed: str) -> CallerKey | None:
        """A row of the store, written as JSON; None when there is none, or none that can be read. Raises StoreAway."""
        raw = await self._store.get(hashed) if self._store is not None else None
        if raw is None:
            return None
        try:
            return CallerKey.model_validate({**json.loads(raw), "sha256": hashed, "key": None})
        except (ValueError, TypeError) as error:  # pydantic's errors are ValueErrors
            self._deps.tell("warning", "caller_key_unreadable", error=type(error).__name__)
            return None

    async def _reread(self) -> None:
        rows = (await asyncio.to_thread(self._deps.read, self._settings.keys_file or "")).keys
        self._ring.replace(rows)
        self._deps.tell("info", "caller_keys_reloaded", keys=len(rows))

    def _unreadable(self, error: Exception) -> None:
        """The old keys stay."""
        detail = str(error) if isinstance(error, ValueError) else type(error).__name__
        self._deps.tell("error", "caller_keys_rejected", file=self._settings.keys_file, error=detail)


def _refused(bad: BadToken) -> Refuse:
    challenge = [("WWW-Authenticate", 'Bearer error="invalid_token"')]
    return Refuse(Kind.UNAUTHENTICATED, f"The token is {bad.reason}.", headers=challenge)


def _credential(x: Exchange) -> str | None:
    """The one credential of a request. Raises Refuse for several that differ: backends would pick one, and not all the same."""
    found: str | None = None
    for field, raw in x.headers.fields:
        if len(field) not in _LENGTHS or (name := field.lower()) not in KEY_FIELDS:
            continue
        value = raw.decode("latin-1").strip()
        if name == b"authorization":
            scheme, _, value = value.partition(" ")
            if scheme.lower() != "bearer":
                raise Refuse(Kind.UNAUTHENTICATED, "Send the API key as `Authorization: Bearer KEY`.")
            value = value.strip()
        if value:
            if found is not None and value != found:
                raise Refuse(Kind.UNAUTHENTICATED, "Several API keys were given: send one.")
            found = value
    return found


def _fingerprint(name: str) -> tuple[int, ...]:
    info = Path(name).stat()
    return info.st_mtime_ns, info.st_size, info.st_ino


def _bytes(name: str) -> bytes:
    with Path(name).open("rb") as file:
        return file.read(_FILE_MOST)
