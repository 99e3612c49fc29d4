"""The conductor: one request from its head to its settling, in order.

  admit > read > inspect > choose > send > respond > reply > settle

What lives here: the order of the steps, the attempts loop, what is refused when it cannot be read. What must never live
here: sockets, wire shapes, policies by name, work per chunk (pump.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from policies.chain import Plan
from policies.contract import Attempt, Candidate, Channel, Exchange, Headers, Kind, Refuse
from proxy import jsonio, reading
from proxy.backends import Backend, candidates
from proxy.connection import ClientConnection
from proxy.faults import Fault, render, shape_of
from proxy.forms import Form
from proxy.incoming import Incoming
from proxy.outgoing import Upload, outgoing, request_head
from proxy.places import Lease, turn
from proxy.reply import answer
from proxy.routes import Route, match
from proxy.runtime import Runtime
from proxy.upstream import BackendConnection, Reply

#: Send "100 Continue" ourselves when the backend has not said a word after this many seconds (RFC 9110 10.1.1).
CONTINUE_AFTER = 0.9


class Relay:
    """runtime: the policy in force (swapped at a reload). begun, settled: called once per exchange, synchronously, at
    its start and its end. report: called with a request id and an exception that is a bug of ours."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        settled: Callable[[Exchange], None],
        begun: Callable[[], None],
        report: Callable[[str, BaseException], None],
    ) -> None:
        self.runtime = runtime
        self.clock = clock
        self.new_id = new_id
        self.settled = settled
        self.begun = begun
        self.report = report
        self.loop = asyncio.get_running_loop()

    async def handle(self, conn: ClientConnection, incoming: Incoming) -> None:
        """Serve one request; returns when it is settled."""
        head = incoming.head
        path, _, query = incoming.target.decode("latin-1").partition("?")
        rid = head.request_id.decode("latin-1") if head.request_id else self.new_id()
        x = Exchange(
            rid, incoming.method, path, query, Headers(head.fields), conn.client, incoming.started, time.time()
        )
        self.begun()
        runtime = self.runtime
        work = Work(self, conn, incoming, x)
        runtime.in_flight += 1
        try:
            await work.run()
        except Refuse as refusal:
            work.refuse(Fault.of(refusal))
        except Fault as fault:
            work.refuse(fault)
        except asyncio.CancelledError:
            x.fault = Kind.CLIENT_GONE if incoming.gone else Kind.DRAINING
        except Exception as bug:  # a bug of ours must not take the connection's task down unanswered
            self.report(x.id, bug)
            work.refuse(Fault(Kind.INTERNAL))
        finally:
            work.release()
            x.bytes_in = max(x.bytes_in, incoming.size)  # read ones and tunnels have been counted
            x.ended = self.clock()
            runtime.in_flight -= 1
            self.settled(x)
            if work.plan.settle:
                await asyncio.shield(_settle(work.plan, x))


async def _settle(plan: Plan, x: Exchange) -> None:
    for phase in plan.settle:
        await phase(x)


class Work:
    """The steps of one exchange, and what has to be given back at its end."""

    __slots__ = (
        "clock", "conn", "doc", "form", "hide_usage", "incoming", "lease", "led", "loop", "plan", "relay", "route", "runtime",
        "skip", "up", "x",
    )  # fmt: skip

    def __init__(self, relay: Relay, conn: ClientConnection, incoming: Incoming, x: Exchange) -> None:
        self.relay = relay
        self.clock = relay.clock
        self.loop = relay.loop
        self.runtime: Runtime = relay.runtime
        self.conn = conn
        self.incoming = incoming
        self.x = x
        self.route: Route = match(x.method, x.path)
        self.plan: Plan = self.runtime.plans[self.route.name]
        self.doc: Any = None
        self.form: Form | None = None  # what ``doc`` is written as, where that is not JSON
        self.hide_usage = False  # we have asked for the chunk with the token counts, the client has not
        self.skip = -1  # the last event of a stored stream that the client has already
        self.up: BackendConnection | None = None
        self.lease: Lease | Backend | None = None
        self.led: set[Channel] = set()  # channels of the reply whose gates know what stands in front
        x.route = self.route.name
        x.dialect = self.route.dialect.name

    async def run(self) -> None:
        """All steps in order. Raises Refuse or Fault where the exchange ends early."""
        x, plan = self.x, self.plan
        if self.runtime.callers is not None:
            known = self.runtime.callers.identify(x)
            if known is not None:
                await known
        for admit in plan.admit:
            await admit(x)
        self.incoming.set_limit(x.max_body or 0)
        if self.incoming.fault is not None:  # broken already: no backend needs to see its beginning
            raise self.incoming.fault
        reading.refuse_unreadable(self)
        if x.query and self.route.name == "response_get":
            reading.from_the_beginning(self)
        body = None
        if plan.needs_body or plan.guard or plan.admit_late or self.runtime.maps_models:
            body = await reading.read(self)
        choices = self.runtime.candidates  # all of them, as they stand; shared, so not to be changed
        if plan.choose or self.runtime.maps_models:
            choices = candidates(self.runtime.backends, x.model_asked)
            for choose in plan.choose:
                choose(x, choices)
        if not choices:
            raise Fault(Kind.MODEL_NOT_FOUND if x.model_asked is not None else Kind.BACKEND_UNAVAILABLE)
        await answer(self, await self._first_reply(choices, body))

    # -- the request -------------------------------------------------------------------------------------------

    async def _first_reply(self, choices: list[Candidate], body: bytes | None) -> Reply:
        """Try the candidates in turn until one gives a reply's head. Raises the last Fault."""
        x = self.x
        rest = list(choices) if self.runtime.bounded else None
        for left, candidate in zip(range(len(choices) - 1, -1, -1), choices, strict=True):
            if rest is not None:
                candidate, self.lease = await self._turn(rest)
            backend = self.runtime.backends[candidate.backend]
            attempt = Attempt(backend.name, self.clock(), candidate.model)
            x.attempts.append(attempt)
            x.model_sent = candidate.model or x.model_asked
            sent = body
            if candidate.model is not None and isinstance(self.doc, dict):
                doc = {**self.doc, "model": candidate.model}
                sent = jsonio.encode(doc) if self.form is None else self.form.encode(doc)
            if rest is None:
                self.lease = backend
                backend.in_flight += 1
            try:
                reply = await self._attempt(backend, attempt, sent)
            except Fault as fault:
                attempt.kind = fault.kind
                stood = self.up is not None  # without a connection the backend has taken nothing
                if fault.row.side == "backend" and fault.kind is not Kind.BACKEND_UNAVAILABLE:
                    backend.reachable = stood
                self._observe(attempt)
                self.release()
                if stood or not left:
                    raise
            else:
                attempt.status = reply.status
                backend.reachable = True
                self._observe(attempt)
                return reply
        raise Fault(Kind.BACKEND_UNAVAILABLE)

    async def _turn(self, rest: list[Candidate]) -> tuple[Candidate, Lease | Backend]:
        """Of those that are left the first with room; a client that waits for "100 Continue" does not wait for that, too."""
        timer: asyncio.TimerHandle | None = None
        if self.incoming.head.expect == b"100-continue" and not self.incoming.complete:
            timer = self.loop.call_later(CONTINUE_AFTER, self.conn.interim, 100, b"Continue", [])
        try:
            return await turn(self.x, rest, self.runtime.backends, self.incoming.head.upgrade is not None)
        finally:
            if timer is not None:
                timer.cancel()

    def _observe(self, attempt: Attempt) -> None:
        attempt.head_after = self.clock() - attempt.started
        for observe in self.plan.observe:
            observe(self.x, attempt)

    async def _attempt(self, backend: Backend, attempt: Attempt, rewritten: bytes | None) -> Reply:
        """One try at one backend; a pooled connection that was dying gets one fresh successor."""
        # a body that is still coming cannot be sent twice, and an upgrade keeps its connection: both take a fresh one
        once = (rewritten is None and not self.incoming.complete) or self.incoming.head.upgrade is not None
        up = None if once else backend.pool.take()
        if up is not None:
            try:
                return await self._send(backend, up, attempt, rewritten)
            except Fault as fault:
                if fault.kind is not Kind.BACKEND_RESET or not up.stale():
                    raise
                self.up = None
        return await self._send(backend, await backend.pool.connect(), attempt, rewritten)

    async def _send(self, backend: Backend, up: BackendConnection, attempt: Attempt, rewritten: bytes | None) -> Reply:
        conn, incoming, x = self.conn, self.incoming, self.x
        self.up = up
        up.owner = self
        attempt.reused = up.reused
        timeouts = backend.settings.timeouts
        out = outgoing(incoming, rewritten)
        head = request_head(
            x, incoming, backend, out, client=conn.client,
            forwarded=self.runtime.settings.forwarded == "append", identity=bool(self.plan.guard) or self.plan.meters,
            keyless=self.runtime.keyless,
        )  # fmt: skip
        upgrade = incoming.head.upgrade == b"websocket"
        up.idle_timeout, up.first_byte_timeout = timeouts.idle, timeouts.first_byte
        sent = self.clock()
        future = up.send(head, out.payload or b"", x.method, upgrade=upgrade, on_interim=conn.interim)
        timer: asyncio.TimerHandle | None = None
        if out.payload is not None:
            up.request_done()
        else:
            if incoming.head.expect == b"100-continue":
                timer = self.loop.call_later(CONTINUE_AFTER, conn.interim, 100, b"Continue", [])
            up.client_flow = conn.pause_reading
            incoming.stream(Upload(up, incoming))
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            x.upstream_wait += self.clock() - sent

    # -- the end -----------------------------------------------------------------------------------------------

    def refuse(self, fault: Fault) -> None:
        """End the exchange with a fault: as an error reply, or, once the head is out, by breaking the body."""
        x, conn = self.x, self.conn
        x.fault = fault.kind
        if conn.closed or conn.current is not self.incoming:
            return
        if conn.head_sent:
            conn.abort()
            return
        status, reason, fields, body = render(fault, shape_of(x.path), x.id)
        x.status, x.bytes_out = status, len(body)
        conn.respond(status, reason, fields, body)

    def release(self) -> None:
        """Give back the lease and the connection, whatever state they are in; may be called again."""
        up, self.up = self.up, None
        if up is not None and up.owner is self:
            up.owner = None
            up.discard()
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.give_back()
