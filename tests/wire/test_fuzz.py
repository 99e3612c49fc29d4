"""Random damage to good requests and replies: whatever comes, each end keeps its promises."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kits.backend import Call, backend
from tests.kits.client import Broken, Client, connect, fetch, request
from tests.kits.gate import gate
from tests.kits.stream import chunked

_REQUESTS = [
    request("GET", "/first", None, [(b"Connection", b"keep-alive, X-Hop"), (b"X-Hop", b"1")])
    + request("GET", "/second"),
    request("POST", "/first", b'{"a":1}', [(b"Expect", b"100-continue")]) + request("GET", "/second"),
    request("POST", "/first", None, [(b"Transfer-Encoding", b"chunked")])
    + chunked(b"abc", b"defgh", trailers=b"X: y\r\n")
    + request("GET", "/second"),
    request("GET", "/first", None, [(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c")]) + request("GET", "/second"),
    b"GET /first HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /second HTTP/1.0\r\n\r\n",
]
_REPLIES = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
]
_INTERESTING = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\x00",
    b":",
    b" ",
    b"\t",
    b"0",
    b"f" * 17,
    b"-1",
    b",",
    b";",
    b"chunked",
    b"\xff",
]

_damage = st.lists(
    st.tuples(
        st.sampled_from(["cut", "insert", "replace", "repeat"]),
        st.floats(0, 1, exclude_max=True),
        st.one_of(st.sampled_from(_INTERESTING), st.binary(min_size=1, max_size=3)),
    ),
    max_size=3,
)


def _damaged(raw: bytes, damage: list[tuple[str, float, bytes]]) -> bytes:
    for how, place, piece in damage:
        at = int(place * len(raw))
        if how == "cut":
            raw = raw[:at] + raw[at + len(piece) :]
        elif how == "insert":
            raw = raw[:at] + piece + raw[at:]
        elif how == "replace":
            raw = raw[:at] + piece + raw[at + len(piece) :]
        else:
            raw = raw[:at] + raw[max(0, at - 20) :]
    return raw


async def _statuses(client: Client) -> list[int]:
    """Every status until the connection ends or nothing more comes once we stop sending."""
    found = []
    try:
        while True:
            found.append((await client.reply()).status)
    except Broken as e:
        if e.partial:
            raise
    return found


async def _requests(raws: list[tuple[bytes, int]]) -> None:
    async def script(call: Call) -> None:
        await call.reply(call.target)

    async with backend(script) as b, gate(b.url) as g:
        for raw, step in raws:
            before = len(b.calls)
            async with connect(g.port) as client:
                await client.trickle(raw, step or len(raw))
                async with asyncio.timeout(5):
                    await _settle(g, client)
                g.advance(100)  # what is not complete now never will be
                statuses = await _statuses(client)
            assert all(s < 500 for s in statuses), statuses
            served = sum(s == 200 for s in statuses)
            assert len(b.calls) - before <= served + 1, "no more handlers than replies (and the one that is cut off)"
        await g.idle()
        assert (await fetch(g.port, request("GET", "/after"))).body == b"/after"


async def _settle(g: object, client: Client) -> None:
    """Give what was sent the turns of the loop that it needs."""
    last, same = -1, 0
    while same < 20:
        await asyncio.sleep(0)
        same, last = (same + 1, last) if client.received == last else (0, client.received)


_fuzz = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@_fuzz
@given(st.lists(st.tuples(st.sampled_from(_REQUESTS), _damage, st.sampled_from([0, 1, 7])), min_size=1, max_size=5))
def test_damaged_requests(given_: list[tuple[bytes, list[tuple[str, float, bytes]], int]]) -> None:
    asyncio.run(_requests([(_damaged(raw, damage), step) for raw, damage, step in given_]))


async def _replies(raws: list[tuple[bytes, int]]) -> None:
    async def script(call: Call) -> None:
        if call.target == b"/after":
            await call.reply(b"fine")
            return
        raw, step = raws[int(call.target[1:])]
        await call.trickle(raw, step or len(raw))
        call.close()

    async with backend(script) as b, gate(b.url) as g:
        for n in range(len(raws)):
            async with connect(g.port) as client:
                await client.send(request("GET", f"/{n}"))
                try:
                    reply = await client.reply()
                    assert reply.status >= 200
                except Broken:
                    pass
                assert (await fetch(g.port, request("GET", "/after"))).body == b"fine", "no reply went to another"
        await g.idle()


@_fuzz
@given(st.lists(st.tuples(st.sampled_from(_REPLIES), _damage, st.sampled_from([0, 1, 7])), min_size=1, max_size=5))
def test_damaged_replies(given_: list[tuple[bytes, list[tuple[str, float, bytes]], int]]) -> None:
    asyncio.run(_replies([(_damaged(raw, damage), step) for raw, damage, step in given_]))
