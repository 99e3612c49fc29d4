"""``pii_redaction`` with names: actions, directions, failures, and what is refused at load."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from policies.contract import Channel, Cut, Exchange, Gate, Kind, Refuse, RequestBody
from policies.pii import ner
from policies.pii.actions import Keys, decrypt
from policies.pii_redaction import PiiRedaction
from proxy import jsonio
from proxy.asking import settle
from proxy.dialects import DIALECTS
from proxy.lens import JsonLens
from tests.kits import names as models
from tests.kits import policy_kit as kit

CONTENT = Channel(0, "content")
ANN, ANN_MAIL = "Ann Lee", "ann.lee@corp-mail.org"
KNOWN = {ANN: "person", "Bob": "person", "Paris": "location", "Acme Corp": "organization", f"Ann {ANN_MAIL} Lee": "person"}
KEY = {"key": "a key of the tests"}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> models.Phrases:
    """In the place of a model, whatever packages there are."""
    made = models.Phrases(KNOWN)
    monkeypatch.setattr(ner, "engine_for", lambda options, wanted: made)
    monkeypatch.setattr(ner, "_installed", lambda package: True)
    return made


def options(**given: Any) -> dict[str, Any]:
    known = {"entities": ["names", "email"], "ner": {"model": "any"}, **given}
    known["ner"] = {"model": "any", **known["ner"]}
    return known


@asynccontextmanager
async def ready(**given: Any) -> AsyncIterator[PiiRedaction]:
    made = kit.make("pii_redaction", options(**given))
    assert isinstance(made, PiiRedaction)
    try:
        await made.prepare()
        yield made
    finally:
        await made.close()


def chat(*contents: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": c} for c in contents]}


def request(doc: Any) -> RequestBody:
    raw = json.dumps(doc).encode()
    return RequestBody(jsonio.decode(raw), len(raw), DIALECTS["chat"].request)


async def sent(made: PiiRedaction, doc: Any, x: Exchange | None = None) -> list[str]:
    """The messages that the backend gets."""
    body = request(doc)
    await made.inspect(x or kit.exchange(), body)
    return [m["content"] for m in json.loads(jsonio.encode(body.doc))["messages"]]


async def reply(gate: Gate | None, pieces: list[str]) -> str:
    """What a client gets of a reply. Raises Cut, with what left before it as its last argument."""
    text, out, at = "", "", 0
    if gate is None:
        return "".join(pieces)

    def take(upto: int) -> None:
        nonlocal out, at
        for edit in gate.edits:
            out += text[at : edit.start] + edit.text
            at = edit.end
        gate.edits = []
        out, at = out + text[at:upto], max(at, upto)

    try:
        for piece in pieces:
            text += piece
            take(gate.push(piece))
            await settle(list(gate.judges), lambda: 0.0)
            take(gate.push(""))
        take(gate.close())
        await settle(list(gate.judges), lambda: 0.0)
        take(gate.close())
    except Cut as cut:
        take(at if cut.at is None else cut.at)
        cut.args = (*cut.args, out)
        raise
    assert at == len(text)
    return out


def shown(x: Exchange) -> list[tuple[str, int, str, str]]:
    return [(f.kind, f.count, f.where, f.action) for f in x.findings]


# -- actions


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("pseudonymize", "I am [PERSON_1] of [ORGANIZATION_1], [LOCATION_1], [EMAIL_1]."),
        ("redact", "I am [PERSON] of [ORGANIZATION], [LOCATION], [EMAIL]."),
        ("mask", "I am *** Lee of **** Corp, ***is, ***.***@****-***l.org."),
        ("flag", f"I am {ANN} of Acme Corp, Paris, {ANN_MAIL}."),
    ],
)
async def test_actions_on_a_request(engine: models.Phrases, action: str, expected: str) -> None:
    x = kit.exchange()
    async with ready(action=action) as made:
        assert await sent(made, chat(f"I am {ANN} of Acme Corp, Paris, {ANN_MAIL}."), x) == [expected]
    where = "messages[0].content"
    assert sorted(shown(x)) == [(k, 1, where, action) for k in ("email", "location", "organization", "person")]


async def test_hash_encrypt_and_each_entity_its_own(engine: models.Phrases) -> None:
    async with ready(entities={"names": "redact", "person": "hash", "location": "encrypt"}, **KEY) as made:
        (got,) = await sent(made, chat(f"{ANN} Paris Acme Corp {ANN}"))
    hashed, sealed, other, again = got.split()
    assert hashed == again and hashed.startswith("[PERSON:") and other == "[ORGANIZATION]"
    assert decrypt(sealed, Keys(KEY["key"]), type="location") == "Paris"


async def test_block_names_the_entity_and_never_the_name(engine: models.Phrases) -> None:
    async with ready(entities={"person": "block"}) as made:
        assert await sent(made, chat("Paris is fine")) == ["Paris is fine"]
        with pytest.raises(Refuse) as caught:
            await sent(made, chat(f"I am {ANN}"))
    assert caught.value.kind is Kind.BLOCKED
    assert "person" in str(caught.value.message) and "Ann" not in repr([caught.value.message, caught.value.args])


async def test_one_name_one_placeholder_and_it_comes_back(engine: models.Phrases) -> None:
    x = kit.exchange()
    async with ready(on=["request"]) as made:
        got = await sent(made, chat(f"{ANN} and Bob", f"ann lee, {ANN_MAIL}"), x)
        assert got == ["[PERSON_1] and [PERSON_2]", "[PERSON_1B], [EMAIL_1]"]
        text = "Dear [PERSON_1], [PERSON_1B] and <person_2>: [LOCATION_1]? Paris."
        expected = f"Dear {ANN}, ann lee and Bob: [LOCATION_1]? Paris."
        assert await reply(made.guard(x, CONTENT), [text]) == expected
        assert await reply(made.guard(x, CONTENT), list(text)) == expected
    assert ("person", 3, "choices[0].content", "restored") in shown(x)


async def test_two_turns_give_the_same_placeholders_and_the_history_is_not_asked_about_again(engine: models.Phrases) -> None:
    async with ready() as made:
        first = await sent(made, chat(f"{ANN} met Bob"))
        asked = len(engine.asked)
        assert await sent(made, chat(f"{ANN} met Bob", "Bob is in Paris")) == [*first, "[PERSON_2] is in [LOCATION_1]"]
        assert engine.asked[asked:] == ["Bob is in Paris"]
        await sent(made, chat(f"{ANN} met Bob"), kit.exchange(tenant="other"))
        assert engine.asked[-1] == f"{ANN} met Bob", "another tenant cannot tell what was asked before"


async def test_a_find_of_a_rule_inside_a_name_keeps_its_own_action(engine: models.Phrases) -> None:
    x = kit.exchange()
    async with ready(entities={"names": "redact", "email": "mask"}) as made:
        assert await sent(made, chat(f"Ann {ANN_MAIL} Lee!"), x) == ["[PERSON] ***.***@****-***l.org [PERSON]!"]
        told = await reply(made.guard(x, CONTENT), list(f"Ann {ANN_MAIL} Lee!"))
        assert told == "[PERSON] ***.***@****-***l.org [PERSON]!"
    async with ready(entities={"names": "redact", "email": "flag"}) as made:
        x = kit.exchange()
        assert await sent(made, chat(f"Ann {ANN_MAIL} Lee!"), x) == ["[PERSON]!"]
        assert ("email", 1, "messages[0].content", "flag") in shown(x)
        assert await reply(made.guard(x, CONTENT), [f"Ann {ANN_MAIL} Lee!"]) == "[PERSON]!"


async def test_names_alone_without_any_rule(engine: models.Phrases) -> None:
    x = kit.exchange()
    async with ready(entities=["person"], allow=["bob"]) as made:
        assert await sent(made, chat(f"{ANN}, Bob, {ANN_MAIL}"), x) == [f"[PERSON_1], Bob, {ANN_MAIL}"]
        assert await reply(made.guard(x, CONTENT), [f"[PERSON_1], Bob and {ANN}. Paris"]) == f"{ANN}, Bob and {ANN}. Paris"
        assert await reply(made.guard(kit.exchange(), CONTENT), [ANN]) == "[PERSON]"


async def test_placeholders_of_the_users_own_are_no_names(engine: models.Phrases) -> None:
    engine._any = models.re.compile("PERSON_1|Ann Lee")
    engine._known |= {"person_1": "person"}
    x = kit.exchange()
    async with ready() as made:
        assert await sent(made, chat(f"[PERSON_1] is not {ANN}"), x) == ["[PERSON_1] is not [PERSON_2]"]
        assert await reply(made.guard(x, CONTENT), ["[PERSON_1] and [PERSON_2]"]) == f"[PERSON_1] and {ANN}"


# -- replies

REPLY = "Hello. Ann Lee and Bob live in Paris, says [PERSON_1] (ann.x@corp-mail.org). Dr. Bob! Acme Corp"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_any_split_of_a_reply_gives_what_the_whole_gives(engine: models.Phrases, size: int) -> None:
    x = kit.exchange()
    async with ready() as made:
        await sent(made, chat(f"I am {ANN}"), x)
        pieces = [REPLY[i : i + size] for i in range(0, len(REPLY), size)]
        got = await reply(made.guard(x, CONTENT), pieces)
    assert got == "Hello. Ann Lee and [PERSON] live in [LOCATION], says Ann Lee ([EMAIL]). Dr. [PERSON]! [ORGANIZATION]"
    assert ("person", 2, "choices[0].content", "redact") in shown(x)


WORDS = ["Ann Lee", "Bob", " ", ". ", "a@b-c.org", "Paris ", "\n", "[PERSON_1]", "[PERSON_", "1]", "w " * 90]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=15).map("".join)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 300), max_size=8), st.sampled_from(["", "redact", "block", "flag"]))
def test_the_law_of_streams_for_the_policy(text: str, cuts: list[int], action: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ner, "engine_for", lambda options, wanted: models.Phrases(KNOWN))
        patch.setattr(ner, "_installed", lambda package: True)

        async def both() -> list[tuple[str, str]]:
            more = {"reply_action": action} if action else {}
            x, out = kit.exchange(), []
            async with ready(**more) as made:
                await sent(made, chat(f"I am {ANN}"), x)
                edges = sorted({0, len(text), *(c for c in cuts if c < len(text))})
                for pieces in ([text], [text[a:b] for a, b in pairwise(edges)]):
                    try:
                        out.append((await reply(made.guard(x, CONTENT), pieces), ""))
                    except Cut as cut:
                        out.append((cut.args[-1], cut.reason))
            return out

        whole, cut = asyncio.run(both())
        assert cut == whole


async def test_a_blocked_name_ends_the_reply_before_it(engine: models.Phrases) -> None:
    async with ready(entities={"names": "redact", "person": "block"}, message="Stopped.") as made:
        x = kit.exchange()
        with pytest.raises(Cut) as caught:
            await reply(made.guard(x, CONTENT), ["In Paris", " there is Bob, and ", "more"])
    assert (caught.value.reason, caught.value.message, caught.value.args[-1]) == ("person", "Stopped.", "In [LOCATION] there is ")


async def test_arguments_stay_json_and_names_of_tools_are_left_alone(engine: models.Phrases) -> None:
    x = kit.exchange()
    async with ready() as made:
        await sent(made, chat(f"I am {ANN}"), x)
        gate = made.guard(x, Channel(0, "arguments", 0))
        assert gate is not None
        got = await reply(JsonLens(gate), ['{"to": "[PERS', 'ON_1]", "from": "Bo', 'b", "n": 1}'])
        assert json.loads(got) == {"to": ANN, "from": "[PERSON]", "n": 1}
        named = made.guard(x, Channel(0, "name", 0))
        assert named is not None and not named.judges
        assert await reply(named, ["Paris"]) == "Paris"


async def test_channels_and_directions(engine: models.Phrases) -> None:
    async with ready(channels=["reasoning"]) as made:
        assert await reply(made.guard(kit.exchange(), CONTENT), ["Bob"]) == "Bob"
        assert await reply(made.guard(kit.exchange(), Channel(0, "reasoning")), ["Bob"]) == "[PERSON]"
    async with ready(on=["reply"]) as made:
        assert "inspect" not in made.phases()
        assert await reply(made.guard(kit.exchange(), CONTENT), ["Bob"]) == "[PERSON]"


async def test_a_large_request_is_read_in_a_thread_and_found_to_its_end(engine: models.Phrases) -> None:
    filler = "Nobody is here. " * 3000
    async with ready() as made:
        (got,) = await sent(made, chat(f"{filler}{ANN} {filler}Bob"))
    assert got == f"{filler}[PERSON_1] {filler}[PERSON_2]"


async def test_a_long_reply_asks_several_questions_and_what_has_no_letter_none(engine: models.Phrases) -> None:
    asked: list[int] = []
    async with ready() as made:
        assert made._names is not None
        ask = made._names.ask

        async def counted(texts: Any) -> Any:
            asked.append(len(texts))
            return await ask(texts)

        made._names.ask = counted  # type: ignore[method-assign]
        text = "Bob.\n}\n1 2\n" * 20
        assert await reply(made.guard(kit.exchange(), CONTENT), [text]) == text.replace("Bob", "[PERSON]")
    assert asked == [16, 16, 16, 12] and set(engine.asked[1:]) == {"Bob.\n"}


# -- failures


@pytest.mark.parametrize("why", ["engine", "timeout", "queue"])
@pytest.mark.parametrize("stance", ["closed", "open"])
async def test_without_an_answer_the_request_goes_by_on_error(engine: models.Phrases, why: str, stance: str) -> None:
    given = {"on_error": stance, "timeout": 0.05 if why == "timeout" else 10, "queue": 1}
    x, body = kit.exchange(), request(chat(f"{ANN} {ANN_MAIL}"))
    async with ready(ner=given) as made:
        if why == "engine":
            engine.fails = ValueError(f"failed at {ANN}")
        else:
            engine.gate.clear()
        busy = []
        if why == "queue":
            assert made._names is not None
            busy.append(asyncio.ensure_future(made._names.ask(["x"])))
            await asyncio.sleep(0)
        (inspect,) = kit.plan(made).inspect
        if stance == "closed":
            with pytest.raises(Refuse) as caught:
                await inspect(x, body)
            assert caught.value.kind is Kind.POLICY_ERROR and "Ann" not in repr(x.findings)
        else:
            await inspect(x, body)
            assert body.doc["messages"][0]["content"] == f"{ANN} [EMAIL_1]", "rules do what they can"
            assert ("names", 1, "", "unread") in shown(x)
        engine.gate.set()
        await asyncio.gather(*busy)


@pytest.mark.parametrize("stance", ["closed", "open"])
async def test_without_an_answer_the_reply_goes_by_on_error(engine: models.Phrases, stance: str) -> None:
    log, x = kit.Log(), kit.exchange()
    async with ready(ner={"on_error": stance}) as made:
        (guard,) = kit.plan(made, log=log).guard
        engine.fails = ValueError(f"failed at {ANN}")
        gate = guard(x, CONTENT)
        if stance == "open":
            assert await reply(gate, ["I am Bob, ", f"{ANN_MAIL}. Bob"]) == "I am Bob, [EMAIL]. Bob"
            assert ("names", 1, "choices[0].content", "unread") in shown(x)
        else:
            with pytest.raises(Cut) as caught:
                await reply(gate, ["I am Bob. ", "Bob"])
            assert (caught.value.reason, caught.value.args[-1]) == (Kind.POLICY_ERROR.value, "")
    assert "Ann" not in repr([log.__dict__, x.findings])


async def test_shadow_mode_changes_nothing_and_tells(engine: models.Phrases) -> None:
    x = kit.exchange()
    async with ready() as made:
        await kit.check_shadow(made, x, kit.chat_body(f"I am {ANN}"), ["I am ", "Bob."])
        (guard,) = kit.plan(made, mode="shadow").guard
        gate = guard(x, CONTENT)
        assert await reply(gate, ["I am Bob. ", "x"]) == "I am Bob. x"
        assert gate is not None and all(j.settled for j in gate.judges)
    assert ("edit", 1, "choices[0].content", "would_change") in shown(x)


async def test_a_model_that_cannot_be_loaded_does_not_go_live(engine: models.Phrases, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("no such model")

    monkeypatch.setattr(engine, "ready", broken)
    with pytest.raises(OSError, match="no such model"):
        async with ready():
            pass


async def test_no_more_than_so_many_texts_are_remembered(engine: models.Phrases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ner, "_KNOWN", 3)
    async with ready() as made:
        await sent(made, chat(*(f"Bob {n}" for n in range(10))))
        assert made._names is not None and len(made._names._known) == 3
        assert "Bob" not in repr(made._names._known)
        assert await sent(made, chat("Bob 9", "Bob 0")) == ["[PERSON_1] 9", "[PERSON_1] 0"]
    assert engine.asked.count("Bob 9") == 1 and engine.asked.count("Bob 0") == 2


# -- load


def refused(**given: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        kit.make("pii_redaction", given)
    return str(caught.value)


def test_names_without_a_model_are_refused_with_the_line_to_add() -> None:
    for entities in (["person"], ["names"], {"email": "redact", "organization": "mask"}):
        assert "ner: {engine: transformers, model: /models/ner}" in refused(entities=entities)


def test_a_model_without_names_is_refused(engine: models.Phrases) -> None:
    assert "entities has none of them" in refused(entities=["all"], ner={"model": "any"})
    assert "person" not in kit.make("pii_redaction", {"entities": ["base"]}).describe()


@pytest.mark.parametrize(
    ("name", "extra", "module"), [("transformers", "torch", "torch"), ("presidio", "presidio", "presidio_analyzer")]
)
def test_an_engine_that_is_not_installed_is_refused_with_the_line_to_run(
    monkeypatch: pytest.MonkeyPatch, name: str, extra: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    told = refused(entities=["person"], ner={"engine": name, "model": "any"})
    assert module in told and f"pip install 'headgate[{extra}]'" in told


def test_other_mistakes_are_refused(engine: models.Phrases, tmp_path: Path) -> None:
    assert "no such directory" in refused(entities=["person"], ner={"model": str(tmp_path / "none")})
    assert "names" in refused(entities=["name"], ner={"model": "any"})
    assert "hold" in refused(entities=["person"], ner={"model": "any", "hold": 20})
    assert "labels" in refused(entities=["person"], ner={"model": "any", "labels": {"X": "email"}})
    assert "knows" in refused(custom=[{"name": "person", "words": ["x"]}])
    assert "RE2" in refused(entities=["person"], ner={"model": "any"}, allow_patterns=["("])


def test_what_explain_says(engine: models.Phrases) -> None:
    made = kit.make("pii_redaction", options(entities={"names": "redact", "email": "mask"}))
    assert made.describe() == "redact person, location, organization; mask email; names by transformers; in request and reply"


# -- a real model


async def test_a_real_model_from_request_to_reply(tmp_path: Path) -> None:
    directory = models.tiny_model(tmp_path / "model")
    x = kit.exchange()
    async with ready(ner={"model": directory, "labels": {"PER": "person", "LOC": "location", "ORG": "organization"}}) as made:
        got = await sent(made, chat("Mary Smith works at Acme Corp.", "mail mary@corp-mail.org in New York"), x)
        assert got == ["[PERSON_1] works at [ORGANIZATION_1].", "mail [EMAIL_1] in [LOCATION_1]"]
        text = "Hello [PERSON_1]. John lives in [LOCATION_1] and Paris."
        for pieces in ([text], list(text)):
            assert await reply(made.guard(x, CONTENT), pieces) == "Hello Mary Smith. [PERSON] lives in New York and [LOCATION]."


async def test_two_policies_with_the_same_model_load_it_once(tmp_path: Path) -> None:
    directory = models.tiny_model(tmp_path / "model")
    async with (
        ready(ner={"model": directory}) as one,
        ready(ner={"model": directory, "timeout": 1}) as two,
        ready(ner={"model": directory, "threshold": 0.7}) as other,
    ):
        assert one._names is not None and two._names is not None and other._names is not None
        assert one._names._engine is two._names._engine is not other._names._engine
