"""/v1/responses: create, retrieve, cancel, delete, in memory.

Here: reading a request and the store of replies. The events of a stream are in responses_stream.py.
Never here: sockets, what is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from proxy.demo import draft, fields, responses_stream, words
from proxy.demo.call import Call, State
from proxy.demo.draft import Tool, Wish
from proxy.demo.errors import Refused
from proxy.demo.fields import Json
from proxy.demo.responses_stream import Made

MAX_STORED: Final = 256


@dataclass(slots=True)
class Stored:
    """A reply that can be asked for again. A background one is ready at the Unix time `ready_at`."""

    made: Made
    background: bool
    ready_at: float = 0.0
    cancelled: bool = field(default=False)


async def create(call: Call) -> web.StreamResponse:
    """Answer one create request. Raises Refused."""
    body = await call.body()
    made = read(call, body)
    stream, background = fields.flag(body, "stream"), fields.flag(body, "background")
    keep = fields.flag(body, "store", True)
    if background and not keep:
        raise Refused(400, "background needs store to be true.", param="background")
    await call.gate()
    stored = Stored(made, background)
    if background and not stream:
        k = call.knobs
        seconds = made.draft.tokens / k.rate if k.rate else 0.0
        stored.ready_at = math.inf if k.stall is not None else call.state.clock() + seconds
    if keep:
        call.state.store[made.head["id"]] = stored
        while len(call.state.store) > MAX_STORED:
            call.state.store.popitem(last=False)
    if stream:
        return await call.stream(responses_stream.events(made))
    return await call.json(_shown(call.state, stored))


def _shown(state: State, stored: Stored) -> Json:
    """The response object as it stands now."""
    if stored.cancelled:
        return responses_stream.response(stored.made, status="cancelled")
    if stored.background and state.clock() < stored.ready_at:
        return responses_stream.response(stored.made, status="in_progress")
    return responses_stream.response(stored.made)


def _find(call: Call) -> Stored:
    stored = call.state.store.get(call.request.match_info["id"])
    if not isinstance(stored, Stored):
        raise Refused(404, "There is no response with this id.", param="response_id")
    return stored


async def retrieve(call: Call) -> web.StreamResponse:
    """Answer with a stored response, or with its events again when `stream=true`."""
    stored = _find(call)
    await call.gate()
    query = call.request.query
    if query.get("stream") not in ("true", "1"):
        return await call.json(_shown(call.state, stored))
    after = query.get("starting_after", "-1")
    if not after.removeprefix("-").isdecimal() or len(after) > 9:
        raise Refused(400, "starting_after must be a whole number.", param="starting_after")
    return await call.stream(responses_stream.events(stored.made, after=int(after)))


async def cancel(call: Call) -> web.StreamResponse:
    """Cancel a background response that is not ready yet. Others are refused, as at vLLM."""
    stored = _find(call)
    await call.gate()
    if not stored.background:
        raise Refused(400, "Cannot cancel a synchronous response.", param="response_id")
    if call.state.clock() < stored.ready_at:
        stored.cancelled = True
    return await call.json(_shown(call.state, stored))


async def delete(call: Call) -> web.StreamResponse:
    """Forget a stored response."""
    _find(call)
    await call.gate()
    name = call.request.match_info["id"]
    call.state.store.pop(name, None)
    return await call.json({"id": name, "object": "response", "deleted": True})


def _turns(body: Json) -> tuple[list[tuple[str, str]], bool]:
    """(role, text) of the input, and whether its last item answers a tool call. Raises Refused(400)."""
    value = body.get("input")
    if isinstance(value, str):
        return [("user", value)], False
    items = fields.objects(body, "input", required=True)
    turns = []
    for item in items:
        text = fields.text_of(item.get("content"))
        for key in ("output", "arguments"):
            text += fields.text_of(item.get(key))
        turns.append((str(item.get("role", item.get("type", "item"))), text))
    return turns, items[-1].get("type") in ("function_call_output", "custom_tool_call_output")


def read(call: Call, body: Json) -> Made:
    """Check a request body and write the reply. Raises Refused(400 or 404)."""
    model = call.model(body.get("model"))
    turns, answered = _turns(body)
    previous = fields.string(body, "previous_response_id")
    if previous and previous not in call.state.store:
        raise Refused(404, "There is no response with this id.", param="previous_response_id")
    instructions = body.get("instructions")
    wanted = fields.obj(fields.obj(body, "text"), "format")
    kind = wanted.get("type", "text")
    if kind not in ("text", "json_object", "json_schema"):
        raise Refused(400, "text.format.type is not known.", param="text")
    wish = Wish(
        seed=("response", model, previous, fields.text_of(instructions), *turns),
        knobs=call.knobs,
        last_user=fields.last_user(turns),
        max_tokens=fields.limit(body, "max_output_tokens"),
        tools=_tools(body, answered=answered),
        json_schema=(fields.obj(wanted, "schema") or {"type": "object"}) if kind == "json_schema" else None,
        json_object=kind == "json_object",
        reasons="reason" in model,
    )
    include = body.get("include")
    return Made(
        head=_head(call, body, model, previous),
        draft=draft.write(wish),
        input_tokens=sum(words.count_tokens(text) + 3 for _, text in turns),
        logprobs=isinstance(include, list) and "message.output_text.logprobs" in include,
        top=fields.integer(body, "top_logprobs", 0, 0, 20),
    )


def _tools(body: Json, *, answered: bool) -> tuple[Tool, ...]:
    found = tuple(
        Tool(fields.string(tool, "name"), fields.obj(tool, "parameters"))
        for tool in fields.objects(body, "tools")
        if tool.get("type") == "function"
    )
    choice: Any = body.get("tool_choice") or "auto"
    name = ""
    if isinstance(choice, dict):
        choice, name = "named", fields.string(choice, "name")
    if choice not in ("none", "auto", "required", "named"):
        raise Refused(400, "tool_choice must be none, auto, required or a function.", param="tool_choice")
    parallel = fields.flag(body, "parallel_tool_calls", True)
    return draft.pick_tools(found, choice, name, parallel=parallel, answered=answered)


def _head(call: Call, body: Json, model: str, previous: str) -> Json:
    """What every copy of the response object in a stream says alike."""
    return {
        "id": call.id("resp_"),
        "created_at": call.created,
        "error": None,
        "instructions": body.get("instructions"),
        "metadata": fields.obj(body, "metadata"),
        "model": model,
        "object": "response",
        "parallel_tool_calls": fields.flag(body, "parallel_tool_calls", True),
        "temperature": body.get("temperature", 1.0),
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": fields.objects(body, "tools"),
        "top_p": body.get("top_p", 1.0),
        "background": fields.flag(body, "background"),
        "max_output_tokens": body.get("max_output_tokens"),
        "previous_response_id": previous or None,
        "reasoning": body.get("reasoning"),
        "service_tier": "auto",
        "text": body.get("text"),
        "top_logprobs": body.get("top_logprobs"),
        "truncation": "disabled",
        "user": body.get("user"),
    }
