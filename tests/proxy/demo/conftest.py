"""A demo backend on a free port, as fast as it can, with a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anthropic
import openai
import pytest

from proxy.demo import backend as demo
from tests.proxy.demo.raw import Wire

NOW = 1_700_000_000.0


@pytest.fixture
async def running() -> AsyncIterator[demo.RunningBackend]:
    backend = await demo.start(rate=0, clock=lambda: NOW)
    yield backend
    await backend.close()


@pytest.fixture
def wire(running: demo.RunningBackend) -> Wire:
    return Wire(running)


@pytest.fixture
async def client(running: demo.RunningBackend) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
async def messages_client(running: demo.RunningBackend) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=running.url, api_key="none", max_retries=0) as made:
        yield made
