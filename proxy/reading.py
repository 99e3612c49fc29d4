"""The reading of a request: what can be read, what is refused because it cannot, and the body as policies see it.

What lives here: the rules on Content-Type, encodings and unreadable routes. What must never live here: policies by
name, wire shapes (dialects/), sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from policies.contract import Kind, RequestBody
from proxy import forms, jsonio
from proxy.dialects import asked
from proxy.faults import Fault

if TYPE_CHECKING:
    from proxy.relay import Work

BODY_METHODS = frozenset(("POST", "PUT", "PATCH"))


def refuse_unreadable(work: Work) -> None:
    """An enforcing text policy never lets through what it cannot read, unless ``unscanned: allow`` says so.

    Raises Fault UNSCANNABLE.
    """
    x, plan, route = work.x, work.plan, work.route
    upgrade = work.incoming.head.upgrade is not None
    sends = upgrade or x.method in BODY_METHODS
    if not upgrade and (route.textless or not (sends or x.method == "GET")):
        return
    blind = False
    if sends and (upgrade or not route.reads_request) and plan.enforcing_request and plan.enforces(x, "request"):
        x.scanned_request, blind = "no: route", True
    if (upgrade or not route.reads_reply) and plan.enforcing_reply and plan.enforces(x, "reply"):
        x.scanned_reply, blind = "no: route", True
    if blind and work.runtime.settings.unscanned == "refuse":
        raise Fault(Kind.UNSCANNABLE)


def from_the_beginning(work: Work) -> None:
    """A stored stream that is asked for from its middle (``starting_after``) is fetched from its beginning where replies
    are moderated, or a match that began earlier would not be seen; what the client has already is left out of the reply.

    Raises Fault INVALID_REQUEST when the parameter cannot be read without doubt.
    """
    x, plan = work.x, work.plan
    if "starting" not in unquote_plus(x.query) or not plan.guard or not plan.enforces(x, "reply"):
        return
    kept: list[str] = []
    found: list[str] = []
    for part in x.query.split("&"):
        name, _, value = part.partition("=")
        if unquote_plus(name) == "starting_after":
            found.append(value)
        else:
            kept.append(part)
    if not found:
        return
    if len(found) > 1 or not found[0].isdecimal() or not found[0].isascii() or len(found[0]) > 15:
        raise Fault(Kind.INVALID_REQUEST, message="`starting_after` is not one whole number.")
    work.skip = int(found[0])
    work.incoming.target = (x.path + ("?" + "&".join(kept) if kept else "")).encode("latin-1")


async def read(work: Work) -> bytes | None:
    """Read the body and show it to the policies. Returns the bytes to send; None: the original ones.

    Raises Refuse, and Fault (INVALID_JSON, UNSUPPORTED_ENCODING, UNSCANNABLE, TOO_LARGE and what reading raises).
    """
    x, plan = work.x, work.plan
    doc, raw, form = _UNREAD, b"", None
    sort = _sort(work)
    if sort is not _OTHER:
        limit = work.runtime.settings.limits.inspected_body
        at_hand = work.incoming.at_hand(limit)
        raw = await _wait(work, limit) if at_hand is None else at_hand
        if sort is _FORM:
            form = _form(work, raw)
            doc = _UNREAD if form is None else form.doc
        else:
            doc = _document(raw, sort)
    if doc is _UNREAD:
        if plan.inspect and x.method in BODY_METHODS:
            _not_seen(work)
        for admit in plan.admit_late:
            await admit(x)
        return None
    work.doc = doc
    x.bytes_in = len(raw)
    x.model_asked, x.stream = work.route.dialect.peek(doc)
    if plan.admit_late:  # who else has no use for it
        x.tokens_asked, x.times = asked.tokens(doc), asked.completions(doc)
        x.text_in = len(raw) if form is None and len(raw) <= _SMALL else _text_size(work, doc, len(raw))
    for admit in plan.admit_late:
        await admit(x)
    if not plan.needs_body and not work.runtime.maps_models:
        return None  # only looked at for the reply's sake
    body = RequestBody(doc, len(raw), work.route.dialect.request)
    for inspect in plan.inspect:
        await inspect(x, body)
    if body.read:
        x.scanned_request = f"partly: {', '.join(sorted(set(body.opaque)))}" if body.opaque else "yes"
    if form is not None:
        return _form_bytes(work, form)
    if plan.meters and work.route.dialect.asks_usage:
        work.hide_usage = asked.ask_usage(body.doc)
    # What was judged is what is sent: the original bytes could be read in another way (duplicate keys).
    return jsonio.encode(body.doc)


def _text_size(work: Work, doc: Any, size: int) -> int:
    """How much of a large request is text: an image of ten megabytes is no prompt of two million tokens."""
    if not work.route.reads_request:
        return size
    segments, _ = work.route.dialect.request(doc)
    return min(size, sum([len(segment.text) for segment in segments]))


_SMALL = 16_384  # bytes of a body that is not worth a look for its text
_UNREAD: Any = object()
_JSON, _MAYBE, _FORM, _OTHER = "JSON", "may be JSON", "form", "not to be read"


def _sort(work: Work) -> str:
    """What the head says of the body. Raises Fault UNSUPPORTED_ENCODING for JSON in an encoding that is not read."""
    head = work.incoming.head
    if work.x.method not in BODY_METHODS or not (head.chunked or head.length):
        return _OTHER
    content_type = head.content_type or b""
    if content_type == b"application/json" and head.content_encoding is None:  # as clients say it, nearly all
        return _JSON
    content_type = content_type.lower()
    if work.route.form and content_type.startswith(b"multipart/"):
        # without a policy that wants the body, an upload streams through; in an encoding or said twice it cannot be read
        return _FORM if work.plan.needs_body and head.content_encoding in (None, b"identity") else _OTHER
    must = work.route.json or b"json" in content_type
    if not must and (not work.plan.inspect or content_type.startswith(b"multipart/")):
        return _OTHER
    if head.content_encoding not in (None, b"identity") or not _utf8(content_type):
        raise Fault(Kind.UNSUPPORTED_ENCODING)
    return _JSON if must else _MAYBE


async def _wait(work: Work, limit: int) -> bytes:
    """The body, as soon as all of it has come; what Incoming.read raises."""
    if work.incoming.head.expect == b"100-continue":
        work.conn.interim(100, b"Continue", [])
    started = work.clock()
    raw = await work.incoming.read(limit)
    work.x.upstream_wait += work.clock() - started
    return raw


def _document(raw: bytes, sort: str) -> Any:
    """The decoded body, or _UNREAD where there is none or it is not JSON and need not be."""
    if not raw:
        return _UNREAD
    try:
        # a backend may take JSON under any Content-Type: what looks like a document is read as one
        return jsonio.decode(raw)
    except jsonio.JsonError as e:
        if sort is _MAYBE:
            return _UNREAD
        raise Fault(Kind.INVALID_JSON, message=f"The request's body is not valid JSON: {e}.") from None


def _utf8(content_type: bytes) -> bool:
    """JSON is UTF-8 (RFC 8259 8.1); a charset parameter that says otherwise makes the body unreadable here."""
    at = content_type.find(b"charset=")
    return at < 0 or content_type[at + 8 :].split(b";")[0].strip(b" \"'") in (b"utf-8", b"utf8", b"us-ascii")


def _form(work: Work, raw: bytes) -> forms.Form | None:
    """The form; None where it cannot be read. The Content-Type must be there once: servers differ in which one counts."""
    types = [value for name, value in work.incoming.head.fields if name.lower() == b"content-type"]
    if len(types) != 1:
        return None
    try:
        return forms.read(raw, types[0])
    except forms.NotAForm:
        return None


def _not_seen(work: Work) -> None:
    """A body that no policy has seen passes where JSON is not expected, but not in the place of a form. Raises Fault
    UNSCANNABLE, unless ``unscanned: allow``."""
    head, x = work.incoming.head, work.x
    if not work.route.form:
        if work.incoming.size:
            x.scanned_request = "no: not JSON"
    elif head.length or head.chunked:
        x.scanned_request = "no: not a form"
        enforced = any(row.phase == "inspect" and row.mode == "enforce" for row in work.plan.rows)
        if enforced and work.runtime.settings.unscanned == "refuse":
            raise Fault(Kind.UNSCANNABLE)


def _form_bytes(work: Work, form: forms.Form) -> bytes | None:
    """The form as the policies left it. Raises Fault UNSCANNABLE for a text that a form cannot hold."""
    try:
        written = form.encode(work.doc)
    except forms.NotAForm:
        raise Fault(Kind.UNSCANNABLE) from None
    if work.plan.choose or work.runtime.maps_models:
        work.form = form  # another model may be written into it
    elif written is not None:
        work.incoming.take()  # uploads are large: one copy of them is enough
    return written
