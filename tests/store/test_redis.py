"""What only Redis promises: times to live, scripts that come back, several processes, errors as words, late steps."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest
from redis.crc import key_slot

from policies.store import Lease, Part, Rate, StoreAway, Window
from proxy.store.redis import RedisScope, RedisStore, reason_of
from proxy.store.urls import parse_store_url
from tests.kits.process import ROOT
from tests.kits.store_kit import RedisServer, front

pytestmark = pytest.mark.wire
START = float(int(time.time()))


def opened(url: str, **more: object) -> RedisStore:
    return RedisStore(parse_store_url(url), prefix="t", **more)  # type: ignore[arg-type]


def step(cost: float = 1) -> list[Part]:
    return [Rate("r", cost, 100, 3600, 100), Window("w", cost, 1000, START, START + 3600), Lease("l", "a", 5, 60)]


async def test_every_key_has_a_time_to_live_and_one_hash_tag(own_server: RedisServer) -> None:
    store = opened(own_server.url)
    for scope in ("one", "two}three", ""):
        s = store.scope(scope)
        taken = await s.take(step(3))
        await s.adjust([p if isinstance(p, Lease) else p._replace(cost=-1) for p in step()[:2]], taken)
        await s.adjust([Rate("debt", 5, 1, 1e-9, 1), Window("old", 5, 1, 0, 1), Rate("slow", 1, 1e-6, 1e9, 1)])
        await s.renew([Lease("l2", "a", 1, 0.5)])
        await s.set("v", b"x", 30)
    await store.warm()
    keys = own_server.cli("KEYS", "*")
    assert len(keys) == 3 * 8 + 1
    for key in keys:
        ttl = int(own_server.cli("PTTL", key)[0])
        assert 0 < ttl <= 400 * 86_400_000, key
    tags = {key[: key.index("}") + 1] for key in keys}
    assert len(tags) == 4
    for tag in tags:
        assert len({key_slot(k.encode()) for k in keys if k.startswith(tag)}) == 1
    await store.close()


async def test_what_is_kept_can_be_read_by_people(own_server: RedisServer) -> None:
    store = opened(own_server.url)
    await store.scope("p").take([Rate("caller:rpm", 2.5, 100, 60, 100), Window("m", 0.25, 9, 10, 4e9), Lease("c", "id", 1, 9)])
    level, at = own_server.cli("GET", "{t:p}:r:caller:rpm")[0].split()
    assert float(level) == 2.5 and abs(int(at) / 1e6 - time.time()) < 5
    assert own_server.cli("GET", "{t:p}:w:m") == ["10 4000000000 0.25 0"]
    assert own_server.cli("ZRANGE", "{t:p}:l:c", "0", "-1") == ["id"]
    await store.close()


async def test_a_drained_rate_leaves_no_key(own_server: RedisServer) -> None:
    store = opened(own_server.url)
    await store.scope("p").take([Rate("k", 1, 1000, 1, 1000)])
    assert int(own_server.cli("PTTL", "{t:p}:r:k")[0]) <= 1002
    await store.close()


@pytest.mark.parametrize("forget", ["script", "all", "restart"])
async def test_forgotten_scripts_come_back_by_themselves(own_server: RedisServer, forget: str) -> None:
    store = opened(own_server.url)
    s = store.scope("p")
    assert (await s.take(step())).ok
    if forget == "script":
        own_server.cli("SCRIPT", "FLUSH")
    elif forget == "all":
        own_server.cli("FLUSHALL")
        own_server.cli("SCRIPT", "FLUSH")
    else:
        own_server.kill()
        await asyncio.sleep(0.02)  # the loop sees that its connections have ended
        own_server.start()
    taken = await s.take(step())
    assert taken.ok and taken.parts[0].remaining == pytest.approx(98 if forget == "script" else 99, abs=0.5)
    own_server.cli("SCRIPT", "FLUSH")
    await s.adjust([step()[2]])
    await store.close()


async def test_other_peoples_values_count_as_none(own_server: RedisServer) -> None:
    store = opened(own_server.url)
    for value in ("x", "1 2 3", "nan x", "", "1"):
        own_server.cli("SET", "{t:p}:r:r", value)
        own_server.cli("SET", "{t:p}:w:w", value)
        taken = await store.scope("p").take(step())
        assert taken.ok and [p.remaining for p in taken.parts[:2]] == [99, 999]
        own_server.cli("FLUSHALL")
    await store.close()


async def test_a_step_that_comes_too_late_does_nothing(own_server: RedisServer) -> None:
    """What lies in the socket of a hung server is taken up when it goes on, long after its caller went elsewhere."""
    now = [0.0]
    store = opened(own_server.url, clock=lambda: now[0])
    s = store.scope("p")
    await s.take(step())  # the clocks have met
    now[0] -= 100  # what is sent now carries a time that has long passed
    answer = await store.script(*_late_take(store, s))
    assert len(answer) == 16
    assert (await s.read(step())).parts[1].remaining == 999
    taken = await s.take(step())
    assert taken.ok and taken.parts[1].remaining == 998, "and one whose answer is read in time is asked again"
    await store.close()


def _late_take(store: RedisStore, s: RedisScope) -> tuple[object, list[str], list[bytes]]:
    from proxy.store.packing import HEAD, pack
    from proxy.store.redis import _TAKE

    return _TAKE, [s.key(p) for p in step()], [HEAD.pack(1, store.not_after()), *(pack(p) for p in step())]


_CHILD = """
import asyncio, sys
from policies.store import Lease, Rate, Window
from proxy.store.guarded import Guarded
from proxy.store.redis import RedisStore
from proxy.store.urls import parse_store_url

async def main():
    guard = Guarded(RedisStore(parse_store_url(sys.argv[1]), prefix="t"), timeout=5)
    store = await guard.open("many")
    print("ready", flush=True)
    sys.stdin.readline()
    parts = lambda i: [Rate("r", 1, 100, 86400, 100), Window("w", 1, 100, 0, 4e9), Lease("l", sys.argv[2] + str(i), 100, 600)]
    answers = await asyncio.gather(*(store.take(parts(i)) for i in range(63)))
    print(sum(a.ok for a in answers), guard.outages, flush=True)
    await guard.close()

asyncio.run(main())
"""


async def test_eight_processes_admit_exactly_the_limit(own_server: RedisServer) -> None:
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CHILD, own_server.url, f"c{i}-", cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for i in range(8)
    ]  # fmt: skip
    for child in children:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"ready\n"
    ends = [(await child.communicate(b"go\n"))[0].split() for child in children]
    assert sum(int(granted) for granted, _ in ends) == 100
    assert {outages for _, outages in ends} == {b"0"}


async def test_cancelled_in_the_middle_no_answer_goes_astray(own_server: RedisServer) -> None:
    async with front(own_server.port) as slow:
        store = opened(slow.url)
        s = store.scope("p")
        await s.take([Rate("warm", 1, 10, 1, 10)])
        slow.delay = 0.005
        for i in range(60):
            task = asyncio.create_task(s.take([Rate(f"k{i}", i, 1000, 3600, 1000)]))
            await asyncio.sleep(0.0015 * (i % 5))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            taken = await s.read([Rate(f"other{i}", 1, i + 1, 3600, i + 1)])
            assert taken.parts[0].remaining == i + 1
        await store.close()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$5\r\nhello\r\n", b":12\r\n", b"*1\r\n:1\r\n", b"\x00\xff\r\n", b"$-1\r\n",
        b"$16\r\n" + b"\0" * 16 + b"\r\n", b"-ERR no\r\n", b"-MOVED 1 nowhere:1\r\n", b"+OK\r\n",
    ],
)  # fmt: skip
async def test_nonsense_is_an_outage_and_no_crash(own_server: RedisServer, nonsense: bytes) -> None:
    async with front(own_server.port) as odd:
        store = opened(odd.url)
        s = store.scope("p")
        await s.take(step())
        odd.nonsense = nonsense
        for call in (s.take(step()), s.adjust(step())):
            with pytest.raises(StoreAway) as caught:
                await asyncio.wait_for(call, 5)
            assert caught.value.reason in ("protocol", "reply", "connection", "cluster")
            await store.drop()
        odd.nonsense = None
        assert (await s.take(step())).ok
        await store.close()


async def test_errors_are_words_without_secrets(own_server: RedisServer) -> None:
    own_server.cli("CONFIG", "SET", "requirepass", "right")
    for login, reason in (("", "auth"), (":hunter2@", "auth"), ("nobody:hunter2@", "auth")):
        store = opened(own_server.url.replace("://", f"://{login}"))
        with pytest.raises(StoreAway) as caught:
            await store.scope("p").take(step())
        assert caught.value.reason == reason
        assert "hunter2" not in repr(caught.value) + str(caught.value) + repr(store.address)
        assert caught.value.__cause__ is None and caught.value.__suppress_context__
        await store.close()
    store = opened(own_server.url.replace("://", "://:right@"))
    assert (await store.scope("p").take(step())).ok
    own_server.cli("AUTH", "right")
    await store.close()


async def test_a_server_that_may_not_write_cannot_count(own_server: RedisServer) -> None:
    store = opened(own_server.url)
    await store.warm()
    own_server.cli("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreAway) as caught:
        await store.scope("p").take(step())
    assert caught.value.reason == "out_of_memory"
    own_server.cli("CONFIG", "SET", "maxmemory", "0")
    own_server.cli("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(StoreAway) as caught:
        await store.scope("p").take(step())
    assert caught.value.reason == "read_only"
    await store.close()


async def test_nobody_there() -> None:
    from tests.kits.store_kit import free_port

    store = opened(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(StoreAway) as caught:
        await store.scope("p").take(step())
    assert caught.value.reason == "connection"
    await store.close()


def test_unknown_errors_have_a_word_too() -> None:
    assert reason_of(KeyError("secret")) == "protocol" and reason_of(OSError("x")) == "connection"


async def test_by_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    at = tmp_path_factory.mktemp("u")
    with RedisServer(at, "--unixsocket", str(at / "s")):
        store = opened(f"unix://{at / 's'}")
        assert (await store.scope("p").take(step())).ok
        await store.close()
