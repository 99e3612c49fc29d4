"""From a reply's head to its last byte: the fields the client gets, and the tier in which the body is moved.

What lives here: the choice of the tier, and why a reply was not scanned. What must never live here: work per chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.contract import Channel, Gate, Headers, Kind, ReplyHead
from proxy.faults import Fault
from proxy.gated import GatedStream, WatchedStream, gate_whole, watch_whole
from proxy.headers import Fields
from proxy.pump import GatedStreamPump, Pump, WatchedPump, WatchedWholePump, WholePump
from proxy.tunnel import tunnel
from proxy.upstream import BackendConnection, Reply

if TYPE_CHECKING:
    from proxy.relay import Work

#: Fields that describe the original body and are wrong for a changed one (RFC 9110 8.8, RFC 9530).
_OF_THE_BODY = frozenset((b"etag", b"content-md5", b"digest", b"content-digest", b"repr-digest", b"accept-ranges"))
#: Bytes of a whole reply that is read for its token usage; embeddings of big batches pass unread.
WATCH_CAP = 1_000_000


async def answer(work: Work, reply: Reply) -> None:
    """Relay a reply to its end. Raises Fault only while nothing has been sent."""
    x, conn = work.x, work.conn
    up = work.up
    assert up is not None
    x.status = reply.status
    fields = reply.fields
    if reply.head.request_id is None:
        fields.append((b"X-Request-Id", x.id.encode("latin-1", "replace")))
    if reply.status == 101:
        x.tier = "tunnel"
        fields.append((b"Upgrade", reply.head.upgrade or b"websocket"))
        conn.begin(101, reply.reason, _respond(work, reply.status, fields), None)
        x.committed = True
        await tunnel(conn, up, x)
        return
    pump = _pump(work, reply, up)
    x.tier = pump.tier
    if isinstance(pump, WholePump):
        up.attach(pump)
        if not pump.finished:
            await pump.done()
        _whole(work, reply, pump)
        return
    length = reply.head.length
    if isinstance(pump, GatedStreamPump):
        fields = [f for f in fields if f[0].lower() not in _OF_THE_BODY]
        length = None
    if work.plan.inspect or work.plan.guard:
        fields.append((b"X-Headgate-Scanned", scanned(work)))
    conn.begin(reply.status, reply.reason, _respond(work, reply.status, fields), length)
    x.committed = True
    pump.start()
    if not pump.finished:
        waited = work.clock()
        await pump.done()
        x.upstream_wait += max(0.0, pump.ended_at - waited)


def scanned(work: Work) -> bytes:
    """What the policies have seen of this exchange, for the reply's header."""
    text = f"request={work.x.scanned_request}; reply={work.x.scanned_reply}"
    return text.encode("latin-1", "replace")


def _respond(work: Work, status: int, fields: Fields) -> Fields:
    plan = work.plan
    if not plan.respond:
        return fields
    head = ReplyHead(status, Headers(fields))
    for respond in plan.respond:
        respond(work.x, head)
    return head.headers.fields


def _pump(work: Work, reply: Reply, up: BackendConnection) -> Pump:
    """Choose the tier: gated where a gate may act and the body can be read, watched for usage, else opaque."""
    x, plan, route, settings = work.x, work.plan, work.route, work.runtime.settings
    conn, clock = work.conn, work.clock
    content_type = (reply.head.content_type or b"").lower()
    stream = content_type.startswith(b"text/event-stream")
    if stream:
        x.stream = conn.streaming = True
    readable = (stream or b"json" in content_type) and reply.head.content_encoding in (None, b"identity")
    good = 200 <= reply.status < 300 and reply.status != 204 and x.method != "HEAD"
    if plan.guard and good and not route.textless:
        if readable and route.reads_reply:
            x.scanned_reply = "yes"
            return _gated(work, up, stream)
        x.scanned_reply = "no: content type" if route.reads_reply else "no: route"
        if route.reads_reply and settings.unscanned == "refuse" and plan.enforces(x, "reply"):
            raise Fault(Kind.BACKEND_PROTOCOL, "a reply that policies cannot read")
    if settings.usage and good and readable and route.dialect.counts:
        if stream:
            watched = WatchedPump(conn, up, x, clock)
            watched.watch = WatchedStream(route.dialect)
            return watched
        if (reply.head.length or 0) <= WATCH_CAP:
            whole = WatchedWholePump(conn, up, x, clock)
            whole.cap, whole.kept = WATCH_CAP, []
            whole.read = lambda body: watch_whole(route.dialect, body)
            return whole
    return Pump(conn, up, x, clock)


def _gated(work: Work, up: BackendConnection, stream: bool) -> Pump:
    conn, x, clock, settings = work.conn, work.x, work.clock, work.runtime.settings
    if not stream:
        whole = WholePump(conn, up, x, clock)
        whole.cap, whole.kept, whole.body, whole.fault, whole.trailers = (
            settings.limits.inspected_body,
            [],
            b"",
            None,
            [],
        )
        return whole
    pump = GatedStreamPump(conn, up, x, clock)
    options = work.doc.get("stream_options") if isinstance(work.doc, dict) else None
    pump.stream = GatedStream(
        work.route.dialect, lambda channel: gates(work, channel),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        max_event=settings.stream.max_event, max_held=settings.stream.max_held, on_overflow=settings.stream.on_overflow,
    )  # fmt: skip
    return pump


def gates(work: Work, channel: Channel) -> list[Gate]:
    """The gates of one reply channel, in the order of policy.yaml."""
    found = [guard(work.x, channel) for guard in work.plan.guard]
    return [gate for gate in found if gate is not None]


def _whole(work: Work, reply: Reply, pump: WholePump) -> None:
    """Judge a whole reply and send it."""
    x, conn = work.x, work.conn
    if pump.fault is not None:
        raise pump.fault
    body, changed, cut = gate_whole(work.route.dialect, pump.body, lambda channel: gates(work, channel))
    x.usage = watch_whole(work.route.dialect, pump.body)
    fields = reply.fields
    if changed:
        fields = [f for f in fields if f[0].lower() not in _OF_THE_BODY]
    if cut is not None:
        x.fault = Kind.CUT
        fields.append((b"x-should-retry", b"false"))
    fields.append((b"X-Headgate-Scanned", scanned(work)))
    conn.begin(reply.status, reply.reason, _respond(work, reply.status, fields), len(body))
    x.committed, x.first_byte, x.bytes_out = True, work.clock(), len(body)
    conn.write(body)
    conn.end()
