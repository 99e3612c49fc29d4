"""The admin port over real sockets."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import parser

from policies.limits.ledger import Entry, Line
from policies.store import StoreAway
from proxy import admin
from proxy.admin import BackendState, FailedReload, PolicyState, Problem, WorkerState
from proxy.metrics import Metrics
from proxy.tally import Snapshot
from proxy.usage import Account, Usage
from proxy.worker import bind

ROOT = Path(__file__).parents[2]


class State:
    """An AdminState that the test sets."""

    version = "1.2.3"

    def __init__(self) -> None:
        self.up, self.leaving, self.reachable = True, False, True
        self.live: PolicyState | None = PolicyState(
            "policy.yaml", "abcdef0123456789", 1_700_000_000.0, [{"route": "/v1/chat/completions", "tier": "gated"}]
        )
        self.numbers = Metrics()
        self.away, self.alone = False, None
        self.accounts: list[Account] = []

    def listening(self) -> bool:
        return self.up

    def draining(self) -> bool:
        return self.leaving

    def backends_ready(self) -> bool:
        return self.reachable

    def policy(self) -> PolicyState | None:
        return self.live

    def backends(self) -> Sequence[BackendState]:
        return [BackendState("local", "http://127.0.0.1:8000", None, 2, 1)]

    def workers(self) -> Sequence[WorkerState]:
        return [WorkerState("0", 17, True, 1_700_000_000.0), WorkerState("1", 0, False, 1_700_000_000.0)]

    def worker(self) -> int:
        return 0

    async def metrics(self, accept: str | None) -> tuple[bytes, str]:
        return await self.numbers.page(accept)

    async def usage(self, month: str) -> Usage:
        if self.away:
            raise StoreAway("away", 1.0)
        return Usage(month or "2026-11", self.alone, self.accounts)


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def client(state: State) -> AsyncIterator[aiohttp.ClientSession]:
    sockets = bind("127.0.0.1:0")
    runner = await admin.start_admin(admin.build_admin(state), sockets)
    base = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    async with aiohttp.ClientSession(base) as session:
        yield session
    await runner.cleanup()


async def get(client: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with client.get(path) as reply:
        assert reply.content_type == "application/json"
        assert reply.headers["Cache-Control"] == "no-store"
        return reply.status, await reply.json()


@pytest.mark.parametrize("path", ["/health", "/healthz", "/health/live"])
async def test_health_depends_on_nothing(client: aiohttp.ClientSession, state: State, path: str) -> None:
    state.up, state.leaving, state.reachable, state.live = False, True, False, None
    assert await get(client, path) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/ready", "/readyz", "/health/ready"])
async def test_ready_names_what_is_missing(client: aiohttp.ClientSession, state: State, path: str) -> None:
    assert await get(client, path) == (200, {"status": "ready", "missing": []})
    state.reachable = False
    assert await get(client, path) == (503, {"status": "not ready", "missing": ["backend"]})
    state.reachable, state.leaving = True, True
    assert await get(client, path) == (503, {"status": "not ready", "missing": ["not draining"]})
    state.up, state.live = False, None
    assert (await get(client, path))[1]["missing"] == ["policy", "listener", "not draining"]


async def test_metrics_in_both_formats(client: aiohttp.ClientSession) -> None:
    async with client.get("/metrics") as reply:
        assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = await reply.text()
    assert "headgate_build_info" in {f.name for f in parser.text_string_to_metric_families(text)}
    async with client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as reply:
        assert reply.content_type == "application/openmetrics-text"
        assert (await reply.text()).endswith("# EOF\n")


async def test_the_live_policy_and_the_reload_that_failed(client: aiohttp.ClientSession, state: State) -> None:
    status, body = await get(client, "/policies")
    assert (status, body["since"], body["last_failed_reload"]) == (200, "2023-11-14T22:13:20.000Z", None)
    assert body["routes"] == [{"route": "/v1/chat/completions", "tier": "gated"}]
    assert state.live is not None
    problem = Problem("policy.yaml:7:3", "unknown key")
    state.live = PolicyState("policy.yaml", "abc", 0.0, [], FailedReload(1_700_000_000.0, [problem]))
    _, body = await get(client, "/policies")
    assert body["last_failed_reload"] == {
        "at": "2023-11-14T22:13:20.000Z",
        "problems": [{"where": "policy.yaml:7:3", "message": "unknown key"}],
    }
    state.live = None
    assert (await get(client, "/policies"))[0] == 503


async def test_version_backends_and_index(client: aiohttp.ClientSession) -> None:
    _, body = await get(client, "/version")
    assert (body["version"], body["worker"]) == ("1.2.3", 0)
    assert [(w["name"], w["alive"]) for w in body["workers"]] == [("0", True), ("1", False)]
    _, body = await get(client, "/backends")
    assert body["backends"] == [
        {"name": "local", "url": "http://127.0.0.1:8000", "reachable": None, "in_flight": 2, "idle": 1}
    ]
    _, body = await get(client, "/")
    assert set(body["paths"]) == {"/health", "/ready", "/metrics", "/policies", "/backends", "/usage", "/version"}
    for path in [*body["paths"], *body["aliases"]]:
        async with client.get(path) as reply:
            assert reply.status == 200, path


async def test_people_get_a_page_that_loads_nothing(client: aiohttp.ClientSession, state: State) -> None:
    evil = "<script>alert(1)</script>"
    failed = FailedReload(0.0, [Problem(evil, evil)])
    state.live = PolicyState(evil, evil, 0.0, [{evil: evil, "policies": [evil, "b"]}], failed)
    async with client.get("/", headers={"Accept": "text/html,*/*;q=0.8"}) as reply:
        assert reply.content_type == "text/html"
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        page = await reply.text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "not tried yet" in page
    assert "src=" not in page
    assert "http-equiv" not in page
    state.live, state.reachable = None, False
    async with client.get("/", headers={"Accept": "text/html"}) as reply:
        assert "not ready: policy, backend" in await reply.text()


async def test_what_is_not_there_is_said_in_json(client: aiohttp.ClientSession) -> None:
    status, body = await get(client, "/nothing")
    assert (status, body["status"]) == (404, 404)
    assert "/health" in body["paths"]
    async with client.post("/health") as reply:
        assert reply.status == 405
        assert "GET" in reply.headers["Allow"]
        assert (await reply.json())["error"] == "Method Not Allowed"
    async with client.head("/ready") as reply:
        assert reply.status == 200


async def test_a_bug_in_the_state_is_a_500_without_its_text(client: aiohttp.ClientSession, state: State) -> None:
    def broken() -> bool:
        raise RuntimeError("secret detail")

    state.listening = broken  # type: ignore[method-assign]
    async with client.get("/ready") as reply:
        assert reply.status == 500
        assert "secret detail" not in await reply.text()
    assert (await get(client, "/health"))[0] == 200


def test_without_the_c_parser_it_does_not_start() -> None:
    admin.require_c_parser()
    code = (
        "from proxy.admin import ParserMissing, require_c_parser\n"
        "try:\n    require_c_parser()\nexcept ParserMissing as e:\n    print(e)"
    )
    env = {"AIOHTTP_NO_EXTENSIONS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "AIOHTTP_NO_EXTENSIONS" in done.stdout, done.stderr


def test_workers_are_those_with_a_number() -> None:
    snapshots = [Snapshot(name, pid, 5.0, "", ()) for name, pid in (("0", 11), ("1", 0), ("supervisor", 9))]
    assert admin.workers_of(snapshots) == [WorkerState("0", 11, True, 5.0), WorkerState("1", 0, False, 5.0)]


def test_docs_name_every_path() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert not [path for path in (*admin.PATHS, *admin.ALIASES) if f"`{path}`" not in text]


# -- /usage

LINES = [
    Line(Entry("", "", "free"), 2, 10, 0, 5, 0),
    Line(Entry("acme", "alice", "big, \"quoted\""), 1, 100, 20, 50, 0.000001),
    Line(Entry("acme", "alice", "small"), 3, 30.25, 0, 7, 1.5),
    Line(Entry("acme", "bob", "small"), 1, 1, 0, 1, 0.25),
    Line(Entry("evil", "=HYPERLINK(1)", "+1"), 1, 0, 0, 0, 0),
]


async def test_usage_as_json(client: aiohttp.ClientSession, state: State) -> None:
    state.accounts = [Account("money", "USD", ("500 USD/month",), LINES), Account("more", "EUR", (), [])]
    status, page = await get(client, "/usage")
    assert (status, page["month"], page["worker"]) == (200, "2026-11", None)
    money, more = page["policies"]
    assert (money["policy"], money["currency"], money["limits"]) == ("money", "USD", ["500 USD/month"])
    assert money["lines"][1] == {
        "tenant": "acme", "caller": "alice", "model": "big, \"quoted\"", "requests": 1, "prompt_tokens": 100,
        "cached_tokens": 20, "completion_tokens": 50, "money": 0.000001,
    }  # fmt: skip
    assert money["total"]["requests"] == 8 and money["total"]["money"] == pytest.approx(1.750001)
    assert (more["lines"], more["total"]["money"]) == ([], 0)


async def test_usage_by_one_name(client: aiohttp.ClientSession, state: State) -> None:
    state.accounts = [Account("money", "USD", (), LINES)]
    state.alone = 3  # type: ignore[assignment]
    _, page = await get(client, "/usage?by=tenant&month=2026-02")
    assert (page["month"], page["worker"], page["by"]) == ("2026-02", 3, "tenant")
    lines = page["policies"][0]["lines"]
    assert [(line["tenant"], line["requests"], line["money"]) for line in lines] == [
        ("", 2, 0), ("acme", 5, 1.750001), ("evil", 1, 0)
    ]  # fmt: skip
    _, page = await get(client, "/usage?by=caller")
    callers = [(line["tenant"], line["caller"]) for line in page["policies"][0]["lines"]]
    assert callers == [("", ""), ("acme", "alice"), ("acme", "bob"), ("evil", "=HYPERLINK(1)")]
    _, page = await get(client, "/usage?by=model")
    assert {line["model"]: line["requests"] for line in page["policies"][0]["lines"]}["small"] == 4


async def test_usage_as_csv_that_no_spreadsheet_runs(client: aiohttp.ClientSession, state: State) -> None:
    state.accounts = [Account("@money", "USD", (), LINES)]
    async with client.get("/usage?format=csv") as reply:
        assert reply.content_type == "text/csv" and reply.headers["Cache-Control"] == "no-store"
        assert 'filename="headgate-usage-2026-11.csv"' in reply.headers["Content-Disposition"]
        text = await reply.text()
    assert text.count("\r\n") == text.count("\n") == 6
    head, free, quoted, _, _, evil = csv.reader(io.StringIO(text, newline=""))
    assert head == ["month", "policy", "currency", "tenant", "caller", "model", "requests", "prompt_tokens", "cached_tokens",
                    "completion_tokens", "money"]  # fmt: skip
    assert free == ["2026-11", "'@money", "USD", "", "", "free", "2", "10", "0", "5", "0"]
    assert quoted[5:] == ['big, "quoted"', "1", "100", "20", "50", "0.000001"]
    assert evil[3:6] == ["evil", "'=HYPERLINK(1)", "'+1"]
    async with client.get("/usage?format=csv&by=model") as reply:
        assert (await reply.text()).splitlines()[0].startswith('"month","policy","currency","model","requests"')


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("month=2026-13", "2026-11"), ("month=", "2026-11"), ("month=2026", "2026-11"), ("month=2026-11%0A", "2026-11"),
        ("month=\u0662\u0660\u0662\u0666-11", "2026-11"), ("format=xml", "json or csv"), ("by=key", "tenant, caller or model"),
        ("by=", "tenant, caller or model"), ("mnth=2026-11", "there are month"), ("by=model&by=tenant", "twice"),
    ],
)  # fmt: skip
async def test_questions_that_make_no_sense(client: aiohttp.ClientSession, asked: str, words: str) -> None:
    status, page = await get(client, f"/usage?{asked}")
    assert status == 400 and words in page["error"]


async def test_usage_while_the_store_is_away(client: aiohttp.ClientSession, state: State) -> None:
    state.away = True
    async with client.get("/usage") as reply:
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1") and "away" in (await reply.json())["error"]
