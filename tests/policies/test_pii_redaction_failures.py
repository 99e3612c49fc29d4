"""Failures that others have published about the round trip of personal data, each as a test of its own; and the laws."""

from __future__ import annotations

import asyncio
import copy
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.contract import Channel, Exchange, RequestBody
from policies.pii_redaction import PiiRedaction
from proxy import jsonio
from proxy.dialects import DIALECTS
from proxy.lens import JsonLens
from tests.kits import policy_kit as kit

ANN, BOB, EVE = "ann.lee@corp-mail.org", "bob@corp-mail.org", "eve@corp-mail.org"
CARD = "4111 1111 1111 1111"
MADE = kit.make("pii_redaction", {"entities": ["email", "credit_card", "iban"]})
assert isinstance(MADE, PiiRedaction)
POLICY: PiiRedaction = MADE
KEYED = kit.make("pii_redaction", {
    "entities": ["email", "credit_card", "iban"], "numbering": "keyed", "key": "a key of more than 16 characters",
})  # fmt: skip


def ask(doc: Any, dialect: str = "chat") -> tuple[Any, Exchange]:
    """What the backend gets, and the exchange for the reply."""
    x = kit.exchange()
    raw = json.dumps(doc).encode()
    body = RequestBody(jsonio.decode(raw), len(raw), DIALECTS[dialect].request)
    asyncio.run(POLICY.inspect(x, body))
    return json.loads(jsonio.encode(body.doc)), x


def user(*texts: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": t} for t in texts]}


def texts(doc: Any) -> list[str]:
    return [m["content"] for m in doc["messages"]]


CONTENT = Channel(0, "content")


def answer(x: Exchange, *pieces: str, channel: Channel = CONTENT) -> str:
    gate = POLICY.guard(x, channel)
    return kit.through(gate, pieces) if gate is not None else "".join(pieces)


# -- numbers


def test_numbers_do_not_begin_anew_in_each_message() -> None:
    """Two people were ``<PERSON_1>``, and the wrong name came back."""
    got, x = ask(user(f"I am {ANN}", f"and this is {BOB}", f"{ANN} again"))
    assert texts(got) == ["I am [EMAIL_1]", "and this is [EMAIL_2]", "[EMAIL_1] again"]
    assert answer(x, "[EMAIL_1] and [EMAIL_2]") == f"{ANN} and {BOB}"


def test_repeats_of_a_value_get_no_new_number() -> None:
    got, _ = ask(user(f"{ANN} {ANN}, {ANN}"))
    assert texts(got) == ["[EMAIL_1] [EMAIL_1], [EMAIL_1]"]


def test_every_occurrence_is_replaced_not_only_the_first() -> None:
    got, _ = ask(user(" ".join([ANN] * 50)))
    assert texts(got) == [" ".join(["[EMAIL_1]"] * 50)]


def test_placeholders_are_the_same_in_the_next_turn() -> None:
    turn: dict[str, Any] = user(f"{BOB} and {ANN}")
    turn["documents"] = [{"text": EVE}]
    first, x = ask(turn)
    said = answer(x, "[EMAIL_2] to [EMAIL_3]")
    turn["messages"] += [{"role": "assistant", "content": said}, {"role": "user", "content": "new.one@corp-mail.org?"}]
    second, x = ask(turn)
    assert second["messages"][0] == first["messages"][0]
    assert second["documents"] == first["documents"]
    assert texts(second)[1:] == ["[EMAIL_2] to [EMAIL_3]", "[EMAIL_4]?"]


def test_a_second_request_does_not_touch_the_first_ones_values() -> None:
    """One map for a whole connection: later turns overwrote earlier ones."""
    _, one = ask(user(ANN))
    _, two = ask(user(BOB))
    assert (answer(one, "[EMAIL_1]"), answer(two, "[EMAIL_1]")) == (ANN, BOB)


def test_two_identities_do_not_become_one() -> None:
    got, x = ask(user("a.b@corp-mail.org ab@corp-mail.org a-b@corp-mail.org"))
    assert texts(got) == ["[EMAIL_1] [EMAIL_2] [EMAIL_3]"]
    assert answer(x, "[EMAIL_3][EMAIL_1]") == "a-b@corp-mail.orga.b@corp-mail.org"


def test_a_placeholder_that_the_user_types_is_not_another_values() -> None:
    got, x = ask(user(f"{ANN}, say [EMAIL_1] and <email_2>"))
    assert texts(got) == ["[EMAIL_3], say [EMAIL_1] and <email_2>"]
    assert answer(x, "[EMAIL_1] <email_2> [EMAIL_3]") == f"[EMAIL_1] <email_2> {ANN}"


def test_a_placeholder_in_text_that_is_not_looked_at_is_taken_too() -> None:
    doc = user(ANN) | {"tools": [{"function": {"name": "f", "description": "for instance [EMAIL_1]"}}]}
    assert texts(ask(doc)[0]) == ["[EMAIL_2]"]


# -- texts and offsets


def test_offsets_are_those_of_the_text_they_stand_in() -> None:
    """``Mike. Wh`` came back: offsets of one text were used on another."""
    text = f"Ünïcode 🙂 {ANN}. What 🙂 about {BOB}? "
    got, x = ask(user(text))
    assert texts(got) == ["Ünïcode 🙂 [EMAIL_1]. What 🙂 about [EMAIL_2]? "]
    assert answer(x, *texts(got)) == text


def test_what_is_put_back_is_not_replaced_again() -> None:
    _, x = ask(user(f"EMAIL_2 {ANN} [EMAIL_1] {BOB}"))
    assert answer(x, "[EMAIL_3] [EMAIL_4]") == f"{ANN} {BOB}"


@pytest.mark.parametrize("field", ["content", "reasoning"])
def test_a_placeholder_cut_anywhere_comes_back_whole(field: str) -> None:
    _, x = ask(user(ANN))
    said = "Mail [EMAIL_1], please."
    for at in range(len(said)):
        assert answer(x, said[:at], said[at:], channel=Channel(0, field)) == f"Mail {ANN}, please."
    assert answer(x, *said, channel=Channel(0, field)) == f"Mail {ANN}, please."


def test_a_value_cut_in_the_middle_does_not_pass() -> None:
    """``jane.`` and ``doe@example.com`` in two chunks."""
    _, x = ask(user("hello"))
    assert answer(x, "It is ann.", "lee@corp-", "mail.org", ".") == "It is [EMAIL]."


def test_no_chunk_is_emptied_or_collapsed() -> None:
    """Every fifth chunk was empty; streams came as one chunk."""
    _, x = ask(user(ANN))
    gate = POLICY.guard(x, Channel(0, "content"))
    assert gate is not None
    pieces = [f"word{n} and " for n in range(40)]
    size = 0
    for piece in pieces:
        size += len(piece)
        assert size - gate.push(piece) <= 1
    assert gate.close() == size and not gate.edits


# -- tools


def call(arguments: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": arguments}}]}


def test_arguments_of_earlier_calls_and_results_of_tools_are_replaced() -> None:
    doc = user(ANN)
    doc["messages"] += [
        call(json.dumps({"to": [ANN], "cc": {BOB: 1}})),
        {"role": "tool", "content": f'{{"ok": "{EVE}"}}'},
    ]
    got, _ = ask(doc)
    assert json.loads(got["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {
        "to": ["[EMAIL_1]"],
        "cc": {"[EMAIL_2]": 1},
    }
    assert json.loads(got["messages"][2]["content"]) == {"ok": "[EMAIL_3]"}


@pytest.mark.parametrize(
    "arguments", ["", "not json", f"{{broken {ANN}", "null", "[]", f'"{ANN}"', '{"a":NaN}', "{" * 5000]
)
def test_no_arguments_break_it(arguments: str) -> None:
    """A crash on JSON."""
    got, _ = ask({"messages": [call(arguments)]})
    shown = got["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert shown == arguments.replace(ANN, "[EMAIL_1]")


@pytest.mark.parametrize(
    "doc",
    [
        [],
        None,
        5,
        "x",
        {},
        {"messages": None},
        {"messages": [None, 3, {}, {"content": 5}, {"content": [None, 4, {"text": 3}]}]},
    ],
)
def test_no_shape_of_a_body_breaks_it(doc: Any) -> None:
    assert ask(doc)[0] == doc


def test_definitions_of_tools_are_not_text_of_users() -> None:
    """Examples in descriptions were taken for personal data: false blocks."""
    doc = user("hi") | {
        "tools": [{"type": "function", "function": {"name": "f", "description": f"such as {ANN}", "parameters": {}}}]
    }
    assert ask(doc)[0] == doc


def test_values_come_back_in_arguments_whose_json_needs_escapes() -> None:
    odd = "ann'lee+x@corp-mail.org"
    _, x = ask(user(odd))
    gate = POLICY.guard(x, Channel(0, "arguments", 0))
    assert gate is not None
    assert json.loads(kit.through(JsonLens(gate), list('{"\\u005bEMAIL_1]": "<\\u0065mail_1>"}'))) == {odd: odd}


# -- values and states


def test_checking_options_changes_no_state() -> None:
    """A trial call of a check took a number out of the map that requests used."""
    options = {"entities": ["email"], "custom": [{"name": "word", "words": ["secret"]}]}
    for _ in range(3):
        kit.make("pii_redaction", options)
        PiiRedaction.Options.model_validate(options)
    got, _ = ask(user(ANN))
    assert texts(got) == ["[EMAIL_1]"] == texts(ask(user(ANN))[0])


def test_a_value_inside_another_one_is_not_replaced_in_it() -> None:
    """``Eric`` and ``Eric's``: both were written into the text, one over the other."""
    made = kit.make("pii_redaction", {"entities": ["email"], "custom": [
        {"name": "human", "words": ["Eric", "Eric's", "Eric Lee"]},
    ]})  # fmt: skip
    x, doc = kit.exchange(), user("Eric's mail: eric@corp-mail.org. Eric Lee and Eric")
    asyncio.run(made.inspect(x, kit.body(doc)))
    assert texts(doc) == ["[HUMAN_1] mail: [EMAIL_1]. [HUMAN_2] and [HUMAN_3]"]
    gate = made.guard(x, CONTENT)
    assert gate is not None
    assert kit.through(gate, texts(doc)) == "Eric's mail: eric@corp-mail.org. Eric Lee and Eric"


def test_values_with_signs_of_regular_expressions_come_back_as_they_are() -> None:
    """``[REDACTED_X]`` was used as a pattern, a class of characters, and values as replacements with groups in them."""
    made = kit.make("pii_redaction", {"custom": [{"name": "odd", "patterns": ["\\\\1[$]&[(].[*][)]"]}]})
    x, doc = kit.exchange(), user(r"use \1$&(x*) as it is, REDACTED_X")
    asyncio.run(made.inspect(x, kit.body(doc)))
    assert texts(doc) == ["use [ODD_1] as it is, REDACTED_X"]
    gate = made.guard(x, CONTENT)
    assert gate is not None
    assert kit.through(gate, ["[ODD_1] O D [D] _ [ODD_11] [ODD]"]) == r"\1$&(x*) O D [D] _ [ODD_11] [ODD]"


def test_no_rule_needs_a_timeout() -> None:
    """Texts that make backtracking engines hang, in patterns of the user's own, too: work grows with the length, no more."""
    made = kit.make("pii_redaction", {"custom": [{"name": "bad", "patterns": ["(a+)+b", "(x|xx)+y"]}], "entities": ["email"]})
    doc = user("a" * 20_000, "x" * 20_000, "a@" * 10_000)
    asyncio.run(asyncio.wait_for(made.inspect(kit.exchange(), kit.body(doc)), 5))


# -- laws

WORDS = st.one_of(
    st.sampled_from([ANN, BOB, ANN.upper(), CARD, CARD.replace(" ", "-"), "GB82 WEST 1234 5698 7654 32", "[EMAIL_1]", "EMAIL_2",
                     "<card_1>", "[EMAIL_1B]", "\\[EMAIL\\_1\\]", "[", "]", "_1", "EMAIL", '"', "\\", "{", "\n", " ", "🙂"]),
    st.text(max_size=5),
)  # fmt: skip
PLAIN = st.text(st.sampled_from('abc \n[]_<>{}"\\.,:;é漢🙂'), max_size=20)
TEXTS = st.lists(WORDS, max_size=10).map("".join)


@settings(max_examples=120)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.sets(st.integers(0, 150), max_size=10))
def test_the_round_trip_is_exact_for_any_text_and_any_split(said: list[str], cuts: set[int]) -> None:
    got, x = ask(user(*said))
    if x.notes.get("pii_redaction") is None:
        assert texts(got) == said
        return
    restored = POLICY._replies._restoring(x, Channel(0, "content"), x.notes["pii_redaction"])
    shown = "\n".join(texts(got))
    edges = sorted({0, len(shown), *(c for c in cuts if c < len(shown))})
    assert kit.through(restored, [shown[a:b] for a, b in pairwise(edges)]) == "\n".join(said)


@settings(max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS.filter(lambda t: "_" not in t and "[" not in t and "<" not in t))
def test_two_turns_give_the_same_placeholders(said: list[str], more: str) -> None:
    doc = user(*said)
    before = texts(ask(copy.deepcopy(doc))[0])
    doc["messages"] += [{"role": "assistant", "content": "Well."}, {"role": "user", "content": more}]
    assert texts(ask(doc)[0])[: len(before)] == before


ARGUMENTS = st.recursive(
    st.one_of(TEXTS, st.integers(-9, 9), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)), max_leaves=6,
)  # fmt: skip


@settings(max_examples=80)
@given(st.dictionaries(TEXTS, ARGUMENTS, min_size=1, max_size=3), st.sets(st.integers(0, 400), max_size=10), st.booleans())
def test_arguments_come_back_as_they_were_for_any_json_and_any_split(said: Any, cuts: set[int], ascii: bool) -> None:
    """What went out in the arguments of a call in the history comes back in a new call, escapes and all."""
    got, x = ask({"messages": [call(json.dumps(said))]})
    shown = json.loads(got["messages"][0]["tool_calls"][0]["function"]["arguments"])
    if x.notes.get("pii_redaction") is None:
        assert shown == said
        return
    text = json.dumps(shown, ensure_ascii=ascii)
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    edges = sorted({0, len(text), *(c for c in cuts if c < len(text))})
    gate = JsonLens(POLICY._replies._restoring(x, Channel(0, "arguments", 0), x.notes["pii_redaction"]))
    assert json.loads(kit.through(gate, [text[a:b] for a, b in pairwise(edges)])) == said


@settings(max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.lists(TEXTS, max_size=2))
def test_keyed_numbers_are_those_of_the_value_and_the_tenant(said: list[str], before: list[str]) -> None:
    """The same in any request of a tenant, whatever stands before; another tenant has others."""

    def sent(tenant: str, *texts_: str) -> tuple[list[str], dict[str, str]]:
        x, doc = kit.exchange(tenant=tenant), user(*texts_)
        asyncio.run(KEYED.inspect(x, kit.body(doc)))
        memory = x.notes.get("pii_redaction")
        return texts(doc), {} if memory is None else {value: form for form, value in memory.vault._back.items()}

    first, names = sent("a", *said)
    _, more = sent("a", *before, *said)
    assert sent("a", *said) == (first, names)
    plain = {v: f for v, f in names.items() if not f[-1].isalpha() or len(f.rpartition("_")[2]) == 11}
    assert all(more[value] == form for value, form in plain.items() if len(more[value].rpartition("_")[2]) == 11)
    _, others = sent("b", *said)
    assert others.keys() == names.keys() and not set(others.values()) & set(names.values())


@settings(max_examples=60)
@given(PLAIN, st.sampled_from([ANN, BOB, CARD]), PLAIN)
def test_a_planted_value_is_in_no_finding_and_no_note(before: str, value: str, after: str) -> None:
    got, x = ask(user(f"{before} {value} {after}"))
    assert value not in json.dumps(got, ensure_ascii=False)
    assert value not in repr([x, x.findings, x.notes, x.labels])
