"""Trust zones on the wire: which tools get values in their arguments, however a backend tells their names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.kits.backend import Call, backend
from tests.kits.client import fetch, request
from tests.kits.gate import gate

ANN = "ann.lee@corp-mail.org"
PII = "policies: [{use: pii_redaction, entities: [email], restore_tools: {%s}}]"
DENY, ALLOW = PII % "deny: ['web_*']", PII % "allow: [lookup, 'crm_*'], deny: [crm_export]"
JSON = [(b"Content-Type", b"application/json")]
ARGUMENTS = '{"q": "[EMAIL_1]", "n": ["[EMAIL_1]"]}'
INSIDE, OUTSIDE = {"q": ANN, "n": [ANN]}, {"q": "[EMAIL_1]", "n": ["[EMAIL_1]"]}


async def through(policy: str, path: str, doc: dict[str, Any], reply: list[dict[str, Any]] | dict[str, Any]) -> list[Any]:
    """The events of a stream (a list is sent as one), or the whole reply, as the client gets them."""

    async def script(call: Call) -> None:
        assert ANN.encode() not in call.body
        if isinstance(reply, dict):
            await call.reply(json.dumps(reply).encode(), fields=JSON)
        else:
            names = [b"event: %b\n" % e["type"].encode() if "type" in e else b"" for e in reply]
            await call.sse([n + b"data: " + json.dumps(e).encode() + b"\n\n" for n, e in zip(names, reply, strict=True)])

    async with backend(script) as b, gate(b.url, policy) as g:
        body = json.dumps({"model": "m", **doc, "stream": isinstance(reply, list)}).encode()
        got = await fetch(g.port, request("POST", path, body, JSON))
        assert got.status == 200
    if isinstance(reply, dict):
        return [json.loads(got.body)]
    return [json.loads(line[5:]) for line in got.body.splitlines() if line.startswith(b"data:") and b"[DONE]" not in line]


def delta(calls: list[dict[str, Any]], finish: str | None = None, key: str = "tool_calls") -> dict[str, Any]:
    choice = {"index": 0, "delta": {key: calls} if calls else {}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def tool(index: int, **function: Any) -> dict[str, Any]:
    return {"index": index, "function": function}


def pieces(index: int, text: str = ARGUMENTS, size: int = 3) -> list[dict[str, Any]]:
    return [delta([tool(index, arguments=text[n : n + size])]) for n in range(0, len(text), size)]


async def chat(policy: str, events: list[dict[str, Any]]) -> tuple[dict[int, str], str | None]:
    """(arguments of each call, put together; the finish reason)."""
    doc = {"messages": [{"role": "user", "content": ANN}]}
    got = await through(policy, "/v1/chat/completions", doc, [*events, delta([], "tool_calls")])
    out: dict[int, str] = {}
    reasons = [c["finish_reason"] for e in got for c in e["choices"] if c["finish_reason"]]
    for event in got:
        for choice in event["choices"]:
            for call in choice["delta"].get("tool_calls", ()):
                out[call["index"]] = out.get(call["index"], "") + (call["function"].get("arguments") or "")
    return out, reasons[-1] if reasons else None


def value(arguments: str) -> Any:
    return json.loads(arguments)


@pytest.mark.parametrize(("policy", "name", "expected"), [
    (DENY, "lookup", INSIDE), (DENY, "web_search", OUTSIDE), (ALLOW, "lookup", INSIDE), (ALLOW, "crm_get", INSIDE),
    (ALLOW, "crm_export", OUTSIDE), (ALLOW, "other", OUTSIDE), (ALLOW, "lookup2", OUTSIDE),
])  # fmt: skip
@pytest.mark.parametrize("size", [1, 4, 100], ids="name in pieces of {}".format)
async def test_a_streamed_name_is_put_together(policy: str, name: str, expected: Any, size: int) -> None:
    """``web_`` and ``search``: neither piece is on the list."""
    names = [delta([tool(0, name=name[n : n + size])]) for n in range(0, len(name), size)]
    got, reason = await chat(policy, [*names, *pieces(0)])
    assert (value(got[0]), reason) == (expected, "tool_calls")


@pytest.mark.parametrize(("name", "expected"), [("lookup", INSIDE), ("web_search", OUTSIDE)])
async def test_a_name_that_is_said_again_with_every_piece(name: str, expected: Any) -> None:
    events = [delta([tool(0, name=name, arguments=ARGUMENTS[n : n + 3])]) for n in range(0, len(ARGUMENTS), 3)]
    for policy in (DENY, ALLOW):
        assert value((await chat(policy, events))[0][0]) == expected


async def test_a_name_behind_its_arguments_in_one_event() -> None:
    got, _ = await chat(DENY, [delta([{"index": 0, "function": {"arguments": ARGUMENTS, "name": "web_search"}}])])
    assert value(got[0]) == OUTSIDE
    got, _ = await chat(DENY, [delta([{"index": 0, "function": {"arguments": ARGUMENTS, "name": "lookup"}}])])
    assert value(got[0]) == INSIDE


@pytest.mark.parametrize("name", ["lookup", "web_search"])
async def test_a_name_that_comes_after_the_arguments_began_gets_no_values(name: str) -> None:
    events = pieces(0)
    events.insert(2, delta([tool(0, name=name)]))
    got, reason = await chat(DENY, events)
    assert (value(got[0]), reason) == (OUTSIDE, "tool_calls")


async def test_a_call_that_was_given_values_and_turns_out_to_be_another_is_cut() -> None:
    """``web`` may have values, ``web_search`` may not: nobody can make half a call."""
    events = [delta([tool(0, name="web")]), *pieces(0)[:-1], delta([tool(0, name="_search")]), *pieces(0)[-1:]]
    got, reason = await chat(DENY, events)
    assert reason == "content_filter"
    with pytest.raises(ValueError, match=r"delimiter|Expecting|Unterminated"):
        json.loads(got[0])


async def test_a_call_that_was_given_none_is_not_cut() -> None:
    events = [delta([tool(0, name="look")]), *pieces(0)[:-1], delta([tool(0, name="up")]), *pieces(0)[-1:]]
    got, reason = await chat(ALLOW, events)
    assert (value(got[0]), reason) == (OUTSIDE, "tool_calls")


async def test_parallel_calls_whose_pieces_alternate() -> None:
    heads = [delta([tool(n, name=name)]) for n, name in enumerate(["lookup", "web_search", "crm_get"])]
    rows = zip(*(pieces(n) for n in range(3)), strict=True)
    got, _ = await chat(DENY, [*heads, *(e for row in rows for e in row)])
    assert [value(got[n]) for n in range(3)] == [INSIDE, OUTSIDE, INSIDE]


@pytest.mark.parametrize(("name", "expected"), [("lookup", INSIDE), ("web_search", OUTSIDE)])
async def test_legacy_function_calls(name: str, expected: Any) -> None:
    doc = {"messages": [{"role": "user", "content": ANN}]}
    events = [delta({"name": name, "arguments": ""}, key="function_call")]  # type: ignore[arg-type]
    events += [delta({"arguments": a}, key="function_call") for a in (ARGUMENTS[:9], ARGUMENTS[9:])]  # type: ignore[arg-type]
    got = await through(DENY, "/v1/chat/completions", doc, [*events, delta([], "function_call")])
    calls = [c["delta"].get("function_call", {}) for e in got for c in e["choices"]]
    assert value("".join(c.get("arguments") or "" for c in calls)) == expected
    message = {"role": "assistant", "content": None, "function_call": {"arguments": ARGUMENTS, "name": name}}
    whole = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    (reply,) = await through(DENY, "/v1/chat/completions", doc, whole)
    assert value(reply["choices"][0]["message"]["function_call"]["arguments"]) == expected


async def test_whole_replies_of_every_api() -> None:
    """Parallel calls, and names before and behind their arguments."""
    names = ["lookup", "web_search", "lookup", "web_open"]
    expected = [INSIDE, OUTSIDE, INSIDE, OUTSIDE]
    doc: dict[str, Any] = {"messages": [{"role": "user", "content": ANN}]}
    functions = [{"name": n, "arguments": ARGUMENTS} for n in names[:2]]
    functions += [{"arguments": ARGUMENTS, "name": n} for n in names[2:]]
    calls = [{"id": str(n), "type": "function", "function": f} for n, f in enumerate(functions)]
    message = {"role": "assistant", "content": "[EMAIL_1]", "tool_calls": calls}
    whole = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    (reply,) = await through(DENY, "/v1/chat/completions", doc, whole)
    said = reply["choices"][0]["message"]
    assert said["content"] == ANN and [value(c["function"]["arguments"]) for c in said["tool_calls"]] == expected

    items = [{"type": "function_call", "call_id": str(n), **f} for n, f in enumerate(functions)]
    (reply,) = await through(DENY, "/v1/responses", {"input": ANN}, {"id": "r", "object": "response", "output": items})
    assert [value(item["arguments"]) for item in reply["output"]] == expected

    blocks = [{"type": "tool_use", "id": str(n), "input": OUTSIDE, "name": name} for n, name in enumerate(names)]
    whole = {"id": "m", "type": "message", "role": "assistant", "content": blocks, "stop_reason": "tool_use"}
    (reply,) = await through(DENY, "/v1/messages", {**doc, "max_tokens": 9}, whole)
    assert [b["input"] for b in reply["content"]] == expected


@pytest.mark.parametrize(("name", "expected"), [("lookup", INSIDE), ("web_search", OUTSIDE)])
async def test_streams_of_responses_and_messages(name: str, expected: Any) -> None:
    cut = [ARGUMENTS[:12], ARGUMENTS[12:14], ARGUMENTS[14:]]
    item = {"type": "function_call", "id": "i", "call_id": "c", "name": name, "arguments": ""}
    done = {**item, "arguments": ARGUMENTS}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "r", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        *({"type": "response.function_call_arguments.delta", "item_id": "i", "output_index": 0, "delta": d} for d in cut),
        {"type": "response.function_call_arguments.done", "item_id": "i", "output_index": 0, "arguments": ARGUMENTS},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [done]}},
    ]
    got = await through(DENY, "/v1/responses", {"input": ANN}, events)
    by = {e["type"]: e for e in got}
    assert value("".join(e["delta"] for e in got if "delta" in e)) == expected
    assert value(by["response.function_call_arguments.done"]["arguments"]) == expected
    assert value(by["response.output_item.done"]["item"]["arguments"]) == expected
    assert value(by["response.completed"]["response"]["output"][0]["arguments"]) == expected

    block = {"type": "tool_use", "id": "t", "name": name, "input": {}}
    events = [
        {"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": d}} for d in cut),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop"},
    ]
    got = await through(DENY, "/v1/messages", {"messages": [{"role": "user", "content": ANN}], "max_tokens": 9}, events)
    assert value("".join(e["delta"]["partial_json"] for e in got if e["type"] == "content_block_delta")) == expected


@pytest.mark.parametrize(("name", "expected"), [("lookup", ANN), ("web_search", "[EMAIL_1]")])
async def test_custom_tools(name: str, expected: str) -> None:
    events = [delta([{"index": 0, "type": "custom", "custom": {"name": name, "input": ""}}])]
    events += [delta([{"index": 0, "custom": {"input": piece}}]) for piece in ("mail [EM", "AIL_1] now")]
    doc = {"messages": [{"role": "user", "content": ANN}]}
    got = await through(DENY, "/v1/chat/completions", doc, [*events, delta([], "tool_calls")])
    calls = [call for e in got for c in e["choices"] for call in c["delta"].get("tool_calls", ())]
    assert "".join(c["custom"].get("input") or "" for c in calls) == f"mail {expected} now"
