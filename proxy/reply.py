"""From a reply's head to its last byte: the fields that the client gets, and the order of things.

What must never live here: which tier (tiers.py), work per chunk (pump.py).
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from policies.contract import Exchange, Headers, Kind, ReplyHead
from proxy.asking import settle
from proxy.faults import Fault
from proxy.gated_pump import GatedStreamPump
from proxy.headers import Fields
from proxy.pump import WholePump
from proxy.tiers import choose, gates, wants_annotations
from proxy.tunnel import tunnel
from proxy.upstream import Reply
from proxy.watched import watch_whole
from proxy.whole import UNREADABLE, WholeReply

if TYPE_CHECKING:
    from proxy.relay import Work

#: Fields that describe the original body and are wrong for a changed one (RFC 9110 8.8, RFC 9530).
_OF_THE_BODY = frozenset((b"etag", b"content-md5", b"digest", b"content-digest", b"repr-digest", b"accept-ranges"))
#: Bytes of a whole reply from which on it is judged in a thread: some milliseconds of work, and other streams wait.
OFF_LOOP = 65_536


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
        conn.flush()
        x.committed = True
        await tunnel(conn, up, x)
        return
    pump = choose(work, reply, up)
    x.tier = pump.tier
    if isinstance(pump, WholePump):
        up.attach(pump)
        if not pump.finished:
            await pump.done()
        await _whole(work, reply, pump)
        return
    length = reply.head.length
    if isinstance(pump, GatedStreamPump):
        fields = [f for f in fields if f[0].lower() not in _OF_THE_BODY]
        length = None
    if work.plan.inspect or work.plan.guard:
        fields.append((b"X-Headgate-Scanned", scanned(work)))
    conn.begin(reply.status, reply.reason, _respond(work, reply.status, fields), length)
    x.committed = True
    if isinstance(pump, GatedStreamPump):
        work.runtime.gated.add(pump)
    try:
        pump.start()
        if not pump.finished:
            waited = work.clock()
            try:
                await pump.done()
            finally:
                pump.stop()
            x.upstream_wait += max(0.0, pump.ended_at - waited)
    finally:
        pump.account()
        if isinstance(pump, GatedStreamPump):
            work.runtime.gated.discard(pump)


def scanned(work: Work) -> bytes:
    """What the policies have seen of this exchange, for the reply's header."""
    text = f"request={work.x.scanned_request}; reply={work.x.scanned_reply}"
    return text.encode("latin-1", "replace")


def labels(x: Exchange) -> bytes:
    """What policies found, for those who asked: ``policy/action/kind;n=count, ...``, or ``none``."""
    found = [f"{f.policy}/{f.action or 'note'}/{f.kind};n={f.count}" for f in x.findings[:64]]
    return (", ".join(found) or "none").encode("latin-1", "replace")


def _respond(work: Work, status: int, fields: Fields) -> Fields:
    plan = work.plan
    if not plan.respond:
        return fields
    head = ReplyHead(status, Headers(fields))
    for respond in plan.respond:
        respond(work.x, head)
    return head.headers.fields


async def _whole(work: Work, reply: Reply, pump: WholePump) -> None:
    """Judge a whole reply and send it."""
    x, conn = work.x, work.conn
    if pump.fault is not None:
        raise pump.fault
    annotate = wants_annotations(work)
    off_loop = len(pump.body) > OFF_LOOP
    make = partial(WholeReply, work.route.dialect, pump.body, partial(gates, work), annotate=annotate)
    judged = await asyncio.to_thread(make) if off_loop else make()
    if judged.judges:
        await settle([judge for judge in judged.judges if judge.waits], work.clock)
    body, changed, cut = await asyncio.to_thread(judged.result) if off_loop else judged.result()
    if cut == UNREADABLE:
        raise Fault(Kind.BACKEND_PROTOCOL, "a reply that is not what its route promises")
    x.usage = watch_whole(work.route.dialect, pump.body)
    fields = reply.fields
    if changed:
        fields = [f for f in fields if f[0].lower() not in _OF_THE_BODY]
    if cut is not None:
        x.fault = Kind.CUT
        fields.append((b"x-should-retry", b"false"))
    fields.append((b"X-Headgate-Scanned", scanned(work)))
    if annotate:
        fields.append((b"X-Headgate-Findings", labels(x)))
    conn.begin(reply.status, reply.reason, _respond(work, reply.status, fields), len(body))
    x.committed, x.first_byte, x.bytes_out = True, work.clock(), len(body)
    conn.write(body)
    conn.end()
    if judged.judges:  # of shadow mode: the client has its reply already
        await settle(judged.judges, work.clock)
