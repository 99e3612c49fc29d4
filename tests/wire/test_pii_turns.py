"""Ten turns with tools through the official clients of the Responses and Messages APIs, and with models that do not copy
placeholders as they stand: the client sees its own values, the backend saw none."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import anthropic
import openai
import pytest

from tests.kits.backend import Backend, Call, backend
from tests.kits.fronts import KEY
from tests.kits.gate import gate
from tests.wire.test_pii_conversation import (
    MOTTO,
    PEOPLE,
    PLANTED,
    POLICY,
    check_told,
    chunk,
    cut,
    nowhere,
    question,
    turn,
)

Spoil = Callable[[str], str]
JSON_TOOL = {"type": "object", "properties": {}}
PLACEHOLDER = re.compile(r"\[([A-Z]+)_([0-9]+B?)\]")
SPELT: list[Callable[[re.Match[str]], str]] = [
    lambda m: f"[{m[1].lower()}_{m[2]}]", lambda m: f"<{m[1]}_{m[2]}>", lambda m: f"[{m[1]}-{m[2]}]", lambda m: f"{m[1]}_{m[2]}",
    lambda m: f"【{m[1]}_{m[2]}】", lambda m: f"[{m[1].title()} {m[2]}]", lambda m: f"%5B{m[1]}_{m[2]}%5D",
    lambda m: f"&lt;{m[1]}_{m[2]}&gt;", lambda m: f"\\[{m[1]}\\_{m[2]}\\]", lambda m: f"[{m[1]}\u2011{m[2]}]",
]  # fmt: skip


def as_it_is(text: str) -> str:
    return text


def spoiling() -> Spoil:
    """Every placeholder in another spelling than the one before it."""
    turns = itertools.cycle(SPELT)
    return lambda text: PLACEHOLDER.sub(lambda m: next(turns)(m), text)


def sse(events: list[dict[str, Any]]) -> list[bytes]:
    return [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events]


# -- Responses


def response(output: list[Any], status: str) -> dict[str, Any]:
    return {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": status, "output": output, "tools": [],
            "parallel_tool_calls": True, "tool_choice": "auto"}  # fmt: skip


def said_in(item: dict[str, Any]) -> str:
    if "output" in item:
        return str(item["output"])
    return item["content"] if isinstance(item["content"], str) else str(item["content"][0]["text"])


def echo_responses(size: int, spoil: Spoil) -> Callable[[Call], Any]:
    async def script(call: Call) -> None:
        items = json.loads(call.body)["input"]
        text = said_in(items[-1])
        done: list[Any] = []
        events: list[dict[str, Any]] = [{"type": "response.created", "response": response([], "in_progress")}]

        def item(n: int, start: dict[str, Any], end: dict[str, Any], inner: Iterator[dict[str, Any]]) -> None:
            events.append({"type": "response.output_item.added", "output_index": n, "item": start})
            events.extend({"item_id": start["id"], "output_index": n, **e} for e in inner)
            events.append({"type": "response.output_item.done", "output_index": n, "item": end})
            done.append(end)

        answer = spoil(f"You said **{text}**.")
        message = {"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": []}
        part = {"type": "output_text", "text": answer, "annotations": []}
        item(0, message, {**message, "content": [part]}, iter([
            {"type": "response.content_part.added", "content_index": 0, "part": {**part, "text": ""}},
            *({"type": "response.output_text.delta", "content_index": 0, "delta": d, "logprobs": []} for d in cut(answer, size)),
            {"type": "response.output_text.done", "content_index": 0, "text": answer, "logprobs": []},
            {"type": "response.content_part.done", "content_index": 0, "part": part},
        ]))  # fmt: skip
        if "output" not in items[-1]:
            arguments = json.dumps({"to": [spoil(text)]})
            start = {"id": "f1", "type": "function_call", "call_id": f"c{len(items)}", "name": "send", "arguments": ""}
            item(1, start, {**start, "arguments": arguments, "status": "completed"}, iter([
                *({"type": "response.function_call_arguments.delta", "delta": d} for d in cut(arguments, size)),
                {"type": "response.function_call_arguments.done", "arguments": arguments, "name": "send"},
            ]))  # fmt: skip
        events.append({"type": "response.completed", "response": response(done, "completed")})
        await call.sse(sse([{**e, "sequence_number": n} for n, e in enumerate(events)]))

    return script


@pytest.mark.parametrize(("size", "spoil"), [(2, as_it_is), (1000, as_it_is), (3, spoiling())], ids=["2", "1000", "spoilt"])
async def test_ten_turns_of_responses(size: int, spoil: Spoil) -> None:
    async def turn_of(client: openai.AsyncOpenAI, history: list[Any], text: str) -> list[Any]:
        stream: Any = await client.responses.create(
            model="m", input=history, stream=True, instructions=f"You work for {PEOPLE[9]}.",
            tools=[{"type": "function", "name": "send", "parameters": JSON_TOOL, "strict": False}],
        )  # fmt: skip
        deltas: dict[str, str] = {}
        output: list[Any] = []
        async for event in stream:
            if event.type.endswith(".delta"):
                deltas[event.item_id] = deltas.get(event.item_id, "") + event.delta
            elif event.type == "response.completed":
                output = [i.model_dump(exclude_none=True) for i in event.response.output]
        assert deltas["m1"] == output[0]["content"][0]["text"] == f"You said **{text}**."
        assert len(output) == 1 or deltas["f1"] == output[1]["arguments"]
        return output

    async with (
        backend(echo_responses(size, spoil)) as b,
        gate(b.url, POLICY) as g,
        openai.AsyncOpenAI(base_url=f"{g.url}/v1", api_key=KEY, max_retries=0) as client,
    ):
        history: list[Any] = []
        for n in range(10):
            text = question(n)
            history.append({"role": "user", "content": text})
            message, called = await turn_of(client, history, text)
            assert json.loads(called["arguments"]) == {"to": [text]}
            result = f"sent to {PEOPLE[n]} and {PEOPLE[(n * 3) % 10]}"
            history += [message, called, {"type": "function_call_output", "call_id": called["call_id"], "output": result}]
            history += await turn_of(client, history, result)
        await g.settled(20)
        saw(b, "input")
        assert json.loads(b.calls[0].body)["instructions"] == "You work for [EMAIL_1]."
        await check_told(g)


def saw(b: Backend, key: str) -> None:
    """The backend saw no value, and the same placeholders in every turn."""
    for call in b.calls:
        nowhere(PLANTED, call.body.decode(), call.raw_head.decode())
    for before, after in pairwise([json.loads(call.body)[key] for call in b.calls]):
        assert after[: len(before)] == before
    assert "[EMAIL_10]" in b.calls[-1].body.decode() and "[EMAIL_11" not in b.calls[-1].body.decode()


# -- Messages


def echo_messages(size: int, spoil: Spoil) -> Callable[[Call], Any]:
    async def script(call: Call) -> None:
        messages = json.loads(call.body)["messages"]
        last = messages[-1]["content"]
        text = last if isinstance(last, str) else last[0]["content"]
        text = text if isinstance(text, str) else text[0]["text"]
        counts = {"input_tokens": 1, "output_tokens": 1}
        start = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
                 "stop_sequence": None, "usage": counts}  # fmt: skip
        blocks: list[tuple[dict[str, Any], str, str, str]] = [
            ({"type": "thinking", "thinking": "", "signature": ""}, "thinking_delta", "thinking", spoil(f"They say: {text}")),
            ({"type": "text", "text": ""}, "text_delta", "text", spoil(f"You said **{text}**.")),
        ]
        if isinstance(last, str):
            tool = {"type": "tool_use", "id": f"t{len(messages)}", "name": "send", "input": {}}
            blocks.append((tool, "input_json_delta", "partial_json", json.dumps({"to": [spoil(text)], "n": {"k": 1}})))
        events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
        for n, (block, kind, key, full) in enumerate(blocks):
            events.append({"type": "content_block_start", "index": n, "content_block": block})
            events += [{"type": "content_block_delta", "index": n, "delta": {"type": kind, key: d}} for d in cut(full, size)]
            events.append({"type": "content_block_stop", "index": n})
        events.append({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": counts})
        await call.sse(sse([*events, {"type": "message_stop"}]))

    return script


@pytest.mark.parametrize(("size", "spoil"), [(2, as_it_is), (1000, as_it_is), (3, spoiling())], ids=["2", "1000", "spoilt"])
async def test_ten_turns_of_messages(size: int, spoil: Spoil) -> None:
    async def turn_of(client: anthropic.AsyncAnthropic, history: list[Any], text: str) -> list[Any]:
        seen = ""
        async with client.messages.stream(
            model="m", max_tokens=99, messages=history, system=[{"type": "text", "text": f"You work for {PEOPLE[9]}."}],
            tools=[{"name": "send", "input_schema": {"type": "object"}}],
        ) as stream:  # fmt: skip
            async for piece in stream.text_stream:
                seen += piece
            content = [block.model_dump(exclude_none=True) for block in (await stream.get_final_message()).content]
        assert content[0]["thinking"] == f"They say: {text}"
        assert seen == content[1]["text"] == f"You said **{text}**."
        return [{k: v for k, v in block.items() if k in ("type", "thinking", "signature", "text", "id", "name", "input")}
                for block in content]  # fmt: skip

    async with (
        backend(echo_messages(size, spoil)) as b,
        gate(b.url, POLICY) as g,
        anthropic.AsyncAnthropic(base_url=g.url, api_key=KEY, max_retries=0) as client,
    ):
        history: list[Any] = []
        for n in range(10):
            text = question(n)
            history.append({"role": "user", "content": text})
            content = await turn_of(client, history, text)
            assert content[2]["input"] == {"to": [text], "n": {"k": 1}}
            result = f"sent to {PEOPLE[n]} and {PEOPLE[(n * 3) % 10]}"
            results = [{"type": "tool_result", "tool_use_id": content[2]["id"], "content": [{"type": "text", "text": result}]}]
            history += [{"role": "assistant", "content": content}, {"role": "user", "content": results}]
            history.append({"role": "assistant", "content": await turn_of(client, history, result)})
        await g.settled(20)
        saw(b, "messages")
        assert json.loads(b.calls[0].body)["system"][0]["text"] == "You work for [EMAIL_1]."
        await check_told(g)


# -- chat, with a model that spells placeholders in its own way


@pytest.mark.parametrize("size", [1, 4, 1000])
async def test_a_model_that_changes_case_and_brackets(size: int) -> None:
    spoil = spoiling()

    async def script(call: Call) -> None:
        text = json.loads(call.body)["messages"][-1]["content"]
        head = {"index": 0, "id": "c", "type": "function", "function": {"name": "send", "arguments": ""}}
        arguments = json.dumps({"to": [spoil(text)], spoil("[EMAIL_1]"): spoil("[MOTTO_1]")}, ensure_ascii=size != 4)
        pieces = [{"tool_calls": [{"index": 0, "function": {"arguments": d}}]} for d in cut(arguments, size)]
        events = [chunk({"content": d}) for d in cut(spoil(f"You said {text}."), size)]
        events += [chunk({"tool_calls": [head]}), *map(chunk, pieces), chunk({}, "tool_calls"), b"data: [DONE]\n\n"]
        await call.sse(events)

    async with (
        backend(script) as b,
        gate(b.url, POLICY) as g,
        openai.AsyncOpenAI(base_url=f"{g.url}/v1", api_key=KEY, max_retries=0) as client,
    ):
        for n in range(10):
            text = question(n)
            reply = await turn(client, [{"role": "user", "content": text}])
            assert reply["content"] == f"You said {text}."
            (call,) = reply["tool_calls"]
            assert json.loads(call["function"]["arguments"]) == {"to": [text], PEOPLE[n]: MOTTO}
        await g.settled(10)
        for made in b.calls:
            nowhere(PLANTED, made.body.decode())
        assert {f.action for x in g.exchanges for f in x.findings if f.kind == "email"} == {"pseudonymize", "restored"}
