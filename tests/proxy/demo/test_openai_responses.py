"""The openai client against the demo backend: the Responses API."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

TOOLS: list[Any] = [
    {
        "type": "function",
        "name": "measure",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
        "strict": False,
    }
]


class Report(BaseModel):
    title: str
    depth: float


async def gathered(client: openai.AsyncOpenAI, **ask: Any) -> tuple[list[Any], Response]:
    """The events of the stream helper, and its final response."""
    async with client.responses.stream(**ask) as stream:
        seen = [event async for event in stream]
        return seen, await stream.get_final_response()


async def test_create_and_stream_say_the_same(client: openai.AsyncOpenAI) -> None:
    plain = await client.responses.create(model="demo", input="Hello")
    assert plain.status == "completed"
    assert plain.output_text
    assert plain.usage is not None
    assert plain.usage.output_tokens > 0
    seen, final = await gathered(client, model="demo", input="Hello")
    assert final.output_text == plain.output_text
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert [e.type for e in seen if not e.type.endswith("delta")] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


async def test_the_text_of_a_stream_comes_four_times(client: openai.AsyncOpenAI) -> None:
    stream = await client.responses.create(model="demo", input="Hello", stream=True)
    seen: list[Any] = [event async for event in stream]
    by_type = {event.type: event for event in seen}
    text = "".join(e.delta for e in seen if e.type == "response.output_text.delta")
    assert text == by_type["response.output_text.done"].text
    assert text == by_type["response.content_part.done"].part.text
    assert text == by_type["response.output_item.done"].item.content[0].text
    assert text == by_type["response.completed"].response.output_text


async def test_function_calls(client: openai.AsyncOpenAI) -> None:
    plain = await client.responses.create(model="demo", input="Hello", tools=TOOLS)
    call = plain.output[0]
    assert call.type == "function_call"
    assert set(json.loads(call.arguments)) == {"place"}
    seen, final = await gathered(client, model="demo", input="Hello", tools=TOOLS)
    deltas = [e.delta for e in seen if e.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call.arguments
    assert final.output[0].type == "function_call"
    answered: list[Any] = [{"role": "user", "content": "Hello"}, call.to_dict()]
    answered.append({"type": "function_call_output", "call_id": call.call_id, "output": "3 m"})
    assert (await client.responses.create(model="demo", input=answered, tools=TOOLS)).output_text


async def test_reasoning_comes_first(client: openai.AsyncOpenAI) -> None:
    seen, final = await gathered(client, model="demo-reason", input="Hello")
    assert [item.type for item in final.output] == ["reasoning", "message"]
    item = final.output[0]
    assert item.type == "reasoning"
    assert item.content is not None
    deltas = [e.delta for e in seen if e.type == "response.reasoning_text.delta"]
    assert "".join(deltas) == item.content[0].text
    assert final.usage is not None
    assert final.usage.output_tokens_details.reasoning_tokens == len(deltas)


async def test_structured_output_and_logprobs(client: openai.AsyncOpenAI) -> None:
    parsed = await client.responses.parse(model="demo", input="Hello", text_format=Report)
    assert isinstance(parsed.output_parsed, Report)
    made = await client.responses.create(
        model="demo", input="Hello", include=["message.output_text.logprobs"], top_logprobs=2
    )
    message = made.output[0]
    assert message.type == "message"
    part = message.content[0]
    assert part.type == "output_text"
    assert "".join(entry.token for entry in part.logprobs or []) == made.output_text


async def test_a_length_limit_makes_it_incomplete(client: openai.AsyncOpenAI) -> None:
    stream = await client.responses.create(model="demo", input="Hello", max_output_tokens=3, stream=True)
    last = [event async for event in stream][-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"


async def test_stored_responses(client: openai.AsyncOpenAI) -> None:
    made = await client.responses.create(model="demo", input="Hello")
    assert (await client.responses.retrieve(made.id)).output_text == made.output_text
    again = await client.responses.retrieve(made.id, stream=True, starting_after=4)
    assert (await anext(again)).sequence_number == 5
    follow = await client.responses.create(model="demo", input="And?", previous_response_id=made.id)
    assert follow.previous_response_id == made.id
    with pytest.raises(openai.BadRequestError, match="synchronous"):
        await client.responses.cancel(made.id)
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.create(model="demo", input="And?", previous_response_id=made.id)
    unstored = await client.responses.create(model="demo", input="Hello", store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(unstored.id)


async def test_background_can_be_cancelled(client: openai.AsyncOpenAI) -> None:
    slow = await client.responses.create(model="demo;rate=1", input="Hello", background=True)
    assert slow.status == "in_progress"
    assert slow.output == []
    assert (await client.responses.cancel(slow.id)).status == "cancelled"
    assert (await client.responses.retrieve(slow.id)).output == []
    quick = await client.responses.create(model="demo", input="Hello", background=True)
    assert quick.status == "completed"


async def test_error_event(client: openai.AsyncOpenAI) -> None:
    seen = [e async for e in await client.responses.create(model="demo;error=4", input="Hi", stream=True)]
    assert [e.type for e in seen][-1] == "error"
    assert seen[-1].sequence_number == 4
