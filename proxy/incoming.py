"""One request as it comes in: its head, and its body by pieces.

Sans-io: the connection feeds it, the relay reads it. Its only power over the socket is ``flow``: stop or go on reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from policies.contract import Kind
from proxy.faults import Fault
from proxy.headers import Fields, Head

#: Bytes of a body held before anybody asks for it; then the socket is left unread.
READ_AHEAD = 256 * 1024


class BodySink(Protocol):
    """Takes a request's body, piece by piece, synchronously; exactly one of body_end and body_lost comes last."""

    def body(self, chunk: bytes) -> None: ...
    def body_end(self, trailers: Fields) -> None: ...
    def body_lost(self, fault: Fault) -> None: ...


class Incoming:
    """method, target: as received. version: "1.1" or "1.0". ``fault`` is set when the body turned out broken."""

    __slots__ = (
        "chunks", "complete", "fault", "flow", "gone", "head", "held", "limit", "method", "sink", "size", "started",
        "target", "task", "trailers", "version", "waiter",
    )  # fmt: skip

    def __init__(self, flow: Callable[[bool], None], limit: int) -> None:
        self.flow = flow
        self.limit = limit  # bytes; 0: no bound
        self.method = ""
        self.target = b""
        self.version = "1.1"
        self.head: Head = Head()
        self.chunks: list[bytes] = []
        self.held = 0
        self.size = 0
        self.started = 0.0
        self.complete = False
        self.gone = False
        self.fault: Fault | None = None
        self.trailers: Fields = []
        self.sink: BodySink | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

    # -- fed by the connection ---------------------------------------------------------------------------------

    def on_body(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.fault is not None:
            return
        if self.limit and self.size > self.limit:
            self.lost(Fault(Kind.TOO_LARGE, param=None))
        elif self.sink is not None:
            self.sink.body(chunk)
        else:
            self.chunks.append(chunk)
            self.held += len(chunk)
            if self.held > READ_AHEAD and self.waiter is None:
                self.flow(True)

    def on_complete(self) -> None:
        self.complete = True
        if self.fault is None:
            if self.sink is not None:
                self.sink.body_end(self.trailers)
            elif self.waiter is not None and not self.waiter.done():
                self.waiter.set_result(None)

    def lost(self, fault: Fault) -> None:
        """The body is broken or too much; whoever reads it hears of it, once."""
        if self.fault is not None or self.complete:
            return
        self.fault = fault
        self.chunks.clear()
        if self.sink is not None:
            self.sink.body_lost(fault)
        elif self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(fault)

    # -- read by the relay -------------------------------------------------------------------------------------

    def set_limit(self, limit: int) -> None:
        """A tighter bound on the body, in bytes. Raises Fault TOO_LARGE when it is passed or announced to be."""
        if limit and (not self.limit or limit < self.limit):
            self.limit = limit
        announced = max(self.head.length or 0, self.size)
        if self.limit and announced > self.limit:
            raise Fault(Kind.TOO_LARGE)

    def at_hand(self, limit: int) -> bytes | None:
        """The whole body where all of it has come, at most ``limit`` bytes, else None. Raises Fault (TOO_LARGE,
        BODY_TIMEOUT, BAD_HTTP)."""
        if self.complete and self.size <= limit and len(self.chunks) == 1 and self.fault is None:
            return self.chunks[0]  # nearly always
        self.set_limit(limit)
        if self.fault is not None:
            raise self.fault
        return self._whole() if self.complete else None

    async def read(self, limit: int) -> bytes:
        """The whole body, waited for. Raises what ``at_hand`` raises."""
        body = self.at_hand(limit)
        if body is None:
            self.waiter = asyncio.get_running_loop().create_future()
            self.flow(False)
            await self.waiter
            body = self._whole()
        return body

    def _whole(self) -> bytes:
        self.chunks = [b"".join(self.chunks)]
        return self.chunks[0]

    def take(self) -> bytes:
        """What is at hand of the body, without waiting; the pieces are given away."""
        chunks, self.chunks, self.held = self.chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def stream(self, sink: BodySink) -> None:
        """Give the rest of the body to ``sink``; what is held is delivered before this returns."""
        if self.fault is not None:
            sink.body_lost(self.fault)
            return
        self.sink = sink
        held = self.take()
        if held:
            sink.body(held)
        if self.complete:
            sink.body_end(self.trailers)
        else:
            self.flow(False)
