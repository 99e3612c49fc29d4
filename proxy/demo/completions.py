"""POST /v1/completions, in the shapes of vLLM.

Here: reading a request with one or many prompts (text or token ids), the plain reply, the chunks.
Never here: sockets, what is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from proxy.demo import chat, draft, fields, words
from proxy.demo.call import DONE, Call, Event, event
from proxy.demo.draft import Draft, Wish
from proxy.demo.errors import Refused
from proxy.demo.fields import Json

_DEFAULT_MAX = 16
_MAX_ECHO = 500_000


@dataclass(frozen=True, slots=True)
class Ask:
    """A completion request. `old` holds the pieces of each prompt that echo=true shows, else nothing."""

    wishes: tuple[Wish, ...]
    old: tuple[tuple[str, ...], ...]
    id: str
    model: str
    created: int
    n: int
    stream: bool
    usage: bool
    steady_usage: bool
    logprobs: int | None
    prompt_tokens: int

    def base(self) -> Json:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}

    def used(self, tokens: int) -> Json:
        total = self.prompt_tokens + tokens
        return {"prompt_tokens": self.prompt_tokens, "total_tokens": total, "completion_tokens": tokens}


async def completions(call: Call) -> web.StreamResponse:
    """Answer one completion request. Raises Refused."""
    body = await call.body()
    ask = read(call, body)
    await call.gate()
    # Choices are numbered prompt * n + i.
    drafts = draft.write_all(ask.wishes, ask.n)
    if ask.stream:
        return await call.stream(events(ask, drafts))
    return await call.json(reply(ask, drafts))


def prompts(body: Json) -> list[str | tuple[int, ...]]:
    """The prompts: a string, a list of strings, token ids, or a list of those. Raises Refused(400)."""
    value = body.get("prompt")
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(isinstance(item, str) for item in value):
            return value
        if _ids(value):
            return [tuple(value)]
        if all(isinstance(item, list) and _ids(item) for item in value):
            return [tuple(item) for item in value]
    raise Refused(400, "prompt must be a string, token ids, or a list of those.", param="prompt")


def _ids(value: list[Any]) -> bool:
    return bool(value) and all(type(i) is int and 0 <= i < 2**31 for i in value)


def _shown(prompt: str | tuple[int, ...]) -> tuple[str, ...]:
    """The pieces of a prompt. The demo has no vocabulary: an id is shown as its number."""
    return tuple(words.pieces(prompt)) if isinstance(prompt, str) else tuple(f" {i}" for i in prompt)


def read(call: Call, body: Json) -> Ask:
    """Check a request body. Raises Refused(400 or 404)."""
    model = call.model(body.get("model"))
    found = prompts(body)
    n = fields.integer(body, "n", 1, 1, draft.MAX_CHOICES)
    if len(found) * n > draft.MAX_CHOICES:
        raise Refused(400, f"The demo backend writes at most {draft.MAX_CHOICES} choices.", param="prompt")
    stream = fields.flag(body, "stream")
    usage, steady = chat.stream_options(body, stream)
    most = fields.limit(body, "max_tokens", low=0)
    k = call.knobs
    if most is None and not (k.tokens or k.pii or k.echo or k.say is not None):
        most = _DEFAULT_MAX
    json_schema, json_object = chat.response_format(body)
    wishes = tuple(
        Wish(
            seed=("completion", model, body.get("seed"), prompt, body.get("suffix")),
            knobs=k,
            last_user=prompt if isinstance(prompt, str) else "".join(_shown(prompt)),
            max_tokens=most,
            stop=fields.stops(body, "stop"),
            keep_stop=fields.flag(body, "include_stop_str_in_output"),
            json_schema=json_schema,
            json_object=json_object,
        )
        for prompt in found
    )
    echo = fields.flag(body, "echo")
    if echo and sum(map(len, found)) > _MAX_ECHO:
        raise Refused(400, f"The demo backend echoes at most {_MAX_ECHO} characters.", param="prompt")
    top = fields.integer(body, "logprobs", -1, 0, 20)
    return Ask(
        wishes=wishes,
        old=tuple(_shown(prompt) if echo else () for prompt in found),
        id=call.id("cmpl-"),
        model=model,
        created=call.created,
        n=n,
        stream=stream,
        usage=usage,
        steady_usage=steady,
        logprobs=None if top < 0 else top,
        prompt_tokens=sum(words.count_tokens(p) if isinstance(p, str) else len(p) for p in found),
    )


def logprobs(ask: Ask, texts: tuple[str, ...], offset: int = 0) -> Json | None:
    """`logprobs` of a choice for the given pieces, the first of which stands at `offset` characters."""
    if ask.logprobs is None:
        return None
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "text_offset": offsets,
        "token_logprobs": [words.logprob(text) for text in texts],
        "tokens": list(texts),
        "top_logprobs": [dict(words.rivals(text, max(ask.logprobs, 1))) for text in texts],
    }


def reply(ask: Ask, drafts: list[Draft]) -> Json:
    """The body of a plain reply."""
    choices = []
    for index, one in enumerate(drafts):
        texts = ask.old[index // ask.n] + one.text
        choice = {"index": index, "text": "".join(texts), "logprobs": logprobs(ask, texts)}
        choices.append(choice | {"finish_reason": one.finish, "stop_reason": one.stopped_by})
    body = ask.base() | {"choices": choices, "service_tier": None, "system_fingerprint": None}
    return body | {"usage": ask.used(sum(one.tokens for one in drafts))}


def events(ask: Ask, drafts: list[Draft]) -> Iterator[Event]:
    """The events of a stream: the choices interleaved, usage, [DONE]."""
    told = 0

    def chunk(index: int, texts: tuple[str, ...], offset: int, end: Json | None) -> Event:
        shown = logprobs(ask, texts, offset) if texts else None
        choice: Json = {"index": index, "text": "".join(texts), "logprobs": shown, "finish_reason": None}
        body = ask.base() | {"choices": [choice | (end or {})]}
        return event(body | {"usage": ask.used(told)} if ask.steady_usage else body)

    tail = any(wish.knobs.tail for wish in ask.wishes)
    lines = {i: _steps(ask.old[i // ask.n], one, tail) for i, one in enumerate(drafts)}
    while lines:
        for index in list(lines):
            step = next(lines[index], None)
            if step is None:
                del lines[index]
                continue
            texts, offset, tokens, end = step
            told += tokens
            yield chunk(index, texts, offset, end)
    if ask.usage:
        yield event(ask.base() | {"choices": [], "usage": ask.used(told)})
    yield DONE


def _steps(old: tuple[str, ...], one: Draft, tail: bool) -> Iterator[tuple[tuple[str, ...], int, int, Json | None]]:
    """(pieces, offset, new tokens, end) of each chunk of a choice; an echoed prompt is the first chunk."""
    end = {"finish_reason": one.finish, "stop_reason": one.stopped_by}
    offset = sum(map(len, old))
    if old:
        yield old, 0, 0, None
    for number, text in enumerate(one.text, 1):
        last = tail and number == len(one.text)
        yield (text,), offset, 1, end if last else None
        offset += len(text)
    if not (tail and one.text):
        yield (), offset, 0, end
