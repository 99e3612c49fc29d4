"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's Messages API, as vLLM serves it too.

Here: reading a request, the plain reply, the events. Never here: sockets, what is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from proxy.demo import draft, fields, words
from proxy.demo.call import Call, Event, event
from proxy.demo.draft import Draft, Tool, Wish
from proxy.demo.errors import Refused
from proxy.demo.fields import Json

_SIGNATURE = "ZGVtbw=="
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


@dataclass(frozen=True, slots=True)
class Ask:
    """A Messages request as the demo understands it."""

    wish: Wish
    id: str
    model: str
    stream: bool
    prompt_tokens: int


async def messages(call: Call) -> web.StreamResponse:
    """Answer one Messages request. Raises Refused."""
    body = await call.body()
    ask = read(call, body)
    await call.gate()
    one = draft.write(ask.wish)
    if ask.stream:
        return await call.stream(events(ask, one))
    return await call.json(reply(ask, one))


async def count_tokens(call: Call) -> web.StreamResponse:
    """Answer with the number of input tokens. Raises Refused."""
    body = await call.body()
    call.model(body.get("model"))
    turns = _turns(body)
    await call.gate()
    return await call.json({"input_tokens": _prompt_tokens(turns)})


def _turns(body: Json) -> list[tuple[str, str]]:
    turns = fields.said(fields.objects(body, "messages", required=True))
    system = body.get("system")
    if system is not None and not isinstance(system, str | list):
        raise Refused(400, "system must be a string or a list of blocks.", param="system")
    return [("system", fields.text_of(system)), *turns] if system else turns


def _prompt_tokens(turns: list[tuple[str, str]]) -> int:
    return sum(words.count_tokens(text) + 3 for _, text in turns)


def read(call: Call, body: Json) -> Ask:
    """Check a request body. Raises Refused(400 or 404)."""
    model = call.model(body.get("model"))
    turns = _turns(body)
    most = fields.limit(body, "max_tokens")
    if most is None:
        raise Refused(400, "max_tokens: Field required", param="max_tokens")
    last = body["messages"][-1].get("content")
    answered = isinstance(last, list) and any(
        isinstance(block, dict) and block.get("type") == "tool_result" for block in last
    )
    thinks = fields.obj(body, "thinking").get("type") in ("enabled", "adaptive")
    wish = Wish(
        seed=("messages", model, *turns),
        knobs=call.knobs,
        last_user=fields.last_user(turns),
        max_tokens=most,
        stop=fields.stops(body, "stop_sequences"),
        tools=_tools(body, answered=answered),
        reasons=thinks or "reason" in model,
    )
    return Ask(wish, call.id("msg_"), model, fields.flag(body, "stream"), _prompt_tokens(turns))


def _tools(body: Json, *, answered: bool) -> tuple[Tool, ...]:
    found = tuple(
        Tool(fields.string(tool, "name"), fields.obj(tool, "input_schema")) for tool in fields.objects(body, "tools")
    )
    choice = fields.obj(body, "tool_choice")
    kind = choice.get("type", "auto")
    modes = {"auto": "auto", "any": "required", "tool": "named", "none": "none"}
    if not isinstance(kind, str) or kind not in modes:
        raise Refused(400, "tool_choice.type must be auto, any, tool or none.", param="tool_choice")
    parallel = not fields.flag(choice, "disable_parallel_tool_use")
    name = fields.string(choice, "name")
    return draft.pick_tools(found, modes[kind], name, parallel=parallel, answered=answered)


def _input(call: draft.Call) -> Any:
    """The input of a tool call. Arguments that max_tokens cut are no JSON: they become an empty input."""
    try:
        return json.loads(call.arguments)
    except ValueError:
        return {}


def _blocks(one: Draft) -> list[Json]:
    """The content blocks of the finished reply."""
    blocks: list[Json] = []
    if one.reasoning:
        blocks.append({"type": "thinking", "thinking": one.thoughts, "signature": _SIGNATURE})
    if one.text or not (one.calls or blocks):
        blocks.append({"type": "text", "text": one.content})
    for call in one.calls:
        head = {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name}
        blocks.append(head | {"input": _input(call)})
    return blocks


def _end(one: Draft) -> Json:
    if one.stopped_by is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": one.stopped_by}
    return {"stop_reason": _STOPS[one.finish], "stop_sequence": None}


def _message(ask: Ask, content: list[Json], end: Json, tokens: int) -> Json:
    head = {"id": ask.id, "type": "message", "role": "assistant", "content": content, "model": ask.model}
    return head | end | {"usage": {"input_tokens": ask.prompt_tokens, "output_tokens": tokens}}


def reply(ask: Ask, one: Draft) -> Json:
    """The body of a plain reply."""
    return _message(ask, _blocks(one), _end(one), one.tokens)


def _pieces(one: Draft, block: Json, calls: Iterator[draft.Call]) -> tuple[Json, list[Json]]:
    """A block as content_block_start shows it, and its deltas."""
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": text} for text in one.reasoning]
        deltas.append({"type": "signature_delta", "signature": _SIGNATURE})
        return block | {"thinking": "", "signature": ""}, deltas
    if block["type"] == "text":
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": text} for text in one.text]
    parts = next(calls).pieces
    return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]


def events(ask: Ask, one: Draft) -> Iterator[Event]:
    """The events of a stream, each named as its type."""

    def named(kind: str, value: Json | None = None, *, last: bool = False) -> Event:
        return event({"type": kind} | (value or {}), kind, last=last)

    empty = _message(ask, [], {"stop_reason": None, "stop_sequence": None}, 0)
    yield named("message_start", {"message": empty})
    yield named("ping")
    calls = iter(one.calls)
    for index, block in enumerate(_blocks(one)):
        shown, deltas = _pieces(one, block, calls)
        yield named("content_block_start", {"index": index, "content_block": shown})
        for delta in deltas:
            yield named("content_block_delta", {"index": index, "delta": delta})
        yield named("content_block_stop", {"index": index})
    usage = {"input_tokens": ask.prompt_tokens, "output_tokens": one.tokens}
    yield named("message_delta", {"delta": _end(one), "usage": usage})
    yield named("message_stop", last=True)
