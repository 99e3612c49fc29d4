"""Check digits against published examples and against python-stdnum."""

from __future__ import annotations

from importlib import import_module

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.pii import checks

DIGITS = st.text("0123456789", min_size=1, max_size=24)


@given(DIGITS)
def test_luhn_is_that_of_the_library(digits: str) -> None:
    assert checks.luhn(digits) == import_module("stdnum.luhn").is_valid(digits)


@settings(max_examples=200)
@given(st.text("0123456789", min_size=18, max_size=18), st.sampled_from(["DE", "XX"]), st.integers(0, 99))
def test_iban_is_that_of_the_library(rest: str, country: str, check: int) -> None:
    value = f"{country}{check:02}{rest}"
    expected = import_module("stdnum.iban").is_valid(value, check_country=False) and country != "XX"
    assert checks.iban(value) == expected


@given(st.text("0123456789", min_size=9, max_size=9))
def test_aba_weights(digits: str) -> None:
    if checks.aba(digits):
        assert import_module("stdnum.us.rtn").is_valid(digits)


def test_eip55_examples() -> None:
    """The examples of EIP-55."""
    for good in (
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ):
        assert checks.eip55(good)
        at = next(i for i, c in enumerate(good) if i > 1 and c.isalpha())
        assert not checks.eip55(good[:at] + good[at].swapcase() + good[at + 1 :])
        assert checks.eip55(good.lower()) and checks.eip55("0x" + good[2:].upper())


def test_bech32_examples() -> None:
    """Of BIP 173 and BIP 350."""
    assert checks.bech32("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0")
    assert checks.bech32("tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7")
    assert not checks.bech32("tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sL5k7")


def test_entropy() -> None:
    assert checks.entropy("") == 0 and checks.entropy("aaaa") == 0
    assert checks.entropy("abcd") == 2
