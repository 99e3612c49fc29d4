"""A backend's connection and its pool, without a socket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from policies.contract import Kind
from proxy import upstream
from proxy.faults import Fault
from proxy.headers import Fields
from proxy.pool import ConnectionPool
from proxy.upstream import MAX_HEAD, READ_AHEAD, BackendConnection, Reply
from tests.kits.transport import FakeTransport

OK = b"HTTP/1.1 200 OK\r\n"


class Sink:
    def __init__(self) -> None:
        self.got: list[Any] = []
        self.told: list[int] = []

    def ending(self) -> None:
        self.told.append(len(self.got))

    def data(self, chunk: bytes) -> None:
        self.got.append(chunk)

    def end(self, trailers: Fields) -> None:
        self.got.append(("end", trailers))

    def lost(self, fault: Fault) -> None:
        self.got.append(fault.kind)


class Rig:
    """A pool with a clock that stands still, and one connection taken from it."""

    def __init__(self, **pool: Any) -> None:
        self.now = 100.0
        given = {"host": "b", "port": 1, "tls": None, "limit": 10, "keepalive": 4.0, "connect_timeout": 1.0} | pool
        self.pool = ConnectionPool(asyncio.get_running_loop(), lambda: self.now, **given)
        self.up = self.fresh()

    def fresh(self) -> BackendConnection:
        up = BackendConnection(self.pool)
        up.connection_made(FakeTransport(up))
        self.pool.busy.add(up)
        return up

    @property
    def transport(self) -> FakeTransport:
        transport = self.up.transport
        assert isinstance(transport, FakeTransport)
        return transport

    def ask(self, method: str = "GET", **more: Any) -> asyncio.Future[Reply]:
        future = self.up.send(b"HEAD", b"BODY", method, **more)
        self.up.request_done()
        return future

    @property
    def pooled(self) -> bool:
        return self.up in self.pool.idle and self.up.alive


async def test_a_reply_goes_to_its_sink_and_the_connection_to_the_pool() -> None:
    rig = Rig()
    future = rig.ask()
    assert rig.transport.taken() == b"HEADBODY"
    rig.up.data_received(OK + b"Content-Length: 4\r\nX: y\r\n\r\nab")
    reply = future.result()
    assert (reply.status, reply.reason, reply.fields) == (200, b"OK", [(b"X", b"y")])
    sink = Sink()
    rig.up.attach(sink)
    assert sink.got == [b"ab"] and not rig.pooled
    rig.up.data_received(b"cd")
    assert sink.got == [b"ab", b"cd", ("end", [])]
    assert sink.told == [1], "before the last piece"
    assert rig.pooled and not rig.pool.busy


async def test_pieces_of_one_read_come_as_one() -> None:
    rig = Rig()
    rig.ask()
    sink = Sink()
    rig.up.data_received(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    rig.up.attach(sink)
    rig.up.data_received(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n")
    rig.up.data_received(b"0\r\nX: y\r\nConnection: close\r\n\r\n")
    assert sink.got == [b"abc", ("end", [(b"X", b"y")])], "fields of the hop are no trailers"


@pytest.mark.parametrize(
    ("head", "pooled"),
    [
        (OK, True),
        (OK + b"Connection: close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_may_be_used_again(head: bytes, pooled: bool, method: str) -> None:
    rig = Rig()
    rig.ask(method)
    rig.up.data_received(head + b"Content-Length: 2\r\n\r\n" + (b"ok" if method == "GET" else b""))
    sink = Sink()
    rig.up.attach(sink)
    assert sink.got[-1] == ("end", [])
    assert rig.pooled is pooled
    assert bool(rig.transport.done) is not pooled


@pytest.mark.parametrize("surplus", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
@pytest.mark.parametrize("later", [False, True])
async def test_surplus_bytes_end_the_connection(surplus: bytes, later: bool) -> None:
    rig = Rig()
    rig.ask()
    sink = Sink()
    wire = OK + b"Content-Length: 2\r\n\r\nok"
    rig.up.data_received(wire if later else wire + surplus)
    rig.up.attach(sink)
    if later:
        assert rig.pooled
        rig.up.data_received(surplus)
    assert sink.got == [b"ok", ("end", [])]
    assert not rig.up.alive and rig.pool.take() is None


async def test_an_unfinished_request_ends_the_connection_too() -> None:
    rig = Rig()
    rig.up.send(b"HEAD", b"", "POST")
    rig.up.data_received(OK + b"Content-Length: 0\r\n\r\n")
    rig.up.attach(Sink())
    assert not rig.up.alive


async def test_a_body_until_the_end_of_the_connection() -> None:
    rig = Rig()
    rig.ask()
    rig.up.data_received(OK + b"\r\nab")
    sink = Sink()
    rig.up.attach(sink)
    rig.up.connection_lost(None)
    assert sink.got == [b"ab", ("end", [])]


async def test_a_reset_is_not_the_end_of_a_body() -> None:
    rig = Rig()
    rig.ask()
    rig.up.data_received(OK + b"\r\nab")
    sink = Sink()
    rig.up.attach(sink)
    rig.up.connection_lost(ConnectionResetError())
    assert sink.got == [b"ab", Kind.BACKEND_CUT]


async def test_a_fault_before_the_body_has_a_taker_does_not_turn_into_a_clean_end() -> None:
    rig = Rig()
    rig.ask()
    rig.up.idle_timeout = 1.0
    rig.up.data_received(OK + b"\r\nab")
    rig.now += 5
    rig.pool.sweep(rig.now)
    rig.now += 5
    rig.pool.sweep(rig.now)
    rig.up.connection_lost(None)  # what the transport says after it was aborted
    sink = Sink()
    rig.up.attach(sink)
    assert sink.got == [b"ab", Kind.BACKEND_IDLE]


async def test_what_is_read_before_there_is_a_taker_is_bounded() -> None:
    rig = Rig()
    rig.ask()
    rig.up.data_received(OK + b"Content-Length: 1000000\r\n\r\n")
    rig.up.data_received(b"x" * (READ_AHEAD + 1))
    assert rig.transport.done == ["pause_reading"]
    sink = Sink()
    rig.up.attach(sink)
    assert rig.transport.done == ["pause_reading", "resume_reading"]
    assert sink.got == [b"x" * (READ_AHEAD + 1)]


@pytest.mark.parametrize(
    "wire",
    [
        b"garbage\r\n\r\n", OK + b"Content-Length: x\r\n\r\n", b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 103 E\r\n\r\n" * 17, OK + b"X: " + b"a" * MAX_HEAD, OK + b"X: y\r\n" * 1030,
    ],
)  # fmt: skip
async def test_no_valid_head(wire: bytes) -> None:
    rig = Rig()
    future = rig.ask()
    rig.up.data_received(wire)
    with pytest.raises(Fault) as fault:
        await future
    assert fault.value.kind is Kind.BACKEND_PROTOCOL
    assert not rig.up.alive and "abort" in rig.transport.done


async def test_interim_replies_are_passed_on() -> None:
    rig = Rig()
    told: list[tuple[int, bytes, Fields]] = []
    future = rig.ask(on_interim=lambda *args: told.append(args))
    rig.up.data_received(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\nConnection: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
    assert told == [(103, b"Early Hints", [(b"Link", b"a")]), (100, b"Continue", [])]
    assert not future.done()


async def test_a_taker_that_drops_the_connection_hears_no_more() -> None:
    rig = Rig()
    rig.ask()

    class Dropping(Sink):
        def data(self, chunk: bytes) -> None:
            super().data(chunk)
            rig.up.discard()

    sink = Dropping()
    rig.up.data_received(OK + b"Content-Length: 2\r\n\r\nok")
    rig.up.attach(sink)
    assert sink.got == [b"ok"]


# -- time


async def test_the_first_byte_limit() -> None:
    rig = Rig()
    rig.up.first_byte_timeout = 10.0
    future = rig.up.send(b"HEAD", b"", "POST")
    rig.pool.sweep(rig.now + 1000)
    assert not future.done(), "not while the client is still sending"
    rig.now += 5
    rig.up.request_done()
    rig.up.data_received(b"HTTP/1.1 200 OK\r\n")
    rig.pool.sweep(rig.now + 9.9)
    assert not future.done()
    rig.pool.sweep(rig.now + 10.1)
    with pytest.raises(Fault) as fault:
        await future
    assert fault.value.kind is Kind.BACKEND_TIMEOUT


async def test_a_backend_that_takes_nothing_is_late_too() -> None:
    rig = Rig()
    rig.up.first_byte_timeout = 10.0
    flow: list[bool] = []
    future = rig.up.send(b"HEAD", b"", "POST")
    rig.up.client_flow = flow.append
    rig.now += 50
    rig.up.pause_writing()
    rig.pool.sweep(rig.now + 9)
    rig.up.resume_writing()
    rig.pool.sweep(rig.now + 11)
    assert not future.done() and flow == [True, False]
    rig.up.pause_writing()
    rig.pool.sweep(rig.now + 11)
    with pytest.raises(Fault):
        await future


async def test_the_idle_limit_counts_silence_and_no_pauses() -> None:
    rig = Rig()
    rig.ask()
    rig.up.idle_timeout = 10.0
    rig.up.data_received(OK + b"Content-Length: 9\r\n\r\n")
    sink = Sink()
    rig.up.attach(sink)

    def later(seconds: float) -> None:
        rig.now += seconds
        rig.pool.sweep(rig.now)

    later(0.1)  # it has been heard
    later(9)
    rig.up.data_received(b"a")
    later(9)
    later(9)
    assert sink.got == [b"a"]
    rig.up.pause(True)
    later(100)
    rig.up.pause(False)
    later(9)
    assert sink.got == [b"a"]
    later(2)
    assert sink.got == [b"a", Kind.BACKEND_IDLE]


async def test_idle_connections_go_in_time() -> None:
    rig = Rig(keepalive=4.0)
    for up in (rig.up, rig.fresh()):
        rig.pool.put_back(up)
        rig.now += 3
    rig.pool.sweep(rig.now)
    assert len(rig.pool.idle) == 1 and not rig.up.alive
    rig.pool.close()
    assert not rig.pool.idle


# -- the pool


async def test_the_last_one_in_is_the_first_one_out() -> None:
    rig = Rig()
    second = rig.fresh()
    for up in (rig.up, second):
        rig.pool.put_back(up)
    assert rig.pool.take() is second and second.reused
    assert rig.pool.take() is rig.up
    assert rig.pool.take() is None


async def test_dead_connections_are_not_given_out() -> None:
    rig = Rig()
    closing = rig.fresh()
    for up in (rig.up, closing):
        rig.pool.put_back(up)
    closing.transport.close()
    rig.up.connection_lost(None)
    assert rig.pool.take() is None
    assert not rig.pool.busy


async def test_no_more_connections_than_the_limit() -> None:
    rig = Rig(limit=1)
    with pytest.raises(Fault) as fault:
        await rig.pool.connect()
    assert fault.value.kind is Kind.BACKEND_UNAVAILABLE
    assert rig.pool.connecting == 0


async def test_without_keepalive_nothing_is_kept() -> None:
    rig = Rig(keepalive=0.0)
    rig.pool.put_back(rig.up)
    assert not rig.up.alive and not rig.pool.idle and not rig.pool.busy


# -- dying without a word


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("taken", [0, 4, None])
@pytest.mark.parametrize("late", [False, True])
async def test_what_may_be_sent_again(
    method: str, taken: int | None, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """taken: bytes of the second request that the backend's kernel has acknowledged; None: it cannot be told."""
    rig = Rig()
    rig.ask()
    rig.up.data_received(OK + b"Content-Length: 0\r\n\r\n")
    rig.up.attach(Sink())
    assert rig.pool.take() is rig.up
    future = rig.ask(method)
    monkeypatch.setattr(upstream, "bytes_acknowledged", lambda transport: None if taken is None else 8 + taken)
    rig.now += 2 if late else 0.1
    rig.up.connection_lost(ConnectionResetError())
    with pytest.raises(Fault) as fault:
        await future
    assert fault.value.kind is Kind.BACKEND_RESET
    assert rig.up.stale() is (taken == 0 or (method == "GET" and not late))


async def test_a_fresh_connection_or_one_that_answered_is_never_stale() -> None:
    rig = Rig()
    future = rig.ask()
    rig.up.connection_lost(None)
    with pytest.raises(Fault):
        await future
    assert not rig.up.stale()
    rig = Rig()
    rig.pool.put_back(rig.up)
    rig.pool.take()
    future = rig.ask()
    rig.up.data_received(b"H")
    rig.up.connection_lost(None)
    with pytest.raises(Fault):
        await future
    assert not rig.up.stale()
