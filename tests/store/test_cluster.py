"""A Cluster of three masters, and Sentinel, on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.store import Lease, Part, Rate, StoreAway, Window
from proxy.store.guarded import Guarded
from proxy.store.redis import RedisStore
from proxy.store.urls import parse_store_url
from tests.kits.store_kit import PATIENCE, RedisServer, free_port, until

pytestmark = [pytest.mark.wire, pytest.mark.deadline(60)]


def wait(check: object) -> None:
    end = time.monotonic() + PATIENCE
    while not check():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    with contextlib.ExitStack() as stack:
        nodes = []
        for i in range(3):
            at = tmp_path_factory.mktemp(f"node{i}")
            options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "15000")
            nodes.append(stack.enter_context(RedisServer(at, *options)))
        for node, (first, last) in zip(nodes, ((0, 5460), (5461, 10922), (10923, 16383)), strict=True):
            node.cli("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        for node in nodes[1:]:
            bus = node.more[3]
            nodes[0].cli("CLUSTER", "MEET", "127.0.0.1", str(node.port), bus)
        wait(lambda: all("cluster_state:ok" in n.cli("CLUSTER", "INFO")[0] for n in nodes))
        yield nodes


def step(i: int = 0) -> list[Part]:
    return [Rate(f"r{i}", 1, 100, 3600, 100), Window(f"w{i}", 1, 100, 0, 4e9), Lease(f"l{i}", "a", 9, 60)]


async def test_a_step_is_one_slot_of_a_cluster(cluster: list[RedisServer]) -> None:
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{n.port}" for n in cluster)
    guard = Guarded(RedisStore(parse_store_url(url), prefix="t"), timeout=2.0)
    for name in ("a", "b", "c", "d", "e"):  # policies lie on different nodes; the keys of one do not
        store = await guard.open(name)
        taken = await store.take(step())
        assert taken.ok and taken.source == "redis"
        await store.adjust(step(), taken)
        await store.set("k", b"v", 9)
        assert await store.get("k") == b"v"
        await store.count("k", {"a": 1.5, "b": 2}, 9)
        assert await store.counts("k") == {"a": 1.5, "b": 2}
        answers = await asyncio.gather(*(store.take([Rate("x", 1, 20, 3600, 20)]) for _ in range(60)))
        assert (sum(a.ok for a in answers), guard.errors) == (20, {})
    assert sum(bool(n.cli("KEYS", "*")) for n in cluster) >= 2
    for node in cluster:
        node.cli("SCRIPT", "FLUSH")
    assert (await (await guard.open("a")).take(step(1))).source == "redis"
    assert guard.outages == 0
    await guard.close()


async def test_a_cluster_that_lost_a_master_is_away_and_no_request_waits(cluster: list[RedisServer]) -> None:
    guard = Guarded(RedisStore(parse_store_url(f"redis+cluster://127.0.0.1:{cluster[0].port}"), prefix="t"), probe_every=0.2)
    store = await guard.open("a")
    await store.take(step(2))
    for node in cluster:
        node.kill()
    took = []
    for _ in range(50):
        began = time.monotonic()
        assert (await store.take(step(3))).ok
        took.append(time.monotonic() - began)
    assert guard.outages == 1 and max(took) < 0.25 and sorted(took)[40] < 0.01
    await guard.close()


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A master, its replica, and one sentinel that decides alone."""
    for name in ("m", "r", "s"):
        (tmp_path / name).mkdir()
    with RedisServer(tmp_path / "m") as master, contextlib.ExitStack() as stack:
        replica = stack.enter_context(RedisServer(tmp_path / "r", "--replicaof", "127.0.0.1", str(master.port)))
        wait(lambda: "master_link_status:up" in "".join(_info(replica)))
        watch = RedisServer(tmp_path / "s")
        (tmp_path / "s" / "conf").write_text(
            f"port {watch.port}\nbind 127.0.0.1\ndir {tmp_path / 's'}\n"
            f"sentinel monitor gate 127.0.0.1 {master.port} 1\nsentinel down-after-milliseconds gate 500\n"
            "sentinel failover-timeout gate 3000\n"
        )
        watch.conf = tmp_path / "s" / "conf"
        stack.enter_context(watch)
        wait(lambda: any(str(replica.port) in line for line in watch.cli("SENTINEL", "REPLICAS", "gate")))
        yield master, replica, watch


def _info(server: RedisServer) -> list[str]:
    import socket

    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        sock.sendall(b"INFO replication\r\n")
        time.sleep(0.02)
        return [sock.recv(65536).decode()]


async def test_sentinel_and_a_failover(sentinel: tuple[RedisServer, RedisServer, RedisServer]) -> None:
    master, replica, watch = sentinel
    address = parse_store_url(f"redis+sentinel://127.0.0.1:{watch.port}/gate/0")
    guard = Guarded(RedisStore(address, prefix="t"), probe_every=0.2)
    store = await guard.open("p")
    assert (await store.take(step())).source == "redis"
    assert master.cli("KEYS", "*:r:r0")
    await asyncio.sleep(0.3)  # so that the replica has it
    master.kill()
    taken = [await store.take(step()) for _ in range(50)]
    assert all(t.ok or t.source == "local" for t in taken) and guard.outages == 1
    await until(lambda: guard.up, 20)
    taken_there = await store.take([Window("w0", 0, 100, 0, 4e9)])
    assert taken_there.source == "redis" and replica.cli("KEYS", "*:w:w0")
    assert taken_there.parts[0].remaining < 99, "what was counted before, and what was spent meanwhile"
    await guard.close()


async def test_a_sentinel_that_does_not_know_the_service(sentinel: tuple[RedisServer, RedisServer, RedisServer]) -> None:
    store = RedisStore(parse_store_url(f"redis+sentinel://127.0.0.1:{sentinel[2].port}/other"))
    with pytest.raises(StoreAway):
        await store.scope("p").take(step())
    await store.close()
