"""Failures that others have published, each named after what it showed. The numbers are those of their trackers."""

from __future__ import annotations

import pytest

from policies.pii import compile_scanner
from tests.policies.pii.test_scanner import ALL, streamed

SCANNER = compile_scanner(["all", "generic_secrets"])
GUID = "ab7e9a35-2d6b-4b7c-9f10-4155552671ab"


def found(text: str) -> list[tuple[str, str]]:
    return [(s.type, text[s.start : s.end]) for s in SCANNER.spans(text)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("the result was -0.96 after all", id="presidio-786-a-negative-number-as-a-person"),
        pytest.param(
            "job 1234567 done; 2024-01-15 10:22:33,123 INFO 7654321", id="presidio-1173-seven-digits-and-log-times"
        ),
        pytest.param("see letter 96c of the file", id="presidio-1352-letter-96c"),
        pytest.param("INTRODUCTORY H1 REGISTRATION1", id="presidio-1063-twelve-capitals-as-a-licence"),
        pytest.param(
            f"id {GUID} and 00000000-0000-0000-0000-415555267101", id="presidio-71-the-tail-of-a-guid-as-a-phone"
        ),
        pytest.param("duplicate A1234567", id="presidio-1061-lic-inside-duplicate"),
        pytest.param("the unsinkable 123456782", id="presidio-1061-sin-inside-unsinkable"),
    ],
)
def test_nothing_is_there(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "4111 1111 1111 1111", [("credit_card", "4111 1111 1111 1111")], id="presidio-47-one-card-one-type"
        ),
        pytest.param(
            "John Smith - jsmith@example.com", [("email", "jsmith@example.com")], id="presidio-635-name-dash-e-mail"
        ),
        pytest.param(
            "an müller@bücher.example, danke", [("email", "müller@bücher.example")], id="presidio-2077-idn-e-mail"
        ),
        pytest.param("почта иван@пример.рф!", [("email", "иван@пример.рф")], id="presidio-2077-cyrillic-e-mail"),
        pytest.param(
            "DE89370400440532013000 PLEASE PAY",
            [("iban", "DE89370400440532013000")],
            id="presidio-806-capitals-after-an-iban",
        ),
        pytest.param(
            "DE89 3704 0044 0532 0130 00 AND",
            [("iban", "DE89 3704 0044 0532 0130 00")],
            id="presidio-1795-a-word-in-the-sum",
        ),
        pytest.param(
            "GB82WEST12345698765432, London",
            [("iban", "GB82WEST12345698765432")],
            id="presidio-197-an-iban-is-no-place",
        ),
        pytest.param(
            "4111-1111-1111-1111",
            [("credit_card", "4111-1111-1111-1111")],
            id="presidio-370-hyphens-and-the-check-digit",
        ),
        pytest.param(
            "4111\u00a01111\u00a01111\u00a01111",
            [("credit_card", "4111\u00a01111\u00a01111\u00a01111")],
            id="presidio-370-no-break-spaces",
        ),
        pytest.param("NHS 943-476-5919", [("uk_nhs", "943-476-5919")], id="presidio-370-separators-in-an-nhs-number"),
        pytest.param("PESEL 02070803628", [("pl_pesel", "02070803628")], id="presidio-1998-pesel-check"),
        pytest.param(
            "PESEL 44051401358", [("national_id", "44051401358")], id="presidio-1998-pesel-with-a-wrong-digit-is-no-pesel"
        ),
        pytest.param(
            "peer ::ffff:192.0.2.1 up", [("ipv6", "::ffff:192.0.2.1")], id="prompt-scrubber-131-mapped-ipv6-whole"
        ),
        pytest.param(
            "Eric's mail eric@example.com's", [("email", "eric@example.com")], id="pasteguard-39-a-possessive"
        ),
    ],
)
def test_the_whole_value_and_no_more(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "value",
    [
        "EG380019000500000000263180002",
        "IQ98NBIQ850123456789012",
        "LY83002048000020100120361",
        "LC55HEMM000100010012001200023015",
        "SC18SSCB11010000000000001497USD",
        "UA213223130000026007233566001",
    ],
)
def test_presidio_2078_six_countries_of_the_registry(value: str) -> None:
    assert found(f"to {value}.") == [("iban", value)]


def test_litellm_41611_a_value_split_over_two_chunks() -> None:
    text = "write to jane.doe@example.com today"
    for cut in range(len(text)):
        assert [s.type for s in streamed(ALL, text, [cut])] == ["email"]


def test_litellm_31503_the_boundary_leak() -> None:
    """``jane.`` has gone out when ``doe@example.com`` comes: it may not."""
    gate = ALL.gate(lambda hit: "[EMAIL]")
    assert gate.push("to jane.") == 3
    gate.push("doe@example.com")
    assert gate.close() == 23
    assert [(e.start, e.end) for e in gate.edits] == [(3, 23)]


def test_llm_guard_210_every_occurrence() -> None:
    assert [t for t, _ in found("a@b.io, then a@b.io, and a@b.io")] == ["email"] * 3


def test_presidio_2063_a_long_url_is_read_in_linear_time() -> None:
    """Work, not time: moves of the automaton that are made anew stop growing."""
    SCANNER.spans("https://u:" + "a:" * 200 + "@")
    made = SCANNER.rules.machine.made
    SCANNER.spans("https://u:" + "a:" * 20_000 + "@")
    assert SCANNER.rules.machine.made - made < 200


def test_litellm_6247_offsets_are_those_of_the_text_itself() -> None:
    text = "𝔘 naïve 🙂 Καλημέρα mike@example.com 🙂 4111 1111 1111 1111"
    assert found(text) == [("email", "mike@example.com"), ("credit_card", "4111 1111 1111 1111")]
