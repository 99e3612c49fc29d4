"""The body of a request whose upgrade is declined (h2c, as Java's HttpClient and ``curl --http2`` ask for).

llhttp, as httptools drives it, ends such a message at its head and takes its body for the new protocol's bytes; parsed
on as HTTP they would be a second request. So the body is read by a parser that was given a head without the upgrade.

What lives here: that parser's callbacks. What must never live here: limits, replies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from proxy.headers import Head

if TYPE_CHECKING:
    from proxy.connection import ClientConnection


class _Callbacks:
    """Passes on what comes after the made-up head."""

    def __init__(self, connection: ClientConnection) -> None:
        self.primed = False
        self.on_chunk_header = connection.on_chunk_header
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete
        self._connection = connection

    def on_message_begin(self) -> None:
        if self.primed:
            self._connection.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self.primed:
            self._connection.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.primed:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.primed:
            self._connection.on_headers_complete()


def body_parser(connection: ClientConnection, head: Head) -> httptools.HttpRequestParser:
    """A parser that stands at the first byte of the body that ``head`` announces."""
    callbacks = _Callbacks(connection)
    parser = httptools.HttpRequestParser(callbacks)
    framing = b"Transfer-Encoding: chunked" if head.chunked else b"Content-Length: %d" % (head.length or 0)
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: -\r\n%b\r\n\r\n" % framing)
    callbacks.primed = True
    return parser
