"""The openai client against the demo backend: chat and completions."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

ASK: list[Any] = [{"role": "user", "content": "What does a weir do?"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string"}, "depth": {"type": "integer", "minimum": 3}},
                "required": ["place"],
            },
        },
    }
    for name in ("measure", "open_gate")
]


class Report(BaseModel):
    title: str
    level: Literal["low", "high"]
    gauges: list[int]
    note: str | None


async def test_plain_reply(client: openai.AsyncOpenAI) -> None:
    made = await client.chat.completions.create(model="demo", messages=ASK)
    choice = made.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.message.content.endswith(".")
    assert choice.finish_reason == "stop"
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens
    assert made.model == "demo"


async def test_the_same_request_gives_the_same_text_and_a_seed_changes_it(client: openai.AsyncOpenAI) -> None:
    texts = [
        (await client.chat.completions.create(model="demo", messages=ASK, seed=seed)).choices[0].message.content
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


async def test_stream_joins_to_the_plain_reply(client: openai.AsyncOpenAI) -> None:
    plain = await client.chat.completions.create(model="demo", messages=ASK)
    chunks = [c async for c in await client.chat.completions.create(model="demo", messages=ASK, stream=True)]
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == plain.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
    assert len(chunks) > 10
    assert len({c.id for c in chunks}) == 1
    assert all(c.usage is None for c in chunks)


async def test_choices_are_interleaved(client: openai.AsyncOpenAI) -> None:
    plain = await client.chat.completions.create(model="demo", messages=ASK, n=3)
    seen: list[int] = []
    texts = ["", "", ""]
    async for chunk in await client.chat.completions.create(model="demo", messages=ASK, n=3, stream=True):
        assert len(chunk.choices) == 1
        seen.append(chunk.choices[0].index)
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [choice.message.content for choice in plain.choices]
    assert len(set(texts)) == 3
    assert seen[:6] == [0, 1, 2, 0, 1, 2]


async def test_usage_in_streams(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="demo", messages=ASK, n=2, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == sum(bool(c.choices[0].delta.content) for c in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    stream = await client.chat.completions.create(model="demo", messages=ASK, stream=True, stream_options=options)
    counts = [chunk.usage.completion_tokens async for chunk in stream if chunk.usage]
    assert counts == sorted(counts)
    assert counts[0] == 0 < counts[-1]


async def test_tools_plain_and_streamed(client: openai.AsyncOpenAI) -> None:
    plain = await client.chat.completions.create(model="demo", messages=ASK, tools=TOOLS)
    assert plain.choices[0].finish_reason == "tool_calls"
    assert plain.choices[0].message.content is None
    calls: list[Any] = plain.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == ["measure", "open_gate"]
    assert json.loads(calls[0].function.arguments)["depth"] >= 3
    joined: dict[int, dict[str, Any]] = {}
    pieces = 0
    async for chunk in await client.chat.completions.create(model="demo", messages=ASK, tools=TOOLS, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            if call.id:
                joined[call.index] = {"id": call.id, "name": call.function.name, "arguments": ""}
            pieces += bool(call.function.arguments)
            joined[call.index]["arguments"] += call.function.arguments or ""
    assert [joined[i]["arguments"] for i in (0, 1)] == [call.function.arguments for call in calls]
    assert [joined[i]["id"] for i in (0, 1)] == [call.id for call in calls]
    assert pieces > 4


async def test_tool_choice(client: openai.AsyncOpenAI) -> None:
    async def names(**rest: Any) -> list[str]:
        made = await client.chat.completions.create(model="demo", messages=ASK, tools=TOOLS, **rest)
        found: list[Any] = made.choices[0].message.tool_calls or []
        return [call.function.name for call in found]

    assert await names(tool_choice="none") == []
    assert await names(tool_choice="required", parallel_tool_calls=False) == ["measure"]
    named = {"type": "function", "function": {"name": "open_gate"}}
    assert await names(tool_choice=named) == ["open_gate"]
    with pytest.raises(openai.BadRequestError, match="tool_choice"):
        await names(tool_choice={"type": "function", "function": {"name": "absent"}})


async def test_an_answered_tool_call_leads_to_prose(client: openai.AsyncOpenAI) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "measure", "arguments": "{}"}}
    turns: list[Any] = [*ASK, {"role": "assistant", "content": None, "tool_calls": [call]}]
    turns.append({"role": "tool", "tool_call_id": "c", "content": "3 m"})
    made = await client.chat.completions.create(model="demo", messages=turns, tools=TOOLS)
    assert made.choices[0].finish_reason == "stop"
    assert made.choices[0].message.content


async def test_logprobs(client: openai.AsyncOpenAI) -> None:
    plain = await client.chat.completions.create(model="demo", messages=ASK, logprobs=True, top_logprobs=3)
    found = plain.choices[0].logprobs
    assert found is not None
    assert found.content is not None
    assert "".join(t.token for t in found.content) == plain.choices[0].message.content
    assert all(len(t.top_logprobs) == 3 and t.logprob <= 0 for t in found.content)
    assert bytes(found.content[0].bytes or []).decode() == found.content[0].token
    stream = await client.chat.completions.create(model="demo", messages=ASK, logprobs=True, stream=True)
    async for chunk in stream:
        content, shown = chunk.choices[0].delta.content, chunk.choices[0].logprobs
        assert (shown is not None) == bool(content)
        if shown and shown.content:
            assert shown.content[0].token == content


async def test_limits_and_stops(client: openai.AsyncOpenAI) -> None:
    full = (await client.chat.completions.create(model="demo", messages=ASK)).choices[0].message.content or ""
    cut = await client.chat.completions.create(model="demo", messages=ASK, max_completion_tokens=5)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage is not None
    assert cut.usage.completion_tokens == 5
    assert full.startswith(cut.choices[0].message.content or "?")
    word = full.split()[3]
    ended = await client.chat.completions.create(model="demo", messages=ASK, stop=[word, "absent"])
    assert ended.choices[0].finish_reason == "stop"
    assert ended.choices[0].message.content == full[: full.index(word)]
    assert ended.choices[0].model_extra == {"stop_reason": word, "token_ids": None}


async def test_structured_output_parses(client: openai.AsyncOpenAI) -> None:
    made = await client.chat.completions.parse(model="demo", messages=ASK, response_format=Report)
    parsed = made.choices[0].message.parsed
    assert isinstance(parsed, Report)
    assert parsed.title
    async with client.chat.completions.stream(model="demo", messages=ASK, response_format=Report) as stream:
        assert (await stream.get_final_completion()).choices[0].message.parsed == parsed
    free = await client.chat.completions.create(model="demo", messages=ASK, response_format={"type": "json_object"})
    assert isinstance(json.loads(free.choices[0].message.content or ""), dict)


async def test_reasoning(client: openai.AsyncOpenAI) -> None:
    plain = await client.chat.completions.create(model="demo-reason", messages=ASK)
    thoughts = (plain.choices[0].message.model_extra or {})["reasoning"]
    assert thoughts
    joined = ""
    stream = await client.chat.completions.create(model="demo-reason", messages=ASK, stream=True)
    async for chunk in stream:
        joined += (chunk.choices[0].delta.model_extra or {}).get("reasoning", "")
    assert joined == thoughts


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
async def test_failures_become_exceptions(
    client: openai.AsyncOpenAI, status: int, kind: type[openai.APIStatusError]
) -> None:
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model=f"demo;fail={status};retry-after=7", messages=ASK)
    assert caught.value.status_code == status
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.body["code"] == status  # type: ignore[index]


async def test_unknown_model(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="gpt-9", messages=ASK)
    assert caught.value.type == "NotFoundError"
    assert "gpt-9" not in str(caught.value)


async def test_error_inside_a_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="demo;error=3", messages=ASK, stream=True)
    for _ in range(3):
        await anext(stream)
    with pytest.raises(openai.APIError, match="asked to fail in the stream"):
        await anext(stream)


async def test_completions(client: openai.AsyncOpenAI) -> None:
    made = await client.completions.create(model="demo", prompt=["One.", "Two."], n=2, max_tokens=4, echo=True)
    assert [c.index for c in made.choices] == [0, 1, 2, 3]
    assert [c.text[:4] for c in made.choices] == ["One.", "One.", "Two.", "Two."]
    assert {c.finish_reason for c in made.choices} == {"length"}
    texts = ["", "", "", ""]
    stream = await client.completions.create(
        model="demo", prompt=["One.", "Two."], n=2, max_tokens=4, echo=True, stream=True
    )
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [c.text for c in made.choices]


async def test_completions_take_token_ids(client: openai.AsyncOpenAI) -> None:
    one = await client.completions.create(model="demo", prompt=[17, 4], echo=True, max_tokens=0)
    assert one.choices[0].text == " 17 4"
    two = await client.completions.create(model="demo", prompt=[[17, 4], [5]])
    assert len(two.choices) == 2
    assert two.usage is not None
    assert two.usage.prompt_tokens == 3


async def test_completion_logprobs_spell_the_text(client: openai.AsyncOpenAI) -> None:
    made = await client.completions.create(model="demo", prompt="A gate", logprobs=2, echo=True)
    choice = made.choices[0]
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or []) == choice.text
    assert choice.logprobs.top_logprobs is not None
    assert all(len(top) == 2 for top in choice.logprobs.top_logprobs)
    offsets = choice.logprobs.text_offset or []
    tokens = choice.logprobs.tokens or []
    assert all(choice.text[at:].startswith(t) for at, t in zip(offsets, tokens, strict=True))
    joined: list[int] = []
    stream = await client.completions.create(model="demo", prompt="A gate", logprobs=2, echo=True, stream=True)
    async for chunk in stream:
        shown = chunk.choices[0].logprobs
        joined += (shown.text_offset or []) if shown else []
    assert joined == offsets
