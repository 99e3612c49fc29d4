"""``request_guard`` on bodies: each check with what it lets through and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.contract import Kind, Refuse, RequestBody
from proxy.jsonio import Number, decode
from tests.kits.policy_kit import body, chat_body, exchange, make, run


def refusal(options: dict[str, Any], request: RequestBody, model_asked: str | None = None) -> Refuse | None:
    policy = make("request_guard", options)
    try:
        run(policy.inspect(exchange(model_asked=model_asked), request))
    except Refuse as refused:
        return refused
    return None


def outcome(options: dict[str, Any], **params: Any) -> tuple[Kind, str | None, str | None] | None:
    found = refusal(options, chat_body(**params))
    return None if found is None else (found.kind, found.param, found.code)


BAD, NO = Kind.INVALID_REQUEST, Kind.FORBIDDEN


@pytest.mark.parametrize("param", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
@pytest.mark.parametrize(
    ("value", "code"),
    [
        (4096, None),
        (1, None),
        (None, None),
        (4097, "integer_above_max_value"),
        (10**30, "integer_above_max_value"),
        (0, "integer_below_min_value"),
        (-5, "integer_below_min_value"),
        (True, "invalid_type"),
        ("5", "invalid_type"),
        ([5], "invalid_type"),
        ({}, "invalid_type"),
        (Number("1e9"), "invalid_type"),
        (Number("5.0"), "invalid_type"),
        (float("nan"), "invalid_type"),
    ],
)
def test_max_tokens(param: str, value: Any, code: str | None) -> None:
    expected = code and (BAD, param, code)
    assert outcome({"max_tokens": {"min": 1, "max": 4096}}, **{param: value}) == expected


def test_every_name_for_max_tokens_counts() -> None:
    assert outcome({"max_tokens": 10}, max_tokens=5, max_completion_tokens=11) is not None
    assert outcome({"max_tokens": 10}) is None


def test_a_number_alone_is_a_maximum() -> None:
    assert outcome({"n": 2}, n=-1) is None
    assert outcome({"n": 2}, n=3) == (BAD, "n", "integer_above_max_value")


@pytest.mark.parametrize(
    ("value", "allowed"), [(True, True), (False, True), (5, True), (6, False), ("1", False), (None, True)]
)
def test_logprobs_may_be_a_flag(value: Any, allowed: bool) -> None:
    assert (outcome({"logprobs": 5}, logprobs=value) is None) is allowed


def test_logprobs_forbidden() -> None:
    assert outcome({"logprobs": 0}, logprobs=True) == (BAD, "logprobs", "integer_above_max_value")
    assert outcome({"logprobs": 0}, logprobs=False) is None
    assert outcome({"top_logprobs": 0}, top_logprobs=True) == (BAD, "top_logprobs", "invalid_type")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (0, None),
        (Number("1.5"), None),
        (1, None),
        (Number("1.50000001"), "decimal_above_max_value"),
        (2, "integer_above_max_value"),
        (Number("-1e-9"), "decimal_below_min_value"),
        (Number("1e999"), "invalid_value"),
        (float("nan"), "invalid_value"),
        (False, "invalid_type"),
        ("1", "invalid_type"),
    ],
)
def test_ranges(value: Any, code: str | None) -> None:
    expected = code and (BAD, "temperature", code)
    assert outcome({"ranges": {"temperature": {"min": 0, "max": 1.5}}}, temperature=value) == expected


def test_ranges_of_inner_parameters() -> None:
    options = {"ranges": {"thinking.budget_tokens": {"max": 100}, "tools.weight": {"max": 1}}}
    assert outcome(options, thinking={"budget_tokens": 101}) == (
        BAD,
        "thinking.budget_tokens",
        "integer_above_max_value",
    )
    assert outcome(options, thinking={"budget_tokens": [1]}) == (BAD, "thinking.budget_tokens", "invalid_type")
    assert outcome(options, tools=[{"weight": 1}, {"weight": 2}]) is not None
    assert outcome(options, thinking={"budget_tokens": 100}, tools=[{"weight": 1}, {}]) is None


@given(st.integers(-10, 10) | st.floats(allow_nan=True), st.integers(-3, 0), st.integers(1, 3))
def test_a_range_is_its_definition(value: float, low: int, high: int) -> None:
    allowed = outcome({"ranges": {"seed": {"min": low, "max": high}}}, seed=value) is None
    assert allowed is (low <= value <= high)


@pytest.mark.parametrize(
    ("doc", "asked"),
    [
        ({"prompt": "a"}, 1),
        ({"prompt": ["a", "b", "c"]}, 3),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1], [2, 3]]}, 2),
        ({"prompt": []}, 1),
        ({"prompt": [1, "a"]}, 2),
        ({"prompt": ["a", "b"], "n": 3}, 6),
        ({"prompt": ["a", "b"], "n": 2, "best_of": 4}, 8),
        ({"prompt": "a", "best_of": 4}, 4),
        ({"messages": [{}, {}], "n": 2}, 2),
        ({"messages": [[{}], [{}]], "n": 2}, 4),
        ({}, 1),
    ],
)
def test_completions_asked_for(doc: dict[str, Any], asked: int) -> None:
    assert refusal({"max_completions": asked}, body(doc)) is None
    found = refusal({"max_completions": asked - 1}, body(doc))
    assert found is not None
    assert found.kind is BAD


@pytest.mark.parametrize("n", ["5", True, 1.0, [1]])
def test_completions_cannot_be_counted(n: Any) -> None:
    assert outcome({"max_completions": 100}, n=n) == (BAD, "n", "invalid_type")


@pytest.mark.parametrize(
    ("options", "model", "found"),
    [
        ({"models": ["llama-*", "qwen"]}, "llama-3", None),
        ({"models": ["llama-*"]}, "gpt-4", (NO, "model", None)),
        ({"models": ["llama-*"]}, "LLAMA-3", (NO, "model", None)),
        ({"models": ["llama-*"]}, "", (NO, "model", None)),
        ({"models": ["llama-*"]}, None, (BAD, "model", "missing_required_parameter")),
        ({"models": ["llama-*"]}, ["llama-3"], (BAD, "model", "invalid_type")),
        ({"deny_models": ["gpt-*"]}, "llama-3", None),
        ({"deny_models": ["gpt-*"]}, "GPT-4", (NO, "model", None)),
        ({"deny_models": ["gpt-*"]}, None, (BAD, "model", "missing_required_parameter")),
        ({"models": ["*"], "deny_models": ["gpt-*"]}, "gpt-4", (NO, "model", None)),
    ],
)
def test_models(options: dict[str, Any], model: Any, found: Any) -> None:
    assert outcome(options, model=model) == found


def test_a_model_of_the_path_counts_too() -> None:
    assert refusal({"models": ["llama"]}, body({}), model_asked="llama") is None
    assert refusal({"models": ["llama"]}, body({}), model_asked="gpt") is not None
    assert refusal({"models": ["llama"]}, body({"model": "llama"}), model_asked="gpt") is not None


@pytest.mark.parametrize(
    ("params", "sent", "param"),
    [
        ({"deny": ["logit_bias"]}, {"logit_bias": {"1": 2}}, "logit_bias"),
        ({"deny": ["logit_bias"]}, {"logit_bias": None}, None),
        ({"deny": ["logit_bias"]}, {"logit_bias": {}}, "logit_bias"),
        ({"deny": ["guided_*"]}, {"guided_json": {}}, "guided_*"),
        ({"deny": ["stream_options.include_usage"]}, {"stream_options": {"include_usage": False}}, "stream_options"),
        ({"deny": ["stream_options.include_usage"]}, {"stream_options": {}}, None),
        ({"allow": ["model", "messages", "n"]}, {"n": 1}, None),
        ({"allow": ["model", "messages"]}, {"n": 1}, "n"),
        ({"allow": ["model", "messages"]}, {"n": None}, None),
        ({"allow": ["model", "messages.role", "messages.content"]}, {}, None),
        ({"allow": ["model", "messages.role"]}, {}, "messages.content"),
        ({"allow": ["*"], "deny": ["n"]}, {"n": 1}, "n"),
    ],
)
def test_params(params: dict[str, Any], sent: dict[str, Any], param: str | None) -> None:
    found = outcome({"params": params}, **sent)
    if param is None:
        assert found is None
    else:
        assert found is not None
        assert found[0] is NO
        assert (found[1] or "").startswith(param)


def test_a_key_that_is_no_name_is_not_shown() -> None:
    found = refusal(
        {"params": {"allow": ["model", "messages"]}}, body({"model": "m", "messages": [], "my card is 4111": 1})
    )
    assert found is not None
    assert found.param is None
    assert "4111" not in (found.message or "")


def test_required() -> None:
    options = {"required": ["max_tokens|max_completion_tokens", "stream_options.include_usage"]}
    assert outcome(options) == (BAD, "max_tokens", "missing_required_parameter")
    assert outcome(options, max_tokens=None) == (BAD, "max_tokens", "missing_required_parameter")
    assert outcome(options, max_completion_tokens=5) == (
        BAD,
        "stream_options.include_usage",
        "missing_required_parameter",
    )
    assert outcome(options, max_completion_tokens=5, stream_options={"include_usage": False}) is None


@pytest.mark.parametrize(
    ("doc", "param"),
    [
        ({"messages": [{}, {}]}, None),
        ({"messages": [{}, {}, {}]}, "messages"),
        ({"messages": [[{}, {}], [{}, {}, {}]]}, "messages"),
        ({"input": [{}, {}, {}]}, "input"),
        ({"input": ["a", "b", "c"]}, None),
        ({"input": "abc", "messages": "abc"}, None),
        ({}, None),
    ],
)
def test_max_messages(doc: dict[str, Any], param: str | None) -> None:
    found = refusal({"max_messages": 2}, body(doc))
    assert (found and found.param) == param
    assert found is None or found.code == "array_above_max_length"


def test_text_lengths() -> None:
    messages = [{"role": "user", "content": "12345"}, {"role": "user", "content": "123"}]
    assert outcome({"max_text": 5, "max_total_text": 8}, messages=messages) is None
    assert outcome({"max_text": 4}, messages=messages) == (BAD, "messages[0]", "string_above_max_length")
    assert outcome({"max_total_text": 7}, messages=messages) == (BAD, None, "string_above_max_length")


def test_text_counts_characters_not_bytes() -> None:
    assert outcome({"max_text": 3}, text="äöü") is None


def test_control_characters() -> None:
    options = {"control_characters": "refuse"}
    assert outcome(options, text="line\r\n\tnext") is None
    assert outcome(options, text="nul\x00") == (BAD, None, "invalid_value")
    assert outcome(options, metadata={"ke\x1by": 1}) is not None
    assert outcome(options, stop=["\x9b"]) is not None
    assert outcome({"control_characters": "allow", "n": 1}, text="nul\x00") is None


def test_escaped_control_characters_are_seen_decoded() -> None:
    doc = decode(b'{"messages":[{"role":"user","content":"a\\u0000b"}]}')
    assert refusal({"control_characters": "refuse"}, body(doc)) is not None


@pytest.mark.parametrize(
    ("option", "url", "allowed"),
    [
        ("refuse", "https://cdn.example.com/a.png", False),
        ("refuse", "data:image/png;base64,AAAA", True),
        (["*.example.com"], "https://cdn.example.com/a.png", True),
        (["*.example.com"], "http://169.254.169.254/", False),
        ([], "https://cdn.example.com/a.png", False),
    ],
)
def test_media_urls(option: Any, url: str, allowed: bool) -> None:
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    found = outcome({"media_urls": option}, messages=messages)
    assert found == (None if allowed else (BAD, "image_url", "invalid_value"))


@pytest.mark.parametrize("doc", [[], "text", 5, None, [{"model": "m"}]])
def test_a_body_must_be_an_object(doc: Any) -> None:
    found = refusal({"n": 1}, RequestBody(doc, 10, lambda d: ([], [])))
    assert found is not None
    assert (found.kind, found.code) == (BAD, "invalid_type")


def test_messages_name_the_parameter_and_the_limit() -> None:
    found = refusal({"max_tokens": 4096}, chat_body(max_tokens=5000))
    assert found is not None
    assert found.message == "'max_tokens' must be at most 4096."
    found = refusal({"ranges": {"top_p": {"min": 0.1}}}, chat_body(top_p=0))
    assert found is not None
    assert found.message == "'top_p' must be at least 0.1."
