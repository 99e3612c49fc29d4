"""Fake classifiers: deterministic verdicts, answered when a test says so; and a scripted moderations endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from policies.contract import Cut
from tests.kits.backend import Backend, Call, backend

BAD = "plugh"


class FakeJudge:
    """Finds a word in context and window, as windows.Ask. asked: (context, window) of every question."""

    def __init__(self, word: str = BAD) -> None:
        self.word = word
        self.asked: list[tuple[str, str]] = []
        self.clean = ""  # all windows with a clean verdict

    async def __call__(self, context: str, window: str) -> Cut | None:
        self.asked.append((context, window))
        if self.word in context + window:
            return Cut("bad", "Stopped.")
        self.clean += window
        return None


class Slow(FakeJudge):
    """Answers each question when ``go`` is set."""

    def __init__(self, word: str = BAD) -> None:
        super().__init__(word)
        self.go = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, context: str, window: str) -> Cut | None:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().__call__(context, window)


def answer(text: str, word: str = BAD) -> dict[str, Any]:
    """What a moderations endpoint says of a text."""
    bad = word in text
    result = {
        "flagged": bad,
        "categories": {"violence": bad, "hate": False},
        "category_scores": {"violence": 0.9 if bad else 0.1, "hate": 0.0},
    }
    return {"id": "modr-1", "model": "fake", "results": [result]}


class Endpoint:
    """inputs: every text it was asked about. reply: sends the answer; change it to make the endpoint slow or broken."""

    def __init__(self) -> None:
        self.inputs: list[str] = []
        self.calls: list[Call] = []
        self.gone = 0
        self.server: Backend
        self.reply: Callable[[Call, str], Any] = self.good

    @property
    def url(self) -> str:
        return self.server.url + "/v1/moderations"

    async def script(self, call: Call) -> None:
        self.calls.append(call)
        text = json.loads(call.body)["input"]
        self.inputs.append(text)
        await self.reply(call, text)

    async def good(self, call: Call, text: str) -> None:
        await call.reply(json.dumps(answer(text)).encode(), fields=[(b"Content-Type", b"application/json")])

    async def hung(self, call: Call, text: str) -> None:
        await call.gone(3600)
        self.gone += 1

    async def broken(self, call: Call, text: str) -> None:
        await call.reply(b"oops", status=500)


@contextlib.asynccontextmanager
async def endpoint() -> AsyncIterator[Endpoint]:
    made = Endpoint()
    async with backend(made.script) as server:
        made.server = server
        yield made
