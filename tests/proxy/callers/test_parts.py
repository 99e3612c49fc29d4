"""Addresses behind proxies, certificates that proxies tell of, and API keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.callers.addresses import Hops
from proxy.callers.certificates import of_dn, of_xfcc
from proxy.callers.keys import PREFIX, KeyRing, digest, new_key, usable
from proxy.callers.settings import CallerKey, Callers, Jwt

TRUSTED = ["10.0.0.0/8", "::1", "192.168.1.1"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # whoever it is may write what it likes
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # what stands before it is the caller's own word
        ("10.1.2.3", ["1.1.1.1", "198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.1.2.3", ["10.4.4.4, 10.9.9.9"], "10.4.4.4"),
        ("10.1.2.3", ["198.51.100.1, nonsense, 10.9.9.9"], "10.9.9.9"),
        ("10.1.2.3", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.1.2.3", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("10.1.2.3", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("::1", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["", " , "], "10.1.2.3"),
        ("not an address", ["198.51.100.1"], "not an address"),
    ],
)
def test_the_last_hop_that_nobody_vouches_for_is_the_caller(peer: str, forwarded: list[str], client: str) -> None:
    assert Hops(TRUSTED).client(peer, forwarded) == client


@given(st.lists(st.text("0123456789.:, []abc", max_size=40), max_size=5))
def test_nobody_outside_the_trusted_networks_is_believed(forwarded: list[str]) -> None:
    assert Hops(TRUSTED).client("203.0.113.9", forwarded) == "203.0.113.9"
    assert Hops([]).client("10.1.2.3", forwarded) == "10.1.2.3"


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        ('By=spiffe://a/b;Hash=ab;Subject="/C=US/O=Acme/CN=alice";URI=spiffe://acme/ns/x/sa/alice',
         ("spiffe://acme/ns/x/sa/alice", "Acme")),
        ('Hash=ab;Subject="CN=alice,O=Acme, Inc"', ("alice", "Acme")),
        ('Hash=ab;Subject="CN=mallory",Hash=cd;Subject="CN=alice"', ("alice", None)),  # the nearest proxy writes the last
        ('Hash=ab;Subject="CN=a\\\\,b"', None),
        ("Hash=ab", None),
        ("", None),
        ("URI=spiffe://x y", None),
    ],
)  # fmt: skip
def test_envoys_field(value: str, subject: object) -> None:
    assert of_xfcc(value) == subject


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        ("CN=alice,O=Acme,C=US", ("alice", "Acme")),
        ("/C=US/O=Acme/CN=alice", ("alice", "Acme")),
        ("O=Acme,CN=alice,CN=mallory", ("alice", "Acme")),
        ("O=Acme", None),
        ("CN=,O=Acme", None),
        ("CN=al\nice", None),
        ('CN="alice",O="Acme, Inc"', ("alice", "Acme, Inc")),
    ],
)
def test_distinguished_names(value: str, subject: object) -> None:
    assert of_dn(value) == subject


def test_a_key_is_found_by_its_digest_and_not_kept() -> None:
    key = new_key()
    assert key.startswith(PREFIX) and len(key) >= 43 and key != new_key()
    ring = KeyRing([CallerKey.model_validate({"name": "alice", "key": key}), CallerKey(name="bob", sha256=digest("other"))])
    row = ring.find(digest(key))
    assert row is not None and row.name == "alice" and row.key is None
    assert key not in repr(ring.__dict__)
    assert ring.find(digest("nobody's")) is None
    ring.replace([CallerKey(name="carol", sha256=digest("third"))])
    assert len(ring) == 3 and ring.find(digest("third")) is not None
    ring.replace([])
    assert ring.find(digest("third")) is None and ring.find(digest(key)) is not None


def test_a_day_counts_to_its_end() -> None:
    row = CallerKey.model_validate({"name": "a", "sha256": "0" * 64, "expires": "2027-01-31"})
    assert usable(row, 1_801_439_998.0) and not usable(row, 1_801_440_000.0)  # 2027-01-31T23:59:58Z and midnight
    assert not usable(row.model_copy(update={"disabled": True}), 0.0)


@pytest.mark.parametrize(
    ("doc", "words"),
    [
        ({}, "nobody could call"),
        ({"keys": [{"name": "a"}]}, "either `sha256` or `key`"),
        ({"keys": [{"name": "a", "sha256": "abc"}]}, "64 hexadecimal digits"),
        ({"keys": [{"name": "a", "sha256": "0" * 64, "expires": "tomorrow"}]}, "write a day or a time"),
        ({"keys": [{"name": "a", "sha256": "0" * 64, "expires": "2027-01-31T12:00:00"}]}, "needs its offset"),
        ({"keys": [{"name": "a", "sha256": "0" * 64, "scopes": ["a b"]}]}, "write a scope without spaces"),
        ({"certificate": {}}, "needs `trusted_proxies`"),
        ({"anonymous": {}, "trusted_proxies": ["everywhere"]}, "write an address or a network"),
        ({"jwt": {}}, "either `jwks` or `secret`"),
        ({"jwt": {"secret": "short", "algorithms": ["HS256"]}}, "can be guessed"),
        ({"jwt": {"secret": "x" * 32}}, "`secret` goes with"),
        ({"jwt": {"jwks": "https://x/y", "algorithms": ["RS256", "HS256"]}}, "let a public key pass for a secret"),
        ({"jwt": {"jwks": "http://login.example.com/keys"}}, "write https://"),
        ({"jwt": {"jwks": "https://x/y", "algorithms": ["none"]}}, "Input should be"),
    ],
)
def test_what_cannot_be_meant_is_refused(doc: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Callers.model_validate(doc)
    assert words in str(caught.value)


def test_secrets_do_not_show() -> None:
    jwt = {"secret": "s" * 40, "algorithms": ["HS256"]}
    asked = Callers.model_validate({"jwt": jwt, "keys": [{"name": "a", "key": "kkk-secret"}]})
    assert "ssss" not in repr(asked) and "kkk-secret" not in repr(asked)
    assert "ssss" not in repr(Jwt.model_validate(jwt))
