"""The reply side of a client connection: HTTP/1.1 framing of what goes out (RFC 9112 6).

What lives here: heads, pieces, ends, and breaks that nobody can take for an end. What must never live here: reading,
policies, what a reply means.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import cast

from proxy.headers import Fields, lines
from proxy.incoming import Incoming

_BIG = 16_384  # bytes; from here on a piece is not copied to be framed
_RST = struct.pack("ii", 1, 0)


class ReplyWriter(asyncio.Protocol):
    """Writes the reply to ``current``. Framing: none, length, chunked, or close: the end of the connection is the end."""

    __slots__ = (
        "_reply_close", "_reply_framing", "_reply_head", "_reply_left", "closed", "current", "head_sent", "streaming",
        "transport",
    )  # fmt: skip

    def __init__(self) -> None:
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.closed = False
        self.current: Incoming | None = None
        self.head_sent = False
        self.streaming = False  # the reply under way is an event stream
        self._reply_framing = ""
        self._reply_head = b""
        self._reply_left = 0
        self._reply_close = False

    def _last(self) -> bool:
        """This reply is the connection's last."""
        raise NotImplementedError

    def _next(self) -> None:
        """The reply has been written whole."""
        raise NotImplementedError

    def _detach(self) -> Incoming | None:
        """The reply is over, one way or the other."""
        raise NotImplementedError

    def begin(self, status: int, reason: bytes, fields: Fields, length: int | None) -> None:
        """The reply's head. length: bytes of the body; None: unknown, so chunked, or closed at its end for 1.0.
        It leaves with the first piece of the body, or at ``flush``: one system call less per reply. A request whose
        body is not here whole is the connection's last."""
        incoming = cast(Incoming, self.current)
        head = incoming.head
        close = head.close or self._last()
        if incoming.version == "1.0" and not head.keep_alive:
            close = True
        framing = b""
        if status == 101:
            self._reply_framing, close = "none", False
            framing = b"Connection: Upgrade\r\n"
        elif incoming.method == "HEAD" or status in (204, 304):
            self._reply_framing = "none"
            if length is not None and status != 204:
                framing = b"Content-Length: %d\r\n" % length
        elif length is not None:
            self._reply_framing, self._reply_left = "length", length
            framing = b"Content-Length: %d\r\n" % length
        elif incoming.version == "1.1":
            self._reply_framing = "chunked"
            framing = b"Transfer-Encoding: chunked\r\n"
        else:
            self._reply_framing, close = "close", True
        if close:
            framing += b"Connection: close\r\n"
        elif incoming.version == "1.0":
            framing += b"Connection: keep-alive\r\n"
        self._reply_close = close
        self.head_sent = True
        self._reply_head = b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (status, reason, lines(fields), framing)

    def cork(self) -> None:
        """The body's end is here: what is written until ``end`` leaves with it, in one system call."""
        if self._reply_framing == "chunked":
            self._reply_framing = "corked"

    def uncork(self) -> None:
        """The end has to wait after all: send what has been written."""
        if self._reply_framing == "corked":
            self._reply_framing = "chunked"
            self.flush()

    def flush(self) -> None:
        """Send the head now, when no piece of the body has taken it along."""
        head, self._reply_head = self._reply_head, b""
        if head and not self.closed:
            self.transport.write(head)

    def write(self, data: bytes) -> None:
        """A piece of the reply's body, sent at once."""
        if self.closed or not data:
            return
        framing = self._reply_framing
        if framing == "chunked":
            if len(data) < _BIG:
                data = b"%x\r\n%b\r\n" % (len(data), data)
            else:
                self.flush()
                self.transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
                return
        elif framing == "length":
            self._reply_left -= len(data)
        elif framing == "corked" and len(data) < _BIG:
            self._reply_head += b"%x\r\n%b\r\n" % (len(data), data)
            return
        elif framing == "corked":
            self.uncork()
            self.write(data)
            return
        elif framing == "none":
            return
        head = self._reply_head
        if head:
            self._reply_head = b""
            data = head + data
        self.transport.write(data)

    def end(self, trailers: Fields | None = None) -> None:
        """The reply is complete; the connection goes on to the next request, or closes."""
        if self.closed:
            return
        if self._reply_framing == "chunked" or self._reply_framing == "corked":
            last = b"0\r\n%b\r\n" % lines(trailers) if trailers else b"0\r\n\r\n"
            self.transport.write(self._reply_head + last if self._reply_head else last)
            self._reply_head = b""
        elif self._reply_framing == "length" and self._reply_left > 0:
            self.abort()  # shorter than announced: never a clean end
            return
        self.flush()
        self._next()

    def respond(self, status: int, reason: bytes, fields: Fields, body: bytes) -> None:
        """A whole small reply of our own."""
        self.begin(status, reason, fields, len(body))
        self.write(body)
        self._reply_left = 0
        self.end()

    def send_raw(self, data: bytes) -> None:
        """Bytes of a tunnel."""
        if not self.closed:
            self.transport.write(data)

    def close_when_sent(self) -> None:
        """Close once all that was written has left."""
        self.flush()
        self._detach()
        if not self.closed:
            self.transport.close()

    def abort(self) -> None:
        """Break the reply: what is written leaves, then the connection closes without a proper end of the body."""
        if self.closed:
            return
        self.flush()
        if self._reply_framing == "close":  # there a plain close would look like an end
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        self._detach()
        self.transport.close()

    @property
    def may_add(self) -> bool:
        """The reply's length was not announced: bytes of our own may follow the backend's."""
        return self._reply_framing in ("chunked", "corked", "close")
