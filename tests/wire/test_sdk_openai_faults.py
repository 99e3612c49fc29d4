"""The official openai client when things go wrong: the right exception, its retries, and never half an answer as a
whole one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from policies.contract import Kind
from tests.kits.backend import Call, Script, backend
from tests.kits.fronts import FRONTS, KEY, Front, front
from tests.kits.gate import Gate, gate
from tests.kits.stream import until

ASK: list[Any] = [{"role": "user", "content": "What does a weir do?"}]
JSON = (b"Content-Type", b"application/json")


def plain_client(g: Gate, retries: int = 0) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{g.url}/v1", api_key=KEY, max_retries=retries)


@pytest.fixture(params=["empty", "policies", "moderated"])
async def at(request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    async with front(request.param) as made:
        yield made


@pytest.fixture
async def guarded() -> AsyncIterator[Front]:
    async with front("policies") as made:
        yield made


# -- errors of the backend


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
async def test_errors_of_the_backend_pass_as_they_are(
    at: Front, status: int, kind: type[openai.APIStatusError]
) -> None:
    async def call(c: openai.AsyncOpenAI) -> Any:
        with pytest.raises(kind) as caught:
            await c.chat.completions.create(model=f"demo;fail={status};retry-after=7", messages=ASK)
        assert caught.value.response.headers["retry-after"] == "7"
        return caught.value.status_code, caught.value.body, str(caught.value), caught.value.request_id

    assert (await at.both(call))[0] == status


async def test_an_unknown_model(at: Front) -> None:
    async def call(c: openai.AsyncOpenAI) -> Any:
        with pytest.raises(openai.NotFoundError) as caught:
            await c.chat.completions.create(model="gpt-9", messages=ASK)
        return caught.value.body

    await at.both(call)


# -- errors of headgate


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"max_tokens": 5000}, "max_tokens"),
        ({"max_completion_tokens": 10**30}, "max_completion_tokens"),
        ({"n": 5}, "n"),
        ({"n": 5, "stream": True}, "n"),
    ],
)
async def test_request_guard_refuses_in_the_shape_of_the_api(guarded: Front, asked: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await guarded.client().chat.completions.create(model="demo", messages=ASK, **asked)
    error = caught.value
    assert (error.type, error.param) == ("invalid_request_error", param)
    assert error.code
    assert isinstance(error.body, dict) and set(error.body) == {"message", "type", "param", "code"}
    assert error.request_id == guarded.gate.exchanges[0].id
    assert guarded.backend.state.stats.requests == 0
    x = await guarded.gate.settled()
    assert (x.status, x.attempts) == (400, [])


async def test_too_large_a_body(guarded: Front) -> None:
    turns: list[Any] = [{"role": "user", "content": "x" * 21_000_000}]
    with pytest.raises(openai.APIStatusError) as caught:
        await guarded.client().chat.completions.create(model="demo", messages=turns)
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
    assert guarded.backend.state.stats.requests == 0


async def test_models_that_are_not_allowed_and_routes_that_cannot_be_read() -> None:
    policies = "policies: [{use: request_guard, models: [llama-*], control_characters: refuse}]"
    async with gate("http://127.0.0.1:9", policies) as g, plain_client(g) as c:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await c.chat.completions.create(model="demo", messages=ASK)
        assert caught.value.type == "permission_error"
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await c.files.create(file=("a", b"x"), purpose="batch")
        assert caught.value.code == "unscannable"
        with pytest.raises(openai.BadRequestError) as bad:
            await c.chat.completions.create(model="llama-3", messages=[{"role": "user", "content": "a\x00b"}])
        assert bad.value.type == "invalid_request_error"
        with pytest.raises(openai.InternalServerError) as gone:
            await c.chat.completions.create(model="llama-3", messages=ASK)
        assert (gone.value.status_code, gone.value.code) == (502, "bad_gateway")
        assert "127.0.0.1" not in str(gone.value)


# -- retries


def failing(*fields: tuple[bytes, bytes], status: int = 503) -> Script:
    """A backend whose first two replies fail with these fields."""

    async def script(call: Call) -> None:
        if call.index < 2:
            await call.reply(b'{"error": {"message": "busy", "code": "busy"}}', status, [JSON, *fields])
        else:
            await call.reply(b'{"object": "list", "data": []}', 200, [JSON])

    return script


@pytest.mark.parametrize("name", ["empty", "policies"])
@pytest.mark.parametrize(
    ("status", "fields", "calls"),
    [
        (429, [(b"retry-after-ms", b"1")], 3),
        (503, [(b"retry-after-ms", b"1")], 3),
        (503, [(b"Retry-After", b"0.001")], 3),
        (400, [(b"x-should-retry", b"true"), (b"retry-after-ms", b"1")], 3),
        (400, [], 1),
        (503, [(b"x-should-retry", b"false")], 1),
        (503, [(b"Retry-After", b"3600")], 1),  # longer than the client waits
    ],
)
async def test_what_the_backend_says_about_retries_reaches_the_client(
    name: str, status: int, fields: list[tuple[bytes, bytes]], calls: int
) -> None:
    async with backend(failing(*fields, status=status)) as b, gate(b.url, **FRONTS[name]) as g:
        async with plain_client(g, 2) as c:
            if calls == 3:
                assert [m async for m in c.models.list()] == []
            else:
                with pytest.raises(openai.APIStatusError) as caught:
                    await c.models.list()
                assert (caught.value.status_code, caught.value.code) == (status, "busy")
        await g.settled(calls)
        assert [call.value(b"x-stainless-retry-count") for call in b.calls] == [b"0", b"1", b"2"][:calls]
        assert all(len(x.attempts) == 1 for x in g.exchanges), "headgate itself sends nothing twice"


async def test_a_backend_that_hangs_up_before_the_head_is_a_502(at: Front) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        await at.client().chat.completions.create(
            model="demo", messages=ASK, extra_headers={"x-demo": "cut=head"}
        )
    assert (caught.value.status_code, caught.value.code) == (502, "bad_gateway")
    assert (await at.gate.settled()).fault is Kind.BACKEND_RESET
    assert at.backend.state.stats.requests == 1, "a POST that was sent is not sent again by headgate"


async def test_a_request_that_is_refused_is_not_retried(guarded: Front) -> None:
    with pytest.raises(openai.BadRequestError):
        await guarded.client(max_retries=2).chat.completions.create(model="demo", messages=ASK, n=9)
    await guarded.gate.settled(1)


async def test_no_backend_is_a_502_that_the_client_retries() -> None:
    async with gate("http://127.0.0.1:9") as g:
        async with plain_client(g, 1) as c:
            with pytest.raises(openai.InternalServerError):
                await c.models.list()
        await g.settled(2)


async def test_a_backend_that_is_too_slow_is_a_504_that_is_not_retried() -> None:
    async with front("empty") as at:
        local = {"url": at.backend.url, "timeouts": {"first_byte": 30}}
        async with gate({"local": local}) as g:
            async with plain_client(g, 2) as c:
                call = asyncio.create_task(c.chat.completions.create(model="demo;ttft=600000", messages=ASK))
                await until(lambda: at.backend.state.stats.in_flight)
                g.advance(31)
                with pytest.raises(openai.InternalServerError) as caught:
                    await call
            assert (caught.value.status_code, caught.value.code) == (504, "timeout")
            assert caught.value.response.headers["x-should-retry"] == "false"
            await g.settled(1)
            await until(lambda: at.backend.state.stats.cancelled == 1)


# -- streams that break


@pytest.mark.parametrize("knobs", ["cut=5", "cut=5; reset=1", "cut=0", "cut=1; split=3"])
async def test_a_stream_that_the_backend_cuts_never_ends_cleanly(at: Front, knobs: str) -> None:
    c = at.client()
    stream = await c.chat.completions.create(
        model="demo", messages=ASK, stream=True, extra_headers={"x-demo": knobs}
    )
    with pytest.raises((openai.APIConnectionError, openai.APIError)):
        async for _ in stream:
            pass
    x = await at.gate.settled()
    assert (x.status, x.fault) == (200, Kind.BACKEND_CUT)


async def test_other_streams_that_are_cut(at: Front) -> None:
    c = at.client()
    with pytest.raises((openai.APIConnectionError, openai.APIError)):
        async for _ in await c.responses.create(model="demo;cut=6", input="Hello", stream=True):
            pass
    with pytest.raises((openai.APIConnectionError, openai.APIError)):
        async for _ in await c.completions.create(model="demo;cut=2", prompt="Hello", stream=True):
            pass
    with pytest.raises((openai.APIConnectionError, openai.APIError)):  # a plain reply that stops half-way
        await c.chat.completions.create(model="demo;cut=40", messages=ASK)
    await at.gate.settled(3)


async def test_error_events_pass(at: Front) -> None:
    async def call(c: openai.AsyncOpenAI) -> Any:
        stream = await c.chat.completions.create(model="demo;error=3", messages=ASK, stream=True)
        seen = [(await anext(stream)).model_dump() for _ in range(3)]
        with pytest.raises(openai.APIError, match="asked to fail in the stream") as caught:
            await anext(stream)
        events = [e async for e in await c.responses.create(model="demo;error=4", input="Hi", stream=True)]
        assert events[-1].type == "error"
        return seen, caught.value.body, [e.model_dump() for e in events]

    await at.both(call)


# -- clients that leave


@pytest.mark.parametrize("knobs", ["stall=3", "rate=2"])
async def test_a_client_that_closes_its_stream_stops_the_backend(at: Front, knobs: str) -> None:
    stream = await at.client().chat.completions.create(
        model="demo", messages=ASK, stream=True, extra_headers={"x-demo": knobs}
    )
    await anext(stream)
    assert at.backend.state.stats.in_flight == 1
    await stream.close()
    await until(lambda: at.backend.state.stats.cancelled == 1, timeout=1)
    x = await at.gate.settled()
    assert x.fault is Kind.CLIENT_GONE
    await at.gate.idle()


@pytest.mark.parametrize("knobs", ["ttft=600000", "stall=0", "stall=20"])
async def test_a_call_that_is_cancelled_stops_the_backend(at: Front, knobs: str) -> None:
    call = asyncio.create_task(
        at.client().chat.completions.create(model="demo", messages=ASK, extra_headers={"x-demo": knobs})
    )
    await until(lambda: at.backend.state.stats.in_flight == 1)
    call.cancel()
    await until(lambda: at.backend.state.stats.cancelled == 1, timeout=1)
    assert (await at.gate.settled()).fault is Kind.CLIENT_GONE


async def test_a_timeout_of_the_client_stops_the_backend(at: Front) -> None:
    with pytest.raises(openai.APITimeoutError):
        await at.client(timeout=0.1).chat.completions.create(model="demo;ttft=600000", messages=ASK)
    await until(lambda: at.backend.state.stats.cancelled == 1, timeout=1)
    assert (await at.gate.settled()).fault is Kind.CLIENT_GONE
