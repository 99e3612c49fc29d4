"""Requests that mean harm: never two handlers for one request, never a 5xx of ours, always an answer or a close."""

from __future__ import annotations

import asyncio

import pytest

from tests.kits.backend import Backend, Call, backend
from tests.kits.client import Broken, Client, Reply, connect, fetch, request
from tests.kits.gate import gate
from tests.kits.stream import until
from tests.wire.vectors import ALL, Vector


async def _script(call: Call) -> None:
    """Read the body, answer with the target; refuses every upgrade, as a plain backend does."""
    await call.read_body()
    await call.reply(call.target)


async def _replies(client: Client, count: int) -> list[Reply]:
    """The replies that come, at most ``count``; fewer when the connection ends between two of them."""
    found = []
    for _ in range(count):
        try:
            found.append(await client.reply())
        except Broken as e:
            if e.partial:  # the connection ended inside a reply
                raise
            break
    return found


async def _run(vector: Vector, step: int, b: Backend, port: int) -> None:
    async with connect(port) as client:
        sending = asyncio.ensure_future(client.trickle(vector.raw, step or len(vector.raw)))
        must_refuse = bool(vector.refused) and 0 not in vector.refused
        replies = await _replies(client, len(vector.served) + (1 if must_refuse else 0))
        await sending
        statuses = [r.status for r in replies]
        assert all(s < 500 for s in statuses), statuses
        b.check()
        seen = [c.target for c in b.calls if c.complete]
        if must_refuse:
            assert statuses[-1:] and statuses[-1] in vector.refused, statuses
            assert statuses[:-1] == [200] * len(vector.served)
            assert replies[-1].closes and replies[-1].value(b"content-type") == b"application/json"
            assert await client.to_end() == b"", "nothing comes after a refusal"
            assert seen == list(vector.served)
        elif vector.refused and statuses != [200]:
            assert statuses == [400]
            assert seen == []
        else:
            assert statuses == [200] * len(vector.served), [r.body for r in replies]
            assert seen == list(vector.served)
            assert [r.body for r in replies] == list(vector.served), "each answer belongs to its request"
        assert all(c.target not in (b"/evil",) for c in b.calls)


async def _gone(b: Backend) -> None:
    """What was begun at the backend is broken off, so that nobody there takes a beginning for a whole request."""
    await until(lambda: b.open <= 1)


@pytest.mark.parametrize("step", [0, 1], ids=["whole", "bytewise"])
@pytest.mark.parametrize("vector", ALL.values(), ids=ALL)
async def test_vector(vector: Vector, step: int) -> None:
    if step and len(vector.raw) > 5_000:
        step = 1 + len(vector.raw) // 2_500
    async with backend(_script, read_body=False) as b, gate(b.url) as g:
        await _run(vector, step, b, g.port)
        await g.idle()
        assert (await fetch(g.port, request("GET", "/after"))).body == b"/after", "others are served on"
        assert b.calls[-1].target == b"/after"


def test_there_are_enough_of_them() -> None:
    assert len(ALL) >= 50
