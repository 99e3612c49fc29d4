"""The ``callers:`` part of policy.yaml: types, defaults and their meaning.

What lives here: plain validated records. What must never live here: reading files, verifying anything.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema, model_validator

from policies.units import Duration, Name, Record

__all__ = ["Anonymous", "CallerKey", "CallerKeys", "Callers", "ForwardedCertificate", "Jwt", "Network"]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SCOPE = re.compile(r"[!#-\[\]-~]{1,128}")  # RFC 6749 3.3: scope-token
_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110 5.6.2: token
SYMMETRIC = frozenset(("HS256", "HS384", "HS512"))
LEAST_SECRET = 32
"""Bytes of an HMAC secret (RFC 7518 3.2: at least the size of SHA-256's output)."""

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"
]


def _network(value: object) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False)) if isinstance(value, str) else _wrong()
    except ValueError:
        return _wrong()


def _wrong() -> str:
    raise ValueError("write an address or a network, such as 10.0.0.0/8 or ::1")


def _digest(value: str) -> str:
    value = value.lower()
    if not _DIGEST.fullmatch(value):
        raise ValueError("write the SHA-256 of the key: 64 hexadecimal digits (`headgate keys new` prints it)")
    return value


def _scope(value: str) -> str:
    if not _SCOPE.fullmatch(value):
        raise ValueError("write a scope without spaces and quotes, such as ai:generate")
    return value


def _field(value: str) -> str:
    if not _FIELD.fullmatch(value):
        raise ValueError("write the name of a header field")
    return value


def _day(value: Any) -> Any:
    """YAML of this file knows no dates, so they come as text: a day ends when it is over, a time says its offset."""
    if not isinstance(value, str):
        raise ValueError("write a day or a time, such as 2027-01-31 or 2027-01-31T12:00:00Z")
    try:
        if len(value) == 10:
            day = date.fromisoformat(value)
            return datetime.fromisoformat(f"{day}T23:59:59+00:00").timestamp()
        when = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("write a day or a time, such as 2027-01-31 or 2027-01-31T12:00:00Z") from None
    if when.tzinfo is None:
        raise ValueError("a time needs its offset: end it with Z or +02:00")
    return when.timestamp()


Network = Annotated[str, BeforeValidator(_network)]
Digest = Annotated[str, AfterValidator(_digest)]
Scope = Annotated[str, AfterValidator(_scope)]
FieldName = Annotated[str, AfterValidator(_field)]
Moment = Annotated[float, BeforeValidator(_day), WithJsonSchema({"type": "string", "examples": ["2027-01-31"]})]


class CallerKey(Record):
    """One API key. It says who has it, never what it is: keep the SHA-256, or bring the key in from outside."""

    name: Name
    """Who calls with it: in the log, in ``when: {callers: ...}``, in limits."""
    sha256: Digest | None = None
    """SHA-256 of the key, in hexadecimal. ``headgate keys new`` makes a key and prints this."""
    key: SecretStr | None = Field(default=None, examples=["${ALICE_KEY}"])
    """The key itself, from the environment or a file."""
    tenant: Name | None = None
    """The customer or team that it belongs to."""
    scopes: list[Scope] = []
    """What it may do; see ``scopes`` of ``callers``."""
    tier: Name | None = None
    """Becomes the label ``tier``, which limits can look at."""
    expires: Moment | None = None
    """From then on it is refused. A day counts to its end, UTC."""
    disabled: bool = False
    """Refuse it, and keep the row."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.sha256 is None) == (self.key is None):
            raise ValueError("write either `sha256` or `key`")
        return self


class CallerKeys(Record):
    """A file of keys."""

    keys: list[CallerKey] = []
    """As ``keys`` of ``callers``."""


class Jwt(Record):
    """Signed tokens (RFC 7519), as an identity provider gives them. Needs ``pip install "headgate[auth]"``."""

    jwks: str | None = Field(default=None, examples=["https://login.example.com/.well-known/jwks.json"])
    """Where the provider's public keys are (RFC 7517): an https address, http on this machine, or an absolute path."""
    secret: SecretStr | None = None
    """The shared secret of HS256 and its kin, at least 32 bytes."""
    algorithms: list[Algorithm] = Field(default=["RS256", "ES256", "EdDSA"], min_length=1)
    """What a token may be signed with. Public-key and shared-secret algorithms cannot stand together."""
    issuer: str | None = None
    """What ``iss`` must be."""
    audience: str | list[str] | None = None
    """One of these must be in ``aud``."""
    leeway: Duration = 30.0
    """How far the provider's clock may be off."""
    name: str = "sub"
    """The claim that names the caller."""
    tenant: str | None = None
    """The claim that names the tenant; dots lead into objects: ``org.id``."""
    scopes: str = "scope"
    """The claim with the scopes: a list, or a text with spaces between them."""
    tier: str | None = None
    """The claim that becomes the label ``tier``."""
    claims: list[str] = []
    """Claims that limits may count by."""
    refresh: Duration = Field(default=300.0, ge=1)
    """How often the keys are fetched again."""
    stale: Duration = Field(default=86_400.0)
    """How long keys are used that can no longer be fetched."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.jwks is None) == (self.secret is None):
            raise ValueError("write either `jwks` or `secret`")
        shared = SYMMETRIC.intersection(self.algorithms)
        if shared and len(shared) < len(self.algorithms):
            raise ValueError("public-key and shared-secret `algorithms` together let a public key pass for a secret: keep one")
        if bool(shared) != (self.secret is not None):
            raise ValueError("`secret` goes with HS256, HS384 and HS512, `jwks` with all other `algorithms`")
        if self.secret is not None and len(self.secret.get_secret_value().encode()) < LEAST_SECRET:
            raise ValueError("a `secret` of fewer than 32 bytes can be guessed (RFC 7518 3.2)")
        if self.jwks is not None and not re.match(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]|/", self.jwks):
            raise ValueError("write https://..., or the absolute path of a file, for `jwks`")
        return self


class ForwardedCertificate(Record):
    """Client certificates that a proxy in front has checked, and tells of in a header field."""

    header: FieldName = "X-Forwarded-Client-Cert"
    """The field. It counts from ``trusted_proxies`` alone, and goes no further from anybody."""
    format: Literal["xfcc", "dn"] = "xfcc"
    """``xfcc``: Envoy's elements (its URI, else the common name of its Subject); ``dn``: a distinguished name, such as
    nginx's ``$ssl_client_s_dn``, of which the common name counts."""
    verified_by: FieldName | None = None
    """A field that must say SUCCESS beside it, such as nginx's ``$ssl_client_verify`` in X-SSL-Client-Verify."""
    tenant: Name | None = None
    """The tenant of those callers; without it the organisation (O=) of the subject."""
    scopes: list[Scope] = []
    """What they may do."""
    tier: Name | None = None
    """Their label ``tier``."""


class Anonymous(Record):
    """Callers who show nothing."""

    tenant: Name | None = None
    """Their tenant."""
    scopes: list[Scope] = []
    """What they may do."""
    tier: Name | None = None
    """Their label ``tier``."""


class Callers(Record):
    """Who may call, and how they prove it. Without this part everybody may, and keys pass to the backend."""

    keys: list[CallerKey] = []
    """API keys, in ``Authorization: Bearer``, ``x-api-key`` or ``api-key``."""
    keys_file: str | None = Field(default=None, examples=["/etc/headgate/keys.yaml"])
    """A file with ``keys: [...]`` as above, looked at every half second: a key that is taken out of it is refused within a
    second, without a reload."""
    keys_in_store: bool = False
    """Look keys up in the store as well; what it says holds for 5 s."""
    jwt: Jwt | None = None
    """Tokens."""
    certificate: ForwardedCertificate | None = None
    """Client certificates."""
    anonymous: Anonymous | None = None
    """Let callers in who show nothing; without it they get 401. A wrong key is refused in any case."""
    trusted_proxies: list[Network] = Field(default=[], examples=[["10.0.0.0/8"]])
    """Whose X-Forwarded-For (and certificate field) is believed; the last address that is none of these is the caller's."""
    scopes: dict[str, Scope] = Field(default={}, examples=[{"/v1/*": "ai:generate"}])
    """Paths, as globs, and the scope that a caller must have there; the first that fits counts."""
    pass_through: bool = False
    """Send the caller's own key on to backends that have none. Otherwise it stays here."""

    @model_validator(mode="after")
    def _someone(self) -> Self:
        if not (self.keys or self.keys_file or self.keys_in_store or self.jwt or self.certificate or self.anonymous):
            raise ValueError("nobody could call: write `keys`, `keys_file`, `jwt`, `certificate` or `anonymous`")
        if self.certificate is not None and not self.trusted_proxies:
            raise ValueError("`certificate` needs `trusted_proxies`: from anybody else the field can be made up")
        if any(a.name == b.name and a.tenant != b.tenant for i, a in enumerate(self.keys) for b in self.keys[:i]):
            raise ValueError("two keys of one name have different tenants")
        return self
