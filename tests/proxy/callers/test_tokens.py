"""JWTs: what is let in and what is refused, keys that rotate, and a provider that is down."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterable
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from policies.contract import Exchange, Headers, Kind, Refuse
from proxy.callers.identify import CallerDeps, Identifier
from proxy.callers.jwks import BACK_OFF
from proxy.callers.settings import CallerKeys, Callers

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA2 = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SECRET = "a-shared-secret-of-at-least-32-bytes!"
PROVIDER = "https://login.example.com/keys"


def public(key: Any, kid: str, **more: str) -> dict[str, Any]:
    kind = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256", ed25519.Ed25519PrivateKey: "EdDSA"}
    name = next(v for k, v in kind.items() if isinstance(key, k))
    return {**json.loads(pyjwt.get_algorithm_by_name(name).to_jwk(key.public_key())), "kid": kid, **more}


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "one", **claims: Any) -> str:
    payload = {"sub": "alice", "aud": "headgate", "iss": "https://login", "exp": time.time() + 3600, **claims}
    payload = {k: v for k, v in payload.items() if v is not None}
    return pyjwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


class Provider:
    """Where the keys are. now: the clock."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys: Iterable[dict[str, Any]] = keys
        self.fetches = 0
        self.down = False
        self.now = 1000.0
        self.told: list[str] = []

    async def fetch(self, url: str, seconds: float) -> bytes:
        assert url == PROVIDER
        self.fetches += 1
        await asyncio.sleep(0)
        if self.down:
            raise OSError("ConnectionRefusedError")
        return json.dumps({"keys": list(self.keys)}).encode()

    def identifier(self, **jwt: Any) -> Identifier:
        said = {"audience": "headgate", "issuer": "https://login", "jwks": PROVIDER, **jwt}
        kept = {k: v for k, v in said.items() if v is not None}
        settings = Callers.model_validate({"jwt": kept, "scopes": {"/v1/*": "ai:generate"}})
        deps = CallerDeps(
            self.fetch, lambda name: CallerKeys(), lambda: self.now, time.time, lambda level, name, **_: self.told.append(name)
        )
        return Identifier(settings, deps)


async def who(identifier: Identifier, bearer: str, path: str = "/free") -> Exchange:
    x = Exchange("1", "POST", path, "", Headers([(b"Authorization", b"Bearer " + bearer.encode())]), "192.0.2.1", 0.0, 0.0)
    known = identifier.identify(x)
    if known is not None:
        await known
    return x


async def refused(identifier: Identifier, bearer: str, path: str = "/free") -> Refuse:
    with pytest.raises(Refuse) as caught:
        await who(identifier, bearer, path)
    assert bearer not in str(caught.value.message)
    return caught.value


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (RSA, "PS384"), (EC, "ES256"), (ED, "EdDSA")])
async def test_good_tokens_name_their_caller(key: Any, algorithm: str) -> None:
    row = public(key, "one")
    row.pop("alg", None)
    identifier = Provider(row).identifier(
        algorithms=[algorithm], tenant="org.id", tier="plan", claims=["team", "missing"], scopes="scp"
    )
    await identifier.prepare()
    try:
        bearer = token(key, algorithm, org={"id": 7}, plan="pro", team="blue", scp=["ai:generate", 3])
        x = await who(identifier, bearer, "/v1/models")
        assert (x.caller, x.tenant, x.labels, x.claims) == ("alice", "7", {"tier": "pro"}, {"team": "blue"})
        assert x.scopes == {"ai:generate"}
        missing = await refused(identifier, token(key, algorithm), "/v1/models")
        assert missing.kind is Kind.FORBIDDEN and missing.code == "insufficient_scope" and "ai:generate" in str(missing.message)
        again = await refused(identifier, token(key, algorithm), "//v1/%6dodels")
        assert again.kind is Kind.FORBIDDEN, "another spelling of the path"
    finally:
        await identifier.close()


def unsigned(algorithm: str) -> str:
    part = lambda doc: base64.urlsafe_b64encode(json.dumps(doc).encode()).rstrip(b"=").decode()  # noqa: E731
    claims = {"sub": "alice", "aud": "headgate", "iss": "https://login", "exp": time.time() + 3600}
    return f"{part({'alg': algorithm, 'typ': 'JWT', 'kid': 'one'})}.{part(claims)}."


def confused() -> str:
    """Signed with the public key's text as an HMAC secret: it passes where the header chooses the algorithm."""
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, claims, _ = unsigned("HS256").split(".")
    import hashlib
    import hmac

    signature = hmac.digest(pem, f"{head}.{claims}".encode(), hashlib.sha256)
    return f"{head}.{claims}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    ("bearer", "words"),
    [
        (unsigned("none"), "not accepted"),
        (unsigned("None"), "not accepted"),
        (confused(), "not accepted"),
        (token(SECRET, "HS256"), "not accepted"),
        (token(RSA2), "invalid"),
        (token(EC, "ES256"), "not accepted"),
        (token(aud="another"), "for another audience"),
        (token(aud=None), "without a claim"),
        (token(iss="https://evil"), "of another issuer"),
        (token(exp=time.time() - 60), "expired"),
        (token(exp=None), "without a claim"),
        (token(nbf=time.time() + 600), "not valid yet"),
        (token(sub=None), "without a name"),
        (token(sub="a\nb"), "without a name"),
        (token(sub=""), "without a name"),
        (token()[:-4] + "AAAA", "invalid"),
        ("eyJhbGciOiJSUzI1NiJ9.eyJ.x", "invalid"),
        ("eyJ.eyJ.x", "invalid"),
        ("eyJ" + "A" * 9000 + ".a.b", "too long"),
    ],
)
async def test_bad_tokens_are_refused(bearer: str, words: str) -> None:
    identifier = Provider(public(RSA, "one")).identifier(algorithms=["RS256"])
    await identifier.prepare()
    try:
        refusal = await refused(identifier, bearer)
        assert refusal.kind is Kind.UNAUTHENTICATED and words in str(refusal.message)
        assert ("WWW-Authenticate", 'Bearer error="invalid_token"') in refusal.headers
    finally:
        await identifier.close()


async def test_a_key_that_is_for_another_algorithm() -> None:
    identifier = Provider(public(RSA, "one", alg="RS512")).identifier(algorithms=["RS256", "RS512"])
    await identifier.prepare()
    assert "not for" in str((await refused(identifier, token())).message)
    assert (await who(identifier, token(algorithm="RS512"))).caller == "alice"
    await identifier.close()


async def test_shared_secrets() -> None:
    identifier = Provider().identifier(jwks=None, secret=SECRET, algorithms=["HS256"])
    await identifier.prepare()
    assert (await who(identifier, token(SECRET, "HS256"))).caller == "alice"
    assert (await refused(identifier, token("another-secret-of-at-least-32-bytes!!", "HS256"))).kind is Kind.UNAUTHENTICATED
    await identifier.close()


async def test_a_new_key_is_fetched_once_for_all_who_bring_it() -> None:
    provider = Provider(public(RSA, "one"))
    identifier = provider.identifier()
    await identifier.prepare()
    assert provider.fetches == 1
    provider.keys = [public(RSA2, "two")]
    provider.now += BACK_OFF
    fresh = token(RSA2, kid="two")
    found = await asyncio.gather(*(who(identifier, fresh) for _ in range(50)))
    assert {x.caller for x in found} == {"alice"} and provider.fetches == 2
    assert "unknown key" in str((await refused(identifier, token(jti="fresh"))).message), "the old key is gone with the set"
    await identifier.close()


async def test_made_up_key_ids_are_no_load_on_the_provider() -> None:
    provider = Provider(public(RSA, "one"))
    identifier = provider.identifier()
    await identifier.prepare()
    provider.now += BACK_OFF
    for n in range(100):
        await refused(identifier, token(kid=f"made-up-{n}"))
    assert provider.fetches == 2
    assert (await who(identifier, token())).caller == "alice"
    await identifier.close()


async def test_a_provider_that_is_down() -> None:
    provider = Provider(public(RSA, "one"))
    identifier = provider.identifier(stale="1h")
    await identifier.prepare()
    provider.down = True
    provider.now += 60
    await refused(identifier, token(kid="unknown"))
    assert provider.told == ["jwks_unavailable"]
    assert (await who(identifier, token())).caller == "alice", "keys that were fetched go on counting"
    provider.now += 3600
    assert "not verifiable now" in str((await refused(identifier, token(jti="2"))).message), "but not for ever"
    provider.down = False
    provider.now += BACK_OFF
    assert (await who(identifier, token(jti="3"))).caller == "alice"
    assert provider.told == ["jwks_unavailable", "jwks_available"]
    await identifier.close()


async def test_a_provider_that_is_down_at_the_start() -> None:
    provider = Provider(public(RSA, "one"))
    provider.down = True
    identifier = provider.identifier()
    await identifier.prepare()
    await refused(identifier, token())
    provider.down = False
    provider.now += BACK_OFF
    assert (await who(identifier, token())).caller == "alice"
    await identifier.close()


@pytest.mark.parametrize(
    "keys", [[], [{"kty": "oct", "k": "c2VjcmV0", "kid": "one"}], [{"kty": "RSA"}], ["x"], [public(RSA, "one", use="enc")]]
)
async def test_key_sets_without_a_key_that_can_be_used(keys: list[Any]) -> None:
    provider = Provider()
    provider.keys = keys
    identifier = provider.identifier()
    await identifier.prepare()
    assert provider.told == ["jwks_unavailable"]
    await refused(identifier, token())
    await identifier.close()
