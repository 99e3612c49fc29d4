"""``when:`` compiled, against an interpreter of the same conditions, and its special rules one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.contract import Exchange
from policies.entry import When
from policies.when import NEVER, RouteFacts, compile_when, conditions_text
from tests.kits.policy_kit import CHAT, exchange
from tests.policies.test_globs import slow

PATTERN = RouteFacts("any", None, None, True, True)
BLIND = RouteFacts("blind", "POST", "/v1/files", False, False)
UNKNOWN = RouteFacts("other", None, None, False, False)


def met(when: dict[str, Any] | None, x: Exchange, route: RouteFacts = CHAT) -> bool:
    condition = compile_when(None if when is None else When(**when), route)
    return not condition.never and (condition.test is None or condition.test(x))


def reference(when: When, x: Exchange) -> bool:
    """All conditions, each looked up by its definition."""

    def some(globs: list[str], text: str) -> bool:
        return not globs or any(slow(g, text) for g in globs)

    def pair(glob: str, values: list[str]) -> bool:
        return any(slow(glob, v) for v in values) if glob else not values

    return (
        (x.model_asked is None or some([g.lower() for g in when.models], x.model_asked.lower()))
        and some(when.paths, x.path)
        and (not when.methods or x.method in when.methods)
        and (not when.callers or (x.caller or "anonymous") in when.callers)
        and (not when.tenants or x.tenant in when.tenants)
        and all(pair(g, [x.labels[k]] if k in x.labels else []) for k, g in when.labels.items())
        and all(pair(g, x.headers.get_all(k)) for k, g in when.headers.items())
        and (when.stream is None or bool(x.stream) is when.stream)
    )


def lists(*values: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), max_size=2)


WHENS = st.builds(
    When,
    models=lists("llama", "LL*", "*8b"),
    paths=lists("/v1/*", "/v1/chat", "*/chat"),
    methods=lists("POST", "GET"),
    callers=lists("anonymous", "a"),
    tenants=lists("t"),
    labels=st.dictionaries(st.sampled_from(["l", "m"]), st.sampled_from(["", "x", "*", "y*"]), max_size=2),
    headers=st.dictionaries(st.sampled_from(["X-A", "x-b"]), st.sampled_from(["", "1", "*"]), max_size=2),
    stream=st.sampled_from([None, True, False]),
)
EXCHANGES = st.builds(
    exchange,
    path=st.sampled_from(["/v1/chat", "/v1/models", "/"]),
    method=st.sampled_from(["POST", "GET"]),
    fields=st.lists(st.sampled_from([("x-a", "1"), ("X-B", "2"), ("X-A", "3")]), max_size=3),
    model_asked=st.sampled_from([None, "llama", "LLAMA-8b", "other"]),
    caller=st.sampled_from([None, "a", "b"]),
    tenant=st.sampled_from([None, "t"]),
    labels=st.dictionaries(st.sampled_from(["l", "m"]), st.sampled_from(["x", "yy"]), max_size=2),
    stream=st.sampled_from([None, True, False]),
)


@given(WHENS, EXCHANGES)
def test_compiled_is_as_interpreted(when: When, x: Exchange) -> None:
    expected = reference(when, x)
    exact = RouteFacts("exact", x.method, x.path, True, True)
    for route in (PATTERN, exact):
        x.notes.clear()
        condition = compile_when(when, route)
        assert (not condition.never and (condition.test is None or condition.test(x))) is expected
        if condition.early is not None and expected:
            assert condition.early(x)


def test_what_a_route_settles_costs_nothing() -> None:
    assert compile_when(When(paths=["/v1/chat/*"], methods=["POST"]), CHAT).test is None
    assert compile_when(When(paths=["/v1/embeddings"]), CHAT) is NEVER
    assert compile_when(When(methods=["GET"]), CHAT) is NEVER
    assert compile_when(None, CHAT).test is None
    assert compile_when(When(), CHAT).test is None


def test_late_means_model_or_stream() -> None:
    assert compile_when(When(models=["a"]), CHAT).late
    assert compile_when(When(stream=False), CHAT).late
    assert not compile_when(When(labels={"a": "b"}, callers=["a"], headers={"a": "b"}), CHAT).late


@pytest.mark.parametrize(
    ("models", "route", "asked", "expected"),
    [
        (["llama*"], CHAT, None, True),  # leaving the model out does not leave the policy's reach
        (["llama*"], BLIND, None, False),
        (["llama*"], UNKNOWN, None, True),  # nor does another spelling of the path
        (["llama*", ""], BLIND, None, True),
        (["*"], BLIND, None, True),
        (["llama*"], CHAT, "gpt", False),
        (["llama*"], CHAT, "Llama-3", True),
        (["llama*"], CHAT, "", False),
    ],
)
def test_models(models: list[str], route: RouteFacts, asked: str | None, expected: bool) -> None:
    assert met({"models": models}, exchange(model_asked=asked), route) is expected


def test_paths_match_in_their_plain_form_too() -> None:
    when = {"paths": ["/v1/chat/completions"]}
    assert met(when, exchange("/v1/%63hat//completions"), PATTERN)
    assert not met(when, exchange("/v1/chat"), PATTERN)


def test_header_conditions_are_looked_at_once() -> None:
    condition = compile_when(When(headers={"X-Team": "red"}), CHAT, "slot")
    x = exchange(fields=[("X-Team", "blue"), ("x-team", "red")])
    assert condition.latch is not None
    assert condition.test is not None
    condition.latch(x)
    x.headers.remove("x-team")
    assert condition.test(x)
    assert x.notes == {"slot": True}
    assert condition.test(exchange(fields=[])) is False


def test_labels_are_looked_at_each_time() -> None:
    condition = compile_when(When(labels={"risk": "high"}), CHAT)
    x = exchange()
    assert condition.test is not None
    assert not condition.test(x)
    x.labels["risk"] = "high"
    assert condition.test(x)
    assert met({"labels": {"risk": ""}}, exchange())
    assert not met({"labels": {"risk": ""}}, x)


def test_text_for_explain() -> None:
    when = When(models=["a*", ""], paths=["/v1/*"], labels={"risk": "high"}, headers={"X-Debug": ""}, stream=True)
    assert conditions_text(when) == (
        "models: a* | ''; paths: /v1/*; label risk: high; header X-Debug: absent; stream: true"
    )
    assert conditions_text(None) == conditions_text(When()) == ""
