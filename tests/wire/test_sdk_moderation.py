"""What the official clients see of a reply that a policy changes or ends: the documented ways, in every API, streamed
or not."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from policies.contract import Kind
from tests.kits.fronts import Front, front
from tests.kits.stream import until

ASK: list[Any] = [{"role": "user", "content": "What is next?"}]
SAID = "The next one is project nightjar. It ships soon, after that we rest."
SAY = "say=" + SAID.replace(" ", "%20").replace(",", "%2C")
HIDDEN = SAID.replace("project nightjar", "[hidden]")
BEFORE = "The next one is "

RULES = "rules: [{name: names, phrases: [project nightjar], ACTION}]"
POLICY = "policies: [{use: output_moderation, RULES}]".replace("RULES", RULES)
REDACT = POLICY.replace("ACTION", 'action: redact, placeholder: "[hidden]"')
BLOCK = POLICY.replace("ACTION", "action: block")


def moderated(action: str) -> contextlib.AbstractAsyncContextManager[Front]:
    return front("moderated", policy_yaml=action)


@pytest.fixture
async def redacting() -> AsyncIterator[Front]:
    async with moderated(REDACT) as made:
        yield made


@pytest.fixture
async def blocking() -> AsyncIterator[Front]:
    async with moderated(BLOCK) as made:
        yield made


KNOBS = [f"{SAY}; piece={n}; {more}" for n in (1, 3, 1000) for more in ("split=7", "split=1; crlf=1", "tail=1")]


async def chat_text(c: openai.AsyncOpenAI, knobs: str, **more: Any) -> tuple[list[Any], str]:
    stream = await c.chat.completions.create(
        model="demo", messages=ASK, stream=True, extra_headers={"x-demo": knobs}, **more
    )
    chunks = [chunk async for chunk in stream]
    return chunks, "".join(x.delta.content or "" for chunk in chunks for x in chunk.choices if x.index == 0)


@pytest.mark.parametrize("knobs", KNOBS)
async def test_a_hidden_phrase_in_a_chat(redacting: Front, knobs: str) -> None:
    c = redacting.client()
    chunks, text = await chat_text(c, knobs)
    assert text == HIDDEN
    assert chunks[-1].choices[0].finish_reason == "stop"
    plain = await c.chat.completions.create(model="demo", messages=ASK, extra_headers={"x-demo": knobs})
    assert plain.choices[0].message.content == HIDDEN


async def test_a_hidden_phrase_in_the_other_apis(redacting: Front) -> None:
    c = redacting.client()
    headers = {"x-demo": f"{SAY}; piece=3"}
    made = await c.responses.create(model="demo", input="Hello", extra_headers=headers)
    assert made.output_text == HIDDEN
    async with c.responses.stream(model="demo", input="Hello", extra_headers=headers) as helper:
        seen: list[Any] = [event async for event in helper]
        final = await helper.get_final_response()
    assert "nightjar" not in repr(seen)
    assert final.output_text == HIDDEN
    assert "".join(e.delta for e in seen if e.type == "response.output_text.delta") == HIDDEN
    old = await c.completions.create(model="demo", prompt="Hello", extra_headers=headers)
    assert old.choices[0].text == HIDDEN
    stream = await c.completions.create(model="demo", prompt="Hello", stream=True, extra_headers=headers)
    assert "".join([e.choices[0].text async for e in stream]) == HIDDEN
    messages_client = redacting.client(anthropic.AsyncAnthropic)
    message = await messages_client.messages.create(model="demo", max_tokens=500, messages=ASK, extra_headers=headers)
    assert message.content[0].type == "text" and message.content[0].text == HIDDEN
    async with messages_client.messages.stream(model="demo", max_tokens=500, messages=ASK, extra_headers=headers) as stream_:
        assert "".join([piece async for piece in stream_.text_stream]) == HIDDEN
        assert (await stream_.get_final_message()).stop_reason == "end_turn"


async def test_logprobs_do_not_tell_what_is_hidden(redacting: Front) -> None:
    c = redacting.client()
    headers = {"x-demo": SAY}
    plain = await c.chat.completions.create(model="demo", messages=ASK, logprobs=True, extra_headers=headers)
    chunks, text = await chat_text(c, SAY, logprobs=True)
    assert text == plain.choices[0].message.content == HIDDEN
    assert "nightjar" not in repr([plain, chunks])


class Report(BaseModel):
    title: str


@pytest.mark.parametrize("n", [1, 2])
async def test_a_chat_that_is_ended(blocking: Front, n: int) -> None:
    c = blocking.client()
    chunks, text = await chat_text(c, f"{SAY}; piece=3", n=n, stream_options={"include_usage": True})
    assert text == BEFORE
    ends = [x.finish_reason for chunk in chunks for x in chunk.choices if x.finish_reason]
    assert set(ends) == {"content_filter"}
    assert "nightjar" not in repr(chunks)
    plain = await c.chat.completions.create(model="demo", messages=ASK, n=n, extra_headers={"x-demo": SAY})
    assert plain.choices[0].finish_reason == "content_filter"
    assert "nightjar" not in repr(plain)
    await blocking.gate.settled(2)
    assert {x.fault for x in blocking.gate.exchanges} == {Kind.CUT}


async def test_the_helpers_say_that_a_reply_was_ended(blocking: Front) -> None:
    c = blocking.client()
    headers = {"x-demo": SAY}
    with pytest.raises(openai.ContentFilterFinishReasonError):
        await c.chat.completions.parse(model="demo", messages=ASK, response_format=Report, extra_headers=headers)
    async with c.responses.stream(model="demo", input="Hello", extra_headers=headers) as helper:
        seen: list[Any] = [event async for event in helper]
    assert seen[-1].type == "response.incomplete"
    assert seen[-1].response.incomplete_details.reason == "content_filter"
    assert "nightjar" not in repr(seen)
    whole = await c.responses.create(model="demo", input="Hello", extra_headers=headers)
    assert whole.status == "incomplete" and "nightjar" not in repr(whole)
    messages_client = blocking.client(anthropic.AsyncAnthropic)
    message = await messages_client.messages.create(model="demo", max_tokens=500, messages=ASK, extra_headers=headers)
    assert message.stop_reason == "refusal" and "nightjar" not in repr(message)
    async with messages_client.messages.stream(model="demo", max_tokens=500, messages=ASK, extra_headers=headers) as stream:
        assert "".join([piece async for piece in stream.text_stream]) == BEFORE
        assert (await stream.get_final_message()).stop_reason == "refusal"


async def test_the_backend_stops_when_a_reply_is_ended(blocking: Front) -> None:
    """After the cut the client has its whole reply, and the backend's stream, which would go on, is closed."""
    said = f"say={BEFORE.replace(' ', '%20')}project%20nightjar%20{'and%20on%20' * 20}; stall=12"
    _, text = await chat_text(blocking.client(), said)
    assert text == BEFORE
    await until(lambda: blocking.backend.state.stats.cancelled == 1, timeout=1)
    assert (await blocking.gate.settled()).fault is Kind.CUT
