"""One backend connection: bytes towards a backend and the reply's pieces back.

What lives here: llhttp (through httptools) over the reply, backpressure, whether a connection can be used again. What
must never live here: connecting (pool.py), retries, policies, anything about the client's side but its Sink.
A reply is handed to its Sink synchronously, piece by piece as it is read from the socket: no task, no queue between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

import httptools

from policies.contract import Kind
from proxy.faults import Fault
from proxy.headers import HOP, BadHead, Fields, Head, scan
from proxy.tcp import bytes_acknowledged

if TYPE_CHECKING:
    from proxy.pool import ConnectionPool

#: Bytes of a reply's status line and fields; vLLM's ``metadata`` field grows with the batch.
MAX_HEAD = 4 * 2**20
MAX_FIELDS = 1024
#: Interim (1xx) replies passed on before one reply.
MAX_INTERIM = 16
#: Bytes read ahead of a sink that is not there yet or is paused.
READ_AHEAD = 256 * 1024
#: A pooled connection that dies this soon after a request was written to it, without a byte, was already being closed.
STALE_WINDOW = 1.0
#: Methods that may be sent again when nobody knows whether the backend acted on them (RFC 9110 9.2.2).
IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))


class Sink(Protocol):
    """Takes a reply's body. Every call is synchronous; exactly one of end and lost comes last. ending: the next piece is the
    last, and ``end`` follows at once."""

    def ending(self) -> None: ...
    def data(self, chunk: bytes) -> None: ...
    def end(self, trailers: Fields) -> None: ...
    def lost(self, fault: Fault) -> None: ...


class Reply:
    """The head of a backend's reply. ``fields`` have lost what belongs to the hop; ``head`` says about framing."""

    __slots__ = ("fields", "head", "reason", "status")

    def __init__(self, status: int, reason: bytes, head: Head) -> None:
        self.status = status
        self.reason = reason
        self.head = head
        self.fields = head.fields


class BackendConnection(asyncio.Protocol):
    """One connection, used for one exchange at a time."""

    __slots__ = (
        "_ahead", "_ended", "_fields", "_fields_bytes", "_interims", "_keep", "_lost", "_method", "_on_interim",
        "_parser", "_paused", "_pieces", "_reason", "_reply", "_sent_before", "_stalled", "_surplus", "_trailers",
        "_untaken", "_upgrade_wanted", "_written", "alive",
        "client_flow", "first_byte_timeout", "head_future", "heard", "idle_since", "idle_timeout", "owner", "pool",
        "request_open", "reused", "since", "sink", "started", "transport", "tunnel", "until_eof",
    )  # fmt: skip

    def __init__(self, pool: ConnectionPool) -> None:
        self.pool = pool
        self.alive = False
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.sink: Sink | None = None
        self.head_future: asyncio.Future[Reply] | None = None
        self.client_flow: Callable[[bool], None] | None = None
        self.tunnel: Callable[[bytes], None] | None = None
        self.owner: object | None = None  # whose exchange it serves; nobody else may discard it
        self.reused = False
        self.started = False
        self.heard = False
        self.since = 0.0
        self.idle_since = 0.0
        self.first_byte_timeout = 0.0
        self.idle_timeout = 0.0
        self._parser: Any = None
        self._paused = False
        self._stalled = False  # the backend does not take what we write
        self._written = 0  # bytes, in all exchanges
        self._sent_before = 0  # ... before this one
        self._untaken = False  # it died, and no byte of the request had got there
        self._reset()

    def _reset(self) -> None:
        self.until_eof = False
        self._lost: Fault | None = None
        self._ahead = False
        self._pieces: list[bytes] = []
        self._fields: Fields = []
        self._trailers: Fields = []
        self._reason = b""
        self._reply: Reply | None = None
        self._ended = False
        self._surplus = False
        self._keep = False
        self.request_open = True
        self._interims = 0
        self._fields_bytes = 0
        self._on_interim: Callable[[int, bytes, Fields], None] | None = None
        self._upgrade_wanted = False

    # -- the request -------------------------------------------------------------------------------------------

    def send(
        self,
        head: bytes,
        body: bytes,
        method: str,
        *,
        upgrade: bool = False,
        on_interim: Callable[[int, bytes, Fields], None] | None = None,
    ) -> asyncio.Future[Reply]:
        """Write a request's head and the body that is at hand; the future gives the reply's head or a Fault."""
        self._reset()
        self._method = method
        self._upgrade_wanted = upgrade
        self._on_interim = on_interim
        self._parser = httptools.HttpResponseParser(self)
        self.started = False
        self.heard = False
        self.since = self.pool.clock()
        self.head_future = future = self.pool.loop.create_future()
        if body:
            head += body
        self._sent_before = self._written
        self._written += len(head)
        self.transport.write(head)
        return future

    def request_done(self) -> None:
        """The request is out: the reply's head must be here within ``first_byte_timeout`` seconds (0: for ever)."""
        self.request_open = False
        self.since = self.pool.clock()

    def write(self, data: bytes) -> None:
        """More of the request's body, framed already."""
        if self.alive:
            self._written += len(data)
            self.transport.write(data)

    def stale(self) -> bool:
        """After BACKEND_RESET: the request may be sent again over a fresh connection. This one came from the pool and
        died without a word; the backend's kernel had taken nothing of the request, or doing it twice does no harm."""
        if not self.reused or self.started:
            return False
        soon = self.pool.clock() - self.since <= STALE_WINDOW
        return self._untaken or (soon and self._method in IDEMPOTENT)

    # -- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.alive = True

    def pause_writing(self) -> None:
        self._stalled = True
        self.since = self.pool.clock()
        if self.client_flow is not None:
            self.client_flow(True)

    def resume_writing(self) -> None:
        self._stalled = False
        if self.client_flow is not None:
            self.client_flow(False)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        if self.tunnel is not None:
            self.tunnel(data)
            return
        if self._parser is None:  # idle: nobody asked for anything
            self.discard()
            return
        self.started = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as e:
            self._upgraded(data[e.args[0] :])
            return
        except httptools.HttpParserError as e:
            if not self._ended:
                self.fail(Fault(Kind.BACKEND_PROTOCOL if self._reply is None else Kind.BACKEND_CUT, _reason(e)))
                return
            self._surplus = True
        if self._pieces or self._ended:
            self._fields_bytes = 0
        else:  # a head, or trailers: the parser gathers their fields in memory
            self._fields_bytes += len(data)
            if self._fields_bytes > MAX_HEAD and self._parser is not None:
                kind = Kind.BACKEND_PROTOCOL if self._reply is None else Kind.BACKEND_CUT
                self.fail(Fault(kind, "reply fields too large"))
                return
        if self._reply is not None:
            self._deliver()

    def _deliver(self) -> None:
        """Hand over what has been read, when there is somebody to take it."""
        sink, pieces = self.sink, self._pieces
        if sink is None:
            if not self._ahead and not self._ended and sum(map(len, pieces)) > READ_AHEAD:
                self._ahead = True
                self.pause(True)
            return
        if pieces:
            chunk = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if self._ended:
                sink.ending()
            sink.data(chunk)
        if self.sink is not sink:
            return  # the taker has dropped us meanwhile
        if self._ended:
            trailers = self._trailers
            self._release()
            sink.end(trailers)
        elif self._lost is not None:
            fault = self._lost
            self.discard()
            sink.lost(fault)

    def eof_received(self) -> bool:
        return False  # close the transport; connection_lost tells the rest

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        if self.reused and not self.started and self.pool.tls is None:
            self._untaken = bytes_acknowledged(self.transport) == self._sent_before
        self.pool.forget(self)
        if self.tunnel is not None:
            self.tunnel(b"")
            return
        if self._parser is None or self._lost is not None:
            return
        if self.until_eof and exc is None and self._reply is not None:
            self._ended, self._keep = True, False
            if self.sink is not None:
                self._deliver()
            return
        if self._ended:
            return
        kind = Kind.BACKEND_RESET if self._reply is None else Kind.BACKEND_CUT
        self.fail(Fault(kind, type(exc).__name__ if exc else "closed"))

    # -- httptools callbacks -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._ended:
            self._surplus = True

    def on_status(self, status: bytes) -> None:
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._surplus:
            return
        if self._reply is None:
            fields = self._fields
        elif name.lower() in HOP:
            return
        else:
            fields = self._trailers
        fields.append((name, value))
        if len(fields) > MAX_FIELDS:
            raise BadHead("too many fields in the reply")

    def on_headers_complete(self) -> None:
        if self._surplus:
            return
        status: int = self._parser.get_status_code()
        if status < 100:
            raise BadHead("a status below 100")
        head = scan(self._fields)
        reason, self._reason, self._fields = self._reason, b"", []
        if 100 <= status < 200:
            if status == 101:
                if not self._upgrade_wanted:
                    raise BadHead("101 without an upgrade request")
            else:
                self._interims += 1
                if self._interims > MAX_INTERIM:
                    raise BadHead("too many interim replies")
                if self._on_interim is not None:
                    self._on_interim(status, reason, head.fields)
                return
        self._reply = reply = Reply(status, reason, head)
        bodiless = self._method == "HEAD" or status in (101, 204, 304)
        self.until_eof = not bodiless and head.length is None and not head.chunked
        if self._method == "HEAD":
            self._finish()
        future = self.head_future
        if future is not None and not future.done():
            future.set_result(reply)

    def on_body(self, body: bytes) -> None:
        if self._ended:
            self._surplus = True
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._reply is not None and not self._ended and self._reply.status != 101:
            self._finish()

    def _finish(self) -> None:
        self._ended = True
        self._keep = not self.until_eof and bool(self._parser.should_keep_alive())
        if self._method == "HEAD" and self._reply is not None:
            head = self._reply.head
            self._keep = not head.close if self._parser.get_http_version() == "1.1" else head.keep_alive

    # -- the end -----------------------------------------------------------------------------------------------

    def attach(self, sink: Sink) -> None:
        """Give the reply's body a taker; what has been read already is delivered before this returns."""
        self.sink = sink
        if self._ahead:
            self._ahead = False
            self.pause(False)
        self._deliver()

    def pause(self, on: bool) -> None:
        """Stop or go on reading from the backend (backpressure)."""
        if on != self._paused and self.alive:
            self._paused = on
            if on:
                self.transport.pause_reading()
            else:
                self.since = self.pool.clock()
                self.transport.resume_reading()

    def _upgraded(self, rest: bytes) -> None:
        reply = self._reply
        if reply is None or reply.status != 101:
            self.fail(Fault(Kind.BACKEND_PROTOCOL, "upgrade without 101"))
            return
        if rest:
            self._pieces.append(rest)
        self.pause(True)  # until the tunnel stands

    def open_tunnel(self, receive: Callable[[bytes], None]) -> None:
        """After a 101: hand every byte from now on to ``receive``; an empty piece means the connection is gone."""
        self.tunnel = receive
        early, self._pieces = self._pieces, []
        for piece in early:
            receive(piece)
        self.pause(False)

    def fail(self, fault: Fault) -> None:
        """The reply cannot come to its end: tell whoever waits, and drop the connection."""
        future = self.head_future
        if self._reply is None:
            self.discard()
            if future is not None and not future.done():
                future.set_exception(fault)
            return
        self._lost = fault
        if self.alive:
            self.alive = False
            self.transport.abort()
        self._deliver()

    def _release(self) -> None:
        """The exchange is over: back to the pool when the connection can serve another one."""
        self.sink = None
        self.owner = None
        self.head_future = None
        self.client_flow = None
        keep = self._keep and not (self._surplus or self.request_open or self.transport.is_closing()) and self.alive
        self._parser = None
        if keep:
            self.pause(False)
            self.pool.put_back(self)
        else:
            self.discard()

    def close_when_sent(self) -> None:
        """Close the transport once all that was written has left (a tunnel's end)."""
        self.tunnel = None
        self._parser = None
        self.pool.forget(self)
        if self.alive:
            self.alive = False
            self.transport.close()

    def discard(self) -> None:
        """Close at once, whatever is going on; nobody is told."""
        self._parser = None
        self.sink = None
        self.client_flow = None
        self.pool.forget(self)
        if self.alive:
            self.alive = False
            self.transport.abort()


def _reason(error: Exception) -> str:
    """A parser's complaint, safe for the log: llhttp's own words, or ours."""
    cause = error.__context__
    return str(cause if isinstance(cause, BadHead) else error)[:120]
