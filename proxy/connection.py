"""One client connection: llhttp (through httptools) over what comes in, and whose turn it is.

What lives here: the limits on heads and framing, one request at a time, lingering closes. What must never live here:
reply framing (writing.py), policies, backends, what a reply means. aiohttp serves the admin side; why not this one is told in
docs/architecture.md.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import httptools

from policies.contract import Kind
from proxy.declined import body_parser
from proxy.faults import Fault, render
from proxy.headers import NO_TRAILER, BadHead, Fields, lines, scan, size_of
from proxy.incoming import Incoming
from proxy.writing import ReplyWriter

if TYPE_CHECKING:
    from proxy.server import Server

#: Requests a client may send ahead on one connection before its socket is left unread (they are served one by one).
PIPELINE = 8
#: One read from the socket may hold thousands of small ones; more than this are refused.
MAX_AHEAD = 128
MAX_TRAILERS = 64
#: Framing bytes allowed beside a chunked body: per chunk, and in all; more is an attack by chunk extensions.
CHUNK_OVERHEAD, FRAMING_SLACK = 64, 16_384
#: After a reply to a request whose body is unread: keep reading and dropping for this many seconds, so that the
#: client gets the reply and not a reset.
LINGER = 2.0
#: CONNECT asks for a tunnel to anywhere; the others are RTSP's and ICE's, which llhttp parses too.
_NOT_HERE = frozenset(
    ("CONNECT", "SOURCE", "DESCRIBE", "ANNOUNCE", "SETUP", "PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "SET_PARAMETER",
     "REDIRECT", "RECORD", "FLUSH")
)  # fmt: skip
_OVERLOADED = Fault(Kind.OVERLOADED)


class ClientConnection(ReplyWriter):
    """One client connection. httptools calls the ``on_`` methods; the relay calls the reply methods."""

    __slots__ = (
        "_chunks", "_continued", "_deaf", "_early", "_fields", "_incoming", "_parser", "_parsing", "_queue", "_raw",
        "_read_paused", "_segment", "busy_since", "client", "head_since", "linger_until", "on_flow", "received", "server",
        "tunnel", "write_paused",
    )  # fmt: skip

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.client = ""
        self.head_since = 0.0  # monotonic: since when we wait for (the rest of) a head
        self.busy_since = 0.0
        self.received = 0  # body bytes since the last sweep
        self.linger_until = 0.0
        self.write_paused = 0.0
        self.on_flow: Callable[[bool], None] | None = None
        self.tunnel: Callable[[bytes], None] | None = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._queue: deque[Incoming | Fault] = deque()
        self._incoming: Incoming | None = None  # the message being parsed
        self._parsing = False  # inside a head
        self._fields: Fields = []
        self._raw = 0
        self._chunks = 0
        self._deaf = False  # what else comes is dropped
        self._continued = False  # "100 Continue" has been said
        self._early: list[bytes] = []
        self._read_paused = False
        self._segment = 0

    # -- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0]) if isinstance(peer, tuple) else "unix"
        server = self.server
        self.head_since = server.clock()
        server.connections.add(self)
        if len(server.connections) > server.limits.connections:
            self.refuse(_OVERLOADED)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.server.connections.discard(self)
        self.server.unread.discard(self)
        current, self.current = self.current, None
        self._queue.clear()
        # The parser holds us by nine bound methods. Left to the collector, a connection that has lived for long would stay for
        # good: full collections are rare by design.
        self._parser = None
        if self.tunnel is not None:
            self.tunnel(b"")
            return
        if current is not None:
            current.gone = True
            if current.task is not None:
                current.task.cancel()

    def eof_received(self) -> bool:
        # A client that closes and one that only shuts down its sending side look the same from here. As nginx does,
        # take both for gone: generation must stop when nobody listens.
        return False

    def pause_writing(self) -> None:
        self.write_paused = self.server.clock()
        if self.on_flow is not None:
            self.on_flow(True)

    def resume_writing(self) -> None:
        self.write_paused = 0.0
        if self.on_flow is not None:
            self.on_flow(False)
        if self.current is None and self._queue and not self.linger_until:
            self._advance()

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel(data)
            return
        if self._deaf or self.linger_until or self.closed:
            return
        if self._parser is None:  # an upgrade is being asked for
            self._early.append(data)
            if len(self._early) > PIPELINE:
                self.pause_reading(True)
            return
        self._segment = size = len(data)
        self.received += size
        self._raw += size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as e:
            self._upgrade(data[e.args[0] :])
            return
        except httptools.HttpParserError as e:
            cause = e.__context__
            if isinstance(cause, Fault):
                self._broken(cause)
            else:
                self._broken(Fault(Kind.BAD_HTTP, str(cause if isinstance(cause, BadHead) else e)[:120]))
            return
        if self._parsing and self._raw > self.server.limits.head:
            self._broken(Fault(Kind.HEAD_TOO_LARGE))
        elif self._incoming is not None and self._incoming.head.chunked:
            surplus = self._raw - self._incoming.size
            if surplus > FRAMING_SLACK + CHUNK_OVERHEAD * self._chunks:
                self._broken(Fault(Kind.BAD_HTTP, "too many framing bytes in a chunked body"))
        if len(self._queue) >= PIPELINE:
            self.pause_reading(True)

    # -- httptools callbacks -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if len(self._queue) >= MAX_AHEAD:
            raise Fault(Kind.BAD_HTTP, "too many requests sent ahead")
        self._incoming = Incoming(self._body_flow, self.server.limits.body)
        self._fields = []
        self._parsing = True
        self._raw = 0
        self._chunks = 0
        self.head_since = self.server.clock()

    def on_url(self, url: bytes) -> None:
        incoming = cast(Incoming, self._incoming)
        incoming.target = incoming.target + url if incoming.target else url
        if len(incoming.target) > self.server.limits.target:
            raise Fault(Kind.URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._parsing:
            self._fields.append((name, value))
            if len(self._fields) > self.server.limits.fields:
                raise Fault(Kind.HEAD_TOO_LARGE)
        else:
            if name.lower() in NO_TRAILER:
                raise BadHead("a field that may not be a trailer")
            trailers = cast(Incoming, self._incoming).trailers
            trailers.append((name, value))
            if len(trailers) > MAX_TRAILERS:
                raise Fault(Kind.HEAD_TOO_LARGE, "trailers")

    def on_headers_complete(self) -> None:
        incoming = cast(Incoming, self._incoming)
        parser = self._parser
        incoming.method = parser.get_method().decode("ascii")
        incoming.version = version = parser.get_http_version()
        incoming.head = head = scan(self._fields)
        target = incoming.target
        if incoming.method in _NOT_HERE:
            raise BadHead("the method is not for a gateway")
        if version != "1.1" and version != "1.0":
            raise BadHead("only HTTP/1.1 and HTTP/1.0 are spoken here")
        if head.host is None and version == "1.1":
            raise BadHead("no Host field")
        if head.chunked and version == "1.0":
            raise BadHead("Transfer-Encoding in HTTP/1.0")
        if target[:1] != b"/" and not (target == b"*" and incoming.method == "OPTIONS"):
            raise BadHead("the request target must begin with a slash")
        if head.upgrade is not None:
            if version == "1.0":
                head.upgrade = None  # RFC 9110 7.8
            elif head.upgrade == b"websocket" and (head.length or head.chunked):
                raise BadHead("a WebSocket handshake with a body")
        limit = self.server.limits.head
        if self._raw + self._segment > limit and size_of(self._fields) > limit:
            raise Fault(Kind.HEAD_TOO_LARGE)
        self._parsing = False
        self._raw = 0
        self.received = 0
        if self.current is None and not self._queue and not self.write_paused:
            self._start(incoming)
        else:
            self._queue.append(incoming)

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_body(self, body: bytes) -> None:
        cast(Incoming, self._incoming).on_body(body)

    def on_message_complete(self) -> None:
        incoming = cast(Incoming, self._incoming)
        head = incoming.head
        if (head.length and incoming.size != head.length) or (head.chunked and not self._chunks):
            return  # an upgrade is asked for, and its body still to be read: see _upgrade
        self._incoming = None
        self._chunks = 0
        incoming.on_complete()

    # -- between parser and relay ------------------------------------------------------------------------------

    def _start(self, incoming: Incoming) -> None:
        self.current = incoming
        self.head_sent = self._continued = False
        self.busy_since = incoming.started = self.server.clock()
        incoming.task = self.server.spawn(self.server.handler(self, incoming))

    def _broken(self, fault: Fault) -> None:
        """What the client sends cannot be read on: the request in work hears of it, or it is answered in its turn."""
        self._parser = None
        self._deaf = True
        broken, self._incoming = self._incoming, None
        if broken is None and self._last_word():
            return
        if broken is not None and not self._parsing:
            broken.lost(fault)  # its head was fine: whoever handles it, now or in its turn, answers
            return
        self._parsing = False
        if self.current is None and not self._queue:
            self.refuse(fault)
        else:
            self._queue.append(fault)

    def _last_word(self) -> bool:
        """The request before said that it is the last: what follows it is nobody's request (RFC 9112 9.6)."""
        last = self._queue[-1] if self._queue else self.current
        if not isinstance(last, Incoming):
            return last is None and self._reply_close
        return last.head.close or (last.version == "1.0" and not last.head.keep_alive)

    def _upgrade(self, rest: bytes) -> None:
        last = self._queue[-1] if self._queue else self.current
        if isinstance(last, Incoming) and last.head.upgrade == b"websocket":
            self._parser = None
            if rest:
                self._early.append(rest)
            return
        # any other upgrade (h2c and the like) is not taken up: the request is served as it is (RFC 9110 7.8)
        if self._incoming is not None:
            self._parser = body_parser(self, self._incoming.head)
        else:
            self._parser = httptools.HttpRequestParser(self)
        if rest:
            self.data_received(rest)

    def _body_flow(self, stop: bool) -> None:
        self.pause_reading(stop)

    def pause_reading(self, stop: bool) -> None:
        """Leave the client's socket unread, or read on."""
        if stop != self._read_paused and not self.closed:
            self._read_paused = stop
            if stop:
                self.transport.pause_reading()
                self.server.unread.add(self)
            else:
                self.transport.resume_reading()
                self.server.unread.discard(self)

    def open_tunnel(self, receive: Callable[[bytes], None]) -> None:
        """After a 101: every byte from now on goes to ``receive``; an empty piece means the client is gone."""
        self.flush()
        self.tunnel = receive
        early, self._early = self._early, []
        for piece in early:
            receive(piece)
        self.pause_reading(False)

    # -- replies, called by the relay --------------------------------------------------------------------------

    def interim(self, status: int, reason: bytes, fields: Fields) -> None:
        """Send a 1xx reply; HTTP/1.0 clients do not know them (RFC 9110 15.2)."""
        current = self.current
        if current is not None and current.version == "1.1" and not self.head_sent and not self.closed:
            if status == 100:
                if self._continued:  # by the backend and by ourselves: once is enough
                    return
                self._continued = True
            self.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines(fields)))

    def refuse(self, fault: Fault, request_id: str = "") -> None:
        """Answer outside of any request (broken head, overload), then close."""
        rid = request_id or self.server.new_id()
        status, reason, fields, body = render(fault, "openai", rid)
        self.server.on_refused(fault, rid, self.client)
        self.transport.write(
            b"HTTP/1.1 %d %b\r\n%bContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (status, reason, lines(fields), len(body), body)
        )
        self._linger()

    def _last(self) -> bool:
        current = self.current
        if self.server.draining or current is None or not current.complete:
            return True
        return self._parser is None and not self._queue  # nothing more can be read; what waits in its turn is answered

    def _next(self) -> None:
        """The reply has been written whole."""
        incoming = self._detach()
        if incoming is not None and not incoming.complete:
            self._linger()
        elif self._reply_close or self.server.draining:
            if self._queue or self._deaf or self._read_paused:  # bytes may be left unread
                self._linger()
            else:
                self.transport.close()
        elif self._queue:
            if not self.write_paused:  # a client that does not read its replies gets no more of them made
                self._advance()
        elif self._parser is None:
            self.transport.close()
        else:
            self.head_since = self.server.clock()
            if self._read_paused:
                self.pause_reading(False)

    def _advance(self) -> None:
        """The next one of those that were sent ahead."""
        following = self._queue.popleft()
        if isinstance(following, Fault):
            self.refuse(following)
            return
        self._start(following)
        if len(self._queue) < PIPELINE:
            self.pause_reading(False)

    def _detach(self) -> Incoming | None:
        incoming, self.current = self.current, None
        self.on_flow = None
        self.streaming = False
        if incoming is not None:
            incoming.sink = None
            incoming.chunks.clear()
        return incoming

    def _linger(self) -> None:
        """Close our side and drop what still comes, for a moment: closing with bytes unread would reset the reply away."""
        self._parser = None
        self.linger_until = self.server.clock() + LINGER
        if self.transport.can_write_eof():
            self.transport.write_eof()
            if self._read_paused:
                self.pause_reading(False)
        else:
            self.transport.close()

    @property
    def idle(self) -> bool:
        """Nothing is under way: no request, no part of a head, no last words."""
        return self.current is None and not self._parsing and not self._queue and not self.linger_until

    # -- time --------------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Apply the time limits; called once a second."""
        limits = self.server.limits
        if self.linger_until:
            if now > self.linger_until:
                self.transport.abort()
        elif self.transport.is_closing():  # the client has yet to take the last bytes
            self.linger_until = now + (limits.write_timeout or LINGER)
        elif self.write_paused and limits.write_timeout and now - self.write_paused > limits.write_timeout:
            self.transport.abort()
        elif self._queue:
            pass  # what is asked for waits for its turn
        elif self.current is None:
            if self._parsing or not self.busy_since:
                if now - self.head_since > limits.head_timeout:
                    if self._parsing:
                        self.refuse(Fault(Kind.HEAD_TIMEOUT))
                    else:
                        self.transport.close()
            elif now - self.head_since > limits.keepalive:
                self.transport.close()
        elif not self.current.complete and not self._read_paused and self.tunnel is None:
            age = now - self.current.started
            if age > limits.body_grace and self.current.size < limits.body_rate * age:
                self.current.lost(Fault(Kind.BODY_TIMEOUT))
