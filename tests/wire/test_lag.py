"""One hostile stream does not hold up the event loop: how long it works at a stretch, in CPU time of its thread, so that other
processes on the machine do not count. Backend and client are in the same loop, and their work is in the figure.
``python -m bench.lag`` measures the same from outside."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import time
from collections.abc import AsyncIterator

import pytest

from bench.lag_load import call as called
from bench.lag_load import letters, phrases, say, wandering
from tests.kits.backend import Call, backend
from tests.kits.client import connect, request
from tests.kits.gate import gate
from tests.kits.stream import chunked

KIB = 1024
DONE = b"data: [DONE]\n\n"
RULES = [
    {"name": "nested", "patterns": [r"(a+)+$"]},
    {"name": "many", "patterns": [r"(?s)(?:.*a){20}"]},
    {"name": "trailing", "patterns": [r"\s+$"]},
    {"name": "ssn", "patterns": [r"\b\d{3}-\d{2}-\d{4}\b"]},
    {"name": "mail", "patterns": [r"\b[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}\b"]},
]
LISTED = [{"name": "list", "phrases": phrases(2000), "ignore_case": True, "whole_word": True}]
ESCAPED = '{"q":"' + "".join(f"\\u{ord(c):04x}" for c in letters(1, 30 * KIB)) + '"}'


@contextlib.asynccontextmanager
async def stretches() -> AsyncIterator[list[float]]:
    """The loop's work between two looks, in seconds of CPU time."""
    seen: list[float] = []
    loop = asyncio.get_running_loop()
    gc.collect()
    gc.disable()  # a test process has a large heap, which is not headgate's
    last = time.thread_time()

    def look() -> None:
        nonlocal last, handle
        now = time.thread_time()
        seen.append(now - last)
        last = now
        handle = loop.call_soon(look)

    handle = loop.call_soon(look)
    try:
        yield seen
    finally:
        gc.enable()
        handle.cancel()


@pytest.mark.parametrize(
    ("rules", "body"),
    [
        (RULES, say(letters(1, 200 * KIB))),
        (RULES, say("ab" * 100 * KIB)),
        (LISTED, say(wandering(1, 60 * KIB))),
        (RULES, called(ESCAPED)),
        (RULES, b"".join(say("a" * 10) for _ in range(4000))),
        (RULES, b"".join(say("123-45-6789, then more ") for _ in range(4000))),
        (LISTED, b"".join(say(text) for text in wandering(2, 60 * KIB).split(" "))),
    ],
    ids=["an event", "an event that matches", "new states", "escaped arguments", "at full speed", "matches", "new states, small"],
)
async def test_no_long_stretch_of_work(rules: list[dict[str, object]], body: bytes) -> None:
    async def script(call: Call) -> None:
        await call.begin_sse()
        await call.send(chunked(body, DONE), timeout=30)

    settings = {"policies": [{"use": "output_moderation", "rules": rules}]}
    async with backend(script) as b, gate(b.url, **settings) as g, connect(g.port) as client:
        await client.send(request("POST", "/v1/chat/completions", b'{"model":"m","stream":true}'))
        await client.head()
        async with stretches() as seen:
            async with asyncio.timeout(30):
                while DONE not in await client.chunk(30):
                    pass
        await g.idle()
    seen.sort()
    # Judged at a stretch these took 0.1 to 1 s.
    assert seen[-4] < 0.05, f"{seen[-5:]}"
    assert seen[-1] < 0.08, f"{seen[-5:]}"
    assert len(seen) > 20


async def test_a_calm_stream_goes_on_beside_a_hostile_one() -> None:
    """Its events do not wait for the other's end: they come while that one is being judged."""
    hostile = say(letters(3, 240 * KIB))
    go_on = asyncio.Event()

    async def script(call: Call) -> None:
        await call.begin_sse()
        if b"hostile" in call.body:
            await call.send(chunked(hostile, DONE), timeout=30)
            go_on.set()
            return
        await go_on.wait()
        for n in range(20):
            await call.chunk(say(f"word {n};"))
        await call.send(chunked(DONE))

    settings = {"policies": [{"use": "output_moderation", "rules": [*RULES, *LISTED]}]}
    async with backend(script) as b, gate(b.url, **settings) as g, connect(g.port) as one, connect(g.port) as other:
        await other.send(request("POST", "/v1/chat/completions", b'{"model":"calm","stream":true}'))
        await other.head()
        ended: list[str] = []

        async def read(client: object, name: str) -> None:
            assert client in (one, other)
            while DONE not in await client.chunk(30):  # type: ignore[attr-defined]
                pass
            ended.append(name)

        await one.send(request("POST", "/v1/chat/completions", b'{"model":"hostile","stream":true}'))
        await one.head()
        await asyncio.gather(read(one, "hostile"), read(other, "calm"))
        assert ended == ["calm", "hostile"]
        await g.settled(2)


@pytest.mark.parametrize("size", [1, 7])
async def test_a_byte_a_segment_is_the_same_text(size: int) -> None:
    events = b"".join(say(text) for text in ("my number is 123-4", "5-6789", ", and I will sa", "y no more"))
    rules = [{"name": "ssn", "patterns": [r"\b\d{3}-\d{2}-\d{4}\b"], "placeholder": "[N]"}]

    async def script(call: Call) -> None:
        await call.begin_sse()
        await call.trickle(chunked(events, DONE), size)

    settings = {"policies": [{"use": "output_moderation", "rules": rules}]}
    async with backend(script) as b, gate(b.url, **settings) as g, connect(g.port) as client:
        reply = await client.ask(request("POST", "/v1/chat/completions", b'{"model":"m","stream":true}'), timeout=20)
        said = [json.loads(e[6:]) for e in reply.body.split(b"\n\n") if e.startswith(b"data: {")]
        assert "".join(d["choices"][0]["delta"]["content"] for d in said) == "my number is [N], and I will say no more"
        await g.settled()
