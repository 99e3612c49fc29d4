"""The Exchange, one record per request, and the small records it is made of.

Pure data: no sockets, no clock, no text of prompts or replies. Imports nothing of the project.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec


class Kind(StrEnum):
    """Every way an exchange can fail. ``proxy/faults.py`` has a row for each: side, status, public text."""

    BAD_HTTP = "bad_http"
    HEAD_TOO_LARGE = "head_too_large"
    URI_TOO_LONG = "uri_too_long"
    HEAD_TIMEOUT = "head_timeout"
    BODY_TIMEOUT = "body_timeout"
    TOO_LARGE = "request_too_large"
    INVALID_JSON = "invalid_json"
    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    CLIENT_GONE = "client_gone"
    SLOW_READER = "slow_reader"
    UNAUTHENTICATED = "invalid_api_key"
    FORBIDDEN = "forbidden"
    MODEL_NOT_FOUND = "model_not_found"
    UNSCANNABLE = "unscannable"
    BLOCKED = "content_filter"
    RATE_LIMITED = "rate_limit_exceeded"
    QUOTA = "insufficient_quota"
    CUT = "cut"
    BACKEND_CONNECT = "backend_connect"
    BACKEND_RESET = "backend_reset"
    BACKEND_PROTOCOL = "backend_protocol"
    BACKEND_TIMEOUT = "backend_timeout"
    BACKEND_CUT = "backend_cut"
    BACKEND_IDLE = "backend_idle"
    BACKEND_UNAVAILABLE = "backend_unavailable"
    LIMITS_AWAY = "limits_unavailable"
    OVERLOADED = "overloaded"
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    DRAINING = "draining"
    POLICY_ERROR = "policy_error"
    INTERNAL = "internal"


class Headers:
    """Header fields in wire order: bytes in, same bytes out. Names compare without case (RFC 9110 5.1)."""

    __slots__ = ("fields",)

    def __init__(self, fields: list[tuple[bytes, bytes]] | None = None) -> None:
        self.fields: list[tuple[bytes, bytes]] = [] if fields is None else fields

    def get(self, name: str) -> str | None:
        """The first value of a field as latin-1 text, or None."""
        key = name.lower().encode("latin-1")
        size = len(key)
        for k, v in self.fields:
            if len(k) == size and k.lower() == key:
                return v.decode("latin-1")
        return None

    def get_all(self, name: str) -> list[str]:
        key = name.lower().encode("latin-1")
        return [v.decode("latin-1") for k, v in self.fields if k.lower() == key]

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.fields)

    def add(self, name: str, value: str) -> None:
        self.fields.append((name.encode("latin-1"), value.encode("latin-1")))

    def remove(self, name: str) -> bool:
        """Drop every line of a field; True when there was one."""
        key = name.lower().encode("latin-1")
        kept = [f for f in self.fields if f[0].lower() != key]
        found = len(kept) != len(self.fields)
        self.fields = kept
        return found

    def set(self, name: str, value: str) -> None:
        """Replace all lines of a field by one; it keeps the place of the first."""
        key, line = name.lower().encode("latin-1"), (name.encode("latin-1"), value.encode("latin-1"))
        out: list[tuple[bytes, bytes]] = []
        placed = False
        for f in self.fields:
            if f[0].lower() != key:
                out.append(f)
            elif not placed:
                out.append(line)
                placed = True
        if not placed:
            out.append(line)
        self.fields = out

    def rename(self, old: str, new: str) -> None:
        key, name = old.lower().encode("latin-1"), new.encode("latin-1")
        self.fields = [(name, v) if k.lower() == key else (k, v) for k, v in self.fields]

    def copy(self) -> Headers:
        return Headers(list(self.fields))


class Finding(msgspec.Struct):
    """What a policy saw: never text. where: e.g. ``messages[2].content`` or ``choices[0].content``."""

    policy: str
    kind: str
    count: int = 1
    where: str = ""
    action: str = ""
    shadow: bool = False


class Attempt(msgspec.Struct):
    """One try at a backend. Times are seconds: ``started`` on the monotonic clock, the others since it."""

    backend: str
    started: float
    model: str | None = None
    status: int | None = None
    kind: Kind | None = None
    head_after: float | None = None
    first_byte_after: float | None = None
    ended_after: float | None = None
    reused: bool = False


class Usage(msgspec.Struct):
    """Token counts as the backend reports them."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0


class Candidate(msgspec.Struct):
    """A backend that may serve this request; ``model`` is the name to send there (None: as asked)."""

    backend: str
    model: str | None = None


class Queued(msgspec.Struct):
    """How a request fared that found no place at a backend at once. outcome: served, full, caller_full, pushed_out, timeout,
    draining, gone."""

    backend: str
    group: str  # its class, as the policy file calls it
    outcome: str
    seconds: float = 0.0


class Exchange(msgspec.Struct, eq=False):
    """One slotted record per request: all per-request state there is, but inside gates.

    ``started`` is monotonic seconds. ``labels`` are written by policies and read by later policies and by
    ``when:``. ``notes`` has one slot per policy instance (for instance a reservation to settle).
    """

    id: str
    method: str
    path: str  # as received, never decoded
    query: str
    headers: Headers  # as they will be sent on; ``admit`` may change them
    client: str  # the peer's address
    started: float
    wall: float  # unix seconds, for the log alone
    route: str = ""
    dialect: str = ""
    caller: str | None = None
    tenant: str | None = None
    scopes: frozenset[str] = frozenset()  # what the caller may do
    claims: dict[str, str] = {}  # of the caller's token, those that the policy file names
    address: str = ""  # the caller's, behind trusted proxies; empty: ``client``
    model_asked: str | None = None
    model_sent: str | None = None
    stream: bool | None = None
    tokens_asked: int | None = None  # the bound on a completion that the request names
    text_in: int = 0  # bytes of the request that may be prompt: all of a small body, the text of a large one
    times: int = 1  # completions that it asks for: n (or best_of) for each prompt
    pieces: int = 0  # events with text that a streamed reply had; backends write about one token each
    labels: dict[str, str] = {}  # each record gets its own, as with the lists and dicts below
    findings: list[Finding] = []
    attempts: list[Attempt] = []
    usage: Usage | None = None
    notes: dict[str, Any] = {}
    max_body: int | None = None  # bytes; the smallest that any policy asked for
    tier: str = "opaque"
    scanned_request: str = "no"  # yes | no | why not
    scanned_reply: str = "no"
    held: int = 0  # the most characters that gates held back at once
    held_for: float = 0.0  # seconds, the longest that some text was held back
    ahead: int | None = None  # the most characters that left before a classifier had seen them, where it may happen
    committed: bool = False
    status: int = 0
    fault: Kind | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    first_byte: float | None = None  # monotonic, when the reply's first byte left
    upstream_wait: float = 0.0  # seconds spent waiting for the backend, for the overhead figure
    queued: Queued | None = None
    ended: float | None = None

    def __repr__(self) -> str:
        return f"<Exchange {self.id}>"  # never its fields: they hold keys

    def find(self, policy: str, kind: str, *, count: int = 1, where: str = "", action: str = "") -> None:
        """Note a finding (never its text)."""
        self.findings.append(Finding(policy, kind, count, where, action))

    def fork(self) -> Exchange:
        """A copy for shadow mode: what a policy changes on it stays on it. Attempts and usage are shared."""
        twin = copy.copy(self)
        twin.headers = self.headers.copy()
        twin.labels = dict(self.labels)
        twin.findings = []
        return twin
