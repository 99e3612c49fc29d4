"""Personal data on the wire: ten turns with tools through the official client, where the backend says what it got."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import openai
import pytest

from policies.contract import Kind
from tests.kits.backend import Backend, Call, backend
from tests.kits.fronts import KEY, front
from tests.kits.gate import Gate, gate

POLICY = """
policies:
  - use: pii_redaction
    entities: [email, credit_card, iban]
    custom: [{name: motto, patterns: ['say "[a-z]+"']}]
"""
PEOPLE = [f"person.{n}@corp-mail{n}.org" for n in range(10)]
CARDS = ["4111 1111 1111 1111", "5500-0055-5555-5559", "378282246310005"]
MOTTO = 'say "hello"'
PLANTED = [*PEOPLE, *CARDS, MOTTO, "4111 1111", "4111-1111", "41111111", "corp-mail"]  # four digits also stand in durations
TOOL: Any = {"type": "function", "function": {"name": "send", "parameters": {"type": "object"}}}


def said(body: dict[str, Any]) -> str:
    """The last message's text, wherever an API has it."""
    last = (body.get("messages") or body["input"])[-1]
    content = last["content"] if "content" in last else last["output"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    doc = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(doc).encode() + b"\n\n"


def echo(size: int) -> Callable[[Call], Any]:
    """Streams what it got: thoughts and text as they were, then a tool call with the text in its arguments, each cut in
    pieces of ``size`` characters."""

    async def script(call: Call) -> None:
        body = json.loads(call.body)
        text = said(body)
        events = [chunk({"role": "assistant", "content": ""})]
        events += [chunk({"reasoning": piece}) for piece in cut(f"They say: {text}", size)]
        events += [chunk({"content": piece}) for piece in cut(f"You said **{text}**.", size)]
        finish = "stop"
        if body["messages"][-1]["role"] == "user":
            function = {"name": "send", "arguments": ""}
            head = {"index": 0, "id": f"call_{len(body['messages'])}", "type": "function", "function": function}
            events.append(chunk({"tool_calls": [head]}))
            arguments = json.dumps({"to": [text], "n": {"copy": text}})
            events += [
                chunk({"tool_calls": [{"index": 0, "function": {"arguments": p}}]}) for p in cut(arguments, size)
            ]
            finish = "tool_calls"
        await call.sse([*events, chunk({}, finish), b"data: [DONE]\n\n"])

    return script


async def turn(client: openai.AsyncOpenAI, history: list[Any]) -> dict[str, Any]:
    """One streamed reply, put together as an application does."""
    stream: Any = await client.chat.completions.create(model="m", messages=history, tools=[TOOL], stream=True)
    out: dict[str, Any] = {"role": "assistant", "content": "", "reasoning": ""}
    calls: dict[int, dict[str, Any]] = {}
    async for event in stream:
        delta = event.choices[0].delta
        out["content"] += delta.content or ""
        out["reasoning"] += getattr(delta, "reasoning", None) or ""
        for call in delta.tool_calls or ():
            known = calls.setdefault(
                call.index, {"id": call.id, "type": "function", "function": {"name": "", "arguments": ""}}
            )
            known["function"]["name"] += call.function.name or ""
            known["function"]["arguments"] += call.function.arguments or ""
    return out | ({"tool_calls": list(calls.values())} if calls else {})


def question(n: int) -> str:
    """New values, old ones, and both spellings of some."""
    return f"Turn {n}: {PEOPLE[n]} asks {PEOPLE[n // 2]} about {CARDS[n % 3]} or {PEOPLE[n].title()}: {MOTTO}"


def nowhere(values: list[str], *places: object) -> None:
    for place in places:
        text = place if isinstance(place, str) else repr(place)
        for value in values:
            assert value.lower() not in text.lower(), value


@pytest.mark.parametrize("size", [2, 1000])
async def test_ten_turns_with_tools(size: int) -> None:
    async with (
        backend(echo(size)) as b,
        gate(b.url, POLICY) as g,
        openai.AsyncOpenAI(base_url=f"{g.url}/v1", api_key=KEY, max_retries=0) as client,
    ):
        history: list[Any] = [{"role": "system", "content": f"You work for {PEOPLE[9]}."}]
        for n in range(10):
            text = question(n)
            history.append({"role": "user", "content": text})
            reply = await turn(client, history)
            assert reply["content"] == f"You said **{text}**." and reply["reasoning"] == f"They say: {text}"
            (call,) = reply["tool_calls"]
            assert json.loads(call["function"]["arguments"]) == {"to": [text], "n": {"copy": text}}
            result = f"sent to {PEOPLE[n]} and {PEOPLE[(n * 3) % 10]}"
            history += [reply, {"role": "tool", "tool_call_id": call["id"], "content": result}]
            answer = await turn(client, history)
            assert answer["content"] == f"You said **{result}**."
            history.append(answer)
        await g.settled(20)
        check_backend(b)
        await check_told(g)


def check_backend(b: Backend) -> None:
    """It saw no value, and the same placeholders in every turn."""
    for call in b.calls:
        nowhere(PLANTED, call.body.decode(), call.raw_head.decode())
    turns = [json.loads(call.body)["messages"] for call in b.calls]
    for before, after in pairwise(turns):
        assert after[: len(before)] == before
    assert turns[-1][0]["content"] == "You work for [EMAIL_1]."
    assert "[EMAIL_10]" in json.dumps(turns[-1]) and "[EMAIL_11" not in json.dumps(turns[-1])


async def check_told(g: Gate) -> None:
    nowhere(PLANTED, await g.log_lines(20), g.metrics.exposition()[0].decode())
    nowhere(PLANTED, [repr(x) for x in g.exchanges], [x.findings for x in g.exchanges], [x.notes for x in g.exchanges])
    found = {(f.kind, f.action) for x in g.exchanges for f in x.findings}
    assert ("email", "restored") in found and ("email", "pseudonymize") in found
    assert not [f for x in g.exchanges for f in x.findings if f.action in ("unknown", "redact")]


async def test_whole_replies_and_the_other_apis() -> None:
    text = f"{PEOPLE[0]}, {CARDS[0]}, {PEOPLE[0].upper()}"

    async def script(call: Call) -> None:
        body = json.loads(call.body)
        nowhere(PLANTED, call.body.decode())
        path = call.target.split(b"?")[0]
        if path == b"/v1/chat/completions":
            args = json.dumps({"to": said(body)})
            calls = [{"id": "t", "type": "function", "function": {"name": "send", "arguments": args}}]
            message = {"role": "assistant", "content": said(body), "tool_calls": calls}
            doc: Any = {
                "id": "c",
                "object": "chat.completion",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
        elif path == b"/v1/completions":
            doc = {"id": "c", "object": "text_completion", "choices": [
                {"index": n, "text": p, "finish_reason": "stop"} for n, p in enumerate(body["prompt"])
            ]}  # fmt: skip
        elif path == b"/v1/responses":
            part = {"type": "output_text", "text": said(body), "annotations": []}
            doc = {"id": "r", "object": "response", "status": "completed", "output": [
                {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]},
                {"arguments": json.dumps({"to": said(body)}), "call_id": "c", "name": "send", "type": "function_call"},
            ]}  # fmt: skip
        elif path == b"/v1/messages":
            blocks = [
                {"type": "text", "text": said(body)},
                {"type": "tool_use", "id": "t", "name": "send", "input": {"to": [said(body)]}},
            ]
            doc = {"id": "m", "type": "message", "role": "assistant", "content": blocks, "stop_reason": "end_turn"}
        else:
            doc = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "model": "m"}
        await call.reply(json.dumps(doc).encode(), fields=[(b"Content-Type", b"application/json")])

    messages: Any = [{"role": "user", "content": text}]
    async with (
        backend(script) as b,
        gate(b.url, POLICY) as g,
        openai.AsyncOpenAI(base_url=f"{g.url}/v1", api_key=KEY, max_retries=0) as client,
    ):
        chat = (await client.chat.completions.create(model="m", messages=messages)).choices[0].message
        assert chat.content == text
        assert chat.tool_calls and json.loads(chat.tool_calls[0].function.arguments) == {"to": text}  # type: ignore[union-attr]
        old = await client.completions.create(model="m", prompt=[text, PEOPLE[1], text])
        assert [c.text for c in old.choices] == [text, PEOPLE[1], text]
        made: Any = await client.responses.create(model="m", input=messages)
        assert made.output_text == text
        assert json.loads(made.output[1].arguments) == {"to": text}
        got: Any = await client.post(
            "/messages", body={"model": "m", "max_tokens": 9, "messages": messages}, cast_to=object
        )
        assert got["content"][0]["text"] == text and got["content"][1]["input"] == {"to": [text]}
        made = await client.embeddings.create(model="m", input=[text, PEOPLE[2]], encoding_format="float")
        assert made.data[0].embedding == [0.5]
        assert json.loads(b.calls[-1].body)["input"] == ["[EMAIL_1], [CARD_1], [EMAIL_1B]", "[EMAIL_2]"]


@pytest.mark.parametrize("name", ["web_search", "lookup"])
async def test_a_tool_outside_the_trust_zone_gets_no_value(name: str) -> None:
    """Also in a whole reply of the Responses API, where the name stands behind the arguments."""
    item = {"arguments": '{"q": "[EMAIL_1]"}', "call_id": "c", "name": name, "type": "function_call"}
    doc = {"id": "r", "object": "response", "status": "completed", "output": [item]}

    async def script(call: Call) -> None:
        await call.reply(json.dumps(doc).encode(), fields=[(b"Content-Type", b"application/json")])

    policy = POLICY + "    restore_tools: {deny: ['web_*']}\n"
    async with (
        backend(script) as b,
        gate(b.url, policy) as g,
        openai.AsyncOpenAI(base_url=f"{g.url}/v1", api_key=KEY, max_retries=0) as client,
    ):
        made: Any = await client.responses.create(model="m", input=PEOPLE[0])
        expected = "[EMAIL_1]" if name == "web_search" else PEOPLE[0]
        assert json.loads(made.output[0].arguments) == {"q": expected}


KNOBS = [f"echo=1; piece={n}; {more}" for n in (1, 5) for more in ("split=7", "to=both", "tail=1; crlf=1")]


@pytest.mark.parametrize("knobs", KNOBS)
async def test_streams_of_every_api(knobs: str) -> None:
    text = f"{PEOPLE[0]}, {CARDS[0]}; {MOTTO}"
    async with front("moderated", policy_yaml=POLICY) as f:
        c, headers = f.client(), {"x-demo": knobs}
        ask: list[Any] = [{"role": "user", "content": text}]
        stream = await c.chat.completions.create(model="demo", messages=ask, stream=True, extra_headers=headers)
        assert "".join([x.delta.content or "" async for e in stream for x in e.choices]) == text
        async with c.responses.stream(model="demo", input=text, extra_headers=headers) as helper:
            events: list[Any] = [event async for event in helper]
            assert (await helper.get_final_response()).output_text == text
        assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == text
        old = await c.completions.create(model="demo", prompt=text, stream=True, extra_headers=headers)
        assert "".join([e.choices[0].text async for e in old]) == text


async def test_a_refusal_names_no_value_and_nothing_is_sent() -> None:
    policy = POLICY + "    action: block\n"
    async with front("moderated", policy_yaml=policy) as f:
        with pytest.raises(openai.BadRequestError) as caught:
            await f.client().chat.completions.create(model="demo", messages=[{"role": "user", "content": PEOPLE[0]}])
        assert caught.value.code == "content_filter" and "email" in str(caught.value)
        nowhere(PLANTED, str(caught.value), caught.value.response.text, str(caught.value.response.headers))
        assert (await f.gate.settled()).fault is Kind.BLOCKED
        nowhere(PLANTED, await f.gate.log_lines(1))
        assert f.backend.state.stats.requests == 0


async def test_what_the_model_brings_up_does_not_pass() -> None:
    policy = "policies: [{use: pii_redaction, entities: [email, credit_card, iban]}]"
    async with front("moderated", policy_yaml=policy) as f:
        stream = await f.client().chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "hi"}], stream=True,
            extra_headers={"x-demo": "say=Ask%20new.one%40corp-mail.org%20now; piece=2"},
        )  # fmt: skip
        assert "".join([x.delta.content or "" async for e in stream for x in e.choices]) == "Ask [EMAIL] now"
