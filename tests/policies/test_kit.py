"""The policy kit, run over every policy of the catalogue."""

from __future__ import annotations

from typing import Any

import pytest

from policies import CATALOGUE, load
from policies.contract import Exchange, Policy, RequestBody
from tests.kits import policy_kit as kit

USES = sorted(CATALOGUE)

# For each policy, options with which each of its phases has something to do, and a request that makes it act.
ACTING: dict[str, dict[str, Any]] = {
    "budget": {"limits": ["1 tokens/day", "5 USD/month"], "prices": {"*": {"input": 1}}, "soft": 0.001},
    "headers": {
        "request": {"drop": ["host*"], "set": {"X-A": "{model}{label:x}", "X-B": "b"}, "add": {"X-C": "c"}},
        "response": {"drop": ["*"], "add": {"X-D": "{caller}"}},
    },
    "output_moderation": {
        "rules": [
            {"name": "a", "phrases": ["reply"]},
            {"name": "b", "action": "block", "phrases": ["pieces"]},
            {"name": "c", "action": "flag", "phrases": ["in"]},
        ]
    },
    "pii_redaction": {"custom": [{"name": "word", "words": ["Hello", "reply"]}]},
    "rate_limit": {"limits": ["1 requests/hour", "1 concurrent", "1k completion_tokens/day"], "on_overrun": "cut"},
    "request_guard": {
        "max_body": 5,
        "methods": ["GET"],
        "max_tokens": 1,
        "max_text": 3,
        "params": {"deny": ["user"]},
    },
}
# Options under which the planted text meets each kind of check.
CHECKS: dict[str, list[dict[str, Any]]] = {
    "budget": [
        *({"limits": ["1 tokens/day"], "by": by} for by in ("model", "header:X-Text", "address")),
        {"prices": {"known": {"input": 1}}, "unpriced": "refuse"},
    ],
    "headers": [{"request": {"set": {"X-A": "{model}"}}, "response": {"set": {"X-A": "{model}"}}}],
    "output_moderation": [
        {"rules": [{"name": "a", "action": action, "patterns": [r"\d{4}(-\d{4}){3}"], **more}]}
        for action, more in (("block", {}), ("redact", {}), ("replace", {"replacement": ""}), ("flag", {}))
    ],
    "pii_redaction": [
        {"entities": ["email", "credit_card"], "action": action, "key": "a key of the tests"}
        for action in ("pseudonymize", "redact", "mask", "hash", "block", "flag")
    ],
    "rate_limit": [{"limits": ["1 tokens/hour"], "by": by} for by in ("model", "header:X-Text", "address")],
    "request_guard": [
        {"models": ["other"]},
        {"deny_models": ["*"]},
        {"params": {"allow": ["model", "messages"]}},
        {"params": {"deny": ["*"]}},
        {"params": {"allow": ["model", "messages", "metadata.ok"]}},
        {"n": 1},
        {"ranges": {"user": {"max": 1}}},
        {"max_text": 3},
        {"max_total_text": 3},
        {"control_characters": "refuse"},
        {"media_urls": "refuse"},
        {"routes": {"allow": ["/v1/models"]}},
        {"max_messages": 0},
        {"max_completions": 1},
        {"required": ["seed"]},
    ],
}


def fresh() -> tuple[Exchange, RequestBody]:
    x = kit.exchange(caller="team-a", model_asked="llama-3.1-8b")
    return x, kit.chat_body("Hello there", max_tokens=5, user="u")


def planted() -> tuple[Exchange, RequestBody]:
    x = kit.exchange(model_asked=kit.MARKER, fields=[("Host", "localhost"), ("X-Text", kit.MARKER)])
    inner = {kit.MARKER: kit.MARKER, "image_url": {"url": "http://" + kit.MARKER}}
    doc = {
        "model": kit.MARKER,
        "messages": [{"role": "user", "content": kit.MARKER + "\x00"}],
        "n": kit.MARKER,
        "user": kit.MARKER,
        "metadata": inner,
        kit.MARKER: 1,
    }
    return x, kit.body(doc)


def acting(use: str) -> Policy:
    return kit.make(use, ACTING[use])


def test_every_policy_has_its_row_in_the_tables_here() -> None:
    assert set(ACTING) == set(CHECKS) == set(CATALOGUE)


@pytest.mark.parametrize("use", USES)
def test_declaration(use: str) -> None:
    kit.check_declaration(use)


@pytest.mark.parametrize("use", USES)
def test_unknown_option(use: str) -> None:
    kit.check_unknown_option(use)


@pytest.mark.parametrize("use", USES)
def test_idle(use: str) -> None:
    kit.check_idle(use)


@pytest.mark.parametrize("use", USES)
async def test_shadow_changes_nothing(use: str) -> None:
    x, request = fresh()
    await kit.check_shadow(acting(use), x, request, ["A reply ", "in pieces."])
    x, request = planted()
    await kit.check_shadow(kit.make(use, load(use).EXAMPLE), x, request, [kit.MARKER])


@pytest.mark.parametrize("use", USES)
async def test_error_stances(use: str) -> None:
    assert acting(use).phases(), "the table has options that make it act"
    await kit.check_error_stances(acting(use), fresh)


@pytest.mark.parametrize(("use", "options"), [(u, o) for u in USES for o in CHECKS[u]])
async def test_no_text_in_findings_and_errors(use: str, options: dict[str, Any]) -> None:
    x, request = planted()
    await kit.check_no_text(kit.make(use, options), x, request, [kit.MARKER])
