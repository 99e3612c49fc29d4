"""``pii_redaction``: actions, roles, channels, every place of request text, replies, and what is refused at load."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from policies.contract import Channel, Cut, Exchange, Gate, Kind, Refuse, RequestBody
from policies.gate_chain import compose
from policies.pii.actions import Keys, decrypt
from policies.pii_redaction import PiiRedaction
from proxy import jsonio
from proxy.dialects import DIALECTS
from proxy.lens import JsonLens
from tests.kits import policy_kit as kit

CONTENT = Channel(0, "content")
ANN, BOB, CARD = "ann.lee@corp-mail.org", "bob@corp-mail.org", "4111 1111 1111 1111"
KEY = {"key": "a key of the tests"}


def policy(**options: Any) -> PiiRedaction:
    made = kit.make("pii_redaction", {"entities": ["email", "credit_card"], **options})
    assert isinstance(made, PiiRedaction)
    return made


def request(doc: Any, dialect: str = "chat") -> RequestBody:
    raw = doc if isinstance(doc, bytes) else json.dumps(doc).encode()
    return RequestBody(jsonio.decode(raw), len(raw), DIALECTS[dialect].request)


def sent(made: PiiRedaction, doc: Any, dialect: str = "chat", x: Exchange | None = None) -> Any:
    """What the backend gets."""
    body = request(doc, dialect)
    asyncio.run(made.inspect(x or kit.exchange(), body))
    return json.loads(jsonio.encode(body.doc))


def chat(*contents: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": c} for c in contents]}


def contents(doc: Any) -> list[str]:
    return [m["content"] for m in doc["messages"]]


def reply(made: PiiRedaction, x: Exchange, pieces: list[str], channel: Channel = CONTENT) -> str:
    gate = made.guard(x, channel)
    return kit.through(gate, pieces) if gate is not None else "".join(pieces)


def shown(x: Exchange) -> list[tuple[str, int, str, str]]:
    return [(f.kind, f.count, f.where, f.action) for f in x.findings]


# -- actions


@pytest.mark.parametrize(
    ("action", "email", "card"),
    [
        ("pseudonymize", "[EMAIL_1]", "[CARD_1]"),
        ("redact", "[EMAIL]", "[CARD]"),
        ("mask", "***.***@****-***l.org", "**** **** **** 1111"),
        ("flag", ANN, CARD),
    ],
)
def test_actions_on_a_request(action: str, email: str, card: str) -> None:
    x = kit.exchange()
    got = sent(policy(action=action), chat(f"I am {ANN}, card {CARD}."), x=x)
    assert contents(got) == [f"I am {email}, card {card}."]
    assert shown(x) == [("email", 1, "messages[0].content", action), ("credit_card", 1, "messages[0].content", action)]


def test_each_entity_has_its_own_action_and_a_group_has_one() -> None:
    made = policy(entities={"all": "redact", "payment": "mask", "email": "pseudonymize"})
    got = sent(made, chat(f"{ANN} {CARD}"))
    assert contents(got) == ["[EMAIL_1] **** **** **** 1111"]


def test_hashes_are_stable_for_key_and_tenant() -> None:
    one = contents(sent(policy(action="hash", **KEY), chat(f"{ANN} {BOB} {ANN}")))[0].split()
    assert one[0] == one[2] != one[1]
    other = kit.exchange(tenant="other")
    assert contents(sent(policy(action="hash", **KEY), chat(ANN), x=other)) != [one[0]]


def test_encrypted_values_come_back_with_the_key() -> None:
    pytest.importorskip("cryptography")
    one, two = contents(sent(policy(action="encrypt", **KEY), chat(f"{ANN} {ANN}")))[0].split()
    assert one == two and ANN not in one
    assert decrypt(one, Keys(KEY["key"]), type="email") == ANN


def test_encrypting_without_the_library_is_refused_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for module in [m for m in sys.modules if m.startswith("cryptography.")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ValidationError, match=r"headgate\[pii\]"):
        policy(action="encrypt", **KEY)


def test_block_names_the_entity_and_never_the_value() -> None:
    x = kit.exchange()
    with pytest.raises(Refuse) as caught:
        sent(policy(entities={"email": "flag", "credit_card": "block"}), chat(f"{ANN} {CARD}"), x=x)
    assert caught.value.kind is Kind.BLOCKED
    assert "credit_card" in str(caught.value.message) and "email" not in str(caught.value.message)
    assert "4111" not in repr([caught.value.message, caught.value.args, x.findings])
    assert shown(x) == [("credit_card", 1, "messages[0].content", "block")]


def test_a_custom_entity() -> None:
    made = policy(custom=[{"name": "employee", "patterns": ["EMP-[0-9]{6}"]}, {"name": "code", "words": ["Blue Bird"]}])
    x = kit.exchange()
    assert contents(sent(made, chat("EMP-123456 knows Blue Bird"), x=x)) == ["[EMPLOYEE_1] knows [CODE_1]"]
    assert reply(made, x, ["[EMPLOYEE_1], [CODE_1]"]) == "EMP-123456, Blue Bird"


def test_allowed_values_domains_and_patterns_stay() -> None:
    made = policy(allow=[ANN.upper()], allow_domains=["example.com"], allow_patterns=["4111.*"])
    text = f"{ANN} x@example.com y@sub.example.com {CARD}"
    assert contents(sent(made, chat(f"{text} {BOB}"))) == [f"{text} [EMAIL_1]"]
    x = kit.exchange()
    assert reply(made, x, [f"{text} {BOB}"]) == f"{text} [EMAIL]"


# -- where


def test_each_role_can_be_left_out() -> None:
    doc = {
        "messages": [
            {"role": "system", "content": ANN},
            {"role": "user", "content": ANN},
            {
                "role": "assistant",
                "content": ANN,
                "tool_calls": [{"function": {"name": "f", "arguments": f'{{"a":"{ANN}"}}'}}],
            },
            {"role": "tool", "content": ANN},
        ],
        "documents": [{"text": ANN}],
        "tools": [{"function": {"name": "f", "description": ANN}}],
    }
    everyone = ["system", "user", "assistant", "tool", "document", "definitions"]
    for role in everyone:
        got = sent(policy(roles=[role]), doc)
        assert json.dumps(got).count(ANN) == (5 if role == "assistant" else 6), role
    assert ANN not in json.dumps(sent(policy(roles=everyone), doc))
    default = sent(policy(), doc)
    assert default["tools"] == doc["tools"] and json.dumps(default).count(ANN) == 1


def test_a_tool_keeps_its_name_and_a_person_does_not() -> None:
    made = policy(custom=[{"name": "word", "words": ["send", "Ann"]}])
    call = {"id": "1", "type": "function", "function": {"name": "send", "arguments": '{"a":"send"}'}}
    doc = {
        "messages": [
            {"role": "user", "name": "Ann", "content": "send"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "name": "send", "content": "x"},
        ]
    }
    user, assistant, tool = sent(made, doc)["messages"]
    assert {user["content"], user["name"]} == {"[WORD_1]", "[WORD_2]"}
    assert assistant["tool_calls"][0]["function"]["name"] == tool["name"] == "send"
    assert json.loads(assistant["tool_calls"][0]["function"]["arguments"]) == {"a": user["content"]}
    block = {"type": "tool_use", "id": "t", "name": "send", "input": {"a": "send"}}
    got = sent(made, {"messages": [{"role": "assistant", "content": [block]}]}, "messages")["messages"][0]["content"][0]
    assert (got["name"], got["input"]) == ("send", {"a": "[WORD_1]"})


PLACES: list[tuple[str, Any, Any]] = [
    ("completions", {"prompt": f"Mail {ANN}", "suffix": ANN}, {"prompt": "Mail [EMAIL_1]", "suffix": "[EMAIL_1]"}),
    ("completions", {"prompt": [f"Mail {ANN}", BOB, ANN]}, {"prompt": ["Mail [EMAIL_1]", "[EMAIL_2]", "[EMAIL_1]"]}),
    ("embeddings", {"input": ANN}, {"input": "[EMAIL_1]"}),
    ("embeddings", {"input": [ANN, BOB]}, {"input": ["[EMAIL_1]", "[EMAIL_2]"]}),
    ("rerank", {"query": ANN, "documents": [BOB, {"text": ANN}]}, None),
    ("score", {"text_1": ANN, "text_2": [ANN, BOB]}, {"text_1": "[EMAIL_1]", "text_2": ["[EMAIL_1]", "[EMAIL_2]"]}),
    ("responses", {"input": ANN, "instructions": BOB}, {"input": "[EMAIL_2]", "instructions": "[EMAIL_1]"}),
    (
        "responses",
        {"input": [
            {"role": "user", "content": [{"type": "input_text", "text": ANN}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": f'{{"to": "{ANN}"}}'},
            {"type": "function_call_output", "call_id": "c", "output": f"sent to {BOB}"},
        ]},
        {"input": [
            {"role": "user", "content": [{"type": "input_text", "text": "[EMAIL_1]"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"to":"[EMAIL_1]"}'},
            {"type": "function_call_output", "call_id": "c", "output": "sent to [EMAIL_2]"},
        ]},
    ),
    (
        "messages",
        {"system": BOB, "messages": [
            {"role": "user", "content": [{"type": "text", "text": ANN}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"to": [ANN]}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": f"ok {ANN}"}]},
        ]},
        {"system": "[EMAIL_1]", "messages": [
            {"role": "user", "content": [{"type": "text", "text": "[EMAIL_2]"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"to": ["[EMAIL_2]"]}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok [EMAIL_2]"}]},
        ]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "doc", "expected"), PLACES)
def test_every_place_of_request_text(dialect: str, doc: Any, expected: Any) -> None:
    got = sent(policy(), doc, dialect)
    if expected is None:  # the order of a query and its documents is the dialect's affair
        assert ANN not in json.dumps(got) and BOB not in json.dumps(got)
        assert got["query"] == got["documents"][1]["text"] != got["documents"][0]
    else:
        assert got == expected


def test_untouched_parts_of_the_body_stay_as_they_were() -> None:
    raw = (
        b'{"temperature":1.0,"seed":12345678901234567890123,"top_p":1e-5,"x":-0,"y":{"z":0.10},'
        b'"messages":[{"role":"user","content":"ann.lee@corp-mail.org","n":2.50}]}'
    )
    body = request(raw)
    asyncio.run(policy().inspect(kit.exchange(), body))
    assert jsonio.encode(body.doc) == raw.replace(ANN.encode(), b"[EMAIL_1]")


def test_a_request_without_a_match_is_left_alone() -> None:
    x = kit.exchange()
    assert sent(policy(), chat("Hello [EMAIL_1]"), x=x) == chat("Hello [EMAIL_1]")
    assert x.findings == [] and x.notes == {}
    assert policy(on=["request"]).guard(x, CONTENT) is None


def test_arguments_keep_their_json_and_their_escapes() -> None:
    arguments = '{"to": "ann.lee\\u0040corp-mail.org", "n": 1.50, "card": 4111111111111111, "q": "a\\"b"}'
    doc = {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}]}
    got = sent(policy(), doc)["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert got == '{"to":"[EMAIL_1]","n":1.50,"card":"[CARD_1]","q":"a\\"b"}'


def test_what_cannot_be_read_can_be_refused() -> None:
    image = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]}
    for doc, dialect in ((image, "chat"), ({"prompt": [1, 2]}, "completions"), ({"input": [[1], [2]]}, "embeddings")):
        assert sent(policy(), doc, dialect) == doc
        x = kit.exchange()
        with pytest.raises(Refuse) as caught:
            sent(policy(unscanned="deny"), doc, dialect, x)
        assert caught.value.kind is Kind.UNSCANNABLE
        assert [f.kind for f in x.findings] == ["unscanned"]


def test_large_requests_are_looked_at_off_the_loop() -> None:
    text = f"{ANN} " + "many words " * 4000 + BOB
    assert contents(sent(policy(), chat(text))) == ["[EMAIL_1] " + "many words " * 4000 + "[EMAIL_2]"]


# -- replies


SPLITS = [lambda t: [t], list, lambda t: [t[:9], t[9:20], t[20:]]]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("field", ["content", "reasoning", "refusal", "text", "summary", "transcript"])
def test_values_come_back_and_new_ones_do_not_pass(split: Any, field: str) -> None:
    made, x = policy(), kit.exchange()
    sent(made, chat(f"{ANN} {CARD}"), x=x)
    x.findings.clear()
    said = f"To [EMAIL_1] <card_1>, or {BOB}; [EMAIL_7]."
    assert reply(made, x, split(said), Channel(0, field)) == f"To {ANN} {CARD}, or [EMAIL]; [EMAIL_7]."
    where = f"choices[0].{field}"
    assert sorted(shown(x)) == [
        ("credit_card", 1, where, "restored"), ("email", 1, where, "redact"), ("email", 1, where, "restored"),
        ("email", 1, where, "unknown"),
    ]  # fmt: skip


def test_what_is_put_back_is_not_looked_at_again() -> None:
    made, x = (
        policy(entities={"email": "pseudonymize", "credit_card": "pseudonymize"}, reply_action="block"),
        kit.exchange(),
    )
    sent(made, chat(f"{ANN} {CARD}"), x=x)
    assert reply(made, x, ["[EMAIL_1]", " [CARD_1]"]) == f"{ANN} {CARD}"


def test_a_value_that_the_client_sent_is_no_news_to_it() -> None:
    made, x = policy(roles=["user"]), kit.exchange()
    sent(made, chat(ANN), x=x)
    assert reply(made, x, [f"{ANN} {BOB}"]) == f"{ANN} [EMAIL]"


def test_only_requests() -> None:
    made, x = policy(on=["request"]), kit.exchange()
    assert made.reads == {"request"}
    sent(made, chat(ANN), x=x)
    assert reply(made, x, [f"[EMAIL_1] {BOB}"]) == f"{ANN} {BOB}"


def test_only_replies() -> None:
    made, x = policy(on=["reply"]), kit.exchange()
    assert made.phases() == {"guard"} and made.reads == {"reply"}
    assert reply(made, x, [f"[EMAIL_1] {BOB}"]) == "[EMAIL_1] [EMAIL]"


def test_no_restoring() -> None:
    made, x = policy(restore=False, on=["request"]), kit.exchange()
    assert "guard" not in made.phases()
    assert contents(sent(made, chat(ANN), x=x)) == ["[EMAIL_1]"]
    assert made.guard(x, CONTENT) is None


@pytest.mark.parametrize("split", SPLITS)
def test_block_ends_a_reply_before_the_value(split: Any) -> None:
    made, x = policy(action="block", message="Stopped."), kit.exchange()
    gate = made.guard(x, CONTENT)
    assert gate is not None
    text = f"The address is {BOB}, yes."

    def drive() -> None:
        for piece in split(text):
            assert gate.push(piece) <= text.index(BOB)
        gate.close()

    with pytest.raises(Cut) as caught:
        drive()
    assert (caught.value.reason, caught.value.message, caught.value.at) == ("email", "Stopped.", text.index(BOB))


@pytest.mark.parametrize(("action", "out"), [("mask", "**** **** **** 1111"), ("redact", "[CARD]"), ("flag", CARD)])
def test_reply_actions(action: str, out: str) -> None:
    x = kit.exchange()
    assert reply(policy(reply_action=action), x, [f"Card {CARD}", "."]) == f"Card {out}."
    assert shown(x) == [("credit_card", 1, "choices[0].content", action)]


def test_a_value_without_an_end_is_redacted_whole_in_replies() -> None:
    """A gate does not wait for the end of a private key, so it has no value to mask or hash."""
    pem = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw\n" * 30 + "-----END PRIVATE KEY-----"
    for action in ("mask", "hash", "pseudonymize"):
        x = kit.exchange()
        assert (
            reply(policy(entities=["private_key"], action=action, **KEY), x, list(f"Key:\n{pem}\n."))
            == "Key:\n[PRIVATE_KEY]\n."
        )
        assert [f.count for f in x.findings] == [1]


def test_a_private_key_comes_back_whole() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw\n" * 30 + "-----END PRIVATE KEY-----"
    made, x = policy(entities=["secrets"]), kit.exchange()
    assert contents(sent(made, chat(f"Key: {pem}!"), x=x)) == ["Key: [PRIVATE_KEY_1]!"]
    assert reply(made, x, list("It is `[PRIVATE_KEY_1]`.")) == f"It is `{pem}`."


def test_channels_of_replies() -> None:
    made, x = policy(channels=["arguments"]), kit.exchange()
    sent(made, chat(ANN), x=x)
    assert reply(made, x, [f"[EMAIL_1] {BOB}"]) == f"{ANN} {BOB}"
    assert reply(made, x, [f"[EMAIL_1] {BOB}"], Channel(0, "arguments", 0)) == f"{ANN} [EMAIL]"


# -- tools


def arguments(made: PiiRedaction, x: Exchange, name: str, pieces: list[str], tool: int = 0) -> str:
    """A tool call's arguments as the client gets them: its name first, then JSON in pieces, through the lens."""
    if name:
        reply(made, x, [name], Channel(0, "name", tool))
    gate = made.guard(x, Channel(0, "arguments", tool))
    assert gate is not None
    chained = compose([gate])
    assert chained is not None
    return kit.through(JsonLens(chained), pieces)


@pytest.mark.parametrize("split", SPLITS)
def test_values_come_back_in_arguments_as_valid_json(split: Any) -> None:
    made, x = policy(custom=[{"name": "motto", "patterns": ['say "[^"]*" \\\\o/']}]), kit.exchange()
    odd = 'say "hi" \\o/'
    sent(made, chat(f"{ANN} {odd}"), x=x)
    got = arguments(
        made, x, "send", split('{"to": "[EMAIL_1]", "m": ["\\u005bMOTTO_1]", {"k": "x [MOTTO\\u005f1] y"}], "n": 1}')
    )
    assert json.loads(got) == {"to": ANN, "m": [odd, {"k": f"x {odd} y"}], "n": 1}


def test_some_tools_get_no_values() -> None:
    made = policy(restore_tools={"deny": ["web_*"]}, on=["request"])
    x = kit.exchange()
    sent(made, chat(ANN), x=x)
    x.findings.clear()
    assert arguments(made, x, "lookup", ['{"q":"[EMAIL_1]"}'], 0) == f'{{"q":"{ANN}"}}'
    assert arguments(made, x, "web_search", ['{"q":"[EMAIL_1]"}'], 1) == '{"q":"[EMAIL_1]"}'
    assert arguments(made, x, "", ['{"q":"[EMAIL_1]"}'], 2) == '{"q":"[EMAIL_1]"}'  # its name never came
    assert [f.action for f in x.findings] == ["restored", "not_restored", "not_restored"]
    assert reply(made, x, ["[EMAIL_1]"]) == ANN
    only = policy(restore_tools={"allow": ["crm_*"], "deny": ["crm_export"]}, on=["request"])
    x = kit.exchange()
    sent(only, chat(ANN), x=x)
    got = [arguments(only, x, n, ['["[EMAIL_1]"]'], i) for i, n in enumerate(["crm_get", "crm_export", "other"])]
    assert got == [f'["{ANN}"]', '["[EMAIL_1]"]', '["[EMAIL_1]"]']


def test_placeholders_that_a_tool_was_told_are_the_same_values_in_the_next_turn() -> None:
    """A tool outside the trust zone got ``[EMAIL_1]``; the history that comes back has it in arguments and results."""
    made, x = policy(restore_tools={"deny": ["web_*"]}), kit.exchange()
    doc = {
        "messages": [
            {"role": "user", "content": ANN},
            {
                "role": "assistant",
                "tool_calls": [{"function": {"name": "web_search", "arguments": '{"q":"[EMAIL_1]"}'}}],
            },
            {"role": "tool", "content": "nothing about [EMAIL_1]"},
            {"role": "user", "content": f"and {BOB}?"},
        ]
    }
    assert contents({"messages": [m for m in sent(made, doc, x=x)["messages"] if "content" in m]}) == [
        "[EMAIL_1]", "nothing about [EMAIL_1]", "and [EMAIL_2]?",
    ]  # fmt: skip
    assert reply(made, x, ["[EMAIL_1], [EMAIL_2]"]) == f"{ANN}, {BOB}"


# -- numbering


def test_keyed_numbers_are_the_same_in_every_request_of_a_tenant() -> None:
    made = policy(numbering="keyed", **KEY)
    one = contents(sent(made, chat(ANN, BOB)))
    two = contents(sent(policy(numbering="keyed", **KEY), chat(BOB, "x", ANN)))
    assert one == [two[2], two[0]]
    assert one != contents(sent(made, chat(ANN, BOB), x=kit.exchange(tenant="t2")))
    x = kit.exchange()
    sent(made, chat(ANN), x=x)
    assert reply(made, x, list(f"Hi {one[0]}, {one[0].lower()}")) == f"Hi {ANN}, {ANN}"


def test_a_conversation_that_the_backend_keeps_gets_no_number_twice() -> None:
    """With ``previous_response_id`` the earlier turns are not in the request: ``[EMAIL_1]`` there is another value."""
    made, x = policy(), kit.exchange()
    got = sent(made, {"input": BOB, "previous_response_id": "resp_1"}, "responses", x)
    assert got["input"] != "[EMAIL_1]" and got["input"].startswith("[EMAIL_K")
    assert reply(made, x, [f"{got['input']} [EMAIL_1]"]) == f"{BOB} [EMAIL_1]"


# -- secrecy, life, load


def test_the_values_die_with_the_exchange_and_show_nowhere() -> None:
    made, x = policy(), kit.exchange()
    sent(made, chat(f"{ANN} {CARD}"), x=x)
    gate = made.guard(x, CONTENT)
    assert isinstance(gate, Gate)
    assert ANN not in repr([x, x.notes, x.findings, x.labels, made.describe(), made, gate])
    kit.run(made.settle(x))
    assert x.notes == {}


async def test_shadow_mode_changes_nothing_and_says_what_it_would_have_done() -> None:
    x, body = kit.exchange(), request(chat(f"{ANN} {CARD}"))
    p = kit.plan(policy(action="redact"), mode="shadow")
    out = await kit.drive(p, x, body, None, [f"say {BOB}"])
    assert out == f"say {BOB}" and contents(body.doc) == [f"{ANN} {CARD}"]
    assert {f.kind for f in x.findings} >= {"email", "credit_card"} and all(f.shadow for f in x.findings)


async def test_a_failure_half_way_has_changed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from policies.pii.vault import Vault

    def broken(self: Vault, tag: str, value: str, *, exact: bool = False) -> str:
        if value == BOB:
            raise RuntimeError(value)
        return "[X]"

    monkeypatch.setattr(Vault, "placeholder", broken)
    body = request(chat(ANN, BOB))
    p = kit.plan(policy(), on_error="open")
    for look in p.inspect:
        await look(kit.exchange(), body)
    assert contents(body.doc) == [ANN, BOB]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"entities": ["emial"]}, "email"),
        ({"entities": {"email": "erase"}}, "entities"),
        ({"entities": ["email"], "action": "hash"}, "key"),
        ({"entities": ["email"], "numbering": "keyed"}, "key"),
        ({"entities": ["email"], "key": "short"}, "16"),
        ({"entities": ["email"], "threshold": 2}, "threshold"),
        ({"entities": ["email"], "allow_patterns": ["("]}, "RE2"),
        ({"custom": [{"name": "a"}]}, "patterns"),
        ({"custom": [{"name": "a", "words": [" "]}]}, "empty"),
        ({"custom": [{"name": "email", "words": ["x"]}]}, "name"),
        ({"custom": [{"name": "a", "words": ["x"]}, {"name": "a", "words": ["y"]}]}, "same name"),
        ({"custom": [{"name": "a", "patterns": ["(?=x)"]}]}, ""),
        ({"entities": ["email"], "roles": ["robot"]}, "roles"),
    ],
)
def test_what_is_refused_at_load(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        kit.make("pii_redaction", options)
    assert says in str(caught.value)


def test_a_key_is_shown_nowhere() -> None:
    made = policy(action="hash", key="very secret key of mine")
    assert "very secret" not in repr([made.options, made.describe(), made.options.model_dump(), str(made.options)])
    with pytest.raises(ValidationError) as caught:
        policy(action="hash", key="very secret key of mine", threshold=7)
    assert "very secret" not in str(caught.value)


def test_describe_tells_entities_and_actions() -> None:
    assert kit.make("pii_redaction", {}).describe() == "no entities"
    assert policy(on=["request"]).describe() == "pseudonymize email, credit_card; in request"
