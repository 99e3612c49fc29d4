"""What each request adds to the metrics: plain additions into the worker's Tally.

What lives here: recording alone, as cheap as it can be (about 0.05 us per addition; prometheus_client's
locked values take 1 to 2 us each). What must never live here: names and buckets (``proxy/families.py``, ``proxy/blocks.py``),
rendering (``proxy/metrics.py``), label values as callers sent them.
"""

from __future__ import annotations

import math
import mmap
import time
from bisect import bisect_left
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Literal

from policies.exchange import Attempt, Exchange, Kind
from proxy import blocks as f
from proxy import tally
from proxy.store.state import StoreState
from proxy.tally import Tally

_IN, _OUT = f.REQUEST.at("in"), f.REQUEST.at("out")
_TOOK_SUM = len(f.DURATION) + 1
_FIRST = f.REQUEST.at("first_byte")
_FIRST_SUM = _FIRST + len(f.FIRST_BYTE) + 1
_OWN = f.REQUEST.at("overhead")
_OWN_SUM = _OWN + len(f.OVERHEAD) + 1
_ATTEMPT_SUM, _REUSED = len(f.DURATION) + 1, f.ATTEMPT.at("reused")
_POLICY_SUM = len(f.OVERHEAD) + 1
_INPUT_SUM = len(f.GEN_AI_TOKENS) + 1
_OUTPUT, _CACHED = f.MODEL.at("output"), f.MODEL.at("cached")
_OUTPUT_SUM = _OUTPUT + _INPUT_SUM
_MODEL_TOOK, _CHUNK = f.MODEL.at("duration"), f.MODEL.at("first_chunk")
_MODEL_TOOK_SUM = _MODEL_TOOK + len(f.GEN_AI_SECONDS) + 1

_STATUSES = {int(s): str(int(s)) for s in HTTPStatus} | {499: "499", 529: "529", 0: "none"}
_TIERS = frozenset({"opaque", "watched", "gated", "tunnel"})
_OPERATIONS = {
    # dialect: gen_ai.operation.name, gen_ai.provider.name
    "chat": ("chat", "openai"),
    "completions": ("text_completion", "openai"),
    "responses": ("chat", "openai"),
    "embeddings": ("embeddings", "openai"),
    "messages": ("chat", "anthropic"),
}
OTHER = "other"
TENANTS = 100
OTHER_TENANT = "(other)"
_MOST = 10**9  # tokens of one request; whatever is more is no count


class _Names:
    """At most ``limit`` different label values; the rest are ``other``."""

    def __init__(self, limit: int, known: Iterable[str] = ()) -> None:
        self._limit = limit
        self._seen = set(known)

    def __call__(self, name: str, admit: bool = True) -> str:
        if name in self._seen:
            return name
        if not admit or not name or len(self._seen) >= self._limit or len(name) > 100 or not name.isprintable():
            return OTHER
        self._seen.add(name)
        return name


class Recorder:
    """One worker's metrics. Everything here belongs to the event loop's thread.

    directory: where the workers' tallies lie, None for a single process. worker: this one's index. models:
    names known beforehand (from the backends' settings). At most ``max_models`` in all get a label of their
    own, new ones only by a reply that was no error, so that nobody can fill the table with invented names.
    """

    def __init__(
        self,
        directory: Path | None = None,
        worker: int = 0,
        *,
        models: Iterable[str] = (),
        max_models: int = 100,
    ) -> None:
        self.directory, self.worker = directory, worker
        self._tally = Tally(tally.path_of(directory, worker) if directory else None, f.GAUGES)
        self._v = self._tally.values
        self._now = self.row(f.NOW)
        self._hold = self.row(f.HOLDING)
        self._log = {reason: self.row(f.LOG, reason) for reason in ("queue_full", "write_failed")}
        self._file = self.row(f.POLICY_FILE)
        self._reloads = {ok: self.row(f.RELOAD, "success" if ok else "failure") for ok in (True, False)}
        self._requests: dict[tuple[str, int, str], int] = {}
        self._attempts: dict[tuple[str, int | Kind], int] = {}
        self._policies: dict[tuple[str, str, str], int] = {}
        self._models: dict[tuple[str, str], int] = {}
        self._routes, self._names, self._kinds = _Names(128), _Names(512), _Names(256)
        self._model_names = _Names(max_models, models)
        self._tenants: dict[str, str] = {}
        self._store = _Store(self)

    def row(self, block: f.Block, *labels: str) -> int:
        return self._tally.row(block.name, block.size, labels)

    def begin(self) -> None:
        """A request came. Each one that is begun must be settled, once."""
        self._v[self._now] += 1.0

    def now(self, *, streams: int, connections: int) -> None:
        """What else is open in this worker at the moment; call it about every second."""
        self._v[self._now + 1] = float(streams)
        self._v[self._now + 2] = float(connections)

    def settle(self, x: Exchange, now: float) -> None:
        """Count an exchange that has ended. now: monotonic seconds, on the clock of ``x.started``."""
        v = self._v
        v[self._now] -= 1.0
        base = self._requests.get((x.route, x.status, x.tier))
        if base is None:
            base = self._request(x)
        took = now - x.started
        v[base + bisect_left(f.DURATION, took)] += 1.0
        v[base + _TOOK_SUM] += took
        if x.first_byte is not None:
            wait = x.first_byte - x.started
            v[base + _FIRST + bisect_left(f.FIRST_BYTE, wait)] += 1.0
            v[base + _FIRST_SUM] += wait
        own = took - x.upstream_wait
        if own < 0.0:  # a sum must never fall
            own = 0.0
        v[base + _OWN + bisect_left(f.OVERHEAD, own)] += 1.0
        v[base + _OWN_SUM] += own
        v[base + _IN] += x.bytes_in
        v[base + _OUT] += x.bytes_out
        for attempt in x.attempts:
            self._attempt(attempt)
        if x.fault is not None:
            self.fault(x.fault, x.committed)
        if x.findings:
            self._findings(x)
        if x.tier == "gated":
            self.held(x.held_for, x.held)
            if x.ahead is not None and x.stream:
                self._observe(self._hold + f.HOLDING.at("ahead"), f.HELD, x.ahead)
        if x.queued is not None:
            names, q = self._names, x.queued
            row = self.row(f.QUEUE, names(q.backend), names(q.group), names(q.outcome))
            self._observe(row, f.QUEUE_WAIT, q.seconds)
        if x.usage is not None or x.model_asked is not None:
            self._model(x, took)

    def fault(self, kind: Kind, committed: bool = False) -> None:
        """Count a fault that no exchange tells of (bad bytes, a refused connection); ``settle`` counts the
        rest.
        """
        self._v[self.row(f.FAULT, kind.value)] += 1.0
        if kind is Kind.CLIENT_GONE or kind is Kind.SLOW_READER:
            self._v[self.row(f.GONE, "in_reply" if committed else "before_reply")] += 1.0

    def policy(self, policy: str, phase: str, verdict: str, seconds: float) -> None:
        """One phase of one policy ran. verdict: of a closed set, such as ok, refuse, cut, error, timeout."""
        base = self._policies.get((policy, phase, verdict))
        if base is None:
            base = self.row(f.POLICY, self._names(policy), self._names(phase), self._names(verdict))
            if len(self._policies) < 4096:
                self._policies[policy, phase, verdict] = base
        v = self._v
        v[base + bisect_left(f.OVERHEAD, seconds)] += 1.0
        v[base + _POLICY_SUM] += seconds

    def held(self, seconds: float, characters: int) -> None:
        """A moderated reply ended: the longest time and the most characters that it held back."""
        self._observe(self._hold, f.HOLD, seconds)
        self._observe(self._hold + f.HOLDING.at("characters"), f.HELD, characters)

    def backend(self, name: str, *, active: int, idle: int, up: bool, waiting: int = 0) -> None:
        """A backend's connections, whether it is taken to be reachable, and who waits for it; call it about every second."""
        base = self.row(f.LINK, self._names(name))
        v = self._v
        v[base], v[base + 1], v[base + 2], v[base + 3] = float(active), float(idle), float(up), float(waiting)

    def backend_gone(self, name: str) -> None:
        """A reload took the backend out: its gauges vanish, or they would tell of it for ever."""
        self._v[self.row(f.LINK, self._names(name))] = math.nan

    def spent(self, policy: str, tenant: str, currency: str, money: float) -> None:
        """A request has cost so much. tenant: empty for none; the first TENANTS have a label of their own."""
        known = self._tenants.get(tenant)
        if known is None:
            fits = len(self._tenants) < TENANTS and len(tenant) <= 100 and (not tenant or tenant.isprintable())
            known = tenant if fits or not tenant else OTHER_TENANT
            if fits:
                self._tenants[tenant] = known
        self._v[self.row(f.SPEND, self._names(policy), known, currency)] += max(money, 0.0)

    def store(self, token: object, state: StoreState) -> None:
        """How the store is doing; call it about every second. token: the store itself, whose totals begin at zero."""
        self._store.tell(self._v, token, state)

    def reloaded(self, ok: bool, digest: str = "", at: float | None = None) -> None:
        """A policy went live (digest: its hash, at: unix seconds), or did not. The first load counts too."""
        self._v[self._reloads[ok]] += 1.0
        self._v[self._file] = float(ok)
        if ok:
            self._v[self._file + 1] = time.time() if at is None else at
            self._tally.info(digest)

    def log_dropped(self, reason: Literal["queue_full", "write_failed"], lines: int) -> None:
        """Lines were lost. The log's thread alone says ``write_failed``: one writer for each number."""
        self._v[self._log[reason]] += lines

    def close(self) -> None:
        """Let go of the tally, whose numbers stay; what is recorded after it goes nowhere."""
        self._v = memoryview(mmap.mmap(-1, self._v.nbytes)).cast("d")
        self._tally.close()

    def _observe(self, base: int, bounds: tuple[float, ...], value: float) -> None:
        self._v[base + bisect_left(bounds, value)] += 1.0
        self._v[base + len(bounds) + 1] += value

    def _request(self, x: Exchange) -> int:
        status = _STATUSES.get(x.status) or f"{x.status // 100}xx"
        route, tier = self._routes(x.route), x.tier if x.tier in _TIERS else OTHER
        base = self.row(f.REQUEST, route, status, tier)
        if route == x.route and len(self._requests) < 4096:
            self._requests[x.route, x.status, x.tier] = base
        return base

    def _attempt(self, a: Attempt) -> None:
        result = a.kind if a.kind is not None else (a.status or 0) // 100
        base = self._attempts.get((a.backend, result))
        if base is None:
            shown = result.value if isinstance(result, Kind) else f"{result}xx" if result else "none"
            base = self.row(f.ATTEMPT, self._names(a.backend), shown)
            if len(self._attempts) < 4096:
                self._attempts[a.backend, result] = base
        took = a.head_after
        if took is None:
            took = a.ended_after or 0.0
        self._v[base + bisect_left(f.DURATION, took)] += 1.0
        self._v[base + _ATTEMPT_SUM] += took
        if a.reused:
            self._v[base + _REUSED] += 1.0

    def _findings(self, x: Exchange) -> None:
        for found in x.findings:
            names, mode = self._names, "shadow" if found.shadow else "enforce"
            row = self.row(
                f.FINDING, names(found.policy), self._kinds(found.kind), names(found.action or "none"), mode
            )
            self._v[row] += found.count

    def _model(self, x: Exchange, took: float) -> None:
        model = x.model_asked or x.model_sent or ""
        base = self._models.get((x.dialect, model))
        if base is None:
            if (operation := _OPERATIONS.get(x.dialect)) is None:
                return
            name = self._model_names(model, admit=200 <= x.status < 300)
            base = self.row(f.MODEL, *operation, name)
            if name != OTHER or not model:  # what callers make up is not kept
                self._models[x.dialect, model] = base
        v, usage = self._v, x.usage
        if usage is not None:
            tokens = usage.prompt if 0 <= usage.prompt <= _MOST else _sane(usage.prompt)
            v[base + bisect_left(f.GEN_AI_TOKENS, tokens)] += 1.0
            v[base + _INPUT_SUM] += tokens
            tokens = usage.completion if 0 <= usage.completion <= _MOST else _sane(usage.completion)
            v[base + _OUTPUT + bisect_left(f.GEN_AI_TOKENS, tokens)] += 1.0
            v[base + _OUTPUT_SUM] += tokens
            if usage.cached:
                v[base + _CACHED] += _sane(usage.cached)
        v[base + _MODEL_TOOK + bisect_left(f.GEN_AI_SECONDS, took)] += 1.0
        v[base + _MODEL_TOOK_SUM] += took
        if x.stream and x.first_byte is not None:
            self._observe(base + _CHUNK, f.GEN_AI_FIRST_CHUNK, x.first_byte - x.started)


class _Store:
    """From a store's totals to counters that go on over reloads and restarts."""

    _MODES = ("memory", "shared", "local", "closed", "open")

    def __init__(self, recorder: Recorder) -> None:
        self._row = recorder.row
        self._token: object = None
        self._seen: dict[int, float] = {}

    def tell(self, v: memoryview[float], token: object, state: StoreState) -> None:
        if token is not self._token:
            self._token, self._seen = token, {}
        now = self._row(f.STORE_NOW)
        v[now], v[now + 1], v[now + 2] = float(state.up), float(state.keys), float(state.shares)
        for mode in self._MODES:
            v[self._row(f.STORE_MODE, mode)] = float(mode == state.mode)
        totals = self._row(f.STORE)
        for n, total in enumerate((state.outages, state.evicted, state.dropped, state.unsure)):
            self._add(v, totals + n, total)
        for reason, total in state.errors.items():
            self._add(v, self._row(f.STORE_ERROR, reason), total)
        for mode, total in state.instead.items():
            self._add(v, self._row(f.STORE_INSTEAD, mode), total)

    def _add(self, v: memoryview[float], slot: int, total: float) -> None:
        v[slot] += total - self._seen.get(slot, 0.0)
        self._seen[slot] = total


def _sane(tokens: int) -> int:
    """A backend's own number: a counter must not fall, nor a float overflow, whatever it says."""
    return min(max(tokens, 0), _MOST)
