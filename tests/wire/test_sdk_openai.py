"""The official openai client through headgate: every call gives what it gives without headgate in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.kits.fronts import FRONTS, Front, front

ASK: list[Any] = [{"role": "user", "content": "What does a weir do? Größe ☃ 𝄞"}]
SCHEMA = {
    "type": "object",
    "properties": {"place": {"type": "string"}, "depth": {"type": "integer", "minimum": 3}},
    "required": ["place"],
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("measure", "open_gate")
]
RESPONSE_TOOLS: list[Any] = [{"type": "function", "name": "measure", "parameters": SCHEMA, "strict": False}]


class Report(BaseModel):
    title: str
    level: Literal["low", "high"]
    gauges: list[int]


Call = Callable[[openai.AsyncOpenAI], Awaitable[Any]]
CALLS: dict[str, Call] = {}


def same(call: Call) -> Call:
    """Register a call that must give the same directly and through headgate."""
    CALLS[call.__name__] = call
    return call


async def events(stream: Any) -> list[Any]:
    return [event.model_dump() async for event in stream]


# -- chat


@same
async def chat(c: openai.AsyncOpenAI) -> Any:
    made = await c.chat.completions.create(model="demo", messages=ASK, temperature=0.0, seed=10**15)
    assert made.choices[0].message.content
    assert made.usage and made.usage.completion_tokens
    return made.model_dump()


@same
async def chat_stream(c: openai.AsyncOpenAI) -> Any:
    found = await events(await c.chat.completions.create(model="demo", messages=ASK, stream=True))
    assert len(found) > 10
    assert found[-1]["choices"][0]["finish_reason"] == "stop"
    return found


@same
async def chat_stream_in_odd_pieces(c: openai.AsyncOpenAI) -> Any:
    found = []
    for knobs in ("split=1", "split=7; crlf=1", "split=whole", "comments=1; piece=1", "tail=1; split=3"):
        stream = await c.chat.completions.create(
            model="demo", messages=ASK, stream=True, max_tokens=12, extra_headers={"x-demo": knobs}
        )
        found.append(await events(stream))
        assert found[-1][0]["choices"][0]["delta"]["role"] == "assistant"
    return found


@same
async def chat_stream_helper(c: openai.AsyncOpenAI) -> Any:
    async with c.chat.completions.stream(model="demo", messages=ASK) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert "content.delta" in kinds and kinds[-1] == "content.done"
    assert final.choices[0].message.content
    return kinds, final.model_dump()


@same
async def chat_usage_in_streams(c: openai.AsyncOpenAI) -> Any:
    options: Any = {"include_usage": True}
    found = await events(
        await c.chat.completions.create(model="demo", messages=ASK, n=2, stream=True, stream_options=options)
    )
    assert found[-1]["choices"] == [] and found[-1]["usage"]["completion_tokens"]
    options = {"include_usage": True, "continuous_usage_stats": True}
    steady = await events(
        await c.chat.completions.create(model="demo", messages=ASK, stream=True, stream_options=options)
    )
    assert all(e["usage"] for e in steady)
    return found, steady


@same
async def chat_choices(c: openai.AsyncOpenAI) -> Any:
    plain = await c.chat.completions.create(model="demo", messages=ASK, n=3)
    assert len({x.message.content for x in plain.choices}) == 3
    texts = ["", "", ""]
    async for chunk in await c.chat.completions.create(model="demo", messages=ASK, n=3, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [x.message.content for x in plain.choices]
    return plain.model_dump()


@same
async def chat_logprobs(c: openai.AsyncOpenAI) -> Any:
    plain = await c.chat.completions.create(model="demo", messages=ASK, logprobs=True, top_logprobs=2)
    assert plain.choices[0].logprobs and plain.choices[0].logprobs.content
    stream = await events(await c.chat.completions.create(model="demo", messages=ASK, logprobs=True, stream=True))
    assert any(e["choices"][0]["logprobs"] for e in stream)
    return plain.model_dump(), stream


@same
async def chat_tools(c: openai.AsyncOpenAI) -> Any:
    plain = await c.chat.completions.create(model="demo;escape=1", messages=ASK, tools=TOOLS)
    calls: list[Any] = plain.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == ["measure", "open_gate"]
    joined = ["", ""]
    async for chunk in await c.chat.completions.create(
        model="demo;escape=1", messages=ASK, tools=TOOLS, stream=True
    ):
        for call in chunk.choices[0].delta.tool_calls or []:
            joined[call.index] += (call.function and call.function.arguments) or ""
    assert joined == [call.function.arguments for call in calls]
    turns = [*ASK, plain.choices[0].message.model_dump(exclude_none=True)]
    turns += [{"role": "tool", "tool_call_id": call.id, "content": "3 m"} for call in calls]
    after = await c.chat.completions.create(model="demo", messages=turns, tools=TOOLS)
    assert after.choices[0].finish_reason == "stop"
    return plain.model_dump(), after.model_dump()


@same
async def chat_structured_output(c: openai.AsyncOpenAI) -> Any:
    made = await c.chat.completions.parse(model="demo", messages=ASK, response_format=Report)
    assert isinstance(made.choices[0].message.parsed, Report)
    async with c.chat.completions.stream(model="demo", messages=ASK, response_format=Report) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == made.choices[0].message.parsed
    return made.model_dump(warnings=False), final.model_dump(warnings=False)


@same
async def chat_reasoning(c: openai.AsyncOpenAI) -> Any:
    found = await events(await c.chat.completions.create(model="demo-reason", messages=ASK, stream=True))
    assert any("reasoning" in e["choices"][0]["delta"] for e in found)
    return found


# -- completions, embeddings, responses


@same
async def completions(c: openai.AsyncOpenAI) -> Any:
    plain = await c.completions.create(model="demo", prompt=["One.", "Two."], n=2, max_tokens=4, echo=True, logprobs=2)
    assert len(plain.choices) == 4
    stream = await events(await c.completions.create(model="demo", prompt=[17, 4], max_tokens=9, stream=True))
    assert "".join(e["choices"][0]["text"] for e in stream)
    return plain.model_dump(), stream


@same
async def embeddings(c: openai.AsyncOpenAI) -> Any:
    packed = await c.embeddings.create(model="demo-embed", input="a quiet canal")  # base64 on the wire
    plain = await c.embeddings.create(model="demo-embed", input="a quiet canal", encoding_format="float")
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    many = await c.embeddings.create(model="demo-embed", input=["x"] * 200, dimensions=64)
    assert len(many.data) == 200
    return packed.model_dump(), plain.model_dump(), many.model_dump()


@same
async def responses(c: openai.AsyncOpenAI) -> Any:
    made = await c.responses.create(model="demo", input="Hello", instructions="Be brief.")
    assert made.output_text
    stream = await events(await c.responses.create(model="demo", input="Hello", stream=True))
    assert stream[-1]["type"] == "response.completed"
    async with c.responses.stream(model="demo", input="Hello", tools=RESPONSE_TOOLS) as helper:
        kinds = [event.type async for event in helper]
        final = await helper.get_final_response()
    assert "response.function_call_arguments.delta" in kinds
    parsed = await c.responses.parse(model="demo", input="Hello", text_format=Report)
    assert isinstance(parsed.output_parsed, Report)
    return made.model_dump(), stream, kinds, final.model_dump(), parsed.model_dump()


@same
async def responses_stored(c: openai.AsyncOpenAI) -> Any:
    made = await c.responses.create(model="demo", input="Hello")
    got = await c.responses.retrieve(made.id)
    assert got.output_text == made.output_text
    again = await events(await c.responses.retrieve(made.id, stream=True, starting_after=4))
    assert again[0]["sequence_number"] == 5
    await c.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await c.responses.retrieve(made.id)
    return got.model_dump(), again


@same
async def responses_cancelled(c: openai.AsyncOpenAI) -> Any:
    slow = await c.responses.create(model="demo;rate=1", input="Hello", background=True)
    assert slow.status == "in_progress"
    ended = await c.responses.cancel(slow.id)
    assert ended.status == "cancelled"
    return slow.model_dump(), ended.model_dump()


# -- the rest of the API


@same
async def models(c: openai.AsyncOpenAI) -> Any:
    found = [model.model_dump() async for model in c.models.list()]
    assert [m["id"] for m in found] == ["demo", "demo-reason", "demo-embed"]
    one = await c.models.retrieve("demo/with/slashes")  # %2F in the path
    assert one.id == "demo/with/slashes"
    return found, one.model_dump()


@same
async def moderations(c: openai.AsyncOpenAI) -> Any:
    made = await c.moderations.create(model="demo", input=["water the field", "kill the field"])
    assert [r.flagged for r in made.results] == [False, True]
    return made.model_dump()


@same
async def files(c: openai.AsyncOpenAI) -> Any:
    data = bytes(range(256)) * 8_000  # 2 MB
    made = await c.files.create(file=("rows ☃.bin", data), purpose="user_data")
    assert made.bytes == len(data)
    listed = [f.model_dump() async for f in c.files.list()]
    assert (await c.files.content(made.id)).content == data
    async with c.files.with_streaming_response.content(made.id) as streamed:
        assert b"".join([piece async for piece in streamed.iter_bytes()]) == data
    gone = await c.files.delete(made.id)
    return made.model_dump(), listed, gone.model_dump()


@same
async def audio(c: openai.AsyncOpenAI) -> Any:
    sound = ("a.wav", b"RIFF" + bytes(range(256)) * 40)
    made = await c.audio.transcriptions.create(model="demo", file=sound)
    assert made.text
    text = await c.audio.transcriptions.create(model="demo", file=sound, response_format="text")
    pieces = [e.model_dump() async for e in await c.audio.transcriptions.create(model="demo", file=sound, stream=True)]
    assert len(pieces) > 2
    spoken = await c.audio.speech.create(model="demo", voice="alloy", input="Hello", response_format="wav")
    assert spoken.content.startswith(b"RIFF")
    return made.model_dump(), text, pieces, spoken.content


# -- the tests

#: Calls in whose replies no usage stands: it was not asked for, or there is none.
WITHOUT_USAGE = {
    "chat_stream", "chat_stream_in_odd_pieces", "chat_stream_helper", "chat_reasoning", "responses_cancelled", "models",
    "moderations", "files",
}  # fmt: skip

@pytest.fixture(params=["empty", "policies", "moderated"])
async def at(request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    async with front(request.param) as made:
        yield made


@pytest.mark.parametrize("name", CALLS)
async def test_the_client_gets_what_it_gets_without_headgate(at: Front, name: str) -> None:
    await at.both(CALLS[name])
    await at.gate.idle()
    assert all(x.fault is None and x.status < 500 for x in at.gate.exchanges)
    tiers = {x.tier for x in at.gate.exchanges}
    textless = ("models", "files", "embeddings", "moderations")  # replies without text have no gate
    allowed = {"empty": {"opaque"}, "moderated": {"opaque", "watched" if name in textless else "gated"}}
    assert tiers <= allowed.get(at.name, {"opaque", "watched"})
    assert at.name != "moderated" or "gated" in tiers or name in textless
    counted = any(x.usage is not None for x in at.gate.exchanges)
    assert counted is (at.name != "empty" and name not in WITHOUT_USAGE)


@pytest.mark.parametrize("name", FRONTS)
async def test_usage_is_what_the_client_sees(name: str) -> None:
    async with front(name) as at:
        await usage(at)


async def usage(at: Front) -> None:
    c = at.client()
    plain = await c.chat.completions.create(model="demo", messages=ASK)
    stream = await events(
        await c.chat.completions.create(
            model="demo", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    assert plain.usage is not None
    shown = [(plain.usage.prompt_tokens, plain.usage.completion_tokens)]
    shown.append((stream[-1]["usage"]["prompt_tokens"], stream[-1]["usage"]["completion_tokens"]))
    await at.gate.settled(2)
    seen = [x.usage and (x.usage.prompt, x.usage.completion) for x in at.gate.exchanges]
    assert seen == ([None, None] if at.name == "empty" else shown)


async def test_the_sync_client_in_a_thread(at: Front) -> None:
    def calls(c: openai.OpenAI) -> Any:
        with c:
            made = c.chat.completions.create(model="demo", messages=ASK)
            stream = [e.model_dump() for e in c.chat.completions.create(model="demo", messages=ASK, stream=True)]
            with c.responses.stream(model="demo", input="Hello") as helper:
                kinds = [event.type for event in helper]
            file = c.files.create(file=("a", b"x" * 100_000), purpose="batch")
            assert c.files.content(file.id).content == b"x" * 100_000
            assert c.models.retrieve("demo").id == "demo"
        return made.model_dump(), stream, kinds, file.model_dump()

    async def in_a_thread(c: openai.OpenAI) -> Any:
        return await asyncio.to_thread(calls, c)

    made, stream, kinds, _ = await at.both(in_a_thread, openai.OpenAI)
    text = "".join(e["choices"][0]["delta"]["content"] or "" for e in stream)
    assert text == made["choices"][0]["message"]["content"]
    assert kinds[-1] == "response.completed"


async def test_the_fields_of_a_raw_reply(at: Front) -> None:
    raw = await at.client().chat.completions.with_raw_response.create(
        model="demo", messages=ASK, extra_headers={"Cookie": "a=b"}
    )
    ids = raw.headers.get_list("x-request-id")
    assert len(ids) == 1 and "," not in ids[0]
    assert raw.parse().id == f"chatcmpl-{ids[0]}"
    assert at.gate.exchanges[0].id == ids[0]
    policies = at.name == "policies"
    assert raw.headers.get_list("server") == ([] if policies else ["headgate-demo"])
    assert raw.headers.get("x-gate") == ("here" if policies else None)
    assert (await at.gate.settled()).status == raw.status_code == 200
    given = await at.client().models.with_raw_response.list(extra_headers={"X-Request-Id": "mine-7"})
    assert given.headers.get_list("x-request-id") == ["mine-7"]


async def test_many_calls_at_once_do_not_mix(at: Front) -> None:
    c = at.client()

    async def one(i: int) -> None:
        say = f"number {i} " * 20
        if i % 2:
            made = await c.chat.completions.create(model=f"demo;say={say.replace(' ', '%20')}", messages=ASK)
            assert made.choices[0].message.content == say
        else:
            stream = await c.chat.completions.create(
                model=f"demo;say={say.replace(' ', '%20')}", messages=ASK, stream=True
            )
            assert "".join([e.choices[0].delta.content or "" async for e in stream]) == say

    await asyncio.gather(*(one(i) for i in range(40)))
    await at.gate.settled(40)
    assert {x.status for x in at.gate.exchanges} == {200}
