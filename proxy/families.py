"""Every metric of headgate, declared once: names, labels, buckets, meaning.

What lives here: plain declarations of what Prometheus sees (``Family``). What must never live here: how rows of numbers are
laid out (``proxy/blocks.py``), recording, rendering, sockets.

Labels are bounded: routes come from the route table, policies and backends from policy.yaml, model names
are counted (the rest is ``other``); nothing a caller sends becomes a label as it is. The ``gen_ai_*`` names
are those of the OpenTelemetry semantic conventions for generative AI (status: development) in their
Prometheus form: dots become underscores, the unit is appended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from proxy.blocks import (
    ATTEMPT,
    FAULT,
    FINDING,
    GONE,
    HOLDING,
    LINK,
    LOG,
    MODEL,
    NOW,
    POLICY,
    POLICY_FILE,
    QUEUE,
    RELOAD,
    REQUEST,
    RESTART,
    SPEND,
    STORE,
    STORE_ERROR,
    STORE_INSTEAD,
    STORE_MODE,
    STORE_NOW,
    Block,
)


@dataclass(frozen=True)
class Source:
    """A part of a block that feeds a family.

    labels: fixed ones that set this source apart. only: rows whose labels have one of these values each. total: a
    counter shows a histogram's sum, not its number of observations. join: how workers' gauges become one.
    """

    block: Block
    part: str
    labels: tuple[tuple[str, str], ...] = ()
    only: tuple[tuple[str, frozenset[str]], ...] = ()
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
_QUEUED = (("outcome", frozenset({"served", "gone", "pushed_out", "timeout", "draining"})),)
_NO_PLACE = (("outcome", frozenset({"full", "caller_full", "pushed_out", "timeout", "draining"})),)
_REFUSED = (
    ("action", frozenset({"refuse"})), ("mode", frozenset({"enforce"})),
    ("kind", frozenset({"requests", "tokens", "prompt_tokens", "completion_tokens", "concurrent", "streams", "money"})),
)  # fmt: skip

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
        "headgate_policy_errors_total", "policy phase", Source(POLICY, "seconds", only=(("verdict", _ERRORS),)),
        text="Phases of a policy that failed or overran their time.",
    ),
    _counter(
        "headgate_findings_total", "policy kind action mode", Source(FINDING, "count"),
        text="What policies found; action: what was done, or in mode `shadow` would have been.",
    ),
    Family(
        "headgate_limit_refused_total", "counter", "Requests that a limit refused; measure: what it counts.",
        ("policy", "kind"), (Source(FINDING, "count", only=_REFUSED),), (("kind", "measure"),),
    ),
    _counter(
        "headgate_spend_total", "policy tenant currency", Source(SPEND, "money"),
        text="Money that requests have cost, by the prices of a budget; tenant `(other)`: beyond the first 100.",
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
    _gauge(
        "headgate_queue_length", "backend", Source(LINK, "waiting"), text="Requests that wait for a place at a backend now.",
    ),
    _histogram(
        "headgate_queue_wait_seconds", "backend class", Source(QUEUE, "seconds", only=_QUEUED),
        text="How long requests waited that found no place at once, however that ended; class: `*` without one.",
    ),
    _counter(
        "headgate_queue_refused_total", "backend class outcome", Source(QUEUE, "seconds", only=_NO_PLACE),
        text="Requests that got no place (503); outcome: full, caller_full, pushed_out, timeout or draining.",
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
    # The store
    _gauge(
        "headgate_store_up", "", Source(STORE_NOW, "up", join="min"),
        text="1 when the store of limits answers every worker; memory always does.",
    ),
    _gauge(
        "headgate_store_mode", "mode", Source(STORE_MODE, "workers"),
        text="Workers that count so now: memory, shared (Redis), or while Redis is away local, closed, open.",
    ),
    _gauge(
        "headgate_store_shares", "", Source(STORE_NOW, "shares", join="max"),
        text="By how many each process divides a limit when it counts alone.",
    ),
    _gauge("headgate_store_keys", "", Source(STORE_NOW, "keys"), text="Counters in memory."),
    _counter(
        "headgate_store_errors_total", "reason", Source(STORE_ERROR, "count"),
        text="Calls and probes that Redis failed; reason: timeout, connection, auth, loading, ...",
    ),
    _counter("headgate_store_outages_total", "", Source(STORE, "outages"), text="Times that a worker lost Redis."),
    _counter(
        "headgate_store_instead_total", "mode", Source(STORE_INSTEAD, "count"),
        text="Steps answered without Redis, by the mode in force.",
    ),
    _counter(
        "headgate_store_dropped_total", "", Source(STORE, "dropped"), text="Changes that Redis will never hear of.",
    ),
    _counter(
        "headgate_store_unsure_total", "", Source(STORE, "unsure"),
        text="Changes under way when Redis went: done or not.",
    ),
    _counter(
        "headgate_store_evicted_total", "", Source(STORE, "evicted"),
        text="Live counters that a full memory gave up.",
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
