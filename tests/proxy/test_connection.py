"""A client's connection without a socket: framing of replies, turns, limits, ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from policies.contract import Kind
from proxy.connection import LINGER, MAX_AHEAD, PIPELINE, ClientConnection
from proxy.faults import Fault
from proxy.incoming import Incoming
from proxy.server import Server
from proxy.settings import ServerLimits
from tests.kits.transport import FakeTransport


class Rig:
    """A server with a clock that stands still, whose handler only notes its requests; and one connection of it."""

    def __init__(self, high: int | None = None, **limits: Any) -> None:
        self.now = 100.0
        self.handled: list[Incoming] = []
        self.refused: list[Kind] = []
        self.server = Server(
            self._handle, ServerLimits.model_validate(limits), clock=lambda: self.now, new_id=lambda: "made",
            on_refused=lambda fault, rid, client: self.refused.append(fault.kind),
        )  # fmt: skip
        self.conn = self.another(high)

    async def _handle(self, conn: ClientConnection, incoming: Incoming) -> None:
        self.handled.append(incoming)

    def another(self, high: int | None = None) -> ClientConnection:
        conn = ClientConnection(self.server)
        conn.connection_made(FakeTransport(conn, high))
        return conn

    @property
    def transport(self) -> FakeTransport:
        transport = self.conn.transport
        assert isinstance(transport, FakeTransport)
        return transport

    async def ask(self, raw: bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") -> Incoming:
        before = len(self.handled)
        self.conn.data_received(raw)
        await asyncio.sleep(0)
        assert len(self.handled) == before + 1
        return self.handled[-1]

    def sweep(self, seconds: float) -> None:
        self.now += seconds
        self.server.sweep(self.now)


HEAD11 = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD10 = b"GET / HTTP/1.0\r\n\r\n"
KEEP10 = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
PART = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"


@pytest.mark.parametrize(
    ("raw", "status", "length", "framing", "body", "ends"),
    [
        (HEAD11, 200, 2, b"Content-Length: 2\r\n", b"ok", None),
        (HEAD11, 200, None, b"Transfer-Encoding: chunked\r\n", b"2\r\nok\r\n0\r\n\r\n", None),
        (HEAD11, 204, None, b"", b"", None),
        (HEAD11, 204, 0, b"", b"", None),
        (HEAD11, 304, 2, b"Content-Length: 2\r\n", b"", None),
        (HEAD11, 304, None, b"", b"", None),
        (HEAD, 200, 2, b"Content-Length: 2\r\n", b"", None),
        (HEAD, 200, None, b"", b"", None),
        (HEAD10, 200, 2, b"Content-Length: 2\r\nConnection: close\r\n", b"ok", "close"),
        (HEAD10, 200, None, b"Connection: close\r\n", b"ok", "close"),
        (KEEP10, 200, 2, b"Content-Length: 2\r\nConnection: keep-alive\r\n", b"ok", None),
        (KEEP10, 200, None, b"Connection: close\r\n", b"ok", "close"),
        (CLOSE, 200, 2, b"Content-Length: 2\r\nConnection: close\r\n", b"ok", "close"),
        (PART, 200, 2, b"Content-Length: 2\r\nConnection: close\r\n", b"ok", "write_eof"),
    ],
)
async def test_how_a_reply_is_framed(
    raw: bytes, status: int, length: int | None, framing: bytes, body: bytes, ends: str | None
) -> None:
    rig = Rig()
    await rig.ask(raw)
    rig.conn.begin(status, b"R", [(b"A", b"b")], length)
    rig.conn.write(b"ok")
    rig.conn.end()
    assert rig.transport.taken() == b"HTTP/1.1 %d R\r\nA: b\r\n%b\r\n%b" % (status, framing, body)
    assert rig.transport.done == ([ends] if ends else [])


async def test_large_pieces_and_trailers() -> None:
    rig = Rig()
    await rig.ask()
    rig.conn.begin(200, b"OK", [], None)
    rig.conn.flush()
    rig.transport.taken()
    rig.conn.write(b"x" * 100_000)
    assert rig.transport.taken() == b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
    rig.conn.write(b"")
    assert rig.transport.taken() == b"", "an empty piece would be the end"
    rig.conn.end([(b"X", b"y"), (b"Z", b"")])
    assert rig.transport.taken() == b"0\r\nX: y\r\nZ: \r\n\r\n"


@pytest.mark.parametrize("size", [0, 1, 100_000])
async def test_the_head_goes_out_before_or_with_the_first_piece(size: int) -> None:
    for length in (None, size):
        rig = Rig()
        await rig.ask()
        rig.conn.begin(200, b"OK", [], length)
        rig.conn.write(b"x" * size)
        rig.conn.flush()
        assert rig.transport.taken().startswith(b"HTTP/1.1 200 OK\r\n")
        rig.conn.flush()
        assert rig.transport.taken() == b"", "once"


@pytest.mark.parametrize(("raw", "framed"), [(HEAD11, True), (HEAD10, False)])
async def test_the_last_piece_leaves_with_the_end(raw: bytes, framed: bool) -> None:
    rig = Rig()
    await rig.ask(raw)
    rig.conn.begin(200, b"OK", [], None)
    rig.conn.write(b"a")
    assert rig.transport.taken().endswith(b"1\r\na\r\n" if framed else b"a")
    rig.conn.cork()
    rig.conn.write(b"last")
    rig.conn.write(b"words")
    assert rig.transport.taken() == (b"" if framed else b"lastwords"), "without chunks there is nothing to wait for"
    assert rig.conn.may_add
    rig.conn.end([])
    assert rig.transport.taken() == (b"4\r\nlast\r\n5\r\nwords\r\n0\r\n\r\n" if framed else b"")


async def test_an_end_that_has_to_wait_holds_nothing_up() -> None:
    rig = Rig()
    for large in (False, True):
        await rig.ask(HEAD11)
        rig.conn.begin(200, b"OK", [], None)
        rig.conn.cork()
        rig.conn.write(b"one")
        if large:  # too large to be kept
            rig.conn.write(b"x" * 20_000)
        else:
            rig.conn.uncork()
        assert b"3\r\none\r\n" in rig.transport.taken()
        rig.conn.write(b"two")
        assert rig.transport.taken() == b"3\r\ntwo\r\n"
        rig.conn.end()
        assert rig.transport.taken() == b"0\r\n\r\n"


async def test_a_break_sends_what_was_kept() -> None:
    rig = Rig()
    await rig.ask(HEAD11)
    rig.conn.begin(200, b"OK", [], None)
    rig.conn.cork()
    rig.conn.write(b"one")
    rig.conn.abort()
    assert rig.transport.taken().endswith(b"3\r\none\r\n") and rig.transport.done == ["close"]


async def test_a_reply_shorter_than_announced_is_no_clean_end() -> None:
    rig = Rig()
    await rig.ask()
    rig.conn.begin(200, b"OK", [], 5)
    rig.conn.write(b"abc")
    rig.conn.end()
    assert rig.transport.done == ["close"]
    assert rig.conn.current is None


async def test_a_broken_chunked_reply_has_no_last_chunk() -> None:
    rig = Rig()
    await rig.ask()
    rig.conn.begin(200, b"OK", [], None)
    rig.conn.write(b"abc")
    rig.conn.abort()
    assert rig.transport.taken().endswith(b"3\r\nabc\r\n")
    assert rig.transport.done == ["close"]


async def test_one_at_a_time_in_order() -> None:
    rig = Rig()
    rig.conn.data_received(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(3)))
    for i in range(3):
        await asyncio.sleep(0)
        assert [r.target for r in rig.handled] == [b"/%d" % n for n in range(i + 1)]
        rig.conn.respond(200, b"OK", [], b"%d" % i)
    assert rig.transport.done == []


async def test_many_sent_ahead_stop_the_socket_and_too_many_are_refused() -> None:
    rig = Rig()
    rig.conn.data_received(HEAD11 * (PIPELINE + 1))
    assert rig.transport.done == ["pause_reading"]
    assert rig.conn in rig.server.unread
    for _ in range(2):
        await asyncio.sleep(0)
        rig.conn.respond(200, b"OK", [], b"")
    assert rig.transport.done == ["pause_reading", "resume_reading"]
    flood = Rig()
    flood.conn.data_received(HEAD11 * 5000)
    served = 0
    while not flood.refused:
        await asyncio.sleep(0)
        flood.conn.respond(200, b"OK", [], b"")
        served += 1
    assert served == MAX_AHEAD + 1 and flood.refused == [Kind.BAD_HTTP]


async def test_a_client_that_does_not_read_gets_no_more_replies_made() -> None:
    rig = Rig(high=1000)
    rig.conn.data_received(HEAD11 * 3)
    await asyncio.sleep(0)
    rig.conn.respond(200, b"OK", [], b"x" * 2000)
    await asyncio.sleep(0)
    assert len(rig.handled) == 1 and not rig.conn.idle
    rig.transport.taken()
    await asyncio.sleep(0)
    assert len(rig.handled) == 2
    rig.conn.respond(200, b"OK", [], b"x" * 2000)
    rig.conn.data_received(HEAD11)
    await asyncio.sleep(0)
    assert len(rig.handled) == 2, "a new one waits as well"


async def test_interim_replies() -> None:
    rig = Rig()
    rig.conn.interim(103, b"Early Hints", [])
    assert not rig.transport.out, "nobody asked"
    await rig.ask()
    rig.conn.interim(103, b"Early Hints", [(b"Link", b"a")])
    rig.conn.interim(100, b"Continue", [])
    rig.conn.interim(100, b"Continue", [])
    want = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    assert rig.transport.taken() == want, "100 is said once"
    rig.conn.begin(200, b"OK", [], 0)
    rig.conn.interim(103, b"Early Hints", [])
    rig.conn.end()
    assert rig.transport.taken().count(b"HTTP/1.1") == 1, "never behind the head"
    await rig.ask()
    rig.conn.interim(100, b"Continue", [])
    assert rig.transport.taken() == b"HTTP/1.1 100 Continue\r\n\r\n", "the next request has its own"
    old = Rig()
    await old.ask(KEEP10)
    old.conn.interim(103, b"Early Hints", [])
    assert not old.transport.out


async def test_a_request_that_breaks_is_told_to_its_handler() -> None:
    rig = Rig()
    incoming = await rig.ask(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    rig.conn.data_received(b"xyz\r\n")
    assert incoming.fault is not None and incoming.fault.kind is Kind.BAD_HTTP
    assert rig.refused == [] and not rig.transport.out
    rig.conn.data_received(b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n")
    rig.conn.respond(400, b"Bad Request", [], b"")
    await asyncio.sleep(0)
    assert len(rig.handled) == 1
    assert b"Connection: close" in rig.transport.taken()


async def test_a_lingering_close() -> None:
    rig = Rig()
    rig.conn.data_received(b"nonsense\r\n\r\n")
    assert rig.refused == [Kind.BAD_HTTP]
    assert rig.transport.done == ["write_eof"]
    rig.conn.data_received(HEAD11)
    await asyncio.sleep(0)
    assert rig.handled == []
    rig.sweep(LINGER - 0.1)
    assert rig.transport.done == ["write_eof"]
    rig.sweep(0.2)
    assert rig.transport.done == ["write_eof", "abort"]


async def test_a_connection_that_closes_with_bytes_that_nobody_takes() -> None:
    rig = Rig(write_timeout=60)
    await rig.ask(CLOSE)
    rig.conn.respond(200, b"OK", [], b"the last words")
    assert rig.transport.done == ["close"]
    rig.sweep(1)
    rig.sweep(59)
    assert rig.transport.done == ["close"]
    rig.sweep(2)
    assert rig.transport.done == ["close", "abort"]


async def test_one_connection_too_many() -> None:
    rig = Rig(connections=1)
    second = rig.another()
    assert isinstance(second.transport, FakeTransport)
    assert second.transport.taken().startswith(b"HTTP/1.1 503 ")
    assert rig.refused == [Kind.OVERLOADED]


@pytest.mark.parametrize(
    ("sent", "seconds", "ends"),
    [(b"", 11, ["close"]), (b"GET /", 11, ["write_eof"]), (b"", 9, []), (b"GET /", 9, []), (b"\r\n", 11, ["close"])],
)
async def test_time_for_a_head(sent: bytes, seconds: float, ends: list[str]) -> None:
    rig = Rig(head_timeout=10)
    if sent:
        rig.conn.data_received(sent)
    rig.sweep(seconds)
    assert rig.transport.done == ends


async def test_time_for_a_body() -> None:
    rig = Rig(body_rate=10, body_grace=10)
    incoming = await rig.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    rig.sweep(9)
    assert incoming.fault is None
    rig.conn.data_received(b"x" * 200)
    rig.sweep(10)
    assert incoming.fault is None
    rig.conn.pause_reading(True)
    rig.sweep(100)
    assert incoming.fault is None, "it is headgate that does not read"
    rig.conn.pause_reading(False)
    rig.sweep(1)
    assert incoming.fault is not None and incoming.fault.kind is Kind.BODY_TIMEOUT


async def test_time_for_the_next_request() -> None:
    rig = Rig(keepalive=75, head_timeout=10)
    await rig.ask()
    rig.conn.respond(200, b"OK", [], b"")
    rig.sweep(74)
    assert rig.transport.done == []
    rig.sweep(2)
    assert rig.transport.done == ["close"]


async def test_nothing_is_limited_while_a_request_runs() -> None:
    rig = Rig()
    await rig.ask()
    rig.sweep(100_000)
    assert rig.transport.done == []


async def test_a_client_that_goes_is_told_to_the_running_task() -> None:
    rig = Rig()
    started = asyncio.Event()

    async def wait(conn: ClientConnection, incoming: Incoming) -> None:
        started.set()
        await asyncio.Event().wait()

    rig.server.handler = wait
    rig.conn.data_received(HEAD11 * 2)
    await started.wait()
    task = next(iter(rig.server.tasks))
    incoming = rig.conn.current
    rig.conn.connection_lost(None)
    await asyncio.wait([task])
    assert task.cancelled() and incoming is not None and incoming.gone
    assert not rig.server.connections and not rig.server.unread


async def test_replies_to_a_client_that_has_gone_go_nowhere() -> None:
    rig = Rig()
    await rig.ask()
    rig.conn.begin(200, b"OK", [], None)
    rig.conn.connection_lost(None)
    rig.conn.write(b"x")
    rig.conn.flush()
    rig.conn.end()
    rig.conn.abort()
    rig.conn.close_when_sent()
    assert not rig.transport.out and rig.transport.done == []


async def test_faults_are_rendered_with_an_id_of_their_own() -> None:
    rig = Rig()
    rig.conn.refuse(Fault(Kind.HEAD_TIMEOUT))
    reply = rig.transport.taken()
    assert reply.startswith(b"HTTP/1.1 408 ") and b"X-Request-Id: made\r\n" in reply
    assert b"\r\nConnection: close\r\n\r\n{" in reply
