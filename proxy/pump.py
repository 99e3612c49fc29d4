"""Moves a reply from the backend's connection to the client's, in one of three tiers.

  opaque   bytes in, the same bytes out
  watched  bytes in, the same bytes out, then looked at (token usage)
  gated    events or whole replies pass the gates of their channels (of streams: gated_pump.py)

What lives here: the only code that runs per chunk; it is synchronous. What takes longer than a turn of the event loop may
is done in several (SharingPump). What must never live here: policies by name, HTTP framing, waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from policies.contract import Exchange, Kind, Usage
from proxy.connection import ClientConnection
from proxy.faults import Fault
from proxy.headers import Fields
from proxy.turns import turns
from proxy.upstream import BackendConnection
from proxy.watched import WatchedStream

_LOOK = 16_384  # bytes that are watched at a time: some 100 us
#: Bytes of a stream that are looked at as they come: an event or a few. What is more shares the loop's time with others.
AT_ONCE = 1024


class Pump:
    """Opaque tier, and the base of the others. ``finished``: the reply has ended, one way or the other."""

    __slots__ = ("_waiter", "clock", "conn", "ended_at", "finished", "sent", "up", "x")
    tier = "opaque"

    def __init__(
        self, conn: ClientConnection, up: BackendConnection, x: Exchange, clock: Callable[[], float]
    ) -> None:
        self.conn = conn
        self.up = up
        self.x = x
        self.clock = clock
        self.finished = False
        self._waiter: asyncio.Future[None] | None = None
        self.sent = 0
        self.ended_at = 0.0

    def done(self) -> asyncio.Future[None]:
        """Resolves when the reply has ended; to be asked for only while it has not."""
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        return waiter

    def start(self) -> None:
        """Begin: the reply's head has been written."""
        self.conn.on_flow = self.up.pause
        if self.conn.write_paused:
            self.up.pause(True)
        self.up.attach(self)
        self.conn.flush()

    def ending(self) -> None:
        """What comes next is the last piece, and the end follows: both leave together."""
        self.conn.cork()

    def data(self, chunk: bytes) -> None:
        if not self.sent:
            self.x.first_byte = self.clock()
        self.sent += len(chunk)
        self.conn.write(chunk)

    def end(self, trailers: Fields) -> None:
        self.ended_at = self.clock()
        self.conn.on_flow = None  # the backend's connection may be another's by now: nothing may pause it any more
        self.conn.end(trailers)
        self._finish()

    def lost(self, fault: Fault) -> None:
        """The backend broke off: the client must see a broken body, never a clean end."""
        self.ended_at = self.clock()
        self.x.fault = fault.kind
        self.conn.abort()
        self._finish()

    def stop(self) -> None:
        """The exchange is over: nothing may go on for it."""

    def account(self) -> None:
        """Write down what the reply has cost, as far as it went."""

    def _finish(self) -> None:
        self.x.bytes_out = self.sent
        self._wake()

    def _wake(self) -> None:
        self.finished = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class SharingPump(Pump):
    """A pump whose work may take more than one turn of the event loop; meanwhile the backend is not read (turns.py)."""

    __slots__ = ("_busy", "_left", "_todo")

    def __init__(
        self, conn: ClientConnection, up: BackendConnection, x: Exchange, clock: Callable[[], float]
    ) -> None:
        Pump.__init__(self, conn, up, x, clock)
        self._busy = False  # some work waits for its turn
        self._left = False  # the backend's connection has nothing more for us, and may be another's
        # What is to be done, in order: steps, and what follows the last of them.
        self._todo: deque[tuple[Iterator[bytes], Callable[[], None] | None]] = deque()

    def ending(self) -> None:
        if not self._todo:
            self.conn.cork()

    def _out(self, out: bytes) -> None:
        """What some steps have given, taken together; maybe nothing."""

    def _do(self, steps: Iterator[bytes], after: Callable[[], None] | None = None) -> None:
        """Take steps now as far as there is time for them, the others in the loop's next turns; then do what follows."""
        self._todo.append((steps, after))
        if len(self._todo) > 1 or turns().begin(self._work) or self.finished:
            return
        self._busy = True
        self.conn.uncork()
        if not self._left:
            self.conn.on_flow = self._flow
            self.up.pause(True)

    def _last(self, act: Callable[[], None]) -> None:
        """The backend's connection has gone: do this when all else is done."""
        self._left = True
        self.conn.on_flow = None
        self._todo.append((iter(()), act))

    def _work(self, until: float) -> bool:
        """Take steps until a time; True when there are no more."""
        try:
            return self._worked(until)
        except Exception as error:
            self._todo.clear()
            if not self._busy:  # called by the backend's connection, or by who asks the gates: it is theirs to tell
                raise
            self._broke(error)
            return True

    def _worked(self, until: float) -> bool:
        todo, clock = self._todo, turns().clock
        ready: list[bytes] = []
        while todo:
            steps, after = todo[0]
            for out in steps:
                if out:
                    ready.append(out)
                if clock() >= until:
                    break
            else:
                todo.popleft()
                self._out(b"".join(ready))
                ready.clear()
                if after is not None and not self.finished:
                    after()
                continue
            self._out(b"".join(ready))
            if todo:  # a cut ends it all
                return False
        if self._busy:
            self._busy = False
            if not self._left and not self.finished:
                self._flow(bool(self.conn.write_paused))
        return True

    def _flow(self, paused: bool) -> None:
        self.up.pause(paused or self._busy)

    def stop(self) -> None:
        self._todo.clear()

    def _broke(self, error: Exception) -> None:
        """A bug: whoever waits for the reply's end deals with it."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)


class WatchedPump(SharingPump):
    """Watched tier: the client has its bytes before they are looked at."""

    __slots__ = ("watch",)
    tier = "watched"

    def __init__(
        self, conn: ClientConnection, up: BackendConnection, x: Exchange, clock: Callable[[], float], watch: WatchedStream
    ) -> None:
        super().__init__(conn, up, x, clock)
        self.watch = watch

    def data(self, chunk: bytes) -> None:
        Pump.data(self, chunk)
        if len(chunk) <= AT_ONCE and not self._todo:
            self.watch.feed(chunk)
        else:
            self._do(self._looking(chunk))

    def _looking(self, chunk: bytes) -> Iterator[bytes]:
        if len(chunk) <= _LOOK:
            self.watch.feed(chunk)  # whole events, likely: quicker
            yield b""
            return
        for at in range(0, len(chunk), _LOOK):
            self.watch.feed(chunk[at : at + _LOOK])
            yield b""

    def account(self) -> None:
        self.x.usage, self.x.pieces = self.watch.usage, self.watch.pieces

    def end(self, trailers: Fields) -> None:
        if self._todo:
            self._last(partial(self.end, trailers))
            return
        self.account()
        super().end(trailers)

    def lost(self, fault: Fault) -> None:
        """Between two events an error event can tell the client why; the body breaks in any case."""
        if self._todo:
            self._last(partial(self.lost, fault))
            return
        self.account()
        if self.conn.may_add:
            event = self.watch.fail(fault.message, fault.row.type, fault.code)
            if event is not None:
                super().data(event)
        super().lost(fault)


class WatchedWholePump(Pump):
    """Watched tier for a whole JSON reply; kept up to ``cap`` bytes, to read its usage from."""

    __slots__ = ("cap", "kept", "read")
    tier = "watched"

    def __init__(
        self, conn: ClientConnection, up: BackendConnection, x: Exchange, clock: Callable[[], float],
        read: Callable[[bytes], Usage | None], cap: int,
    ) -> None:  # fmt: skip
        Pump.__init__(self, conn, up, x, clock)  # a look-up less than super()
        self.read = read
        self.cap = cap
        self.kept: list[bytes] = []

    def data(self, chunk: bytes) -> None:
        if not self.sent:  # as Pump.data: every reply of the default settings comes this way
            self.x.first_byte = self.clock()
        self.sent += len(chunk)
        self.conn.write(chunk)
        if self.sent <= self.cap:
            self.kept.append(chunk)
        else:
            self.kept.clear()

    def end(self, trailers: Fields) -> None:
        Pump.end(self, trailers)
        if self.sent <= self.cap:
            self.x.usage = self.read(self.kept[0] if len(self.kept) == 1 else b"".join(self.kept))


class WholePump(Pump):
    """Gated tier for a whole reply: collects it, up to ``cap`` bytes; the relay judges and sends it."""

    __slots__ = ("body", "cap", "fault", "kept")
    tier = "gated"

    def __init__(
        self, conn: ClientConnection, up: BackendConnection, x: Exchange, clock: Callable[[], float], cap: int
    ) -> None:
        super().__init__(conn, up, x, clock)
        self.cap = cap
        self.kept: list[bytes] = []
        self.body = b""
        self.fault: Fault | None = None

    def ending(self) -> None:
        """Nothing: the relay writes."""

    def data(self, chunk: bytes) -> None:
        self.sent += len(chunk)
        if self.sent > self.cap:
            self.up.discard()
            self.lost(Fault(Kind.BACKEND_PROTOCOL, "reply too large to be read whole"))
        else:
            self.kept.append(chunk)

    def end(self, trailers: Fields) -> None:
        self.ended_at = self.clock()
        self.body = b"".join(self.kept)
        self._wake()

    def lost(self, fault: Fault) -> None:
        self.ended_at = self.clock()
        self.fault = fault
        self._wake()
