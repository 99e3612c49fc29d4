"""The vault: one placeholder per value, numbered by first appearance, shown nowhere."""

from __future__ import annotations

import copy
import pickle

import pytest

from policies.pii.placeholders import Forms, canonical, tag_of
from policies.pii.vault import Vault, same


def test_values_are_numbered_by_first_appearance_and_keep_their_number() -> None:
    v = Vault()
    told = [v.placeholder("EMAIL", value) for value in ("b@x.org", "a@x.org", "b@x.org", "c@x.org", "a@x.org")]
    assert told == ["[EMAIL_1]", "[EMAIL_2]", "[EMAIL_1]", "[EMAIL_3]", "[EMAIL_2]"]
    assert v.placeholder("CARD", "4111") == "[CARD_1]"
    assert (v.value("EMAIL_2"), v.value("CARD_1"), v.value("EMAIL_4")) == ("a@x.org", "4111", None)


def test_another_spelling_has_the_same_number_and_comes_back_as_it_was() -> None:
    v = Vault()
    spellings = ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111"]
    assert [v.placeholder("CARD", s) for s in spellings] == ["[CARD_1]", "[CARD_1B]", "[CARD_1C]"]
    assert [v.value(f"CARD_1{letter}") for letter in ("", "B", "C")] == spellings
    assert v.placeholder("CARD", "5500005555555559") == "[CARD_2]"


def test_more_spellings_than_letters() -> None:
    v = Vault()
    spellings = [f"4111{' ' * n}1111" for n in range(60)]
    told = {v.placeholder("CARD", s): s for s in spellings}
    assert len(told) == 60
    assert {v.value(form[1:-1]) for form in told} == set(spellings)


def test_secrets_are_the_same_only_when_they_are_equal() -> None:
    v = Vault()
    assert v.placeholder("KEY", "sk-AAAA1", exact=True) == "[KEY_1]"
    assert v.placeholder("KEY", "sk-aaaa1", exact=True) == "[KEY_2]"


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("Bob@X.org", "bob@x.ORG", True), ("b.ob@x.org", "bob@x.org", False), ("DE89 3704", "de893704", True),
        ("+49 30 123", "+4930123", True), ("+49 30 123", "4930123", False), ("2001:db8::1", "2001:db8:1", False),
        ("Jane  Doe", "JANE DOE", True), ("https://a:b@x/Y", "https://a:b@x/y", True), ("１２３", "123", True),
    ],
)  # fmt: skip
def test_what_is_the_same_value(a: str, b: str, equal: bool) -> None:
    assert (same(a) == same(b)) is equal


def test_text_that_looks_like_a_placeholder_keeps_its_number_to_itself() -> None:
    v = Vault(["EMAIL_1", "EMAIL_3", "EMAIL_2B"])
    assert v.placeholder("EMAIL", "a@x.org") == "[EMAIL_2]"
    assert v.placeholder("EMAIL", "A@x.org") == "[EMAIL_4]"  # 2B is taken
    assert v.value("EMAIL_1") is None
    assert v.foreign("EMAIL_1") and not v.foreign("EMAIL_2")


def test_keyed_numbers_are_stable_and_tell_nothing() -> None:
    one, two, other = Vault(key=b"k" * 32), Vault(key=b"k" * 32), Vault(key=b"j" * 32)
    one.placeholder("EMAIL", "z@x.org")
    told = one.placeholder("EMAIL", "a@x.org")
    assert told == two.placeholder("EMAIL", "a@x.org") != other.placeholder("EMAIL", "a@x.org")
    assert told != two.placeholder("EMAIL", "b@x.org")
    assert Forms(["EMAIL"]).seen(told) == [told[1:-1]]
    assert two.placeholder("EMAIL", "A@x.org") == told[:-1] + "B]"


def test_a_keyed_form_that_the_text_has_already_is_not_used() -> None:
    told = Vault(key=b"k" * 32).placeholder("EMAIL", "a@x.org")
    v = Vault([told[1:-1]], key=b"k" * 32)
    assert v.placeholder("EMAIL", "a@x.org") != told
    assert v.value(told[1:-1]) is None


def test_a_vault_shows_and_gives_away_nothing() -> None:
    v = Vault()
    v.placeholder("EMAIL", "alice@x.org")
    assert repr(v) == str(v) == f"{v}" == "<Vault of 1 values>"
    assert not hasattr(v, "__dict__")
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError) as caught:
            take(v)
        assert "alice" not in str(caught.value)


@pytest.mark.parametrize(
    ("form", "plain"),
    [
        ("[EMAIL_1]", "EMAIL_1"), ("<us-ssn-12b>", "US_SSN_12B"), ("\\[EMAIL\\_1\\]", "EMAIL_1"), ("%5bemail_1%5D", "EMAIL_1"),
        ("【EMAIL 1】", "EMAIL_1"), ("EMAIL\\_1", "EMAIL_1"), ("&lt;EMAIL_1&gt;", "EMAIL_1"), ("[EMAIL\u20111]", "EMAIL_1"),
    ],
)  # fmt: skip
def test_a_form_as_read(form: str, plain: str) -> None:
    assert canonical(form) == plain


@pytest.mark.parametrize(
    ("label", "tag"),
    [
        ("EMAIL", "EMAIL"),
        ("us ssn", "US_SSN"),
        ("__a--b__", "A_B"),
        ("9lives", "X_9LIVES"),
        ("é", "X"),
        ("a" * 99, "A" * 40),
    ],
)
def test_tags(label: str, tag: str) -> None:
    assert tag_of(label) == tag
