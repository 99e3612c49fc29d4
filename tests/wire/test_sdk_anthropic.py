"""The official anthropic client through headgate, before a backend that speaks /v1/messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anthropic
import pytest

from policies.contract import Kind
from tests.kits.fronts import Front, front
from tests.kits.stream import until

ASK: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "What does a weir do? ☃"}]}]
SCHEMA = {"type": "object", "properties": {"place": {"type": "string"}, "when": {"enum": ["now", "later"]}}}
TOOLS: list[Any] = [{"name": "measure", "description": "A gauge.", "input_schema": SCHEMA}]

Call = Callable[[anthropic.AsyncAnthropic], Awaitable[Any]]
CALLS: dict[str, Call] = {}


def same(call: Call) -> Call:
    """Register a call that must give the same directly and through headgate."""
    CALLS[call.__name__] = call
    return call


async def streamed(c: anthropic.AsyncAnthropic, **ask: Any) -> tuple[list[Any], anthropic.types.Message]:
    """The raw events of the stream helper, and its final message."""
    async with c.messages.stream(**{"model": "demo", "max_tokens": 500, "messages": ASK, **ask}) as stream:
        seen = [event.model_dump() async for event in stream]
        return seen, await stream.get_final_message()


@same
async def plain_and_streamed(c: anthropic.AsyncAnthropic) -> Any:
    plain = await c.messages.create(model="demo", max_tokens=500, messages=ASK, system="Be brief.")
    seen, final = await streamed(c, system="Be brief.")
    assert plain.content[0].type == final.content[0].type == "text"
    assert plain.content[0].text == final.content[0].text != ""
    raw = [e.model_dump() async for e in await c.messages.create(model="demo", max_tokens=9, messages=ASK, stream=True)]
    assert raw[-1]["type"] == "message_stop"
    return plain.model_dump(), seen, final.model_dump(), raw


@same
async def odd_pieces(c: anthropic.AsyncAnthropic) -> Any:
    found = []
    for knobs in ("split=1", "split=5; crlf=1", "comments=1; split=whole", "piece=1"):
        seen, final = await streamed(c, max_tokens=9, extra_headers={"x-demo": knobs})
        assert final.stop_reason == "max_tokens"
        found.append(seen)
    return found


@same
async def tools(c: anthropic.AsyncAnthropic) -> Any:
    plain = await c.messages.create(model="demo", max_tokens=500, messages=ASK, tools=TOOLS)
    use = plain.content[0]
    assert use.type == "tool_use" and use.input["when"] in ("now", "later")
    seen, final = await streamed(c, tools=TOOLS)
    assert any(e["type"] == "input_json" for e in seen)
    assert final.content[0].type == "tool_use" and final.content[0].input == use.input
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "3 m"}]}
    turns: list[Any] = [*ASK, {"role": "assistant", "content": [use.to_dict()]}, {"role": "user", "content": [result]}]
    after = await c.messages.create(model="demo", max_tokens=500, messages=turns, tools=TOOLS)
    assert after.stop_reason == "end_turn"
    return plain.model_dump(), seen, after.model_dump()


@same
async def thinking(c: anthropic.AsyncAnthropic) -> Any:
    seen, final = await streamed(c, max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024})
    assert [block.type for block in final.content] == ["thinking", "text"]
    return seen, final.model_dump()


@same
async def counting_and_models(c: anthropic.AsyncAnthropic) -> Any:
    counted = await c.messages.count_tokens(model="demo", messages=ASK)
    assert counted.input_tokens
    stopped = await c.messages.create(
        model="demo;say=left%20STOP%20right", max_tokens=500, messages=ASK, stop_sequences=["STOP"]
    )
    assert stopped.stop_reason == "stop_sequence"
    return counted.model_dump(), stopped.model_dump()


@pytest.fixture(params=["empty", "policies", "moderated"])
async def at(request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    async with front(request.param) as made:
        yield made


@pytest.mark.parametrize("name", CALLS)
async def test_the_client_gets_what_it_gets_without_headgate(at: Front, name: str) -> None:
    await at.both(CALLS[name], anthropic.AsyncAnthropic)
    await at.gate.idle()
    assert {x.status for x in at.gate.exchanges} == {200}
    counted = [x.usage for x in at.gate.exchanges if x.usage is not None]
    assert bool(counted) is (at.name != "empty")
    assert all(u.prompt and u.completion for u in counted)


async def test_the_sync_client_in_a_thread(at: Front) -> None:
    def calls(c: anthropic.Anthropic) -> Any:
        with c, c.messages.stream(model="demo", max_tokens=500, messages=ASK) as stream:
            text = "".join(stream.text_stream)
            return text, stream.get_final_message().model_dump()

    async def in_a_thread(c: anthropic.Anthropic) -> Any:
        return await asyncio.to_thread(calls, c)

    assert (await at.both(in_a_thread, anthropic.Anthropic))[0]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (404, anthropic.NotFoundError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.InternalServerError),
    ],
)
async def test_errors_of_the_backend_pass_as_they_are(
    at: Front, status: int, kind: type[anthropic.APIStatusError]
) -> None:
    async def call(c: anthropic.AsyncAnthropic) -> Any:
        with pytest.raises(kind) as caught:
            await c.messages.create(model=f"demo;fail={status}", max_tokens=4, messages=ASK)
        return caught.value.status_code, caught.value.body

    assert (await at.both(call, anthropic.AsyncAnthropic))[0] == status


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_has_the_shape_of_this_api(stream: bool) -> None:
    async with front("policies") as at:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await at.client(anthropic.AsyncAnthropic, max_retries=2).messages.create(
                model="demo", max_tokens=5000, messages=ASK, stream=stream
            )
        x = await at.gate.settled()
        body: Any = caught.value.body
        assert set(body) == {"type", "error", "request_id"}
        assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
        assert set(body["error"]) == {"type", "message"}
        assert "max_tokens" in body["error"]["message"]
        assert body["request_id"] == caught.value.response.headers["x-request-id"] == x.id
        assert at.backend.state.stats.requests == 0


async def test_a_backend_that_hangs_up_has_the_shape_of_this_api(at: Front) -> None:
    with pytest.raises(anthropic.InternalServerError) as caught:
        await at.client(anthropic.AsyncAnthropic).messages.create(
            model="demo", max_tokens=9, messages=ASK, extra_headers={"x-demo": "cut=head"}
        )
    body: Any = caught.value.body
    assert (caught.value.status_code, body["type"], body["error"]["type"]) == (502, "error", "api_error")


async def test_the_client_retries_what_the_backend_failed() -> None:
    async with front("policies") as at:
        made = await at.client(anthropic.AsyncAnthropic, max_retries=1).messages.create(
            model="demo;fail=529;fail-times=1;key=b", max_tokens=9, messages=ASK
        )
        assert made.stop_reason == "max_tokens"
        await at.gate.settled(2)
        assert [x.status for x in at.gate.exchanges] == [529, 200]


@pytest.mark.parametrize("knobs", ["cut=4", "cut=4; reset=1"])
async def test_a_stream_that_the_backend_cuts_never_ends_cleanly(at: Front, knobs: str) -> None:
    with pytest.raises(Exception) as caught:  # this client lets its HTTP library's own error through
        await streamed(at.client(anthropic.AsyncAnthropic), extra_headers={"x-demo": knobs})
    # behind gates an error event tells first
    broken = ("APIStatusError", "APIConnectionError", "RemoteProtocolError", "ReadError")
    assert type(caught.value).__name__ in (("APIStatusError",) if at.name == "moderated" else broken), caught.value
    assert (await at.gate.settled()).fault is Kind.BACKEND_CUT


async def test_error_events_pass(at: Front) -> None:
    async def call(c: anthropic.AsyncAnthropic) -> Any:
        with pytest.raises(anthropic.APIStatusError, match="asked to fail in the stream") as caught:
            await streamed(c, model="demo;error=5")
        return caught.value.body

    await at.both(call, anthropic.AsyncAnthropic)


async def test_a_client_that_leaves_stops_the_backend(at: Front) -> None:
    async with at.client(anthropic.AsyncAnthropic).messages.stream(
        model="demo;stall=4", max_tokens=500, messages=ASK
    ) as stream:
        await anext(stream)
    await until(lambda: at.backend.state.stats.cancelled == 1, timeout=1)
    assert (await at.gate.settled()).fault is Kind.CLIENT_GONE
