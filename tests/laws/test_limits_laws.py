"""What limits have counted when everything is over, against a model that only knows what was sent: thousands of requests of
every ending through a real gate and a scripted backend. Nothing stays reserved, no slot is held, no note is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from policies.rate_limit import RateLimit
from policies.store import Lease, Part
from tests.kits.backend import Call, backend
from tests.kits.client import Broken, Client, connect, request
from tests.kits.gate import Gate, gate
from tests.kits.policy_kit import exchange
from tests.kits.store_kit import RedisServer

JSON = (b"Content-Type", b"application/json")
TEAMS = ("blue", "green", "red")
LIMITS = ["1G tokens/month", "1G prompt_tokens/month", "1G completion_tokens/month", "1G requests/month", "1M USD/month",
          "1000 concurrent", "900 concurrent streams"]  # fmt: skip
INPUT, OUTPUT = 2.5, 10.0  # money per million tokens
PER_BYTE = 0.25  # prompt tokens per byte, for a model whose counts nobody has seen
POLICY: dict[str, Any] = {
    "policies": [
        {
            "use": "rate_limit", "name": "limits", "by": "header:X-Team", "limits": LIMITS,
            "prices": {"*": {"input": INPUT, "output": OUTPUT}},
        },
        {"use": "request_guard", "max_tokens": 5000},
        {"use": "rate_limit", "name": "tight", "limits": ["1k tokens/month"], "when": {"headers": {"X-Tight": "yes"}}},
    ]
}  # fmt: skip


@dataclass
class Case:
    """One request and what shall become of it. prompt, completion: what it costs in the end; sent: it reached the backend."""

    kind: str
    number: int
    team: str
    doc: dict[str, Any] = field(default_factory=dict)
    raw: bytes = b""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    pieces: int = 0
    prompt: float = 0.0
    completion: float = 0.0
    sent: bool = True
    status: int = 200
    seen: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def usage(self) -> dict[str, Any]:
        n, m = int(self.prompt), int(self.completion)
        return {"prompt_tokens": n, "completion_tokens": m, "total_tokens": n + m}

    def request(self) -> bytes:
        named = [(b"X-Team", self.team.encode()), (b"X-Case", b"%d" % self.number), JSON, *self.fields]
        return request("POST", "/v1/chat/completions", self.raw, named)


def chunk(**more: Any) -> bytes:
    doc = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "demo", **more}
    return b"data: " + json.dumps(doc).encode() + b"\n\n"


def said(text: str, index: int = 0) -> bytes:
    return chunk(choices=[{"index": index, "delta": {"content": text}, "finish_reason": None}])


MESSAGE = {"role": "assistant", "content": "Hello"}
WHOLE = json.dumps({"choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}]}).encode()

# -- the kinds: how the backend answers, and how the client behaves


async def whole(case: Case, call: Call) -> None:
    await call.reply(json.dumps({**json.loads(WHOLE), "usage": case.usage}).encode(), fields=[JSON])


async def whole_uncounted(case: Case, call: Call) -> None:
    await call.reply(WHOLE, fields=[JSON])


async def stream(case: Case, call: Call) -> None:
    assert json.loads(call.body)["stream_options"] == {"include_usage": True}
    await call.begin_sse()
    n = case.doc.get("n", 1)
    await call.chunk(*[said(f"w{i}", i % n) for i in range(case.pieces)])
    await call.chunk(*[chunk(choices=[{"index": i, "delta": {}, "finish_reason": "stop"}]) for i in range(n)])
    await call.chunk(chunk(choices=[], usage=case.usage), b"data: [DONE]\n\n")
    await call.end_chunked()


async def stream_uncounted(case: Case, call: Call) -> None:
    await call.begin_sse()
    await call.chunk(*[said(f"w{i}") for i in range(case.pieces)], b"data: [DONE]\n\n")
    await call.end_chunked()


async def stream_broken(case: Case, call: Call) -> None:
    await call.begin_sse()
    await call.chunk(*[said(f"w{i}") for i in range(case.pieces)])
    call.close()


async def stream_counted_and_broken(case: Case, call: Call) -> None:
    await call.begin_sse()
    await call.chunk(said("w"), chunk(choices=[], usage=case.usage))
    call.close()


async def failed(case: Case, call: Call) -> None:
    await call.reply(b'{"error":{"message":"no"}}', status=case.status, fields=[JSON])


async def reset(case: Case, call: Call) -> None:
    call.reset()


async def leaves_unanswered(case: Case, call: Call) -> None:
    case.seen.set()
    await call.gone()


async def leaves_in_the_stream(case: Case, call: Call) -> None:
    await call.begin_sse()
    await call.chunk(*[said(f"w{i}") for i in range(case.pieces)])
    await call.gone()


async def never(case: Case, call: Call) -> None:
    raise AssertionError(f"{case.kind} reached the backend")


ANSWERS: dict[str, Callable[[Case, Call], Awaitable[None]]] = {
    "whole": whole, "stream": stream, "several": stream, "whole uncounted": whole_uncounted,
    "stream uncounted": stream_uncounted, "stream broken": stream_broken, "counted and broken": stream_counted_and_broken,
    "500": failed, "429 of the backend": failed, "reset": reset, "leaves unanswered": leaves_unanswered,
    "leaves in the stream": leaves_in_the_stream, "leaves in the body": never, "no JSON": never, "refused later": never,
    "second limit": never,
}  # fmt: skip


def made(kind: str, number: int, rng: random.Random) -> Case:
    """A case of a kind, its sizes drawn."""
    case = Case(kind, number, rng.choice(TEAMS))
    counted = kind in ("whole", "stream", "several", "counted and broken")
    words = " ".join(rng.choice(("alpha", "beta", "gamma")) for _ in range(rng.randrange(1, 60)))
    # counts are learnt per model: of one that never tells them the estimate stays the plain one
    doc = case.doc = {"model": rng.choice(("m1", "m2")) if counted else "blind", "messages": [{"role": "user", "content": words}]}
    if rng.random() < 0.7 or not counted:
        doc["max_tokens"] = rng.choice((1, 50, 800))
    if "stream" in kind or kind in ("several", "counted and broken"):
        doc["stream"] = True
        case.pieces = rng.randrange(1, 12)
    if kind == "several":
        doc["n"] = rng.randrange(2, 5)
    if kind == "refused later":
        doc["max_tokens"], case.status = 6000, 400
    if kind == "second limit":
        doc["max_tokens"], case.status = 2000, 429
        case.fields.append((b"X-Tight", b"yes"))
    if kind == "no JSON":
        case.status = 400
    if kind in ("500", "429 of the backend"):
        case.status = 500 if kind == "500" else 429
    if kind == "reset":
        case.status = 502
    case.raw = json.dumps(doc).encode() if kind != "no JSON" else b'{"model": "m1", "messages": [}'
    _costs(case, rng)
    return case


def _costs(case: Case, rng: random.Random) -> None:
    """What the case comes to, by what the documentation promises."""
    if case.kind in ("whole", "stream", "several", "counted and broken"):
        case.prompt, case.completion = rng.randrange(1, 3000), rng.randrange(1, 3000)
    elif case.kind in ("stream uncounted", "stream broken", "leaves in the stream"):
        case.prompt, case.completion = len(case.raw) * PER_BYTE, case.pieces
    elif case.kind == "whole uncounted":
        case.prompt, case.completion = len(case.raw) * PER_BYTE, min(case.doc["max_tokens"], len(WHOLE) * PER_BYTE)
    elif case.kind in ("leaves in the body", "no JSON", "refused later", "second limit"):
        case.sent = False


async def play(client: Client, case: Case) -> bool:
    """Send it and take what comes; True when the connection can be used again."""
    raw = case.request()
    if case.kind == "leaves in the body":
        await client.send(raw[:-3])
        return False
    await client.send(raw)
    if case.kind == "leaves unanswered":
        await case.seen.wait()
        return False
    if case.kind == "leaves in the stream":
        await client.head()
        await client.until(said(f"w{case.pieces - 1}")[-40:])
        return False
    try:
        reply = await client.reply("POST")
    except Broken:
        assert "broken" in case.kind
        return False
    assert reply.status == case.status, (case.kind, reply)
    return not reply.closes


async def worker(port: int, cases: list[Case]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        client: Client | None = None
        while cases:
            case = cases.pop()
            if client is None:
                client = await stack.enter_async_context(connect(port))
            if not await play(client, case):
                client.transport.abort()
                client = None


def counters(limits: RateLimit, team: str) -> list[Part]:
    """What reads a team's counters, spending nothing."""
    x = exchange(stream=True, fields=[("X-Team", team)])
    from policies.limits.meter import Cost

    _, parts = limits._default.parts(x, Cost(0.0, 0.0), "reader", time.time())
    return [part if isinstance(part, Lease) else part._replace(cost=0.0) for part in parts]


async def left(g: Gate, team: str) -> list[float]:
    limits = next(s.policy for s in g.app.runtime.steps if s.policy.name == "limits")
    assert isinstance(limits, RateLimit) and limits._store is not None
    assert limits._leases == {}
    return [state.remaining for state in (await limits._store.read(counters(limits, team))).parts]


async def law(n: int, seed: int, **settings: Any) -> None:
    rng = random.Random(seed)
    kinds = [rng.choice(list(ANSWERS)) for _ in range(n)]
    cases = [made(kind, number, rng) for number, kind in enumerate(kinds)]

    async def script(call: Call) -> None:
        case = cases[int(call.value(b"X-Case") or -1)]
        await ANSWERS[case.kind](case, call)

    text = json.loads(json.dumps(POLICY))
    text["policies"][0].update(settings.pop("more", {}))
    async with backend(script) as b, gate(b.url, json.dumps(text), **settings) as g:
        todo = list(cases)
        async with asyncio.TaskGroup() as group:
            for _ in range(24):
                group.create_task(worker(g.port, todo))
        await g.idle()
        for team in TEAMS:
            mine = [case for case in cases if case.team == team]
            prompt, completion = sum(c.prompt for c in mine), sum(c.completion for c in mine)
            money = (prompt * INPUT + completion * OUTPUT) / 1e6
            spent = [prompt + completion, prompt, completion, sum(c.sent for c in mine), money]
            expected = [1e9 - amount for amount in spent[:4]] + [1e6 - spent[4], 1000, 900]
            assert await left(g, team) == pytest.approx(expected, abs=1e-3), Counter(c.kind for c in mine)
        assert not [x for x in g.exchanges if x.notes.keys() & {"limits", "tight", "limits:allowance"}]
        assert len(g.exchanges) == len(cases)


#: How the reply is read: along with the relay, or by gates.
WAYS = {"watched": {}, "gated": {"more": {"on_overrun": "cut"}}}


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_counted_in_the_end_is_what_was_used(way: str) -> None:
    await law(320, seed=7, **WAYS[way])


@pytest.mark.slow
@pytest.mark.deadline(300)
@pytest.mark.parametrize("way", WAYS)
async def test_ten_thousand_of_them(way: str) -> None:
    await law(10_000, seed=11, **WAYS[way])


@pytest.mark.wire
@pytest.mark.deadline(300)
async def test_what_redis_has_counted(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        await law(3000, seed=13, store={"url": server.url, "timeout": "1s"})
        assert not [key for key in server.cli("KEYS", "*") if ":l:" in key], "a slot is held"
