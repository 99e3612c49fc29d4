"""In which tier a reply is relayed, and why it was not scanned when it was not.

  gated    a policy guards this route's replies, and this one can be read
  watched  its token usage is wanted
  opaque   nobody looks

What must never live here: work per chunk (pump.py), wire shapes (dialects/).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from policies.contract import Channel, Gate, Kind
from proxy.dialects.contract import Dialect
from proxy.faults import Fault
from proxy.gated import GatedStream
from proxy.gated_pump import GatedStreamPump
from proxy.pump import Pump, WatchedPump, WatchedWholePump, WholePump
from proxy.upstream import BackendConnection, Reply
from proxy.watched import WatchedStream, watch_whole

if TYPE_CHECKING:
    from proxy.relay import Work

#: Bytes of a whole reply that is kept to read its token usage; embeddings of big batches pass unread.
WATCH_CAP = 1_000_000


def choose(work: Work, reply: Reply, up: BackendConnection) -> Pump:
    """The pump for a reply. Raises Fault BACKEND_PROTOCOL for one that an enforcing policy ought to read and cannot."""
    x, plan, route, settings = work.x, work.plan, work.route, work.runtime.settings
    conn, clock = work.conn, work.clock
    content_type = (reply.head.content_type or b"").lower()
    stream = content_type.startswith(b"text/event-stream")
    if stream:
        x.stream = conn.streaming = True
    if not (plan.guard or settings.usage or plan.meters):
        return Pump(conn, up, x, clock)
    plain = reply.head.content_encoding in (None, b"identity")
    shaped = route.streams if stream else b"json" in content_type
    good = 200 <= reply.status < 300 and reply.status != 204 and x.method != "HEAD"
    if plan.guard and good and route.reads_reply and not route.dialect.rows:
        x.scanned_reply = "no text"
    elif plan.guard and good and not route.textless:
        if plain and route.reads_reply and (shaped or (not stream and _speaks_plainly(route.dialect))):
            x.scanned_reply = "yes"
            return _gated(work, up, stream)
        x.scanned_reply = "no: form of the reply" if route.reads_reply else "no: route"
        if route.reads_reply and settings.unscanned == "refuse" and plan.enforces(x, "reply"):
            raise Fault(Kind.BACKEND_PROTOCOL, "a reply that policies cannot read")
    if (settings.usage or plan.meters) and good and plain and shaped and route.dialect.counts:
        if stream and work.hide_usage:
            return _gated(work, up, stream)
        if stream:
            return WatchedPump(conn, up, x, clock, WatchedStream(route.dialect))
        if (reply.head.length or 0) <= WATCH_CAP:
            return WatchedWholePump(conn, up, x, clock, partial(watch_whole, route.dialect), WATCH_CAP)
    return Pump(conn, up, x, clock)


def _speaks_plainly(dialect: Dialect) -> bool:
    """The dialect has replies of plain text, and reads them."""
    return type(dialect).plain is not Dialect.plain


def _gated(work: Work, up: BackendConnection, stream: bool) -> Pump:
    conn, x, clock, settings = work.conn, work.x, work.clock, work.runtime.settings
    if not stream:
        return WholePump(conn, up, x, clock, settings.limits.inspected_body)
    doc = work.doc if isinstance(work.doc, dict) else {}
    options = doc.get("stream_options")
    gated = GatedStream(
        work.route.dialect, partial(gates, work),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True and not work.hide_usage,
        choices=_choices(doc),
        max_event=settings.stream.max_event, max_held=settings.stream.max_held, on_overflow=settings.stream.on_overflow,
        annotate=wants_annotations(work), after=work.skip, hide_usage=work.hide_usage,
    )  # fmt: skip
    return GatedStreamPump(conn, up, x, clock, gated, work.runtime.judging)


def _choices(doc: dict[str, Any]) -> int:
    """How many choices a request asks for: n for each prompt. 0 where the numbers make no sense."""
    n, prompt = doc.get("n"), doc.get("prompt")
    each = 1 if n is None else n
    prompts = len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list) else 1
    return each * prompts if type(each) is int and 0 < each <= 1024 else 0


def gates(work: Work, channel: Channel) -> list[Gate]:
    """The gates of one reply channel, in the order of policy.yaml. Raises Cut."""
    found = [gate for guard in work.plan.guard if (gate := guard(work.x, channel)) is not None]
    if found and channel not in work.led:
        work.led.add(channel)  # a channel that goes on after its end has its own text in front of it, not the request's
        if text := work.route.dialect.lead(work.doc, channel):
            for gate in found:
                gate.lead(text)
    return found


def wants_annotations(work: Work) -> bool:
    """The caller asked to be told what policies found, by a field that goes no further."""
    asked = work.incoming.head.annotate
    return asked is not None and asked.strip().lower() in (b"true", b"1")
