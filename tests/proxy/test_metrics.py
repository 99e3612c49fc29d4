"""Metrics: every number counted once, over processes, with bounded labels and nothing of a caller's in them."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import subprocess
import sys
import threading
import timeit
from pathlib import Path

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from policies.exchange import Attempt, Exchange, Finding, Headers, Kind, Usage
from proxy import blocks, families, tally
from proxy.metrics import Metrics
from proxy.store.state import StoreState
from proxy.tally import Tally

ROOT = Path(__file__).parents[2]
SECRET = "sk-planted-7f3a9c"


def exchange(route: str = "/v1/chat/completions", status: int = 200, **fields: object) -> Exchange:
    x = Exchange("id", "POST", "/v1/chat/completions", "", Headers(), "127.0.0.1", 100.0, 0.0)
    x.route, x.status, x.first_byte, x.upstream_wait = route, status, 100.02, 0.55
    for name, value in fields.items():
        setattr(x, name, value)
    return x


def settle(m: Metrics, x: Exchange, took: float = 0.6) -> None:
    m.begin()
    m.settle(x, x.started + took)


def samples(m: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the page, read back by prometheus_client's own parser."""
    text = m.exposition()[0].decode()
    return {
        (s.name, frozenset(s.labels.items())): s.value
        for family in parser.text_string_to_metric_families(text)
        for s in family.samples
    }


def value(m: Metrics, name: str, **labels: str) -> float | None:
    return samples(m).get((name, frozenset(labels.items())))


def total(m: Metrics, name: str, **labels: str) -> float:
    """Sum over every label that is not given."""
    return sum(v for (n, have), v in samples(m).items() if n == name and labels.items() <= dict(have).items())


def test_a_request_is_counted_once_in_every_family_it_belongs_to() -> None:
    m = Metrics()
    x = exchange(bytes_in=10, bytes_out=30, model_asked="llama", dialect="chat", stream=True, usage=Usage(7, 20, 3))
    x.attempts = [
        Attempt("local", 100.0, kind=Kind.BACKEND_CONNECT, ended_after=0.01),
        Attempt("spare", 100.1, status=200, head_after=0.3, reused=True),
    ]
    x.findings = [Finding("pii", "email", 2, "messages[0]", "redact"), Finding("pii", "iban", 1, shadow=True)]
    settle(m, x)
    route = {"route": "/v1/chat/completions"}
    assert value(m, "headgate_requests_total", **route, status="200", tier="opaque") == 1
    assert value(m, "headgate_request_duration_seconds_count", **route, status_class="2xx") == 1
    assert value(m, "headgate_request_duration_seconds_sum", **route, status_class="2xx") == pytest.approx(0.6)
    assert value(m, "headgate_request_duration_seconds_bucket", **route, status_class="2xx", le="0.5") == 0
    assert value(m, "headgate_request_duration_seconds_bucket", **route, status_class="2xx", le="1.0") == 1
    assert value(m, "headgate_time_to_first_byte_seconds_sum", **route, tier="opaque") == pytest.approx(0.02)
    assert value(m, "headgate_overhead_seconds_sum", **route, tier="opaque") == pytest.approx(0.05)
    assert value(m, "headgate_received_bytes_total", **route) == 10
    assert value(m, "headgate_sent_bytes_total", **route) == 30
    assert value(m, "headgate_backend_attempts_total", backend="local", result="backend_connect") == 1
    assert value(m, "headgate_backend_attempts_total", backend="spare", result="2xx") == 1
    assert value(m, "headgate_backend_attempt_seconds_sum", backend="spare") == pytest.approx(0.3)
    assert value(m, "headgate_backend_reused_total", backend="spare") == 1
    finding = {"policy": "pii", "kind": "email", "action": "redact", "mode": "enforce"}
    assert value(m, "headgate_findings_total", **finding) == 2
    assert total(m, "headgate_findings_total", mode="shadow") == 1
    for kind, count in (("input", 7), ("output", 20), ("cached", 3)):
        assert value(m, "headgate_tokens_total", model="llama", kind=kind) == count
    gen_ai = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "openai",
        "gen_ai_request_model": "llama",
    }
    assert value(m, "gen_ai_client_token_usage_sum", **gen_ai, gen_ai_token_type="output") == 20
    assert value(m, "gen_ai_client_operation_duration_seconds_count", **gen_ai) == 1
    name = "gen_ai_client_operation_time_to_first_chunk_seconds_sum"
    assert value(m, name, **gen_ai) == pytest.approx(0.02)
    assert value(m, "headgate_requests_in_flight") == 0


def test_statuses_are_added_up_in_the_duration_and_apart_in_the_count() -> None:
    m = Metrics()
    for status in (200, 201, 404, 0, 799):
        settle(m, exchange(status=status, first_byte=None))
    assert total(m, "headgate_request_duration_seconds_count", status_class="2xx") == 2
    assert total(m, "headgate_requests_total", status="201") == 1
    assert total(m, "headgate_requests_total", status="none") == 1
    assert total(m, "headgate_requests_total", status="7xx") == 1, "no label for statuses nobody knows"
    assert total(m, "headgate_time_to_first_byte_seconds_count") == 0


def test_in_flight_faults_and_clients_that_left() -> None:
    m = Metrics()
    m.begin()
    m.begin()
    m.settle(exchange(fault=Kind.CLIENT_GONE, committed=True), 101.0)
    m.fault(Kind.BAD_HTTP)
    m.now(streams=3, connections=7)
    assert value(m, "headgate_requests_in_flight") == 1
    assert value(m, "headgate_streams_in_flight") == 3
    assert value(m, "headgate_client_connections") == 7
    assert value(m, "headgate_faults_total", kind="client_gone") == 1
    assert value(m, "headgate_faults_total", kind="bad_http") == 1
    assert value(m, "headgate_client_disconnects_total", when="in_reply") == 1
    settle(m, exchange(fault=Kind.CLIENT_GONE))
    assert value(m, "headgate_client_disconnects_total", when="before_reply") == 1


def test_policies_holds_reloads_backends_and_lost_lines() -> None:
    m = Metrics()
    m.policy("pii", "inspect", "pass", 0.0002)
    m.policy("pii", "inspect", "timeout", 5.0)
    m.policy("pii", "inspect", "error", 0.1)
    m.held(0.02, 17)
    m.backend("local", active=3, idle=2, up=True)
    m.reloaded(True, "abc", 1_700_000_000.0)
    m.reloaded(False)
    m.log_dropped("queue_full", 5)
    assert value(m, "headgate_policy_duration_seconds_count", policy="pii", phase="inspect") == 3
    assert value(m, "headgate_policy_verdicts_total", policy="pii", phase="inspect", verdict="pass") == 1
    assert value(m, "headgate_policy_errors_total", policy="pii", phase="inspect") == 2
    assert value(m, "headgate_hold_seconds_count") == 1
    assert value(m, "headgate_held_characters_sum") == 17
    assert value(m, "headgate_backend_connections", backend="local", state="idle") == 2
    assert value(m, "headgate_backend_up", backend="local") == 1
    assert value(m, "headgate_config_reloads_total", result="failure") == 1
    assert value(m, "headgate_config_last_reload_successful") == 0
    assert value(m, "headgate_config_last_reload_success_timestamp_seconds") == 1_700_000_000
    assert value(m, "headgate_config_info", hash="abc") == 1, "the old policy goes on"
    assert value(m, "headgate_log_lines_dropped_total", reason="queue_full") == 5
    m.backend_gone("local")
    assert value(m, "headgate_backend_up", backend="local") is None
    m.backend("local", active=0, idle=0, up=False)
    assert value(m, "headgate_backend_up", backend="local") == 0
    m.reloaded(True, "def")
    assert value(m, "headgate_config_info", hash="abc") is None
    assert value(m, "headgate_config_last_reload_successful") == 1


def test_model_labels_are_bounded_and_cannot_be_filled_by_errors() -> None:
    m = Metrics(models=["known"], max_models=3)
    ask = lambda model, status=200: settle(  # noqa: E731
        m, exchange(model_asked=model, dialect="chat", status=status, usage=Usage(1, 1))
    )
    for n in range(50):
        ask(f"invented-{n}", status=404)
    ask("real-1")
    ask("real-2")
    ask("real-3")
    ask("known")
    ask("x" * 500)
    ask("new\nline")
    models = {dict(k)["model"] for n, k in samples(m) if n == "headgate_tokens_total"}
    assert models == {"known", "real-1", "real-2", "other"}
    assert total(m, "headgate_tokens_total", kind="input", model="other") == 53


def test_routes_and_findings_are_bounded_too() -> None:
    m = Metrics()
    for n in range(5000):
        settle(m, exchange(route=f"/r/{n}", findings=[Finding("p", f"kind-{n}")]))
    page = samples(m)
    assert len({dict(k).get("route") for n, k in page if n == "headgate_requests_total"}) <= 129
    assert len({dict(k).get("kind") for n, k in page if n == "headgate_findings_total"}) <= 257
    assert sum(v for (n, _), v in page.items() if n == "headgate_requests_total") == 5000


@pytest.mark.parametrize("tokens", [-5, 10**400])
def test_a_backends_nonsense_cannot_break_a_counter(tokens: int) -> None:
    m = Metrics()
    settle(m, exchange(model_asked="m", dialect="chat", usage=Usage(tokens, tokens, tokens)))
    found = value(m, "headgate_tokens_total", model="m", kind="input")
    assert found is not None
    assert 0 <= found <= 10**9


def test_overhead_never_falls() -> None:
    m = Metrics()
    settle(m, exchange(upstream_wait=9.0))
    assert total(m, "headgate_overhead_seconds_sum") == 0
    assert total(m, "headgate_overhead_seconds_count") == 1


def test_nothing_of_a_caller_becomes_a_label() -> None:
    m = Metrics()
    x = Exchange(SECRET, SECRET, SECRET, SECRET, Headers([(b"authorization", SECRET.encode())]), SECRET, 100.0, 0.0)
    x.route, x.dialect, x.status, x.model_asked = "/v1/chat/completions", "chat", 401, SECRET
    x.caller = x.tenant = x.model_sent = x.scanned_request = x.scanned_reply = SECRET
    x.labels, x.notes, x.tier = {SECRET: SECRET}, {SECRET: SECRET}, SECRET
    x.findings = [Finding("pii", "email", where=SECRET)]
    x.attempts = [Attempt("local", 100.0, model=SECRET, status=401)]
    settle(m, x)
    for accept in (None, "application/openmetrics-text; version=1.0.0"):
        assert SECRET not in m.exposition(accept)[0].decode()


async def test_the_page_has_every_family_in_both_formats() -> None:
    m = Metrics()
    settle(m, exchange(model_asked="llama", dialect="chat", usage=Usage(1, 1)))
    text, kind = await m.page(None)
    assert kind.startswith("text/plain")
    names = {f.name for f in parser.text_string_to_metric_families(text.decode())}
    assert {f.name.removesuffix("_total") for f in families.FAMILIES} <= names
    assert "process_resident_memory_bytes" in names or sys.platform != "linux"
    other, kind = await m.page("application/openmetrics-text; version=1.0.0; charset=utf-8, text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text")
    assert other.endswith(b"# EOF\n")
    assert {f.name for f in openmetrics.text_string_to_metric_families(other.decode())} == names


async def test_the_page_is_made_in_a_thread_once_a_second() -> None:
    now, made = [10.0], []
    m = Metrics(clock=lambda: now[0])
    make = m.exposition

    def watched(accept: str | None = None) -> tuple[bytes, str]:
        made.append(threading.current_thread())
        return make(accept)

    m.exposition = watched  # type: ignore[method-assign]
    pages = await asyncio.gather(*(m.page() for _ in range(20)))
    assert len(made) == 1
    assert made[0] is not threading.main_thread()
    settle(m, exchange())
    assert await m.page() == pages[0]
    now[0] += 1.0
    assert await m.page() != pages[0]
    assert len(made) == 2
    for n in range(50):
        await m.page(f"text/plain; version=1.0.{n}")
    assert len(m._pages) <= 9, "the Accept field is the client's"


def test_promtool_has_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: the page was checked by prometheus_client's parser alone")
    m = Metrics()
    settle(m, exchange(model_asked="llama", dialect="chat", usage=Usage(1, 1)))
    done = subprocess.run([promtool, "check", "metrics"], input=m.exposition()[0], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_workers_add_up_and_a_dead_ones_gauges_vanish(tmp_path: Path) -> None:
    first, second = Metrics(tmp_path, 0), Metrics(tmp_path, 1)
    for m, count in ((first, 3), (second, 4)):
        for _ in range(count):
            settle(m, exchange())
        m.begin()
        m.backend("local", active=1, idle=0, up=m is first)
        m.reloaded(True, f"hash-{count}", 1000.0 + count)
    for m in (first, second):  # any of them answers for all
        assert total(m, "headgate_requests_total") == 7
        assert value(m, "headgate_requests_in_flight") == 2
        assert value(m, "headgate_backend_connections", backend="local", state="active") == 2
        assert value(m, "headgate_backend_up", backend="local") == 0, "not in every worker"
        assert value(m, "headgate_config_last_reload_success_timestamp_seconds") == 1003
        assert total(m, "headgate_config_info") == 2
    tally.mark_dead(tally.path_of(tmp_path, 1))
    assert total(first, "headgate_requests_total") == 7
    assert value(first, "headgate_requests_in_flight") == 1
    assert value(first, "headgate_backend_up", backend="local") == 1
    assert value(first, "headgate_worker_up", worker="1") == 0
    assert value(first, "headgate_config_info", hash="hash-4") is None
    again = Metrics(tmp_path, 1)
    settle(again, exchange(route="/v1/models"))
    assert total(first, "headgate_requests_total") == 8
    assert value(first, "headgate_requests_in_flight") == 1
    assert value(first, "headgate_worker_up", worker="1") == 1


def test_what_a_killed_process_counted_stays(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from policies.exchange import Kind
from proxy.metrics import Metrics
m = Metrics(Path(sys.argv[1]), 0)
for _ in range(1000):
    m.fault(Kind.BAD_HTTP)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(ROOT)], check=False, timeout=60)
    assert done.returncode == -9
    assert value(Metrics(tmp_path, 1), "headgate_faults_total", kind="bad_http") == 1000


def test_closing_keeps_the_numbers_and_takes_no_more(tmp_path: Path) -> None:
    m, other = Metrics(tmp_path, 0), Metrics(tmp_path, 1)
    settle(m, exchange())
    m.close()
    settle(m, exchange())
    m.log_dropped("write_failed", 1)
    assert total(other, "headgate_requests_total") == 1


def test_a_full_tally_loses_rows_and_says_so() -> None:
    t = Tally()
    bases = [t.row("b", 200, (str(n),)) for n in range(2000)]
    assert t.lost > 0
    assert bases[-1] == 0
    t.values[bases[-1] + 199] += 1.0  # goes nowhere
    rows = t.snapshot().rows
    assert len(rows) == 2000 - t.lost
    assert not any(sum(r.values) for r in rows)


@pytest.mark.parametrize("content", [b"", b"x", b"HGTALLY1", b"HGTALLY1" + b"\xff" * 300_000, bytes(5000)])
def test_a_damaged_tally_is_left_out_and_made_anew(tmp_path: Path, content: bytes) -> None:
    tally.path_of(tmp_path, 1).write_bytes(content)
    m = Metrics(tmp_path, 0)
    settle(m, exchange())
    assert total(m, "headgate_requests_total") == 1
    again = Metrics(tmp_path, 1)
    settle(again, exchange())
    assert total(m, "headgate_requests_total") == 2


def test_a_tally_that_the_disk_cannot_hold_is_refused_at_once(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from proxy.tally import Tally
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    Tally(Path(sys.argv[1]) / "0.tally")
except OSError:
    print("refused")
"""
    command = [sys.executable, "-c", code, str(tmp_path), str(ROOT)]
    done = subprocess.run(command, check=False, timeout=60, capture_output=True)
    assert done.stdout == b"refused\n", done.stderr


def test_the_run_directory_is_private() -> None:
    directory = tally.run_directory()
    try:
        assert directory.stat().st_mode & 0o077 == 0
        Tally(tally.path_of(directory, 0))
        assert tally.path_of(directory, 0).stat().st_mode & 0o077 == 0
    finally:
        shutil.rmtree(directory)


def test_bucket_edges_belong_to_their_bucket() -> None:
    m = Metrics()
    m.held(blocks.HOLD[0], int(blocks.HELD[1]))
    m.held(math.inf, 10**9)
    assert value(m, "headgate_hold_seconds_bucket", le=str(blocks.HOLD[0])) == 1
    assert value(m, "headgate_hold_seconds_bucket", le="+Inf") == 2
    assert value(m, "headgate_held_characters_bucket", le="4.0") == 1


def test_spending_by_tenant_is_bounded_and_never_falls() -> None:
    m = Metrics()
    for n in range(150):
        m.spent("money", f"tenant-{n}", "USD", 0.5)
    for odd in ("", "", "x" * 200, "a\nb"):
        m.spent("money", odd, "USD", 1.0)
    m.spent("money", "tenant-7", "USD", -5.0)
    m.spent("money", "tenant-7", "EUR", 2.0)
    assert value(m, "headgate_spend_total", policy="money", tenant="tenant-7", currency="USD") == 0.5
    assert value(m, "headgate_spend_total", policy="money", tenant="tenant-7", currency="EUR") == 2
    assert value(m, "headgate_spend_total", policy="money", tenant="", currency="USD") == 2
    assert value(m, "headgate_spend_total", policy="money", tenant="(other)", currency="USD") == 50 * 0.5 + 2
    assert len({dict(labels)["tenant"] for name, labels in samples(m) if name == "headgate_spend_total"}) == 102


def test_refusals_by_what_was_limited() -> None:
    m = Metrics()
    x = exchange(status=429)
    x.findings = [
        Finding("limits", "tokens", action="refuse"), Finding("limits", "rate_limit_exceeded", action="refuse"),
        Finding("money", "money", action="warn"), Finding("money", "money", action="refuse", shadow=True),
        Finding("guard", "max_tokens", action="refuse"),
    ]  # fmt: skip
    settle(m, x)
    shown = {k: v for k, v in samples(m).items() if k[0] == "headgate_limit_refused_total"}
    assert shown == {("headgate_limit_refused_total", frozenset({("policy", "limits"), ("measure", "tokens")})): 1}


def test_the_store_is_told_of_and_its_totals_go_on_over_a_reload() -> None:
    m = Metrics()
    first, second = object(), object()
    m.store(first, StoreState("memory", True, False, 1, 17, evicted=3))
    m.store(first, StoreState("memory", True, False, 1, 18, evicted=5))
    assert value(m, "headgate_store_up") == 1 and value(m, "headgate_store_keys") == 18
    assert value(m, "headgate_store_mode", mode="memory") == 1 and value(m, "headgate_store_evicted_total") == 5
    away = StoreState("local", False, True, 6, 2, {"timeout": 4}, 1, 1, {"local": 90}, 7, 2)
    for _ in range(3):
        m.store(second, away)
    assert value(m, "headgate_store_up") == 0 and value(m, "headgate_store_shares") == 6
    assert [value(m, "headgate_store_mode", mode=mode) for mode in ("memory", "local", "shared")] == [0, 1, 0]
    assert value(m, "headgate_store_evicted_total") == 6 and value(m, "headgate_store_outages_total") == 1
    assert value(m, "headgate_store_errors_total", reason="timeout") == 4
    assert value(m, "headgate_store_instead_total", mode="local") == 90
    assert (value(m, "headgate_store_dropped_total"), value(m, "headgate_store_unsure_total")) == (7, 2)


def test_names_are_prometheus_names_and_said_once() -> None:
    names = [f.name for f in families.FAMILIES]
    assert len(set(names)) == len(names)
    for f in families.FAMILIES:
        assert f.name.startswith(("headgate_", "gen_ai_"))
        assert f.name.endswith("_total") == (f.kind == "counter")
        for source in f.sources:
            assert set(f.labels) - {"status_class"} <= set(source.block.labels)
            assert (f.kind == "histogram") <= bool(source.block.bounds(source.part))


def test_docs_have_the_table() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert families.reference() in text, "docs/metrics.md is stale: put families.reference() into it"


def test_settling_costs_microseconds() -> None:
    m = Metrics()
    x = exchange(model_asked="llama", dialect="chat", usage=Usage(1, 1), stream=True)
    x.attempts = [Attempt("local", 100.0, status=200, head_after=0.3)]
    best = min(timeit.repeat(lambda: m.settle(x, 100.6), number=2000, repeat=5)) / 2000
    assert best < 30e-6, f"{best * 1e6:.1f} us; about 3 us on a quiet machine"


def test_memory_of_a_process_of_its_own_is_not_a_file() -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    many = [Metrics() for _ in range(20)]
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after - before < len(many)
