"""The quick look of ``request_guard``: it passes ordinary requests, and none that the checks would refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policies.contract import Refuse, RequestBody
from policies.request_guard import RequestGuard
from proxy.dialects import DIALECTS
from proxy.jsonio import MinusZero, Number
from tests.kits.policy_kit import exchange, make, run

EVERYTHING: dict[str, Any] = {
    "models": ["llama-*", "qwen"], "deny_models": ["*-secret"], "max_tokens": {"min": 1, "max": 100}, "n": 4,
    "logprobs": 5, "top_logprobs": 3, "ranges": {"temperature": {"min": 0, "max": 1.5}, "seed": {"min": 0}},
    "params": {"deny": ["logit_bias"]}, "max_messages": 3, "max_text": 30, "max_total_text": 60,
    "control_characters": "refuse", "media_urls": ["cdn.example.com"],
}  # fmt: skip
MORE: tuple[dict[str, Any], ...] = (
    {"required": ["max_tokens|max_completion_tokens"]},
    {"params": {"allow": ["model", "messages", "max_tokens"]}},
    {"params": {"deny": ["guided_*", "stream_options.include_usage", "seed"]}},
    {"ranges": {"max_tokens": {"max": 50}, "thinking.budget_tokens": {"max": 10}, "t?p_p": {"max": 1}}},
    {"max_completions": 2},
    {"media_urls": "refuse", "control_characters": "allow"},
    {"control_characters": "allow", "media_urls": "allow", "max_total_text": None},
)

numbers = (
    st.integers(-5, 110) | st.sampled_from([10**30, 10**400, MinusZero(0), True, False, None])
    | st.sampled_from(["1.0", "0.5", "1.50001", "-0.1", "1e999", "-1e999", "1e308"]).map(Number)
    | st.sampled_from([float("nan"), "5", [1], {}])
)  # fmt: skip
texts = st.text(max_size=12) | st.sampled_from(
    ["hi", "line\nnext\t", "nul\x00", "del\x7f", "c1\x85", "\\u0041", "C:\\bin", "Grüße «»", 'a "url": b', "x" * 31]
)
address = st.sampled_from(["https://cdn.example.com/a", "http://10.0.0.1/", "data:image/png;base64,AA", 5, None])
part = (
    texts.map(lambda t: {"type": "text", "text": t})
    | address.map(lambda u: {"type": "image_url", "image_url": {"url": u}})
    | address.map(lambda u: {"type": "file", "source": {"url": u}, "ur\x7fl": 1})
    | address.map(lambda u: {"type": "input_image", "image_url": u})
)
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "tool", 5]), "content": texts | st.none() | st.lists(part, max_size=2)},
    optional={"name": texts, "reasoning": texts, "tool_calls": st.just([{"function": {"arguments": '{"a": 1}'}}])},
)
messages = st.lists(message | texts | st.lists(message, max_size=4), max_size=4) | texts | st.none()
documents = st.fixed_dictionaries(
    {"messages": messages},
    optional={
        "model": st.sampled_from(["llama-3", "qwen", "QWEN", "gpt", "llama-SECRET", "", None, ["llama-3"]]),
        **dict.fromkeys(("max_tokens", "max_completion_tokens", "n", "best_of", "logprobs", "top_logprobs"), numbers),
        **dict.fromkeys(("temperature", "seed", "logit_bias", "guided_json", "top_p"), numbers),
        "input": st.lists(texts | message, max_size=5) | texts,
        "prompt": texts | st.lists(texts, max_size=3),
        "stop": texts | st.lists(texts, max_size=2),
        "thinking": st.fixed_dictionaries({"budget_tokens": numbers}),
        "stream_options": st.just({"include_usage": True}),
        "metadata": st.dictionaries(texts, texts, max_size=2),
    },
)


def plain(doc: Any) -> RequestBody:
    return RequestBody(doc, 100, DIALECTS["chat"].request)


def verdict(policy: RequestGuard, doc: dict[str, Any]) -> Any:
    asked = doc.get("model")
    try:
        run(policy.inspect(exchange(model_asked=asked if isinstance(asked, str) else None), plain(doc)))
    except Refuse as refused:
        return refused.kind, refused.message, refused.param, refused.code
    return None


@pytest.mark.parametrize("changed", [{}, *MORE], ids=repr)
def test_the_look_and_the_checks_say_the_same(changed: dict[str, Any]) -> None:
    options = EVERYTHING | changed
    fast, slow = make("request_guard", options), make("request_guard", options)
    assert isinstance(fast, RequestGuard)
    assert isinstance(slow, RequestGuard)
    slow._look = lambda x, body, doc: False

    @settings(max_examples=300, deadline=None)
    @example({"model": "llama-3", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5})
    @example({"model": "llama-3", "messages": [], "temperature": Number("inf")})
    @given(documents)
    def same(doc: dict[str, Any]) -> None:
        assert verdict(fast, doc) == verdict(slow, doc)

    same()


@pytest.mark.parametrize(
    "doc",
    [
        {},
        {"max_tokens": 100, "n": None, "temperature": Number("0.7"), "stream": True},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "line\n\"quoted\" Grüße"}]}]},
    ],
)
def test_ordinary_requests_need_no_check(doc: dict[str, Any]) -> None:
    policy = make("request_guard", EVERYTHING | {"max_text": None})
    assert isinstance(policy, RequestGuard)
    policy._checks = ()
    full = {"model": "llama-3", "messages": [{"role": "user", "content": "hi"}], **doc}
    assert policy._look(exchange(model_asked="llama-3"), plain(full), full)
    assert policy._rest == ()


@pytest.mark.parametrize("code", range(0x100))
def test_control_characters_are_seen_wherever_they_are(code: int) -> None:
    policy = make("request_guard", {"control_characters": "refuse"})
    assert isinstance(policy, RequestGuard)
    control = (code < 0x20 and chr(code) not in "\t\n\r") or 0x7F <= code <= 0x9F
    for doc in ({"a": f"x{chr(code)}"}, {f"{chr(code)}x": 1}, {"a": [{"b": [chr(code)]}]}):
        assert policy._look(exchange(), plain(doc), doc) is not control


def test_what_json_cannot_hold_is_left_to_the_checks() -> None:
    policy = make("request_guard", {"control_characters": "refuse"})
    assert isinstance(policy, RequestGuard)
    deep: Any = "end"
    for _ in range(50_000):
        deep = [deep]
    for doc in ({"a": "\ud800"}, {"a": deep}):
        assert not policy._look(exchange(), plain(doc), doc)
        run(policy.inspect(exchange(), plain(doc)))
