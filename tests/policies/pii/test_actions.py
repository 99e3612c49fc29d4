"""Masks, hashes and encrypted values."""

from __future__ import annotations

import sys

import pytest

from policies.pii.actions import Keys, MissingExtra, decrypt, encrypt, hashed, mask, redacted, sealer

KEYS = Keys("a key of the tests")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("4111 1111 1111 1111", "**** **** **** 1111"),
        ("4111-1111-1111-1111", "****-****-****-1111"),
        ("378282246310005", "***********0005"),
        ("078-05-1120", "***-**-1120"),
        ("ann@example.org", "***@******e.org"),
        ("1234", "**34"),
        ("a", "*"),
        ("--", "--"),
        ("", ""),
        ("Ünïcödé", "****ödé"),
    ],
)
def test_masks_keep_length_separators_and_the_last_four(value: str, shown: str) -> None:
    assert mask(value) == shown
    assert len(mask(value)) == len(value)


def test_masks_never_show_more_than_half() -> None:
    assert mask("123456", 8) == "***456"
    assert mask("123456", 0) == "******"


def test_a_redacted_value_says_only_what_it_was() -> None:
    assert redacted("credit card") == "[CREDIT_CARD]"


def test_a_hash_is_stable_for_key_tenant_and_type() -> None:
    one = hashed("EMAIL", "ann@x.org", KEYS, type="email", tenant="a")
    assert one == hashed("EMAIL", "ann@x.org", Keys("a key of the tests"), type="email", tenant="a")
    assert one.startswith("[EMAIL:") and len(one) == len("[EMAIL:]") + 12
    others = {
        hashed("EMAIL", "ann@x.org", KEYS, type="email", tenant="b"),
        hashed("EMAIL", "ann@x.org", KEYS, type="name", tenant="a"),
        hashed("EMAIL", "bob@x.org", KEYS, type="email", tenant="a"),
        hashed("EMAIL", "ann@x.org", Keys("another key, longer"), type="email", tenant="a"),
        hashed("EMAIL", "lann@x.org", KEYS, type="emai", tenant="a"),
    }
    assert len(others) == 5 and one not in others


def test_keys_show_nothing_and_differ_by_use() -> None:
    assert "key of" not in repr(KEYS)
    assert len({KEYS.hash, KEYS.number, KEYS.nonce, KEYS.encrypt}) == 4


def test_encrypted_values_come_back_with_the_key_only() -> None:
    """Published failure: decrypt(encrypt(x)) was not x."""
    pytest.importorskip("cryptography")
    for value in ("ann@x.org", "", "é\ud800\x00", "x" * 5000):
        token = encrypt("EMAIL", value, KEYS, type="email")
        assert token == encrypt("EMAIL", value, KEYS, type="email")
        assert decrypt(token, KEYS, type="email") == value
        for keys, type, given in (
            (Keys("another key, longer"), "email", token),
            (KEYS, "card", token),
            (KEYS, "email", token[:-3] + ("A" if token[-3] != "A" else "B") + token[-2:]),
        ):
            with pytest.raises(ValueError) as caught:
                decrypt(given, keys, type=type)
            assert token not in str(caught.value)
    assert encrypt("E", "a", KEYS, type="email", tenant="a") != encrypt("E", "a", KEYS, type="email", tenant="b")


@pytest.mark.parametrize("token", ["", "[EMAIL:]", "[EMAIL:AAAA]", "[EMAIL:a b c]", "é", "[EMAIL:" + "?" * 60 + "]"])
def test_what_was_never_encrypted_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="encrypted"):
        decrypt(token, KEYS, type="email")


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for module in [m for m in sys.modules if m.startswith("cryptography.")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(MissingExtra, match=r"headgate\[pii\]"):
        sealer(bytes(32))
