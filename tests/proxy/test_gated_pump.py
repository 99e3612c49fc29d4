"""A gated stream whose work takes more than one turn of the event loop: order, backpressure, and every way to end."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from policies.contract import Cut, Exchange, Gate, Headers, Kind
from proxy.dialects import DIALECTS
from proxy.faults import Fault
from proxy.gated import GatedStream
from proxy.gated_pump import GatedStreamPump
from proxy.judging import STEP
from proxy.pump import AT_ONCE, WatchedPump
from proxy.turns import BUDGET, turns
from proxy.watched import WatchedStream
from tests.kits.dialect_kit import DONE, USAGE, chunk, delta, docs, event
from tests.kits.gate_kit import HoldAll, PassAll, Redactor

CHAT = DIALECTS["chat"]


def say(text: str) -> bytes:
    return event(chunk([delta({"content": text})]))


def texts(stream: bytes) -> str:
    return "".join(c["delta"].get("content") or "" for d in docs(stream) for c in d.get("choices", ()))


class Conn:
    """The client's side."""

    def __init__(self) -> None:
        self.out = b""
        self.on_flow: Any = None
        self.write_paused = 0.0
        self.may_add = True
        self.ended: list[Any] = []

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.out += data

    def end(self, trailers: Any = None) -> None:
        self.ended.append(("end", trailers))

    def abort(self) -> None:
        self.ended.append("abort")

    def flush(self) -> None:
        pass

    def cork(self) -> None:
        pass

    def uncork(self) -> None:
        pass


class Up:
    """The backend's connection. Once it is back in its pool, nobody may touch it."""

    def __init__(self) -> None:
        self.paused = self.released = self.discarded = False

    def pause(self, on: bool) -> None:
        assert not self.released, "it is another's by now"
        self.paused = on

    def attach(self, sink: Any) -> None:
        pass

    def discard(self) -> None:
        assert not self.released
        self.discarded = True


class Scene:
    """A pump with a gate that notes what it is given. Every look at the clock costs a tenth of a turn."""

    def __init__(self, gate: Gate, **options: Any) -> None:
        ticks = itertools.count()
        turns().clock = lambda: next(ticks) * BUDGET / 10
        self.conn, self.up = Conn(), Up()
        self.x = Exchange("id", "POST", "/", "", Headers(), "192.0.2.1", 0.0, 0.0)
        self.pushes: list[int] = []
        push = gate.push

        def noted(text: str) -> int:
            self.pushes.append(len(text))
            return push(text)

        gate.push = noted  # type: ignore[method-assign]
        self.stream = GatedStream(CHAT, lambda channel: [gate], **options)
        self.pump = GatedStreamPump(self.conn, self.up, self.x, lambda: 1.0, self.stream)  # type: ignore[arg-type]
        self.pump.start()

    def end(self) -> None:
        """As a backend's connection does: it is another's before the sink hears of it."""
        self.up.released = True
        self.pump.end([])

    async def turns(self, most: int = 10_000) -> int:
        """Let the loop turn until the pump has nothing to do; how often that was."""
        for n in range(most):
            if not self.pump._todo:
                return n
            await asyncio.sleep(0)
        raise AssertionError("it never ends")


LARGE = say("x" * 20_000 + " secret " + "y" * 20_000)
MANY = b"".join(say(f"word {n} ") for n in range(300)) + say("secret")


def secret() -> Redactor:
    return Redactor(["secret"])


@pytest.mark.parametrize("data", [LARGE, MANY], ids=["one event", "many"])
async def test_it_takes_many_turns_and_gives_the_same(data: bytes) -> None:
    whole = GatedStream(CHAT, lambda channel: [secret()])
    want = whole.feed(data + DONE) + whole.end()
    scene = Scene(secret())
    scene.pump.data(data)
    assert scene.up.paused, "no more is read than is being judged"
    scene.pump.data(DONE)  # what was read before the pause took hold
    assert await scene.turns() > 20
    assert not scene.up.paused
    assert max(scene.pushes) <= STEP
    scene.end()
    await scene.turns()
    assert scene.conn.out == want
    assert scene.conn.ended == [("end", [])]
    assert scene.pump.finished


async def test_an_event_or_two_are_judged_as_they_come() -> None:
    scene = Scene(secret())
    one = say("a few more")
    assert len(one) < AT_ONCE
    scene.pump.data(one)
    assert scene.conn.out == one
    assert not scene.up.paused


async def test_the_end_waits_for_its_turn() -> None:
    scene = Scene(secret())
    waiting = scene.pump.done()
    scene.pump.data(LARGE)
    scene.end()
    assert not scene.conn.ended
    await asyncio.wait_for(waiting, 10)
    assert texts(scene.conn.out).count("[X]") == 1
    assert scene.conn.ended == [("end", [])]
    assert scene.conn.on_flow is None, "the connection to the backend is another's"


async def test_a_last_event_without_its_empty_line_is_judged_in_turns_too() -> None:
    scene = Scene(secret())
    scene.pump.data(LARGE[:-1])
    await scene.turns()
    assert not scene.pushes
    scene.end()
    assert not scene.conn.ended
    await scene.turns()
    assert "[X]" in texts(scene.conn.out)
    assert max(scene.pushes) <= STEP
    assert scene.conn.ended == [("end", [])]


async def test_a_loss_comes_behind_what_came_before_it() -> None:
    scene = Scene(secret())
    waiting = scene.pump.done()
    scene.pump.data(LARGE)
    scene.up.released = True
    scene.pump.lost(Fault(Kind.BACKEND_CUT, "closed"))
    assert not scene.conn.ended
    await asyncio.wait_for(waiting, 10)
    events = docs(scene.conn.out)
    assert "[X]" in events[0]["choices"][0]["delta"]["content"]
    assert "error" in events[-1]
    assert DONE not in scene.conn.out
    assert scene.conn.ended == ["abort"]
    assert scene.x.fault is Kind.BACKEND_CUT


class Bad(PassAll):
    """Cuts at the first "!"."""

    def push(self, text: str) -> int:
        at = text.find("!")
        if at >= 0:
            raise Cut("rule", None, self.size + at)
        return super().push(text)


@pytest.mark.parametrize("data", [say("x" * 20_000 + "!" + "y" * 20_000), MANY + say("a!b") + MANY], ids=["one event", "many"])
async def test_nothing_is_judged_after_a_cut(data: bytes) -> None:
    scene = Scene(Bad())
    waiting = scene.pump.done()
    scene.pump.data(data)
    await asyncio.wait_for(waiting, 10)
    assert scene.x.fault is Kind.CUT
    assert scene.up.discarded
    assert scene.conn.ended == [("end", None)]
    assert texts(scene.conn.out).endswith("x" if data[:1000].count(b"x") > 500 else "secreta")
    assert docs(scene.conn.out)[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert sum(scene.pushes) < 30_000
    pushed = len(scene.pushes)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(scene.pushes) == pushed


async def test_a_client_that_takes_again_does_not_let_more_in() -> None:
    scene = Scene(secret())
    scene.pump.data(LARGE)
    scene.conn.write_paused = 1.0
    scene.conn.on_flow(True)
    scene.conn.write_paused = 0.0
    scene.conn.on_flow(False)
    assert scene.up.paused, "there is still work"
    scene.conn.write_paused = 1.0
    scene.conn.on_flow(True)
    await scene.turns()
    assert scene.up.paused, "the client takes nothing"
    scene.conn.on_flow(False)
    assert not scene.up.paused


async def test_a_client_that_leaves_ends_the_work() -> None:
    scene = Scene(secret())
    scene.pump.data(LARGE)
    await asyncio.sleep(0)
    scene.pump.stop()
    pushed = len(scene.pushes)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(scene.pushes) == pushed


class Broken(PassAll):
    def push(self, text: str) -> int:
        if "!" in text:
            raise RuntimeError("a bug")
        return super().push(text)


async def test_a_bug_reaches_who_waits_for_the_end() -> None:
    scene = Scene(Broken())
    waiting = scene.pump.done()
    scene.pump.data(say("x" * 20_000 + "!"))
    with pytest.raises(RuntimeError, match="a bug"):
        await asyncio.wait_for(waiting, 10)
    at_once = Scene(Broken())
    with pytest.raises(RuntimeError, match="a bug"):
        at_once.pump.data(say("!" * 2000))


@pytest.mark.parametrize("held", [True, False])
async def test_bounds_hold_within_one_read(held: bool) -> None:
    """A chunk that passes a bound ends the reply at the event that passes it, not at the chunk's end."""
    scene = Scene(HoldAll(), max_held=1000) if held else Scene(PassAll(), max_event=2000)
    waiting = scene.pump.done()
    scene.pump.data(b"".join([say("x" * 100)] * 200) if held else MANY + say("x" * 3000) + MANY)
    await asyncio.wait_for(waiting, 10)
    assert scene.stream.cut == "overflow"
    assert sum(scene.pushes) < (1200 if held else 5000)
    assert scene.conn.ended == [("end", None)]
    assert scene.conn.out.endswith(DONE)


# -- the watched tier ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [False, True])
async def test_a_watched_stream_is_read_along_in_turns(lost: bool) -> None:
    ticks = itertools.count()
    turns().clock = lambda: next(ticks) * BUDGET / 10
    conn, up = Conn(), Up()
    x = Exchange("id", "POST", "/", "", Headers(), "192.0.2.1", 0.0, 0.0)
    pump = WatchedPump(conn, up, x, lambda: 1.0, WatchedStream(CHAT))  # type: ignore[arg-type]
    pump.start()
    waiting = pump.done()
    data = MANY * 20 + event(chunk([], usage=USAGE)) + (b"" if lost else DONE)
    pump.data(data)
    assert conn.out == data, "the client does not wait"
    assert up.paused
    up.released = True
    if lost:
        pump.lost(Fault(Kind.BACKEND_CUT, "closed"))
    else:
        pump.end([])
    assert not conn.ended
    await asyncio.wait_for(waiting, 10)
    assert x.usage is not None
    assert x.usage.prompt == 7
    assert conn.ended == (["abort"] if lost else [("end", [])])
    assert (b'"error"' in conn.out) is lost


# -- channels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", [False, True])
def test_channels_are_bounded(release: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that opens a new channel with every event fills no memory."""
    monkeypatch.setattr("proxy.judging.MOST_CHANNELS", 10)
    made = 0

    def guard(channel: Any) -> list[Gate]:
        nonlocal made
        made += 1
        return [secret()]

    stream = GatedStream(CHAT, guard, on_overflow="release" if release else "cut")
    events = [event(chunk([delta({"content": "a secret, "}, index)])) for index in range(30)]
    out = b"".join(map(stream.feed, events))
    assert stream.overflowed
    assert made == 10
    if release:
        assert stream.cut is None
        assert texts(out) == "a [X], " * 10 + "a secret, " * 20
        out += stream.feed(event(chunk([delta({"content": "no secret"}, 3)])) + DONE)
        assert texts(out).endswith("no [X]")
    else:
        assert stream.cut == "overflow"
        assert texts(out) == "a [X], " * 10
        assert out.endswith(DONE)
