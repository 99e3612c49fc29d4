"""A request's body, between the connection that feeds it and the relay that reads it."""

from __future__ import annotations

import asyncio

import pytest

from policies.contract import Kind
from proxy.faults import Fault
from proxy.headers import Fields
from proxy.incoming import READ_AHEAD, Incoming


class Sink:
    def __init__(self) -> None:
        self.got: list[object] = []

    def body(self, chunk: bytes) -> None:
        self.got.append(chunk)

    def body_end(self, trailers: Fields) -> None:
        self.got.append(("end", trailers))

    def body_lost(self, fault: Fault) -> None:
        self.got.append(fault.kind)


def made(limit: int = 0) -> tuple[Incoming, list[bool]]:
    flow: list[bool] = []
    return Incoming(flow.append, limit), flow


async def test_a_whole_body_is_read_at_once_or_waited_for() -> None:
    incoming, _ = made()
    incoming.on_body(b"ab")
    reading = asyncio.ensure_future(incoming.read(0))
    await asyncio.sleep(0)
    incoming.on_body(b"cd")
    assert not reading.done()
    incoming.on_complete()
    assert await reading == b"abcd"
    assert await incoming.read(0) == b"abcd", "it is still there"
    empty, _ = made()
    empty.on_complete()
    assert await empty.read(0) == b""


def test_the_rest_of_a_body_goes_to_a_sink() -> None:
    incoming, flow = made()
    incoming.on_body(b"a")
    incoming.on_body(b"b")
    sink = Sink()
    incoming.stream(sink)
    assert sink.got == [b"ab"] and flow == [False]
    incoming.on_body(b"c")
    incoming.trailers.append((b"X", b"y"))
    incoming.on_complete()
    assert sink.got == [b"ab", b"c", ("end", [(b"X", b"y")])]


def test_a_complete_body_ends_at_once() -> None:
    incoming, _ = made()
    incoming.on_body(b"a")
    incoming.on_complete()
    sink = Sink()
    incoming.stream(sink)
    assert sink.got == [b"a", ("end", [])]


def test_a_body_that_nobody_asks_for_stops_the_socket() -> None:
    incoming, flow = made()
    incoming.on_body(b"x" * READ_AHEAD)
    assert flow == []
    incoming.on_body(b"x")
    assert flow == [True]
    incoming.stream(Sink())
    assert flow == [True, False]


async def test_a_body_that_is_read_whole_does_not_stop_it() -> None:
    incoming, flow = made()
    reading = asyncio.ensure_future(incoming.read(0))
    await asyncio.sleep(0)
    for _ in range(10):
        incoming.on_body(b"x" * READ_AHEAD)
    incoming.on_complete()
    assert len(await reading) == 10 * READ_AHEAD
    assert True not in flow


async def test_the_limit_holds_for_every_reader() -> None:
    streamed, _ = made(limit=3)
    sink = Sink()
    streamed.stream(sink)
    for chunk in (b"ab", b"cd", b"ef"):
        streamed.on_body(chunk)
    streamed.on_complete()
    assert sink.got == [b"ab", Kind.TOO_LARGE]
    whole, _ = made(limit=100)
    reading = asyncio.ensure_future(whole.read(3))
    await asyncio.sleep(0)
    whole.on_body(b"abcd")
    with pytest.raises(Fault) as fault:
        await reading
    assert fault.value.kind is Kind.TOO_LARGE


def test_an_announced_length_is_refused_before_a_byte_is_read() -> None:
    incoming, _ = made(limit=100)
    incoming.head.length = 50
    incoming.set_limit(0)
    incoming.set_limit(50)
    incoming.set_limit(200)  # never looser
    assert incoming.limit == 50
    with pytest.raises(Fault) as fault:
        incoming.set_limit(49)
    assert fault.value.kind is Kind.TOO_LARGE


async def test_a_broken_body_is_told_once_to_whoever_reads_it() -> None:
    streamed, _ = made()
    sink = Sink()
    streamed.stream(sink)
    streamed.lost(Fault(Kind.BAD_HTTP))
    streamed.lost(Fault(Kind.BODY_TIMEOUT))
    streamed.on_body(b"late")
    streamed.on_complete()
    assert sink.got == [Kind.BAD_HTTP]
    late = Sink()
    streamed.stream(late)
    assert late.got == [Kind.BAD_HTTP], "also to who comes later"
    with pytest.raises(Fault):
        await streamed.read(0)


def test_a_body_that_was_complete_cannot_break() -> None:
    incoming, _ = made()
    incoming.on_complete()
    incoming.lost(Fault(Kind.BODY_TIMEOUT))
    assert incoming.fault is None
