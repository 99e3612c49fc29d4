"""The anthropic client against the demo backend."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

ASK: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "What does a weir do?"}]}]
SCHEMA = {"type": "object", "properties": {"place": {"type": "string"}, "when": {"enum": ["now", "later"]}}}
TOOLS: list[Any] = [{"name": "measure", "description": "A gauge.", "input_schema": SCHEMA}]


async def test_plain_and_streamed(messages_client: anthropic.AsyncAnthropic) -> None:
    plain = await messages_client.messages.create(model="demo", max_tokens=500, messages=ASK, system="Be brief.")
    assert plain.stop_reason == "end_turn"
    block = plain.content[0]
    assert block.type == "text"
    async with messages_client.messages.stream(model="demo", max_tokens=500, messages=ASK, system="Be brief.") as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == block.text
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == plain.usage.output_tokens > 0


async def test_tools(messages_client: anthropic.AsyncAnthropic) -> None:
    plain = await messages_client.messages.create(model="demo", max_tokens=500, messages=ASK, tools=TOOLS)
    assert plain.stop_reason == "tool_use"
    use = plain.content[0]
    assert use.type == "tool_use"
    assert use.input["when"] in ("now", "later")
    partial = ""
    async with messages_client.messages.stream(model="demo", max_tokens=500, messages=ASK, tools=TOOLS) as stream:
        async for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                partial += event.delta.partial_json
        final = await stream.get_final_message()
    assert partial
    assert final.content[0].type == "tool_use"
    assert final.content[0].input == use.input
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "3 m"}]}
    turns: list[Any] = [*ASK, {"role": "assistant", "content": [use.to_dict()]}]
    turns.append({"role": "user", "content": [result]})
    after = await messages_client.messages.create(model="demo", max_tokens=500, messages=turns, tools=TOOLS)
    assert after.stop_reason == "end_turn"
    none = await messages_client.messages.create(
        model="demo", max_tokens=500, messages=ASK, tools=TOOLS, tool_choice={"type": "none"}
    )
    assert none.content[0].type == "text"


async def test_thinking(messages_client: anthropic.AsyncAnthropic) -> None:
    async with messages_client.messages.stream(
        model="demo", max_tokens=2000, messages=ASK, thinking={"type": "enabled", "budget_tokens": 1024}
    ) as stream:
        thoughts = ""
        async for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "thinking_delta":
                thoughts += event.delta.thinking
        final = await stream.get_final_message()
    block = final.content[0]
    assert block.type == "thinking"
    assert block.thinking == thoughts
    assert block.signature
    assert final.content[1].type == "text"


async def test_limits_and_stops(messages_client: anthropic.AsyncAnthropic) -> None:
    short = await messages_client.messages.create(model="demo", max_tokens=4, messages=ASK)
    assert short.stop_reason == "max_tokens"
    assert short.usage.output_tokens == 4
    ended = await messages_client.messages.create(
        model="demo;say=left%20STOP%20right", max_tokens=500, messages=ASK, stop_sequences=["STOP"]
    )
    assert (ended.stop_reason, ended.stop_sequence) == ("stop_sequence", "STOP")
    assert ended.content[0].type == "text"
    assert ended.content[0].text == "left "


async def test_count_tokens(messages_client: anthropic.AsyncAnthropic) -> None:
    counted = await messages_client.messages.count_tokens(model="demo", messages=ASK)
    made = await messages_client.messages.create(model="demo", max_tokens=4, messages=ASK)
    assert counted.input_tokens == made.usage.input_tokens


@pytest.mark.parametrize(
    ("status", "kind", "named"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
async def test_failures_become_exceptions(
    messages_client: anthropic.AsyncAnthropic, status: int, kind: type[anthropic.APIStatusError], named: str
) -> None:
    with pytest.raises(kind) as caught:
        await messages_client.messages.create(model=f"demo;fail={status}", max_tokens=4, messages=ASK)
    assert caught.value.status_code == status
    assert caught.value.body["error"]["type"] == named  # type: ignore[index]


async def test_error_inside_a_stream(messages_client: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.APIStatusError, match="asked to fail in the stream"):
        async with messages_client.messages.stream(model="demo;error=5", max_tokens=500, messages=ASK) as stream:
            await stream.get_final_message()
