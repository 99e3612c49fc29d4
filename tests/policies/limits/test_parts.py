"""How limits are written, whose they are, what a request is thought to cost, what the reply says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from policies.contract import Attempt, Headers, Kind, Usage
from policies.limits.fields import put_rate_fields, rate_fields, span
from policies.limits.meter import FIRST_GUESS, PER_BYTE, Cost, Meter
from policies.limits.prices import Price, Prices
from policies.limits.spec import parse_by, parse_limit
from policies.limits.subjects import subject_of
from policies.store import PartState
from tests.kits.policy_kit import exchange


@pytest.mark.parametrize(
    ("text", "shown", "seconds", "burst"),
    [
        ("100 requests/minute", "100 requests per minute", 60, 100),
        ("1 request / s", "1 requests per second", 1, 1),
        ("1_000 requests per hour", "1,000 requests per hour", 3600, 1000),
        ("200k tokens/minute", "200,000 tokens per minute", 60, 200_000),
        ("2M tokens/day", "2,000,000 tokens per day", 0, 0),
        ("2.5M tokens/month", "2,500,000 tokens per month", 0, 0),
        ("10 prompt_tokens/second burst 40", "10 prompt tokens per second", 1, 40),
        ("10 output tokens/second", "10 completion tokens per second", 1, 10),
        ("60 requests/10 minutes", "60 requests per 600 seconds", 600, 60),
        ("50 USD/month", "50 USD per month", 0, 0),
        ("0.5 EUR/hour", "0.5 EUR per hour", 3600, 0.5),
        ("8 concurrent", "8 concurrent requests", 0, 0),
        ("8 concurrent streams by tenant", "8 concurrent streams", 0, 0),
        ("1k requests/week", "1,000 requests per week", 0, 0),
    ],
)
def test_limits_as_they_are_written(text: str, shown: str, seconds: float, burst: float) -> None:
    limit = parse_limit(text, ("caller",))
    assert (str(limit), limit.seconds, limit.burst) == (shown, seconds, burst)
    assert limit.by == (("tenant",) if "tenant" in text else ("caller",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "write it like"), ("100", "write it like"), ("requests/minute", "write it like"), ("100 requests", "says no period"),
        ("100 apples/minute", "nothing to count"), ("100 requests/fortnight", "no period"), ("0 requests/minute", "above 0"),
        ("-5 requests/minute", "write it like"), ("8 concurrent/minute", "without a period"), ("1.5 concurrent", "whole number"),
        ("100 requests/day burst 5", "without a burst"), ("100 requests/2 days", "of the calendar"),
        ("100 requests/minute by moon", "nothing to count by"), ("5 requests/0 minutes", "no period"),
    ],
)  # fmt: skip
def test_what_is_no_limit(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_limit(text, ())


def test_what_limits_count_by() -> None:
    assert parse_by("tenant+model") == ("tenant", "model") and parse_by(["header:X-Team"]) == ("header:X-Team",)
    assert parse_by("all") == () == parse_by([])
    for wrong in ("moon", "header:", "tenant+tenant", 7, [1]):
        with pytest.raises(ValueError):
            parse_by(wrong)


def test_whose_count_it_is() -> None:
    one, two = exchange(caller="alice", tenant="acme"), exchange(caller="alice", tenant="other")
    nobody = exchange(caller=None, client="192.0.2.1")
    behind = exchange(caller=None, client="192.0.2.1", address="198.51.100.7")
    caller = subject_of(("caller",))
    assert len({caller(x) for x in (one, two, nobody, behind)}) == 4, "the same name in another tenant is another caller"
    assert caller(one) == caller(exchange(caller="alice", tenant="acme", client="203.0.113.1"))
    assert subject_of(("tenant",))(one) != subject_of(("tenant",))(two)
    assert subject_of(())(one) == subject_of(())(two)
    assert "alice" not in caller(one) and "acme" not in subject_of(("tenant",))(one)
    headed = [exchange(headers=Headers([(b"x-team", team)])) for team in (b"blue", b"red", b"blue")]
    keys = [subject_of(("header:X-Team",))(x) for x in headed]
    assert keys[0] == keys[2] != keys[1]
    pair = subject_of(("tenant", "model"))
    assert pair(exchange(tenant="a", model_asked="bc")) != pair(exchange(tenant="ab", model_asked="c"))


def used(prompt: int, completion: int, **more: Any) -> Any:
    return exchange(
        text_in=400, model_asked="m", dialect="chat", usage=Usage(prompt, completion),
        attempts=[Attempt("b", 0.0)], committed=True, status=200, **more,
    )  # fmt: skip


def test_reservations_learn_from_what_the_backend_has_counted() -> None:
    meter = Meter()
    asking = exchange(text_in=400, model_asked="m", dialect="chat")
    assert meter.reserve(asking) == Cost(400 * PER_BYTE, FIRST_GUESS)
    for _ in range(200):
        assert meter.spent(used(200, 40), Cost(0, 0)) == Cost(200, 40)
    learnt = meter.reserve(asking)
    assert learnt.prompt == pytest.approx(200, rel=0.01) and learnt.completion == pytest.approx(60)
    assert meter.reserve(exchange(text_in=400, model_asked="m", dialect="chat", tokens_asked=10, times=3)).completion == 30
    assert meter.reserve(exchange(text_in=400, model_asked="m", dialect="embeddings")).completion == 0
    assert meter.reserve(exchange(text_in=400, model_asked="other", dialect="chat")).completion == FIRST_GUESS


def test_names_of_models_fill_no_memory() -> None:
    meter = Meter()
    for n in range(3000):
        x = used(1, 1)
        x.model_asked = f"made-up-{n}"
        meter.spent(x, Cost(0, 0))
    assert len(meter._models) <= 1024


@pytest.mark.parametrize(
    ("more", "spent"),
    [
        ({"attempts": []}, Cost(0, 0)),
        ({"status": 500}, Cost(0, 0)),
        ({"committed": False, "fault": Kind.BACKEND_RESET}, Cost(0, 0)),
        ({"stream": True, "pieces": 7}, Cost(100, 7)),
        ({"stream": False, "bytes_out": 80}, Cost(100, 20)),
        ({"stream": False, "bytes_out": 80_000}, Cost(100, 50)),
        ({"dialect": "embeddings"}, Cost(100, 0)),
    ],
)
def test_without_a_count_it_is_estimated(more: dict[str, Any], spent: Cost) -> None:
    given = {"dialect": "chat", "attempts": [Attempt("b", 0.0)], "committed": True, "status": 200, **more}
    assert Meter().spent(exchange(**given), Cost(100, 50)) == spent


def test_prices() -> None:
    prices = Prices({"gpt-4o*": Price(input=2.5, output=10, cached=1.25), "*": Price(input=1)})
    assert prices.money("gpt-4o-mini", Cost(1_000_000, 100_000)) == pytest.approx(3.5)
    assert prices.money("gpt-4o-mini", Cost(1_000_000, 0, cached=400_000)) == pytest.approx(2.0)
    assert prices.money("llama", Cost(1_000_000, 5_000_000, cached=9e9)) == pytest.approx(1.0)
    assert Prices({}).money("llama", Cost(1, 1)) == 0.0 and Prices({}).of(None) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-1, "0s"), (0.0201, "21ms"), (1, "1s"), (1.2, "2s"), (60, "1m0s"),
     (359.5, "6m0s"), (3600, "1h0m0s"), (90061, "25h1m1s")],
)  # fmt: skip
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_fields_tell_the_tightest_limit_of_a_kind() -> None:
    limits = [parse_limit(t, ()) for t in ("100 requests/minute", "1000 requests/hour", "5k tokens/minute", "8 concurrent")]
    states = [
        PartState(True, 100, 60, 24.0, 0), PartState(True, 1000, 10, 3000.0, 0), PartState(True, 5000, 4999.7, 0.01, 0),
        PartState(True, 8, 7, 60, 0),
    ]  # fmt: skip
    fields = rate_fields(limits, states)
    assert dict(fields) == {
        "x-ratelimit-limit-requests": "1000", "x-ratelimit-remaining-requests": "10", "x-ratelimit-reset-requests": "50m0s",
        "x-ratelimit-limit-tokens": "5000", "x-ratelimit-remaining-tokens": "4999", "x-ratelimit-reset-tokens": "10ms",
    }  # fmt: skip
    headers = Headers([(b"X-RateLimit-Remaining-Requests", b"3"), (b"x-ratelimit-remaining-tokens", b"9000")])
    put_rate_fields(headers, fields)
    assert headers.get("x-ratelimit-remaining-requests") == "3" and headers.get("x-ratelimit-limit-requests") is None
    assert headers.get("x-ratelimit-remaining-tokens") == "4999" and headers.get("x-ratelimit-limit-tokens") == "5000"
