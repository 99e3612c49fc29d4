"""``headers``: the four operations in both directions, templates, and what they may not touch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from policies.contract import Headers, ReplyHead
from policies.entry import When
from policies.headers import HeadersOptions
from tests.kits.policy_kit import chat_body, exchange, make, plan, run

FIELDS = [("Host", "h"), ("X-A", "1"), ("Accept", "*/*"), ("x-a", "2"), ("X-B", "3")]


def sent(request: dict[str, Any], fields: list[tuple[str, str]] = FIELDS, body: bool = False, **known: Any) -> Any:
    """The request's fields after the policy, in order."""
    policy, x = make("headers", {"request": request}), exchange(fields=fields, **known)
    run(policy.admit(x))
    if body and "inspect" in policy.phases():
        run(policy.inspect(x, chat_body()))
    return [(k.decode("latin-1"), v.decode("latin-1")) for k, v in x.headers.fields]


def test_drop() -> None:
    assert sent({"drop": ["x-A"]}) == [("Host", "h"), ("Accept", "*/*"), ("X-B", "3")]
    assert sent({"drop": ["X-?"]}) == [("Host", "h"), ("Accept", "*/*")]


def test_rename() -> None:
    renamed = [("Host", "h"), ("X-N", "1"), ("Accept", "*/*"), ("X-N", "2"), ("X-B", "3")]
    assert sent({"rename": {"x-a": "X-N"}}) == renamed


def test_rename_can_swap() -> None:
    swapped = [("Host", "h"), ("X-B", "1"), ("Accept", "*/*"), ("X-B", "2"), ("X-A", "3")]
    assert sent({"rename": {"X-A": "X-B", "X-B": "X-A"}}) == swapped


def test_set() -> None:
    assert sent({"set": {"X-A": "9", "X-N": "n"}}) == [
        ("Host", "h"),
        ("X-A", "9"),
        ("Accept", "*/*"),
        ("X-B", "3"),
        ("X-N", "n"),
    ]


def test_add() -> None:
    assert sent({"add": {"X-A": ["8", "9"]}}) == [*FIELDS, ("X-A", "8"), ("X-A", "9")]


def test_order_is_drop_rename_set_add() -> None:
    edits = {"drop": ["x-b"], "rename": {"X-A": "X-B"}, "set": {"X-B": "s"}, "add": {"X-B": "a"}}
    assert sent(edits) == [("Host", "h"), ("X-B", "s"), ("Accept", "*/*"), ("X-B", "a")]


NAMES = st.sampled_from(["X-A", "x-a", "X-B", "Accept", "Host", "Content-Length", "X-C"])
PAIRS = st.lists(st.tuples(NAMES, st.sampled_from(["", "1", "2"])), max_size=8)
EDIT_NAMES = st.sampled_from(["X-A", "x-b", "X-New"])


@given(
    PAIRS,
    st.lists(st.sampled_from(["X-A", "x-*", "?-B"]), max_size=2),
    st.dictionaries(EDIT_NAMES, EDIT_NAMES, max_size=2),
    st.dictionaries(EDIT_NAMES, st.just("v"), max_size=2),
    st.dictionaries(EDIT_NAMES, st.just("w"), max_size=2),
)
def test_unrelated_fields_keep_bytes_and_order(
    pairs: list[tuple[str, str]], drop: list[str], rename: dict[str, str], set_: dict[str, str], add: dict[str, str]
) -> None:
    out = sent({"drop": drop, "rename": rename, "set": set_, "add": add}, pairs)
    touched = {"x-a", "x-b", "x-new"} | ({"x-c"} if "x-*" in drop else set())
    unrelated = [p for p in pairs if p[0].lower() not in touched]
    assert [p for p in out if p[0].lower() not in touched] == unrelated
    for name in set_:
        assert sum(k.lower() == name.lower() and v == "v" for k, v in out) == 1
    for name in {n.lower() for n in add}:
        assert out[-1][1] == "w"
        assert any(k.lower() == name and v == "w" for k, v in out)


def test_globs_leave_framing_and_host_alone() -> None:
    fields = [
        ("Host", "h"),
        ("Content-Length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Upgrade", "websocket"),
        ("Expect", "100-continue"),
        ("Content-Encoding", "gzip"),
        ("Cookie", "c"),
    ]
    assert sent({"drop": ["*"]}, fields) == fields[:-1]
    policy, x = make("headers", {"request": {"drop": ["*"]}, "allow": ["Host"]}), exchange(fields=fields)
    run(policy.admit(x))
    assert "host" not in x.headers
    assert "connection" in x.headers


@pytest.mark.parametrize(
    ("value", "known", "expected"),
    [
        ("a {caller} b", {"caller": "team"}, "a team b"),
        ("{caller}/{tenant}", {"caller": "c", "tenant": "t"}, "c/t"),
        ("{request_id} {route}", {}, "req-1 chat"),
        ("{{caller}}", {}, "{caller}"),
        ("{{{caller}}}", {"caller": "c"}, "{c}"),
        ("{caller}", {"caller": None}, None),
        ("  {caller}\t", {"caller": " c "}, "c"),
        ("{caller}", {"caller": "a\r\nEvil: 1\x00\x7f"}, "aEvil: 1"),
        ("{caller}", {"caller": "\r\n"}, None),
        ("{caller}", {"caller": "é€\ud800"}, "é€?".encode().decode("latin-1")),
        ("{caller}", {"caller": "x" * 5000}, "x" * 256),
        ("", {}, None),
        ("tab\there", {}, "tab\there"),
        ("é", {}, "Ã©"),
    ],
)
def test_values(value: str, known: dict[str, Any], expected: str | None) -> None:
    result = dict(sent({"set": {"X-A": value}}, [("X-A", "client's own")], **known))
    assert result == ({} if expected is None else {"X-A": expected})
    added = sent({"add": {"X-N": value}}, [], **known)
    assert added == ([] if expected is None else [("X-N", expected)])


def test_the_model_and_labels_are_put_in_once_the_body_is_read() -> None:
    edits = {"set": {"X-M": "{model}", "X-Plain": "p"}, "add": {"X-L": "{label:tier}", "X-Q": "q"}}
    policy = make("headers", {"request": edits})
    assert policy.phases() == {"admit", "inspect"}
    x = exchange(fields=[("X-M", "forged")])
    run(policy.admit(x))
    assert "X-M" not in x.headers, "a client's own line never passes as ours"
    x.model_asked, x.labels["tier"] = "llama", "gold"
    run(policy.inspect(x, chat_body()))
    assert sorted(x.headers.fields) == [(b"X-L", b"gold"), (b"X-M", b"llama"), (b"X-Plain", b"p"), (b"X-Q", b"q")]


def test_labels_known_in_admit_are_set_there_too() -> None:
    assert sent({"set": {"X-L": "{label:tier}"}}, [], labels={"tier": "gold"}) == [("X-L", "gold")]
    assert sent({"set": {"X-L": "{label:tier}"}}, [], body=True, labels={"tier": "gold"}) == [("X-L", "gold")]
    assert sent({"add": {"X-L": "{label:tier}"}}, [], body=True, labels={"tier": "gold"}) == [("X-L", "gold")]


def test_values_that_need_no_body_leave_it_unread() -> None:
    edits = {"set": {"X-A": "{caller} {tenant} {request_id} {route}"}}
    p = plan(make("headers", {"request": edits, "response": {"set": {"X-M": "{model}"}}}))
    assert not p.needs_body
    assert len(p.admit) == len(p.respond) == 1
    assert p.inspect == ()


def test_replies() -> None:
    edits: dict[str, Any] = {
        "drop": ["x-vllm-*", "Server"],
        "rename": {"X-Old": "X-New"},
        "add": {"X-Model": "{model} {label:a}"},
    }
    policy = make("headers", {"response": edits})
    assert policy.phases() == {"respond"}
    fields = [(b"server", b"uvicorn"), (b"X-vLLM-Id", b"1"), (b"x-old", b"o"), (b"content-length", b"2")]
    head = ReplyHead(200, Headers(fields))
    plan(policy).respond[0](exchange(model_asked="m", labels={"a": "b"}), head)
    assert head.headers.fields == [(b"X-New", b"o"), (b"content-length", b"2"), (b"X-Model", b"m b")]


def test_conditions_choose_what_is_set() -> None:
    p = plan(make("headers", {"request": {"set": {"X-A": "1"}}}), when=When(models=["llama*"]))
    x = exchange(model_asked="llama-3")
    run(p.admit_late[0](x))
    assert x.headers.get("x-a") == "1"


@pytest.mark.parametrize(
    "name", ["Connection", "transfer-encoding", "Content-Length", "Upgrade", "TRAILER", "Keep-Alive"]
)
@pytest.mark.parametrize("where", ["drop", "rename", "renamed", "set", "add"])
def test_framing_fields_are_refused(name: str, where: str) -> None:
    edits: dict[str, Any] = {
        "drop": {"drop": [name]},
        "rename": {"rename": {name: "X-A"}},
        "renamed": {"rename": {"X-A": name}},
        "set": {"set": {name: "1"}},
        "add": {"add": {name: "1"}},
    }[where]
    for side in ("request", "response"):
        with pytest.raises(ValidationError):
            HeadersOptions.model_validate({side: edits, "allow": ["host"]})


def test_guarded_fields_need_to_be_allowed() -> None:
    for edits in ({"set": {"Host": "h"}}, {"drop": ["expect"]}, {"rename": {"X-A": "TE"}}):
        with pytest.raises(ValidationError, match="allow"):
            HeadersOptions.model_validate({"request": edits})
    options = {"request": {"set": {"Host": "other"}}, "allow": ["Host"]}
    x = exchange(fields=FIELDS)
    run(make("headers", options).admit(x))
    assert x.headers.fields[0] == (b"Host", b"other")
    with pytest.raises(ValidationError):
        HeadersOptions.model_validate({"allow": ["content-length"]})


@pytest.mark.parametrize(
    "edits",
    [
        {"set": {"X A": "1"}},
        {"set": {"": "1"}},
        {"set": {"X-A\n": "1"}},
        {"set": {"X-Ä": "1"}},
        {"set": {"X-A": "a\r\nb"}},
        {"set": {"X-A": "a\x00"}},
        {"set": {"X-A": 5}},
        {"set": {"X-A": ["a"]}},
        {"add": {"X-A": ["{nobody}"]}},
        {"set": {"X-A": "{nobody}"}},
        {"set": {"X-A": "{}"}},
        {"set": {"X-A": "{label:}"}},
        {"set": {"X-A": "open { brace"}},
        {"set": {"X-A": "close } brace"}},
        {"drop": ["a b"]},
        {"drop": "x-*"},
        {"rename": {"X-*": "X-B"}},
        {"rename": {"X-A": "X-B "}},
        {"remove": ["x"]},
    ],
)
def test_options_that_are_wrong(edits: dict[str, Any]) -> None:
    for side in ("request", "response"):
        with pytest.raises(ValidationError) as caught:
            HeadersOptions.model_validate({side: edits})
        assert "input_value" not in str(caught.value)


def test_values_are_not_described() -> None:
    options = {
        "request": {"drop": ["x-*"], "set": {"Authorization": "Bearer secret"}},
        "response": {"add": {"X-B": "secret"}},
    }
    policy = make("headers", options)
    assert policy.describe() == "request: drop x-*, set Authorization; response: add X-B"
    assert "secret" not in repr(policy.options)
    assert make("headers", {}).describe() == "nothing to change"
