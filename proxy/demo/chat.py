"""POST /v1/chat/completions, in the shapes of vLLM.

Here: reading a chat request, the plain reply, the chunks of a stream. Never here: sockets, what is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from proxy.demo import draft, fields, words
from proxy.demo.call import DONE, Call, Event, event
from proxy.demo.draft import Draft, Tool, Wish
from proxy.demo.errors import Refused
from proxy.demo.fields import Json


@dataclass(frozen=True, slots=True)
class Ask:
    """A chat request as the demo understands it. `old` is the text that echo=true repeats."""

    wish: Wish
    id: str
    model: str
    created: int
    n: int
    stream: bool
    usage: bool
    steady_usage: bool
    logprobs: bool
    top: int
    old: str
    prompt_tokens: int

    def base(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def used(self, tokens: int) -> Json:
        total = self.prompt_tokens + tokens
        return {"prompt_tokens": self.prompt_tokens, "total_tokens": total, "completion_tokens": tokens}


async def chat(call: Call) -> web.StreamResponse:
    """Answer one chat request. Raises Refused."""
    body = await call.body()
    ask = read(call, body)
    await call.gate()
    drafts = draft.write_all([ask.wish], ask.n)
    if ask.stream:
        return await call.stream(events(ask, drafts))
    return await call.json(reply(ask, drafts))


def read(call: Call, body: Json) -> Ask:
    """Check a request body. Raises Refused(400 or 404)."""
    model = call.model(body.get("model"))
    messages = fields.objects(body, "messages", required=True)
    turns = fields.said(messages)
    stream = fields.flag(body, "stream")
    usage, steady = stream_options(body, stream)
    top = fields.integer(body, "top_logprobs", 0, 0, 20)
    echoes = fields.flag(body, "echo") and turns[-1][0] == "assistant"
    reasons = "reason" in model and fields.flag(body, "include_reasoning", True)
    json_schema, json_object = response_format(body)
    wish = Wish(
        seed=("chat", model, body.get("seed"), *turns),
        knobs=call.knobs,
        last_user=fields.last_user(turns),
        max_tokens=fields.limit(body, "max_completion_tokens", "max_tokens"),
        stop=fields.stops(body, "stop"),
        keep_stop=fields.flag(body, "include_stop_str_in_output"),
        tools=tools(body, answered=turns[-1][0] in ("tool", "function")),
        json_schema=json_schema,
        json_object=json_object,
        reasons=reasons,
    )
    return Ask(
        wish=wish,
        id=call.id("chatcmpl-"),
        model=model,
        created=call.created,
        n=fields.integer(body, "n", 1, 1, draft.MAX_CHOICES),
        stream=stream,
        usage=usage,
        steady_usage=steady,
        logprobs=fields.flag(body, "logprobs"),
        top=top,
        old=turns[-1][1] if echoes else "",
        prompt_tokens=sum(words.count_tokens(text) + 3 for _, text in turns),
    )


def stream_options(body: Json, stream: bool) -> tuple[bool, bool]:
    """(include_usage, continuous_usage_stats). Raises Refused(400) without a stream, as vLLM does."""
    options = fields.obj(body, "stream_options")
    if options and not stream:
        raise Refused(400, "Stream options can only be defined when `stream=True`.", param="stream_options")
    usage = fields.flag(options, "include_usage")
    return usage, usage and fields.flag(options, "continuous_usage_stats")


def response_format(body: Json) -> tuple[Any, bool]:
    """(JSON schema, any object): what a structured reply has to be."""
    wanted = fields.obj(body, "response_format")
    kind = wanted.get("type", "text")
    if kind == "json_schema":
        return fields.obj(fields.obj(wanted, "json_schema"), "schema") or {"type": "object"}, False
    if kind not in ("text", "json_object"):
        raise Refused(400, "response_format.type is not known.", param="response_format")
    return None, kind == "json_object"


def tools(body: Json, *, answered: bool) -> tuple[Tool, ...]:
    """The tools that this reply calls. Raises Refused(400)."""
    functions = [fields.obj(tool, "function") for tool in fields.objects(body, "tools")]
    found = tuple(Tool(fields.string(f, "name"), fields.obj(f, "parameters")) for f in functions)
    choice: Any = body.get("tool_choice")
    if choice is None:
        choice = "auto"
    name = ""
    if isinstance(choice, dict):
        choice, name = "named", fields.string(fields.obj(choice, "function"), "name")
    if choice not in ("none", "auto", "required", "named"):
        raise Refused(400, "tool_choice must be none, auto, required or a function.", param="tool_choice")
    parallel = fields.flag(body, "parallel_tool_calls", True)
    return draft.pick_tools(found, choice, name, parallel=parallel, answered=answered)


def logprobs(ask: Ask, texts: tuple[str, ...]) -> Json | None:
    """`logprobs` of a choice, or nothing when it was not asked for."""
    if not ask.logprobs:
        return None
    return {"content": [words.token_logprobs(text, ask.top) for text in texts]}


def reply(ask: Ask, drafts: list[Draft]) -> Json:
    """The body of a plain reply."""
    choices = []
    for index, one in enumerate(drafts):
        calls = [_tool(call) for call in one.calls]
        message = {
            "role": "assistant",
            "content": ask.old + one.content if one.text or not calls else None,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "tool_calls": calls,
            "reasoning": one.thoughts or None,
        }
        end = {"finish_reason": one.finish, "stop_reason": one.stopped_by, "token_ids": None}
        choices.append({"index": index, "message": message, "logprobs": logprobs(ask, one.text)} | end)
    body = ask.base("chat.completion") | {"choices": choices}
    body |= {"service_tier": None, "system_fingerprint": None}
    return body | {"usage": ask.used(sum(one.tokens for one in drafts)), "prompt_logprobs": None}


def _tool(call: draft.Call) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"chatcmpl-tool-{call.id}", "type": "function", "function": function}


@dataclass(slots=True)
class _Step:
    """One delta of a choice. `tokens` is how many tokens it carries."""

    delta: Json
    shown: tuple[str, ...] = ()
    tokens: int = 1
    end: Json | None = None


def _steps(one: Draft, tail: bool) -> Iterator[_Step]:
    """The deltas of one choice after its role: reasoning, text, tool calls, and the finish."""
    steps = [_Step({"reasoning": text}) for text in one.reasoning]
    steps += [_Step({"content": text}, (text,)) for text in one.text]
    for index, call in enumerate(one.calls):
        head: Json = {"id": f"chatcmpl-tool-{call.id}", "type": "function", "index": index}
        head |= {"function": {"name": call.name, "arguments": ""}}
        steps.append(_Step({"tool_calls": [head]}, (), 0))
        for text in call.pieces:
            steps.append(_Step({"tool_calls": [{"index": index, "function": {"arguments": text}}]}))
    end = {"finish_reason": one.finish, "stop_reason": one.stopped_by}
    if tail and steps:
        steps[-1].end = end
    else:
        steps.append(_Step({}, (), 0, end))
    yield from steps


def events(ask: Ask, drafts: list[Draft]) -> Iterator[Event]:
    """The events of a stream: a role chunk per choice, the choices interleaved, usage, [DONE]."""
    base = ask.base("chat.completion.chunk")
    told = 0

    def chunk(index: int, step: _Step) -> Event:
        choice: Json = {"index": index, "delta": step.delta, "logprobs": None, "finish_reason": None}
        if step.shown:
            choice["logprobs"] = logprobs(ask, step.shown)
        body = base | {"choices": [choice | (step.end or {})]}
        return event(body | {"usage": ask.used(told)} if ask.steady_usage else body)

    for index in range(len(drafts)):
        yield chunk(index, _Step({"role": "assistant", "content": ""}))
    if ask.old:
        for index in range(len(drafts)):
            yield chunk(index, _Step({"content": ask.old}))
    lines = {index: _steps(one, ask.wish.knobs.tail) for index, one in enumerate(drafts)}
    while lines:
        for index in list(lines):
            step = next(lines[index], None)
            if step is None:
                del lines[index]
                continue
            told += step.tokens
            yield chunk(index, step)
    if ask.usage:
        yield event(base | {"choices": [], "usage": ask.used(told)})
    yield DONE
