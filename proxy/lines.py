"""What a log line says, and how: the allow-list of fields, JSON and the form for people.

What lives here: pure functions from records to bytes. What must never live here: files, threads; and in any
line the text of a prompt or a reply, a key, a header field or a query string. A field that is not named
here is not written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal

import msgspec

from policies.exchange import Attempt, Exchange, Finding, Kind
from proxy.faults import TABLE

Level = Literal["debug", "info", "warning", "error"]

MAX_LINE = 4096
"""Bytes: writes of up to PIPE_BUF to a pipe are not mixed with those of other workers (POSIX write(2))."""

EVENT_FIELDS = frozenset({
    "address", "admin", "away_s", "backend", "backends", "calls", "client", "code", "count", "deadline_s", "detail",
    "dropped", "duration_ms", "error", "evicted", "fault", "file", "hash", "id", "keys", "kind", "listen", "logger",
    "message", "mode", "path", "phase", "pid", "policies", "policy", "problems", "python", "reason", "restart_in_s",
    "running", "setting", "signal", "source", "state", "uptime_s", "version", "where", "worker", "workers",
})  # fmt: skip


class AttemptLine(msgspec.Struct, omit_defaults=True, gc=False):
    backend: str
    status: int | None = None
    kind: str | None = None
    ms: float | None = None
    model: str | None = None
    reused: bool = False


class FindingLine(msgspec.Struct, omit_defaults=True, gc=False):
    policy: str
    kind: str
    count: int
    where: str = ""
    action: str = ""
    shadow: bool = False


class UsageLine(msgspec.Struct, omit_defaults=True, gc=False):
    prompt: int
    completion: int
    cached: int = 0


class Scanned(msgspec.Struct, gc=False):
    request: str
    reply: str


class RequestLine(msgspec.Struct, omit_defaults=True):
    """One request. Fields that say nothing (null, empty) are left out, the first eight never."""

    time: str
    level: Level
    event: str
    id: str
    method: str
    route: str
    path: str
    status: int
    tier: str
    duration_ms: float
    overhead_ms: float
    bytes_in: int
    bytes_out: int
    scanned: Scanned
    ttfb_ms: float | None = None
    dialect: str = ""
    model_asked: str | None = None
    model_sent: str | None = None
    stream: bool | None = None
    caller: str | None = None
    tenant: str | None = None
    client: str = ""
    fault: str | None = None
    queued_s: float = 0.0
    attempts: list[AttemptLine] = []
    usage: UsageLine | None = None
    findings: list[FindingLine] = []
    labels: dict[str, str] = {}
    truncated: bool = False


class EventLine(msgspec.Struct):
    time: str
    level: Level
    event: str
    fields: dict[str, Any]


_encode = msgspec.json.Encoder().encode


def timestamp(wall: float) -> str:
    """Unix seconds as RFC 3339 in UTC with milliseconds."""
    millis = int(wall * 1000)
    seconds, millis = divmod(millis, 1000)
    return f"{_second(seconds)}.{millis:03d}Z"


@lru_cache(maxsize=4)  # most lines share their second with the line before
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def of_exchange(x: Exchange) -> RequestLine:
    """Take what a line needs from an exchange that has ended; the exchange may go after that.

    It costs the process some microseconds per request, if in another thread; hence its plainness.
    """
    started, first, fault = x.started, x.first_byte, x.fault
    took = 0.0 if x.ended is None else x.ended - started
    own = took - x.upstream_wait
    # by position, in the order of the fields of RequestLine: 27 keywords would double the time
    line = RequestLine(
        timestamp(x.wall + took),
        "info" if fault is None else _level(fault),
        "request",
        _cut(x.id, 128),
        _cut(x.method, 16),
        x.route,
        _cut(x.path.partition("?")[0], 200),
        x.status,
        x.tier,
        int(took * 1e6) / 1e3,
        int(own * 1e6) / 1e3 if own > 0.0 else 0.0,
        x.bytes_in,
        x.bytes_out,
        Scanned(x.scanned_request[:60], x.scanned_reply[:60]),
        None if first is None else int((first - started) * 1e6) / 1e3,
        x.dialect,
        None if x.model_asked is None else _cut(x.model_asked, 100),
        None if x.model_sent is None else _cut(x.model_sent, 100),
        x.stream,
        None if x.caller is None else _cut(x.caller, 100),
        None if x.tenant is None else _cut(x.tenant, 100),
        x.client,
    )
    if fault is not None:
        line.fault = fault.value
    if x.queued is not None:
        line.queued_s = round(x.queued.seconds, 3)
    if x.attempts:
        line.attempts = [_attempt(a) for a in x.attempts[:16]]
    if x.usage is not None:
        u = x.usage
        line.usage = UsageLine(_number(u.prompt), _number(u.completion), _number(u.cached))
    if x.findings:
        line.findings = [_finding(f) for f in x.findings[:32]]
    if x.labels:
        line.labels = {_cut(k, 64): _cut(v, 100) for k, v in list(x.labels.items())[:16]}
    if len(x.attempts) > 16 or len(x.findings) > 32 or len(x.labels) > 16:
        line.truncated = True
    return line


def of_event(level: Level, name: str, wall: float, fields: dict[str, Any]) -> EventLine:
    """An event's line. Fields off the allow-list are named in ``fields_left_out``, their values are not
    written.
    """
    kept = {k: _value(v) for k, v in fields.items() if k in EVENT_FIELDS and v is not None}
    if left := sorted(k for k in fields if k not in EVENT_FIELDS):
        kept["fields_left_out"] = left
    return EventLine(timestamp(wall), level, name, kept)


_SHORTER: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("labels", lambda _: {}),
    ("findings", lambda v: v[:4]),
    ("attempts", lambda v: v[-2:]),
    ("findings", lambda _: []),
    ("path", lambda v: v[:40]),
    ("id", lambda v: v[:40]),
)


def to_json(line: RequestLine | EventLine) -> bytes:
    """One line with its newline, at most MAX_LINE bytes: what is too long loses its lists first."""
    data = _json(line)
    if len(data) > MAX_LINE:
        if isinstance(line, EventLine):
            short = {k: v if isinstance(v, int | float) else str(v)[:100] for k, v in list(line.fields.items())[:16]}
            return _json(EventLine(line.time, line.level, line.event, short | {"truncated": True}))
        line.truncated = True
        for field, less in _SHORTER:
            setattr(line, field, less(getattr(line, field)))
            data = _json(line)
            if len(data) <= MAX_LINE:
                break
    return data


def _json(line: RequestLine | EventLine) -> bytes:
    if isinstance(line, RequestLine):
        return _encode(line) + b"\n"
    return _encode({"time": line.time, "level": line.level, "event": line.event, **line.fields}) + b"\n"


_COLOUR = {"debug": "2", "info": "32", "warning": "33", "error": "31"}


def to_text(line: RequestLine | EventLine, colour: bool) -> bytes:
    """The same for people, on one terminal row where it fits; control characters are escaped."""
    on, off = (f"\x1b[{_COLOUR[line.level]}m", "\x1b[0m") if colour else ("", "")
    if isinstance(line, EventLine):
        parts = [f"{on}{line.level:7}{off}", line.event, *(f"{k}={_plain(v)}" for k, v in line.fields.items())]
    else:
        parts = [f"{on}{line.status or '---'}{off}", *_words(line)]
    text = " ".join((line.time[11:23], *parts))
    return text.encode()[: MAX_LINE - 1].decode("utf-8", "ignore").encode() + b"\n"


def _words(line: RequestLine) -> Iterator[str]:
    yield f"{_plain(line.method)} {_plain(line.path)} {line.duration_ms:.0f}ms"
    if line.ttfb_ms is not None:
        yield f"first {line.ttfb_ms:.0f}ms"
    yield f"own {line.overhead_ms:.1f}ms {line.tier}"
    yield from (f"{_plain(a.backend)}={a.status or a.kind}" for a in line.attempts)
    if line.model_asked:
        changed = line.model_sent and line.model_sent != line.model_asked
        yield _plain(line.model_asked) + (f">{_plain(line.model_sent)}" if changed else "")
    if line.usage:
        yield f"tokens {line.usage.prompt}+{line.usage.completion}"
    if line.fault:
        yield f"fault={line.fault}"
    if line.queued_s:
        yield f"queued={line.queued_s:g}s"
    for f in line.findings:
        yield f"{_plain(f.policy)}:{_plain(f.kind)}x{f.count}{'(shadow)' if f.shadow else ''}"
    yield f"id={_plain(line.id)}"


def _level(fault: Kind) -> Level:
    if fault is Kind.INTERNAL or fault is Kind.POLICY_ERROR:
        return "error"
    return "warning" if TABLE[fault].side in ("backend", "headgate") else "info"


def _attempt(a: Attempt) -> AttemptLine:
    took = a.ended_after if a.ended_after is not None else a.head_after
    return AttemptLine(
        a.backend,
        a.status,
        None if a.kind is None else a.kind.value,
        None if took is None else int(took * 1e6) / 1e3,
        None if a.model is None else _cut(a.model, 100),
        a.reused,
    )


def _finding(f: Finding) -> FindingLine:
    return FindingLine(_cut(f.policy, 64), _cut(f.kind, 64), f.count, _cut(f.where, 120), _cut(f.action, 32), f.shadow)


def _number(tokens: int) -> int:
    """A backend's own number, kept within what JSON readers take for exact."""
    return min(max(tokens, -(2**53)), 2**53)


def _cut(text: str, most: int) -> str:
    """At most ``most`` characters, all of which UTF-8 can carry."""
    if text.isascii():
        return text if len(text) <= most else text[:most]
    return text[:most].encode("utf-8", "backslashreplace").decode("utf-8")


def _value(value: Any) -> Any:
    """Event values: numbers, flags, short texts, and lists or records of those."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_value(v) for v in value[:20]]
    if isinstance(value, dict):
        return {_cut(str(k), 64): _value(v) for k, v in list(value.items())[:20]}
    return _cut(str(value), 300)


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
