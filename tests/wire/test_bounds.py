"""What a moderated reply may hold: at each bound the client sees a clean end, or gets the text, as the policy says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.kits.backend import Call, backend
from tests.kits.client import Reply, connect, request
from tests.kits.dialect_kit import DONE, chunk, delta, docs, event
from tests.kits.gate import gate

# Whatever follows "BEGIN " may still become a match.
SPAN = [{"name": "span", "patterns": [r"(?s)BEGIN .*THE END"], "placeholder": "[SPAN]"}]
ON = ("cut", "release")


def say(text: str) -> bytes:
    return event(chunk([delta({"content": text})]))


def arguments(text: str) -> bytes:
    return event(chunk([delta({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": text}}]})]))


def finish(reason: str = "stop") -> bytes:
    return event(chunk([delta({}, 0, reason)]))


async def streamed(events: list[bytes], rules: list[dict[str, Any]], policy: dict[str, Any], **stream: Any) -> Reply:
    async def script(call: Call) -> None:
        await call.sse([*events, finish(), DONE])

    settings = {"policies": [{"use": "output_moderation", "rules": rules, **policy}], "stream": stream}
    async with backend(script) as b, gate(b.url, **settings) as g, connect(g.port) as client:
        reply = await client.ask(request("POST", "/v1/chat/completions", b'{"model":"m","stream":true}'))
        again = await client.ask(request("POST", "/v1/chat/completions", b'{"model":"m","stream":true}'))
        assert again.status == 200, "the connection goes on: the body has ended as it should"
        await g.settled(2)
        return reply


async def whole(text: str, rules: list[dict[str, Any]], policy: dict[str, Any], **more: Any) -> Reply:
    body = json.dumps({"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]}).encode()

    async def script(call: Call) -> None:
        await call.reply(body, fields=[(b"Content-Type", b"application/json")])

    settings = {"policies": [{"use": "output_moderation", "rules": rules, **policy}], **more}
    async with backend(script) as b, gate(b.url, **settings) as g, connect(g.port) as client:
        reply = await client.ask(request("POST", "/v1/chat/completions", b'{"model":"m"}'))
        await g.settled()
        return reply


def said(reply: Reply) -> tuple[str, list[str]]:
    """The text of a stream, and its finish reasons. It ends as OpenAI's do."""
    assert reply.body.endswith(DONE)
    choices = [c for d in docs(reply.body) for c in d.get("choices", ())]
    text = "".join(c["delta"].get("content") or "" for c in choices)
    return text, [c["finish_reason"] for c in choices if c.get("finish_reason")]


@pytest.mark.parametrize("on", ON)
async def test_one_match_that_stays_undecided(on: str) -> None:
    """``max_hold``: the same for a stream and a whole reply."""
    text = "so: BEGIN " + "x" * 500 + "; that is all"
    policy = {"max_hold": 100, "on_overflow": on}
    events = [say(text[i : i + 7]) for i in range(0, len(text), 7)]
    got, reasons = said(await streamed(events, SPAN, policy))
    body = json.loads((await whole(text, SPAN, policy)).body)["choices"][0]
    if on == "cut":
        assert (got, reasons) == ("so: ", ["content_filter"])
        assert (body["message"]["content"] or "", body["finish_reason"]) == ("", "content_filter")
    else:
        assert (got, reasons) == (text, ["stop"])
        assert (body["message"]["content"], body["finish_reason"]) == (text, "stop")


@pytest.mark.parametrize("on", ON)
async def test_text_held_in_a_stream(on: str) -> None:
    """``stream.max_held``, below what the rule itself may hold."""
    text = "so: BEGIN " + "x" * 1000
    events = [say(text[i : i + 10]) for i in range(0, len(text), 10)]
    reply = await streamed(events, SPAN, {"max_hold": 4000}, max_held=300, on_overflow=on)
    assert said(reply) == (("so: ", ["content_filter"]) if on == "cut" else (text, ["stop"]))


@pytest.mark.parametrize("on", ON)
async def test_an_event_that_is_too_large(on: str) -> None:
    events = [say("before; "), say("x" * 30_000), say("; after")]
    reply = await streamed(events, SPAN, {}, max_event=20_000, on_overflow=on)
    cut = ("before; ", ["content_filter"])
    assert said(reply) == (cut if on == "cut" else ("before; " + "x" * 30_000 + "; after", ["stop"]))


@pytest.mark.parametrize("on", ON)
async def test_events_that_wait(on: str) -> None:
    """All that waits behind one undecided word is bounded, too: sixteen events of the greatest size."""
    noise = b": " + b"x" * 900 + b"\n\n"
    events = [say("BEGIN x"), *([noise] * 400), say("; that is all")]
    reply = await streamed(events, SPAN, {}, max_event=10_000, on_overflow=on)
    got, reasons = said(reply)
    assert (got, reasons) == (("", ["content_filter"]) if on == "cut" else ("BEGIN x; that is all", ["stop"]))
    assert (reply.body.count(noise) == 400) is (on == "release")


@pytest.mark.parametrize("on", ON)
async def test_arguments_of_a_call(on: str) -> None:
    """A tool call may be held for longer than prose: 256 KiB."""
    rule = [{"name": "all", "patterns": [r"(?s)\{.*\}never"]}]
    events = [arguments('{"q": "'), *[arguments("x" * 20_000) for _ in range(15)], arguments('"}')]
    reply = await streamed(events, rule, {"max_hold": 65_536}, max_held=1000, on_overflow=on)
    assert reply.body.endswith(DONE)
    calls = [c for d in docs(reply.body) for x in d.get("choices", ()) for c in x["delta"].get("tool_calls", ())]
    size = sum(len(c["function"]["arguments"]) for c in calls)
    # a rule holds no more than its max_hold, so the call itself passes
    assert size == 300_000 + 9
    assert said(reply)[1] == ["stop"]


@pytest.mark.parametrize("on", ON)
async def test_a_whole_reply_that_is_too_large(on: str) -> None:
    """Who may not read all of it must not send any of it, whatever the bound of a stream says."""
    reply = await whole("x" * 50_000, SPAN, {}, limits={"inspected_body": 20_000}, stream={"on_overflow": on})
    assert reply.status == 502
    assert json.loads(reply.body)["error"]["code"] == "bad_gateway"
    assert b"xxx" not in reply.body
