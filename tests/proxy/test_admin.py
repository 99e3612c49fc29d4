"""The admin port over real sockets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import parser

from proxy import admin
from proxy.admin import BackendState, FailedReload, PolicyState, Problem, WorkerState
from proxy.metrics import Metrics
from proxy.tally import Snapshot
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
    assert set(body["paths"]) == {"/health", "/ready", "/metrics", "/policies", "/backends", "/version"}
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
