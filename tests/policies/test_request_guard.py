"""``request_guard``: its options, what it does with heads, and in which phases it takes part."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from policies.contract import Kind, Refuse
from policies.request_guard import RequestGuardOptions
from tests.kits.policy_kit import CHAT, chat_body, exchange, make, plan, run


def head(options: dict[str, Any], **x: Any) -> Kind | None:
    try:
        run(make("request_guard", options).admit(exchange(**x)))
    except Refuse as refused:
        return refused.kind
    return None


@pytest.mark.parametrize(
    ("length", "kind"),
    [
        ("1000", None),
        ("1001", Kind.TOO_LARGE),
        ("0000001000", None),
        ("9" * 5000, Kind.TOO_LARGE),
        ("0" * 5000, None),
        ("abc", None),  # framing is the server's business
        ("²", None),
        (None, None),
    ],
)
def test_content_length(length: str | None, kind: Kind | None) -> None:
    fields = [] if length is None else [("Content-Length", length)]
    assert head({"max_body": "1kB"}, fields=fields) is kind


def test_the_smallest_max_body_wins() -> None:
    for before, after in ((None, 1000), (2000, 1000), (500, 500)):
        x = exchange(max_body=before)
        run(make("request_guard", {"max_body": 1000}).admit(x))
        assert x.max_body == after


def test_a_body_that_came_without_a_length() -> None:
    assert head({"max_body": 1000}, bytes_in=1001) is Kind.TOO_LARGE
    with pytest.raises(Refuse) as caught:
        run(make("request_guard", {"max_body": 1000, "n": 1}).inspect(exchange(), chat_body(size=1001)))
    assert caught.value.kind is Kind.TOO_LARGE
    assert caught.value.message == "The request body is larger than 1000 bytes."


def test_methods() -> None:
    assert head({"methods": ["POST"]}) is None
    assert head({"methods": ["GET", "POST"]}, method="DELETE") is Kind.FORBIDDEN
    assert head({"methods": ["POST"]}, method="post") is Kind.FORBIDDEN


ALLOW = {"routes": {"allow": ["/v1/chat/*", "/v1/models"]}}
DENY = {"routes": {"deny": ["/v1/files", "/v1/files/*", "/metrics"]}}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/chat/"])
def test_allowed_routes(path: str) -> None:
    assert head(ALLOW, path=path) is None


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/v1/models/", "/V1/models", "/v1/chat", "/", "*", "/v1/chat/../files", "/v1/chat//x"]
)
def test_routes_not_allowed(path: str) -> None:
    assert head(ALLOW, path=path) is Kind.FORBIDDEN


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files",
        "/v1/files/",
        "/v1/files//",
        "/V1/FILES",
        "/v1/files/abc",
        "/v1/%66iles",
        "/v1/models/..%2ffiles",
        "/v1/./files",
        "/v1/x/../files",
        "//v1/files",
        "/v1/files;x=1",
        "/v1\\files",
        "/v1/files\x00",
        "/metrics/",
        "*",
    ],
)
def test_denied_routes(path: str) -> None:
    assert head(DENY, path=path) is Kind.FORBIDDEN


def test_what_is_not_denied_passes() -> None:
    assert head(DENY, path="/v1/chat/completions") is None
    assert head({"routes": {"allow": ["*"], "deny": ["/v1/files*"]}}, path="/v1/filesystem") is Kind.FORBIDDEN
    assert head({"methods": ["POST"]}, path="/v1//%66iles") is None, "without routes, paths are not judged"


@pytest.mark.parametrize(
    ("options", "phases"),
    [
        ({}, set()),
        ({"max_body": 5}, {"admit"}),
        ({"methods": ["GET"]}, {"admit"}),
        ({"routes": {"allow": ["/"]}}, {"admit"}),
        ({"routes": {"allow": []}}, set()),
        ({"n": 1}, {"inspect"}),
        ({"n": 0}, {"inspect"}),
        ({"params": {"deny": ["x"]}}, {"inspect"}),
        ({"media_urls": []}, {"inspect"}),
        ({"max_body": 5, "max_text": 0}, {"admit", "inspect"}),
    ],
)
def test_phases(options: dict[str, Any], phases: set[str]) -> None:
    assert make("request_guard", options).phases() == phases


def test_head_options_leave_the_body_unread() -> None:
    p = plan(make("request_guard", {"max_body": 5, "methods": ["GET"], "routes": {"deny": ["/x"]}}))
    assert not p.needs_body
    assert p.inspect == ()


@pytest.mark.parametrize(
    "options", [{"max_text": 1}, {"max_total_text": 1}, {"control_characters": "refuse"}, {"media_urls": []}]
)
def test_text_options_enforce_on_text(options: dict[str, Any]) -> None:
    assert plan(make("request_guard", options)).enforcing_request == ("request_guard",)


def test_other_options_do_not() -> None:
    policy = make("request_guard", {"n": 1, "max_messages": 4, "max_body": 5, "control_characters": "allow"})
    assert policy.reads == frozenset()
    assert plan(policy, route=CHAT).enforcing_request == ()


@pytest.mark.parametrize(
    "options",
    [
        {"n": "5"},
        {"n": True},
        {"n": -1},
        {"n": 1.5},
        {"n": {}},
        {"n": {"min": 5, "max": 4}},
        {"n": {"max": "4"}},
        {"n": {"max": float("nan")}},
        {"n": {"max": 4, "mx": 5}},
        {"ranges": {"a..b": {"max": 1}}},
        {"ranges": {"temperature": 1}},
        {"max_body": "1 potato"},
        {"max_body": 0},
        {"max_body": True},
        {"methods": ["post"]},
        {"methods": "POST"},
        {"routes": {"allow": ["v1/models"]}},
        {"routes": {"allowed": []}},
        {"params": {"allow": ["a*.b"]}},
        {"params": {"deny": [""]}},
        {"params": {"deny": ["a|b"]}},
        {"required": ["a||b"]},
        {"models": "llama"},
        {"media_urls": "maybe"},
        {"control_characters": True},
        {"max_text": -1},
    ],
)
def test_options_that_are_wrong(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RequestGuardOptions.model_validate(options)


def test_describe_lists_what_is_set() -> None:
    policy = make(
        "request_guard",
        {
            "max_body": "1MB",
            "n": {"min": 1, "max": 4},
            "models": ["a*", "b"],
            "ranges": {"top_p": {"max": 0.9}},
            "params": {"deny": ["user"]},
            "control_characters": "refuse",
        },
    )
    assert policy.describe() == (
        "max_body <= 1000000, models a* b, n >= 1 <= 4, top_p <= 0.9, params deny user, control_characters refuse"
    )
    assert make("request_guard", {}).describe() == "nothing to check"
