"""Every setting of headgate but the policies' own options: types, defaults, limits and their meaning.

What lives here: plain validated records. What must never live here: reading files, environment, sockets.
Times are seconds, sizes are bytes. Attribute docstrings become the descriptions in schema and reference.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from policies.entry import PolicyEntry
from policies.units import Duration, Name, Record, Size
from proxy.callers.settings import Callers
from proxy.store.urls import parse_store_url

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?")
_URL = re.compile(r"https?://(\[[^\]\s]*\]|[^\s:/?#@\[\]\\]+)(?::([0-9]{1,5}))?(/[!$-;=@-Z_a-z~]*)?")
_KEY = re.compile(r"[!-~]+")


def _is_host(host: str) -> bool:
    """A name, an IPv4 address, or an IPv6 address in brackets."""
    if not host.startswith("["):
        return len(host) <= 253 and _HOST.fullmatch(host) is not None
    try:
        return host.endswith("]") and ipaddress.IPv6Address(host[1:-1]) is not None
    except ValueError:
        return False


def parse_address(value: object) -> str:
    """``HOST:PORT``, ``:PORT`` or ``[V6]:PORT``; ValueError on anything else."""
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535 or (host and not _is_host(host)):
        raise ValueError("write HOST:PORT, for instance 127.0.0.1:8080")
    return str(value)


def parse_url(value: object) -> str:
    """A backend's base: ``http(s)://host[:port][/prefix]``, its trailing slash cut off; else ValueError."""
    m = _URL.fullmatch(value) if isinstance(value, str) else None
    if m is None or not _is_host(m[1]) or not 0 < int(m[2] or 80) <= 65535:
        raise ValueError("write http://host:port or https://host, without user, query or fragment")
    return m[0].rstrip("/")


def parse_key(value: str) -> str:
    """A key that can stand in a header field: visible ASCII; else ValueError, which does not hold the key."""
    if not _KEY.fullmatch(value):
        raise ValueError("must be visible ASCII characters, without spaces or line breaks")
    return value


def parse_store(value: str) -> str:
    """``memory``, or the address of a Redis; ValueError, which does not hold the address."""
    if value != "memory":
        parse_store_url(value)
    return value


# Before, and not after: `listen: 8080` is to hear of HOST:PORT, not of quotes.
Address = Annotated[
    str,
    BeforeValidator(parse_address),
    WithJsonSchema({"type": "string", "pattern": r"^([A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$"}),
]
BackendUrl = Annotated[
    str,
    BeforeValidator(parse_url),
    WithJsonSchema({"type": "string", "pattern": r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"}),
]
BackendKey = Annotated[str, AfterValidator(parse_key)]
StoreUrl = Annotated[
    str,
    AfterValidator(parse_store),
    WithJsonSchema({"type": "string", "pattern": r"^(memory$|rediss?(\+(sentinel|cluster))?://[^\s?#]+$|unix:///[^\s?#]+$)"}),
]


def split_address(address: str) -> tuple[str, int]:
    """``HOST:PORT`` to (host, port); an empty host means all interfaces."""
    host, _, port = address.rpartition(":")
    return (host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - `:8080` asks for it


class Timeouts(Record):
    """How long to wait for a backend. There is no total timeout: a long generation is not a fault."""

    connect: Duration = 5.0
    """TCP and TLS set-up."""
    first_byte: Duration = 600.0
    """From the request's last byte to the reply's head (the OpenAI SDKs wait 600 s)."""
    idle: Duration = 600.0
    """Silence between two pieces of a reply's body; 0 means for ever."""


class BackendTls(Record):
    """TLS towards an https backend."""

    ca: str | None = None
    """File with the certificates to trust instead of the system's."""
    cert: str | None = None
    """Client certificate file (PEM), for mutual TLS."""
    key: str | None = None
    """The client certificate's key file (PEM)."""
    verify: bool = True
    """Check the backend's certificate and name. Switching this off is for tests alone."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if self.key is not None and self.cert is None:
            raise ValueError("`key` needs `cert`: the client certificate that it belongs to")
        return self


Weight = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]


def parse_priority(value: str) -> str:
    """What a request's class is read from; ValueError on anything else."""
    kind, colon, name = value.partition(":")
    if value not in ("caller", "tenant", "route") and not (kind in ("label", "claim", "header") and colon and name):
        raise ValueError("write label:NAME, claim:NAME, header:NAME, caller, tenant or route")
    return value


Priority = Annotated[
    str,
    AfterValidator(parse_priority),
    WithJsonSchema({"type": "string", "pattern": r"^(caller|tenant|route|(label|claim|header):.+)$"}),
]


class Queue(Record):
    """Requests that wait while a backend works on as many as `max_in_flight` lets it. docs/queue.md tells in which order."""

    size: int = Field(default=1000, ge=1, le=1_000_000)
    """How many may wait, per worker. One more gets 503, or takes the room of a caller that has more in it."""
    per_caller: int = Field(default=0, ge=0)
    """How many of one caller may wait; 0: no bound of its own."""
    timeout: Duration = Field(default=30.0, gt=0)
    """Who has waited this long gets 503."""
    fair_by: Literal["caller", "tenant", "address"] = "caller"
    """Whose requests take turns with the others'. Callers without a name are told apart by their address."""
    priority: Priority | None = Field(default=None, examples=["label:priority"])
    """Where a request's class is read: ``label:NAME`` (a policy has written it), ``claim:NAME`` (of the caller's token),
    ``header:NAME`` (the client chooses), ``caller``, ``tenant`` or ``route``."""
    classes: dict[str, Weight] = Field(default={}, max_length=64, examples=[{"interactive": 10, "batch": 1}])
    """Classes and their weights: shares of the backend's time while all of them have requests that wait. ``*`` is everybody
    else's, with 1 unless it says otherwise."""
    deadline: list[str] = ["X-Request-Timeout", "X-Stainless-Read-Timeout"]
    """Header fields in which a client may say for how many seconds it waits for a reply; it waits here no longer than that."""


class Backend(Record):
    """One OpenAI-compatible server."""

    url: BackendUrl = Field(examples=["http://127.0.0.1:8000"])
    """Base without ``/v1``, such as ``http://127.0.0.1:8000``. A path here goes before every request's."""
    key: BackendKey | None = Field(default=None, repr=False, examples=["${BACKEND_KEY}"])
    """The backend's API key, sent as ``Authorization: Bearer``; without it the caller's own key passes."""
    host: Literal["backend", "keep"] = "backend"
    """The Host field sent: the backend's own name, or the client's kept."""
    models: dict[str, str] = Field(default={}, examples=[{"llama-3.1-8b": "other-name"}])
    """Model names asked for here, and the names to send there; ``*`` stands for any other."""
    max_connections: int = Field(default=4096, ge=1)
    """Open connections to this backend, per worker."""
    max_in_flight: int = Field(default=0, ge=0)
    """Requests that it works on at once, per worker, each counted to its reply's last byte; 0 means no bound. GET, HEAD, OPTIONS
    and DELETE are not counted, but for WebSockets."""
    queue: Queue | None = None
    """Where requests wait when there are ``max_in_flight``; without it they get 503."""
    keepalive: Duration = 4.0
    """Close idle connections after this; keep it below the backend's own (vLLM: 5 s)."""
    timeouts: Timeouts = Timeouts()
    """How long to wait for it."""
    tls: BackendTls = BackendTls()
    """Certificates, for an https url."""


class ListenTls(Record):
    """TLS for clients."""

    cert: str = Field(examples=["/etc/headgate/tls.crt"])
    """File with the certificate and those between it and the root (PEM). It is read again when it changes."""
    key: str = Field(examples=["/etc/headgate/tls.key"])
    """File with its private key (PEM), not encrypted."""


class ServerLimits(Record):
    """What a client may cost before any policy is asked."""

    connections: int = Field(default=10_000, ge=1)
    """Open client connections per worker; one more gets 503."""
    head: Size = 65_536
    """Bytes of a request's line and fields."""
    fields: int = Field(default=256, ge=1)
    """Header fields of a request."""
    target: Size = 16_384
    """Bytes of the request target."""
    body: Size = 100_000_000
    """Bytes of a request's body; 0 means no bound. Streamed bodies are cut off at the bound."""
    inspected_body: Size = 20_000_000
    """Bytes of a body that policies must read whole, in memory."""
    head_timeout: Duration = 10.0
    """From a request's first byte (or the connection's start) to the end of its head."""
    keepalive: Duration = 75.0
    """An idle client connection is closed after this."""
    body_rate: Size = 500
    """A request body must come at this many bytes a second on average, after ``body_grace``."""
    body_grace: Duration = 10.0
    """Time that every body has, however slow."""
    write_timeout: Duration = 60.0
    """A client that takes nothing for this long is dropped."""


class StreamLimits(Record):
    """Bounds on a stream that passes gates."""

    max_event: Size = 262_144
    """Bytes of one server-sent event."""
    max_held: Size = 4096
    """Characters held back on one channel while a rule is undecided."""
    keepalive: Duration = 15.0
    """When text has been held for this long a comment goes out, so that nobody on the way gives up; 0: never."""
    on_overflow: Literal["cut", "release"] = "cut"
    """What happens at either bound: end the reply, or let the text go unjudged."""


class LogSettings(Record):
    """One line per request, on standard output."""

    format: Literal["json", "text", "off"] = "json"
    """``json`` for collectors, ``text`` for people, ``off`` for none."""


class StoreSettings(Record):
    """Where policies count that limit rates, budgets or simultaneous requests."""

    url: StoreUrl = Field(default="memory", repr=False, examples=["${REDIS_URL}"])
    """``memory``, or a Redis that workers and replicas share: ``redis://user:password@host:6379/0``, ``rediss://`` for
    TLS, ``unix:///path``, ``redis+sentinel://host1,host2/service/0``, ``redis+cluster://host1,host2``."""
    prefix: Name = "headgate"
    """Begins every key, so that several headgates can share one Redis without sharing limits."""
    on_error: Literal["local", "closed", "open"] = "local"
    """While Redis is away: each process enforces its share of each limit, or requests that count are refused, or they
    pass uncounted."""
    replicas: int = Field(default=1, ge=1, le=10_000)
    """How many headgates share the limits; with `workers` it makes the share of one process."""
    timeout: Duration = Field(default=0.05, gt=0, le=10)
    """Time for a call to Redis, connecting included; the first that takes longer counts as an outage."""
    ca: str | None = None
    """File with the certificates to trust instead of the system's, for TLS."""
    approximate: bool = False
    """With ``memory``: let several workers count, each its share of each limit."""


class Settings(Record):
    """policy.yaml without its policies' own options."""

    version: Literal[1] = 1
    """The version of this file's format."""
    listen: Address = "127.0.0.1:8080"
    """The OpenAI-compatible side."""
    admin: Address | Literal["off"] = "127.0.0.1:9090"
    """/health /ready /metrics /policies /version. Keep it away from callers."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes on the one port."""
    drain_timeout: Duration = 120.0
    """After SIGTERM running requests get this long."""
    unscanned: Literal["refuse", "allow"] = "refuse"
    """A POST to a route whose text an enforcing policy cannot read: refuse it (403), or let it pass."""
    usage: bool = True
    """Read token counts from passing replies (metrics, log); no byte changes. Off without a policy file."""
    forwarded: Literal["append", "off"] = "append"
    """X-Forwarded-For towards the backend."""
    limits: ServerLimits = ServerLimits()
    """What a client may cost."""
    tls: ListenTls | None = None
    """TLS on ``listen``. Without it clients speak plain HTTP."""
    callers: Callers | None = None
    """Who may call. Without it everybody may, and the caller's own key passes to the backend."""
    stream: StreamLimits = StreamLimits()
    """What a stream may cost that policies judge."""
    log: LogSettings = LogSettings()
    """The request log."""
    store: StoreUrl | StoreSettings = Field(default="memory", repr=False, examples=["redis://127.0.0.1:6379/0"])
    """Where policies count: ``memory``, the address of a Redis, or a mapping with more."""
    backends: dict[Name, Backend] = Field(min_length=1, examples=[{"local": {"url": "http://127.0.0.1:8000"}}])
    """Tried in this order unless a policy orders them."""
    policies: list[PolicyEntry] = Field(default=[], examples=[[{"use": "request_guard", "max_tokens": 4096}]])
    """They run in this order."""

    @property
    def store_settings(self) -> StoreSettings:
        """``store``, whichever way it was written."""
        return StoreSettings(url=self.store) if isinstance(self.store, str) else self.store
