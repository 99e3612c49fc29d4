"""JWTs: verified, remembered for a moment, and read.

What lives here: Tokens. What must never live here: a token or a claim's value in a message; how keys are fetched (jwks.py).

PyJWT verifies (46 us for HS256, 78 for RS256); what lives here is what it leaves open: only the algorithms of the policy, the
key's own kind, ``exp`` required, a bound on what is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from proxy.callers.jwks import JwksKeys, KeysUnavailable
from proxy.callers.settings import Jwt

__all__ = ["BadToken", "Claimed", "Tokens", "looks_like_one"]

MOST_BYTES = 8192
"""Of a token that is looked at."""
REMEMBERED = 5.0
"""Seconds that a verified token is not verified again; so long a key may count that its provider has taken away."""
_MOST = 4096
_REASONS = {
    "ExpiredSignatureError": "expired", "ImmatureSignatureError": "not valid yet", "InvalidAudienceError": "for another audience",
    "InvalidIssuerError": "of another issuer", "MissingRequiredClaimError": "without a claim that is required",
}  # fmt: skip


class BadToken(Exception):
    """reason: public words, such as ``expired``. unknown: its key's id is not known, and another fetch may help."""

    def __init__(self, reason: str, *, unknown: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unknown = unknown


class Claimed(NamedTuple):
    """What a token says of its bearer. until: unix seconds."""

    name: str
    tenant: str | None
    scopes: frozenset[str]
    tier: str | None
    claims: dict[str, str]
    until: float


def looks_like_one(token: str) -> bool:
    """Three parts, the first of which begins as base64url of ``{"``."""
    return token.startswith("eyJ") and token.count(".") == 2


class Tokens:
    """wall: unix seconds."""

    def __init__(self, settings: Jwt, keys: JwksKeys | None, wall: Callable[[], float]) -> None:
        self._settings = settings
        self._keys = keys
        self._wall = wall
        self._secret = settings.secret.get_secret_value().encode() if settings.secret is not None else None
        self._seen: dict[bytes, tuple[float, Claimed]] = {}

    def read(self, token: str) -> Claimed:
        """What a good token says. Raises BadToken."""
        if len(token) > MOST_BYTES:
            raise BadToken("too long")
        key, now = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest(), self._wall()
        seen = self._seen.get(key)
        if seen is not None and now < seen[0]:
            return seen[1]
        claimed = self._claimed(self._verified(token))
        if len(self._seen) >= _MOST:
            self._seen.clear()
        self._seen[key] = min(now + REMEMBERED, claimed.until + self._settings.leeway), claimed
        return claimed

    def _verified(self, token: str) -> dict[str, Any]:
        import jwt

        s = self._settings
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in s.algorithms:
                raise BadToken("signed in a way that is not accepted")
            payload: dict[str, Any] = jwt.decode(
                token, self._key(header.get("kid"), algorithm), algorithms=[algorithm], audience=s.audience, issuer=s.issuer,
                leeway=s.leeway, options={"require": ["exp"], "verify_aud": s.audience is not None},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            raise BadToken(_REASONS.get(type(error).__name__, "invalid")) from None
        except (ValueError, TypeError, RecursionError):  # what a hostile header or key can make a parser say
            raise BadToken("invalid") from None
        return payload

    def _key(self, kid: object, algorithm: str) -> Any:
        if self._secret is not None:
            return self._secret
        assert self._keys is not None
        try:
            found = self._keys.known(kid if isinstance(kid, str) else None)
        except KeysUnavailable:
            raise BadToken("not verifiable now", unknown=True) from None
        if found is None:
            raise BadToken("signed with an unknown key", unknown=True)
        if found.algorithm is not None and found.algorithm != algorithm:
            raise BadToken("signed in a way that its key is not for")
        return found.key

    def _claimed(self, payload: dict[str, Any]) -> Claimed:
        s = self._settings
        name = _text(_at(payload, s.name))
        if name is None:
            raise BadToken("without a name")
        scopes = _at(payload, s.scopes)
        listed = scopes.split() if isinstance(scopes, str) else scopes if isinstance(scopes, list) else []
        claims = {c: text for c in s.claims if (text := _text(_at(payload, c))) is not None}
        return Claimed(
            name, _text(_at(payload, s.tenant)) if s.tenant else None, frozenset(t for t in listed if isinstance(t, str)),
            _text(_at(payload, s.tier)) if s.tier else None, claims, float(payload["exp"]),
        )  # fmt: skip


def _at(payload: dict[str, Any], path: str) -> Any:
    """A claim by its name, or, where there is none of that name, by a path of names with dots between them."""
    if path in payload:
        return payload[path]
    found: Any = payload
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _text(value: Any) -> str | None:
    """Text of at most 256 printable characters; a number counts as its text."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and len(value) <= 256 and value and value.isprintable() else None
