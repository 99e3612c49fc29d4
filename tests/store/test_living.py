"""The store in a running headgate: lent to policies, kept over a reload when unchanged, closed at the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import policies
from policies.contract import Deps, Policy
from policies.exchange import Exchange
from policies.store import Rate, Store
from tests.kits.backend import backend, hello
from tests.kits.client import fetch, request
from tests.kits.gate import gate
from tests.kits.store_kit import RedisServer


class Thrice(Policy):
    """Three requests, then it labels them as too many."""

    USE = "thrice"
    counts = True
    seen: list[str] = []

    async def prepare(self) -> None:
        self.store: Store = await self.deps.store(self.name)

    async def admit(self, x: Exchange) -> None:
        taken = await self.store.take([Rate("all", 1, 3, 3600, 3)])
        self.seen.append(f"{taken.source} {taken.ok}")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(Thrice, "seen", seen)
    load = policies.load
    monkeypatch.setattr(policies, "load", lambda use: Thrice if use == "thrice" else load(use))
    monkeypatch.setattr(policies, "CATALOGUE", {**policies.CATALOGUE, "thrice": "tests"})
    return seen


POLICY: list[dict[str, Any]] = [{"use": "thrice"}]


async def test_counters_outlive_a_reload_unless_the_store_changes(known: list[str]) -> None:
    async with backend(hello) as b, gate(b.url, policies=POLICY) as g:
        for _ in range(2):
            await fetch(g.port, request())
        first = g.app.runtime.store
        g.configure(b.url, policies=POLICY, drain_timeout=7)
        assert await g.app.reload() and g.app.runtime.store is first
        for _ in range(2):
            await fetch(g.port, request())
        assert known == ["memory True"] * 3 + ["memory False"]
        g.configure(b.url, policies=POLICY, store={"approximate": True})
        assert await g.app.reload() and g.app.runtime.store is not first
        await fetch(g.port, request())
        assert known[-1] == "memory True"


async def test_a_reload_that_fails_leaves_the_store_alone(known: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async with backend(hello) as b, gate(b.url, policies=POLICY) as g:
        await fetch(g.port, request())

        async def fail(self: Policy) -> None:
            raise OSError("no")

        monkeypatch.setattr(Thrice, "prepare", fail)
        first = g.app.runtime.store
        for more in ({}, {"store": {"approximate": True}}):
            g.configure(b.url, policies=POLICY, drain_timeout=8, **more)
            assert not await g.app.reload() and g.app.runtime.store is first
        await fetch(g.port, request())
        assert known == ["memory True"] * 2 and len(first) == 1


async def test_nobody_has_lent_a_store() -> None:
    with pytest.raises(OSError):
        await Deps().store("x")


@pytest.mark.wire
async def test_redis_under_a_running_headgate(own_server: RedisServer, known: list[str]) -> None:
    async with backend(hello) as b, gate(b.url, policies=POLICY, store=own_server.url) as g:
        await fetch(g.port, request())
        own_server.kill()
        await asyncio.sleep(0.02)
        replies = [await fetch(g.port, request()) for _ in range(5)]
        assert all(r.status == 200 for r in replies)
        assert known[0] == "redis True" and set(known[1:]) == {"local True", "local False"}
        lines = [line for line in await g.log_lines(7) if line["event"].startswith("store_")]
        assert [(line["event"], line["reason"], line["mode"]) for line in lines] == [("store_away", "connection", "local")]
