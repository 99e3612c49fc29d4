"""Moving a reply: what the client gets, and what is noted of it."""

from __future__ import annotations

import asyncio
from typing import Any

from policies.contract import Exchange, Headers, Kind, Usage
from proxy.faults import Fault
from proxy.headers import Fields
from proxy.pump import Pump, WatchedPump, WatchedWholePump, WholePump


class Conn:
    """The client's side. At ``pause_at`` calls of ``end`` it pauses, as a full transport does."""

    def __init__(self, pauses_at_end: bool = False) -> None:
        self.out: list[Any] = []
        self.on_flow: Any = None
        self.write_paused = 0.0
        self.may_add = True
        self.pauses_at_end = pauses_at_end

    def write(self, data: bytes) -> None:
        self.out.append(data)

    def end(self, trailers: Fields | None = None) -> None:
        if self.pauses_at_end and self.on_flow is not None:
            self.on_flow(True)
        self.out.append(("end", trailers))

    def abort(self) -> None:
        self.out.append("abort")

    def flush(self) -> None:
        self.out.append("flush")

    def cork(self) -> None:
        self.out.append("cork")

    def uncork(self) -> None:
        self.out.append("uncork")


class Up:
    """The backend's side: delivers what it was given as soon as somebody takes it."""

    def __init__(self, *chunks: bytes, fault: Fault | None = None, trailers: Fields | None = None) -> None:
        self.chunks = chunks
        self.fault = fault
        self.trailers = trailers or []
        self.pauses: list[bool] = []
        self.released = self.discarded = False

    def pause(self, on: bool) -> None:
        assert not self.released, "it is another's by now"
        self.pauses.append(on)

    def attach(self, sink: Any) -> None:
        for chunk in self.chunks:
            sink.data(chunk)
            if self.discarded:
                return
        if self.fault is not None:
            sink.lost(self.fault)
        else:
            self.released = True
            sink.end(self.trailers)

    def discard(self) -> None:
        self.discarded = True


def exchange() -> Exchange:
    return Exchange("id", "GET", "/", "", Headers(), "192.0.2.1", 0.0, 0.0)


def made(kind: type[Any], conn: Conn, up: Up, *more: Any) -> Any:
    times = iter(range(10, 1000))
    return kind(conn, up, exchange(), lambda: float(next(times)), *more)


def test_what_comes_goes() -> None:
    conn = Conn()
    pump = made(Pump, conn, Up(b"a", b"bc", trailers=[(b"X", b"y")]))
    pump.start()
    assert conn.out[:3] == [b"a", b"bc", ("end", [(b"X", b"y")])]
    assert pump.finished and (pump.x.bytes_out, pump.x.fault) == (3, None)
    assert (pump.x.first_byte, pump.ended_at) == (10.0, 11.0)


def test_the_head_leaves_even_without_a_body() -> None:
    class Silent(Up):
        def attach(self, sink: Any) -> None:
            pass

    conn = Conn()
    made(Pump, conn, Silent()).start()
    assert conn.out == ["flush"]


def test_a_loss_is_a_broken_body() -> None:
    conn = Conn()
    pump = made(Pump, conn, Up(b"a", fault=Fault(Kind.BACKEND_CUT)))
    pump.start()
    assert conn.out[:2] == [b"a", "abort"]
    assert pump.finished and pump.x.fault is Kind.BACKEND_CUT


async def test_who_waits_is_woken() -> None:
    pump = made(Pump, Conn(), Up(b"a"))
    waiter = pump.done()
    pump.start()
    async with asyncio.timeout(1):
        await waiter


def test_a_slow_client_stops_the_backend() -> None:
    conn, up = Conn(), Up()
    conn.write_paused = 1.0
    up.attach = lambda sink: None  # type: ignore[method-assign]
    pump = made(Pump, conn, up)
    pump.start()
    assert up.pauses == [True]
    conn.on_flow(False)
    assert up.pauses == [True, False]


def test_the_end_of_a_reply_does_not_pause_a_connection_that_is_back_in_the_pool() -> None:
    conn = Conn(pauses_at_end=True)
    made(Pump, conn, Up(b"a")).start()  # Up asserts
    assert ("end", []) in conn.out


class Watch:
    def __init__(self) -> None:
        self.fed: list[bytes] = []
        self.usage: Usage | None = None
        self.pieces = 0

    def feed(self, chunk: bytes) -> None:
        self.fed.append(chunk)
        self.pieces += 1
        self.usage = Usage(1, len(self.fed))

    def fail(self, message: str, type: str, code: str | None) -> bytes | None:
        return b"why" if self.fed[-1].endswith(b"\n\n") else None


def test_a_watched_stream_is_looked_at_after_it_has_left() -> None:
    for fault in (None, Fault(Kind.BACKEND_IDLE)):
        conn = Conn()
        pump = made(WatchedPump, conn, Up(b"a", b"b", fault=fault), Watch())
        pump.start()
        assert conn.out[:2] == [b"a", b"b"] and pump.watch.fed == [b"a", b"b"]
        assert pump.x.usage == Usage(1, 2), "also when it broke off"


def test_a_watched_stream_that_breaks_says_why_only_where_that_can_be_seen() -> None:
    """Between two events, and in a body whose length was not announced: else it would complete what was cut."""
    for last, may_add, said in ((b"a\n\n", True, True), (b"a\n\n", False, False), (b"a\n", True, False)):
        conn = Conn()
        conn.may_add = may_add
        made(WatchedPump, conn, Up(last, fault=Fault(Kind.BACKEND_CUT)), Watch()).start()
        assert conn.out[: 3 if said else 2] == ([last, b"why", "abort"] if said else [last, "abort"])


def test_a_watched_reply_is_read_once_at_its_end_and_only_when_small() -> None:
    for cap, want in ((10, Usage(3, 3)), (3, Usage(3, 3)), (2, None)):
        read: list[bytes] = []

        def usage(body: bytes, read: list[bytes] = read) -> Usage:
            read.append(body)
            return Usage(len(body), len(body))

        pump = made(WatchedWholePump, Conn(), Up(b"ab", b"c"), usage, cap)
        pump.start()
        assert pump.x.usage == want and read == ([b"abc"] if want else [])


def whole(up: Up, cap: int) -> Any:
    pump = made(WholePump, Conn(), up, cap)
    up.attach(pump)
    return pump


def test_a_whole_reply_is_kept_and_nothing_is_sent() -> None:
    pump = whole(Up(b"ab", b"c"), 3)
    assert (pump.body, pump.fault, pump.finished) == (b"abc", None, True)
    assert pump.conn.out == []


def test_a_whole_reply_over_its_bound_or_cut_is_a_fault() -> None:
    up = Up(b"ab", b"cd")
    pump = whole(up, 3)
    assert pump.fault.kind is Kind.BACKEND_PROTOCOL and up.discarded and pump.finished
    pump = whole(Up(b"ab", fault=Fault(Kind.BACKEND_CUT)), 3)
    assert pump.fault.kind is Kind.BACKEND_CUT and pump.finished
    assert pump.conn.out == []
