"""A request as the backend gets it: its head, its body's framing, and the rest of a body that is still coming.

Sans-io but for the connection it writes to. Framing is per hop: exactly one of Content-Length and chunked (RFC 9112 6).
"""

from __future__ import annotations

from policies.contract import Exchange
from proxy.backends import Backend
from proxy.faults import Fault
from proxy.headers import KEY_FIELDS, Fields, forwarded_for, lines
from proxy.incoming import Incoming
from proxy.upstream import BackendConnection


class Outgoing:
    """framing: the field that frames the body, if any. payload: the whole body as framed; None: it is still coming."""

    __slots__ = ("framing", "payload")

    def __init__(self, framing: Fields, payload: bytes | None) -> None:
        self.framing = framing
        self.payload = payload


def outgoing(incoming: Incoming, rewritten: bytes | None) -> Outgoing:
    """The body to send: ``rewritten`` when policies have read it, else the client's own, framed as the client did."""
    if rewritten is not None:
        return Outgoing([(b"Content-Length", b"%d" % len(rewritten))], rewritten)
    head = incoming.head
    if head.chunked:
        framing = [(b"Transfer-Encoding", b"chunked")]
    elif head.length is not None:
        framing = [(b"Content-Length", b"%d" % head.length)]
    else:
        framing = []
    if not incoming.complete:
        return Outgoing(framing, None)
    chunks = incoming.chunks
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if head.chunked:
        last = b"0\r\n%b\r\n" % lines(incoming.trailers)
        body = b"%x\r\n%b\r\n%b" % (len(body), body, last) if body else last
    return Outgoing(framing, body)


def request_head(
    x: Exchange, incoming: Incoming, backend: Backend, out: Outgoing, *, client: str, forwarded: bool, identity: bool,
    keyless: bool,
) -> bytes:  # fmt: skip
    """The request line and fields. client: the peer's address. identity: ask for a reply that can be read. keyless: the
    caller's key was meant for us, and goes no further."""
    head = incoming.head
    fields: Fields = list(x.headers.fields)
    if backend.settings.key is not None:
        backend.authorize(fields)
    elif keyless:
        fields = [f for f in fields if f[0].lower() not in KEY_FIELDS]
    if identity:
        fields = [f for f in fields if f[0].lower() != b"accept-encoding"]
        fields.append((b"Accept-Encoding", b"identity"))
    if forwarded:
        forwarded_for(fields, client, head.forwarded)
    if head.request_id is None:
        fields.append((b"X-Request-Id", x.id.encode("latin-1", "replace")))
    if out.payload is None and head.expect is not None:
        fields.append((b"Expect", head.expect))
    if head.upgrade == b"websocket":
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    elif head.trailers:
        fields += [(b"TE", b"trailers"), (b"Connection", b"TE")]
    host = (b"Host", head.host) if backend.keep_host and head.host is not None else backend.host_field
    return b"%b %b%b HTTP/1.1\r\n%b: %b\r\n%b%b\r\n" % (
        x.method.encode("ascii"), backend.prefix, incoming.target, host[0], host[1], lines(fields), lines(out.framing),
    )  # fmt: skip


class Upload:
    """The rest of a request's body on its way to the backend, piece by piece."""

    __slots__ = ("_chunked", "_up")

    def __init__(self, up: BackendConnection, incoming: Incoming) -> None:
        self._up = up
        self._chunked = incoming.head.chunked

    def body(self, chunk: bytes) -> None:
        self._up.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)

    def body_end(self, trailers: Fields) -> None:
        if self._chunked:
            self._up.write(b"0\r\n%b\r\n" % lines(trailers))
        self._up.request_done()

    def body_lost(self, fault: Fault) -> None:
        """The client's body broke: the backend must not take what it has for a whole one."""
        self._up.fail(fault)
