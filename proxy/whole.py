"""The gated tier of a whole reply: the same gates as a stream's, one push and one close for each channel.

What lives here: gate_whole. What must never live here: sockets, wire shapes.
"""

from __future__ import annotations

from policies.contract import Channel, Cut, Gate
from proxy import jsonio
from proxy.channels import Guard, Line
from proxy.dialects.contract import Dialect, Part, Unreadable, set_path
from policies.gate_chain import compose
from proxy.lens import JsonLens

__all__ = ["OVERFLOW", "UNREADABLE", "gate_whole", "make_gate"]

UNREADABLE = "unreadable"
"""The reason of a cut when a reply is not what its dialect says."""
OVERFLOW = "overflow"
"""The reason of a cut when more text was held, or a larger event came, than allowed."""

_JSON_FIELDS = frozenset(("arguments", "function_call"))


def make_gate(channel: Channel, guard: Guard) -> Gate | None:
    """The gate of a channel: its policies' gates in a row, behind a lens where the text is JSON."""
    gate = compose(guard(channel))
    return JsonLens(gate) if gate is not None and channel.field in _JSON_FIELDS else gate


def gate_whole(dialect: Dialect, body: bytes, guard: Guard) -> tuple[bytes, bool, str | None]:
    """(body, changed, reason of a cut or None). An untouched body is the original object.

    A body that is not the dialect's is cut with the reason ``unreadable``; the error object returned for it is no
    reply of the backend's, so a relay may well answer with 502 instead.
    """
    if not dialect.rows:
        return body, False, None
    try:
        doc = jsonio.decode_reply(body)
        parts = dialect.parts(doc)
    except jsonio.JsonError:
        text = dialect.plain(body)
        return _unreadable(dialect) if text is None else _gate_plain(dialect, body, text, guard)
    except Unreadable:
        return _unreadable(dialect)
    changed, cuts = _judge(dialect, doc, parts, guard)
    if not changed and not cuts:
        return body, False, None
    if changed:
        dialect.scrub_whole(doc, changed)
    if cuts:
        doc = dialect.cut_whole(doc, cuts)
    reason = next(iter(cuts.values()))[0] if cuts else None
    return jsonio.encode(doc), True, reason


def _judge(
    dialect: Dialect, doc: object, parts: list[Part], guard: Guard
) -> tuple[set[Channel], dict[int, tuple[str, str | None]]]:
    """Run every channel through its gates, write changes into the document; return what changed and what was cut."""
    changed: set[Channel] = set()
    cuts: dict[int, tuple[str, str | None]] = {}
    for group in _groups(parts):
        channel = group[0].channel
        if channel.choice in cuts or (cuts and not dialect.per_choice):
            continue
        line = Line(channel, make_gate(channel, guard))
        if line.gate is None:
            continue
        try:
            line.push("".join([part.text for part in group]))
            line.close()
        except Cut as cut:
            cuts[channel.choice] = (cut.reason, cut.message)
            continue
        if line.cleared < line.pushed:
            raise ValueError("a gate left text undecided at its close")
        start = 0
        for part in group if line.edits else ():
            text = line.render(part.text, start)
            start += len(part.text)
            if text != part.text:
                set_path(doc, part.path, jsonio.decode(text.encode()) if part.embedded else text)
                changed.add(channel)
    return changed, cuts


def _groups(parts: list[Part]) -> list[list[Part]]:
    """Parts of one channel, in order of the channel's first; a part that stands for itself is alone."""
    groups: list[list[Part]] = []
    known: dict[Channel, list[Part]] = {}
    for part in parts:
        if part.mode == "whole":
            groups.append([part])
        elif part.channel in known:
            known[part.channel].append(part)
        else:
            known[part.channel] = [part]
            groups.append(known[part.channel])
    return groups


def _gate_plain(dialect: Dialect, body: bytes, text: str, guard: Guard) -> tuple[bytes, bool, str | None]:
    """A reply that is text and nothing else."""
    line = Line(Channel(0, "text"), make_gate(Channel(0, "text"), guard))
    try:
        line.push(text)
        line.close()
    except Cut as cut:
        return (cut.message or "").encode(), True, cut.reason
    new = line.render(text, 0)
    return (body, False, None) if new == text else (new.encode(), True, None)


def _unreadable(dialect: Dialect) -> tuple[bytes, bool, str | None]:
    message = "The backend's reply could not be read."
    if dialect.shape == "anthropic":
        doc: dict[str, object] = {"type": "error", "error": {"type": "api_error", "message": message}}
    else:
        doc = {"error": {"message": message, "type": "api_error", "param": None, "code": "bad_gateway"}}
    return jsonio.encode(doc), True, UNREADABLE
