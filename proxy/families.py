"""Every metric of headgate, declared once: names, labels, buckets, meaning.

What lives here: plain declarations. ``Block`` says how a row of numbers is laid out (``proxy/tally.py`` keeps
the rows), ``Family`` what Prometheus sees of it. What must never live here: recording, rendering, sockets.

Labels are bounded: routes come from the route table, policies and backends from policy.yaml, model names
are counted (the rest is ``other``); nothing a caller sends becomes a label as it is. The ``gen_ai_*`` names
are those of the OpenTelemetry semantic conventions for generative AI (status: development) in their
Prometheus form: dots become underscores, the unit is appended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

DURATION = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_BYTE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
OVERHEAD = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
HOLD = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
HELD = (0.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)
# The two below are the bounds that the GenAI conventions advise.
GEN_AI_TOKENS = tuple(float(4**n) for n in range(14))
GEN_AI_SECONDS = tuple(0.01 * 2**n for n in range(14))
GEN_AI_FIRST_CHUNK = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)


@dataclass(frozen=True)
class Block:
    """Layout of one kind of row.

    parts: (name, bounds). Without bounds one number; with bounds a histogram: one count per bucket, one
    above the last bound, one sum. gauge: it starts at zero with its process, and ends with it.
    """

    name: str
    labels: tuple[str, ...]
    parts: tuple[tuple[str, tuple[float, ...]], ...]
    gauge: bool = False

    def at(self, part: str) -> int:
        """Slot of a part's first number."""
        offset = 0
        for name, bounds in self.parts:
            if name == part:
                return offset
            offset += _width(bounds)
        raise KeyError(part)

    def bounds(self, part: str) -> tuple[float, ...]:
        return dict(self.parts)[part]

    @property
    def size(self) -> int:
        return sum(_width(bounds) for _, bounds in self.parts)


def _width(bounds: tuple[float, ...]) -> int:
    return len(bounds) + 2 if bounds else 1


REQUEST = Block(
    "request", ("route", "status", "tier"),
    (("duration", DURATION), ("first_byte", FIRST_BYTE), ("overhead", OVERHEAD), ("in", ()), ("out", ())),
)  # fmt: skip
MODEL = Block(
    "model", ("operation", "provider", "model"),
    (
        ("input", GEN_AI_TOKENS), ("output", GEN_AI_TOKENS), ("cached", ()),
        ("duration", GEN_AI_SECONDS), ("first_chunk", GEN_AI_FIRST_CHUNK),
    ),
)  # fmt: skip
FAULT = Block("fault", ("kind",), (("count", ()),))
GONE = Block("gone", ("when",), (("count", ()),))
FINDING = Block("finding", ("policy", "kind", "action", "mode"), (("count", ()),))
ATTEMPT = Block("attempt", ("backend", "result"), (("seconds", DURATION), ("reused", ())))
POLICY = Block("policy", ("policy", "phase", "verdict"), (("seconds", OVERHEAD),))
HOLDING = Block("hold", (), (("seconds", HOLD), ("characters", HELD), ("ahead", HELD)))
LOG = Block("log", ("reason",), (("dropped", ()),))
RELOAD = Block("reload", ("result",), (("count", ()),))
RESTART = Block("restart", ("worker",), (("count", ()),))
NOW = Block("now", (), (("requests", ()), ("streams", ()), ("connections", ())), gauge=True)
LINK = Block("link", ("backend",), (("active", ()), ("idle", ()), ("up", ())), gauge=True)
POLICY_FILE = Block("policy_file", (), (("ok", ()), ("since", ())), gauge=True)

BLOCKS = {
    b.name: b
    for b in (
        REQUEST, MODEL, FAULT, GONE, FINDING, ATTEMPT, POLICY, HOLDING,
        LOG, RELOAD, RESTART, NOW, LINK, POLICY_FILE,
    )
}  # fmt: skip
GAUGES = frozenset(b.name for b in BLOCKS.values() if b.gauge)


@dataclass(frozen=True)
class Source:
    """A part of a block that feeds a family.

    labels: fixed ones that set this source apart. only: rows whose label has one of these values. total: a
    counter shows a histogram's sum, not its number of observations. join: how workers' gauges become one.
    """

    block: Block
    part: str
    labels: tuple[tuple[str, str], ...] = ()
    only: tuple[str, frozenset[str]] | None = None
    total: bool = False
    join: Literal["sum", "min", "max"] = "sum"


@dataclass(frozen=True)
class Family:
    """One metric as Prometheus sees it.

    labels: taken from the block's; rows that differ in others alone are added up. ``status_class`` is made
    from ``status``. rename: what a label is called outside.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...]
    sources: tuple[Source, ...] = field(default=(), repr=False)
    rename: tuple[tuple[str, str], ...] = ()

    @property
    def shown_labels(self) -> tuple[str, ...]:
        new = dict(self.rename)
        fixed = tuple(k for k, _ in self.sources[0].labels) if self.sources else ()
        return tuple(new.get(label, label) for label in self.labels) + fixed


_GEN_AI = ("operation", "provider", "model")
_GEN_AI_NAMES = (
    ("operation", "gen_ai_operation_name"),
    ("provider", "gen_ai_provider_name"),
    ("model", "gen_ai_request_model"),
)


def _counter(name: str, labels: str, *sources: Source, text: str) -> Family:
    return Family(name, "counter", text, tuple(labels.split()), sources)


def _gauge(name: str, labels: str, *sources: Source, text: str) -> Family:
    return Family(name, "gauge", text, tuple(labels.split()), sources)


def _histogram(name: str, labels: str, *sources: Source, text: str) -> Family:
    return Family(name, "histogram", text, tuple(labels.split()), sources)


def _gen_ai(name: str, *sources: Source, text: str) -> Family:
    return Family(name, "histogram", text, _GEN_AI, sources, _GEN_AI_NAMES)


_ERRORS = frozenset({"error", "timeout"})

FAMILIES: tuple[Family, ...] = (
    # Requests
    _counter(
        "headgate_requests_total", "route status tier", Source(REQUEST, "duration"),
        text="Requests that ended; status `none`: no reply head was sent.",
    ),
    _histogram(
        "headgate_request_duration_seconds", "route status_class", Source(REQUEST, "duration"),
        text="From a request's first byte to the end of its reply.",
    ),
    _histogram(
        "headgate_time_to_first_byte_seconds", "route tier", Source(REQUEST, "first_byte"),
        text="From a request's first byte to its reply's first byte.",
    ),
    _histogram(
        "headgate_overhead_seconds", "route tier", Source(REQUEST, "overhead"),
        text="Request duration less the wait for the backend: what headgate, and a slow client, cost.",
    ),
    _counter(
        "headgate_received_bytes_total", "route", Source(REQUEST, "in"),
        text="Bytes of request bodies taken from clients.",
    ),
    _counter(
        "headgate_sent_bytes_total", "route", Source(REQUEST, "out"),
        text="Bytes of reply bodies given to clients.",
    ),
    _gauge("headgate_requests_in_flight", "", Source(NOW, "requests"), text="Requests that run now."),
    _gauge("headgate_streams_in_flight", "", Source(NOW, "streams"), text="Streamed replies that run now."),
    _gauge("headgate_client_connections", "", Source(NOW, "connections"), text="Open client connections."),
    _counter(
        "headgate_client_disconnects_total", "when", Source(GONE, "count"),
        text="Clients that left before their reply's end; when: before_reply or in_reply.",
    ),
    _counter("headgate_faults_total", "kind", Source(FAULT, "count"), text="Failures, by their kind."),
    # Policies
    _histogram(
        "headgate_policy_duration_seconds", "policy phase", Source(POLICY, "seconds"),
        text="Time in one phase of one policy.",
    ),
    _counter(
        "headgate_policy_verdicts_total", "policy phase verdict", Source(POLICY, "seconds"),
        text="What a phase of a policy decided.",
    ),
    _counter(
        "headgate_policy_errors_total", "policy phase", Source(POLICY, "seconds", only=("verdict", _ERRORS)),
        text="Phases of a policy that failed or overran their time.",
    ),
    _counter(
        "headgate_findings_total", "policy kind action mode", Source(FINDING, "count"),
        text="What policies found; action: what was done, or in mode `shadow` would have been.",
    ),
    _histogram(
        "headgate_hold_seconds", "", Source(HOLDING, "seconds"),
        text="Longest time that a moderated reply held text back.",
    ),
    _histogram(
        "headgate_held_characters", "", Source(HOLDING, "characters"),
        text="Most characters that a moderated reply held back.",
    ),
    _histogram(
        "headgate_unjudged_characters", "", Source(HOLDING, "ahead"),
        text="Most characters of a streamed reply that left before a lagging classifier's verdict on them.",
    ),
    # Backends
    _counter(
        "headgate_backend_attempts_total", "backend result", Source(ATTEMPT, "seconds"),
        text="Tries at a backend; result: a status class or a fault kind.",
    ),
    _histogram(
        "headgate_backend_attempt_seconds", "backend", Source(ATTEMPT, "seconds"),
        text="From the start of a try to the reply's head, or to its end without one.",
    ),
    _counter(
        "headgate_backend_reused_total", "backend", Source(ATTEMPT, "reused"),
        text="Tries that went over a connection already open.",
    ),
    _gauge(
        "headgate_backend_connections", "backend",
        Source(LINK, "active", (("state", "active"),)), Source(LINK, "idle", (("state", "idle"),)),
        text="Open connections to a backend; state: active or idle.",
    ),
    _gauge(
        "headgate_backend_up", "backend", Source(LINK, "up", join="min"),
        text="1 when every worker takes the backend to be reachable, otherwise 0.",
    ),
    # Tokens and models
    _counter(
        "headgate_tokens_total", "model",
        Source(MODEL, "input", (("kind", "input"),), total=True),
        Source(MODEL, "output", (("kind", "output"),), total=True),
        Source(MODEL, "cached", (("kind", "cached"),)),
        text="Tokens as backends report them; kind: input, output, or cached (a part of input).",
    ),
    _gen_ai(
        "gen_ai_client_token_usage",
        Source(MODEL, "input", (("gen_ai_token_type", "input"),)),
        Source(MODEL, "output", (("gen_ai_token_type", "output"),)),
        text="Tokens of one request (`gen_ai.client.token.usage`).",
    ),
    _gen_ai(
        "gen_ai_client_operation_duration_seconds", Source(MODEL, "duration"),
        text="Duration of one request to a model (`gen_ai.client.operation.duration`).",
    ),
    _gen_ai(
        "gen_ai_client_operation_time_to_first_chunk_seconds", Source(MODEL, "first_chunk"),
        text="Until a streamed reply begins (`gen_ai.client.operation.time_to_first_chunk`).",
    ),
    # The process
    _counter(
        "headgate_config_reloads_total", "result", Source(RELOAD, "count"),
        text="Policy files that went live (success), or did not (failure); counted by every worker.",
    ),
    _gauge(
        "headgate_config_last_reload_successful", "", Source(POLICY_FILE, "ok", join="min"),
        text="1 when the newest policy file is live in every worker.",
    ),
    _gauge(
        "headgate_config_last_reload_success_timestamp_seconds", "", Source(POLICY_FILE, "since", join="min"),
        text="When the live policy was loaded (unix time; the oldest worker's).",
    ),
    _counter(
        "headgate_log_lines_dropped_total", "reason", Source(LOG, "dropped"),
        text="Log lines lost; reason: queue_full or write_failed.",
    ),
    _counter(
        "headgate_worker_restarts_total", "worker", Source(RESTART, "count"),
        text="Workers that died and were replaced.",
    ),
    # These have no rows: they are made when asked for.
    _gauge("headgate_worker_up", "worker", text="1 while the worker process lives."),
    _counter("headgate_metrics_rows_lost_total", "", text="Rows without room, in the answering worker."),
    _gauge("headgate_config_info", "hash", text="1 for each policy that is live in some worker."),
    _gauge("headgate_build_info", "version python", text="1; which headgate this is."),
)  # fmt: skip


def reference() -> str:
    """The table of ``docs/metrics.md`` (Markdown)."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for f in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in f.shown_labels) or "–"
        lines.append(f"| `{f.name}` | {f.kind} | {labels} | {f.text} |")
    return "\n".join(lines) + "\n"
