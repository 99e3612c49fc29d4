"""Moves an event stream through its gates, from the backend's connection to the client's.

What lives here: the gated tier per chunk, heartbeats, and the stream's end where verdicts are still to come; all of it
synchronous. What must never live here: events and their text (gated.py), asking itself (asking.py), policies by name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from weakref import WeakSet

from policies.contract import Exchange, Kind
from proxy.asking import Asking
from proxy.connection import ClientConnection
from proxy.faults import Fault
from proxy.gated import GatedStream
from proxy.headers import Fields
from proxy.pump import Pump, SharingPump
from proxy.upstream import BackendConnection

__all__ = ["GatedStreamPump"]

_AT_ONCE = 4096  # bytes of a stream that are judged as they come, where their text is short: a few events


class GatedStreamPump(SharingPump):
    """Gated tier for an event stream. judging: takes note of pumps whose gates have to ask somebody, for their ticks."""

    __slots__ = (
        "__weakref__", "_asking", "_full", "_judging", "_over", "_replied", "held_since", "quiet_since", "stream",
    )  # fmt: skip
    tier = "gated"

    def __init__(
        self, conn: ClientConnection, up: BackendConnection, x: Exchange, clock: Callable[[], float],
        stream: GatedStream, judging: WeakSet[GatedStreamPump] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(conn, up, x, clock)
        self.stream = stream
        self.held_since = 0.0  # monotonic: since when some event has been waiting; 0: none is
        self.quiet_since = 0.0  # monotonic: since when nothing has left although text is held; 0: nothing is held
        self._judging = judging
        self._asking: Asking | None = None
        self._full = False  # too much waits for verdicts: the backend is not read
        self._over: Fields | None = None  # the trailers, once the backend's body has ended
        self._replied = False  # the client has everything; verdicts of shadow mode are still to come

    def data(self, chunk: bytes) -> None:
        if len(chunk) > _AT_ONCE or self._todo:
            self._do(self.stream.feeding(chunk))
            return
        stream = self.stream
        out = stream.begin(chunk)
        if out is chunk and not self.held_since and not stream.judges and stream.cut is None:  # as nearly always
            if not self.sent:
                self.x.first_byte = self.clock()
            self.sent += len(chunk)
            self.conn.write(chunk)
            return
        self._out(out)
        if stream.left and not self.finished:
            self._do(stream.go_on())

    def _flow(self, paused: bool) -> None:
        self.up.pause(paused or self._full or self._busy)

    def _out(self, out: bytes) -> None:
        """What the stream lets go, and what follows from its state."""
        stream = self.stream
        if out:
            Pump.data(self, out)
        if stream.queued:
            self._holding()
        elif self.held_since:
            self._let_go()
        if stream.cut is not None:
            self._cut()
        elif stream.judges or self._full:
            self._ask()

    # -- text that is held -------------------------------------------------------------------------------------

    def _holding(self) -> None:
        if not self.held_since:
            self.held_since = self.clock()
        held = self.stream.held
        if held > self.x.held:
            self.x.held = held

    def _let_go(self) -> None:
        if self.held_since:
            self.x.held_for = max(self.x.held_for, self.clock() - self.held_since)
            self.held_since = 0.0

    def beat(self, now: float, after: float) -> None:
        """Called about once a second: when text has been held for ``after`` seconds, a comment keeps the connection
        alive. An SSE comment is ignored by every client, unless the backend sends ids (openai-python then reads the
        comment's empty line as an event)."""
        if self.finished or not self.stream.held:
            self.quiet_since = 0.0
        elif not self.quiet_since:
            self.quiet_since = now
        elif now - self.quiet_since >= after:
            self.quiet_since = now
            if not self.stream.has_ids:
                Pump.data(self, b": keep-alive\n\n")

    # -- the end -----------------------------------------------------------------------------------------------

    def end(self, trailers: Fields) -> None:
        self.ended_at = self.clock()
        self._left = True
        self.conn.on_flow = None  # the backend's connection may be another's by now
        self._full = False
        self._over = trailers
        stream = self.stream
        if self._todo or not stream.resting:
            self._do(stream.ending(), self._ended)
            return
        self._out(stream.end())
        if not self.finished:
            self._ended()

    def _ended(self) -> None:
        """All that the backend has sent is judged."""
        assert self._over is not None
        if self.stream.judges and self.stream.asks:
            self.conn.uncork()
            self._ask()
        else:
            self._complete(self._over)

    def _complete(self, trailers: Fields) -> None:
        """The backend's body has ended, and nothing is held any more."""
        stream, ended_at = self.stream, self.ended_at
        self._let_go()
        self.account()
        if stream.cut is not None:
            self.x.fault = Kind.CUT
        if stream.judges and stream.cut is None and any(not judge.settled for judge in stream.judges):
            self._replied = True
            self.x.bytes_out = self.sent
            self.conn.end(trailers)
            self._ask()
            return
        self.stop()
        super().end(trailers)
        self.ended_at = ended_at

    def account(self) -> None:
        self.x.usage, self.x.pieces = self.stream.usage, self.stream.pieces

    def lost(self, fault: Fault) -> None:
        """An error event tells the client, and the body breaks all the same: no [DONE], no clean end. What came before
        is judged first."""
        if self._todo:
            self._over = []
            self._last(partial(self.lost, fault))
            return
        self.stop()
        out = self.stream.fail(fault.message, fault.row.type, fault.code)
        if out:
            Pump.data(self, out)
        self.account()
        super().lost(fault)

    def _cut(self) -> None:
        """The reply ends here by policy: the backend must stop generating at once."""
        self.stop()
        if self._over is None:
            self.up.discard()
            self.ended_at = self.clock()
        self.account()
        self.x.fault = Kind.CUT
        self.conn.end()
        self._finish()

    # -- gates that have to ask --------------------------------------------------------------------------------

    def tick(self) -> None:
        """Called every 100 ms: text may have waited long enough to be asked about."""
        if self._asking is not None and not self.finished:
            self._asking.look()

    def stop(self) -> None:
        """The exchange is over: nothing is to be judged, and nobody wants a verdict any more."""
        super().stop()
        if self._asking is not None:
            self._asking.cancel()

    def _ask(self) -> None:
        """See to it that gates get their verdicts; a backend that is too far ahead of them has to wait."""
        stream = self.stream
        if self._asking is None:
            self._asking = Asking(stream.judges, self._answered, self._broke, self.clock)
            if self._judging is not None:
                self._judging.add(self)
        full = self._over is None and stream.full
        if full:
            for judge in stream.judges:
                judge.hurry()
        if full is not self._full:
            self._full = full
            self.conn.on_flow = self._flow
            self._flow(bool(self.conn.write_paused))
        self._asking.look()

    def _answered(self) -> None:
        """Verdicts have come."""
        if self._replied:
            if all(judge.settled for judge in self.stream.judges):
                self._finish()
        else:
            self._do(self.stream.polling(), self._heard)

    def _heard(self) -> None:
        """The verdicts have had their effect."""
        if self._over is not None and self.stream.cut is None and not self.stream.asks:
            self._complete(self._over)
