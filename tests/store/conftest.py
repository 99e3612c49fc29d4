"""One Redis for all tests that do not break it, and the three stores that pass the same tests."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.kits.store_kit import Bench, RedisServer, bench

_scopes = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as made:
        yield made


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """One that the test may break."""
    with RedisServer(tmp_path) as made:
        yield made


@pytest.fixture(
    params=["memory", pytest.param("redis", marks=pytest.mark.wire), pytest.param("guarded", marks=pytest.mark.wire)]
)
async def each(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Memory, Redis, and Redis behind the guard."""
    found = None if request.param == "memory" else request.getfixturevalue("server")
    async with bench(request.param, f"policy-{next(_scopes)}", found) as made:
        yield made
