"""The tunnel's two halves, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from policies.contract import Exchange, Headers
from proxy.tunnel import tunnel


class Side:
    def __init__(self, early: list[bytes]) -> None:
        self.early = early
        self.out: list[bytes] = []
        self.receive: Callable[[bytes], None] = lambda data: None
        self.paused: list[bool] = []
        self.closed = False
        self.on_flow: Any = None
        self.client_flow: Any = None

    def open_tunnel(self, receive: Callable[[bytes], None]) -> None:
        self.receive = receive
        for piece in self.early:
            receive(piece)

    def write(self, data: bytes) -> None:
        self.out.append(data)

    send_raw = write

    def close_when_sent(self) -> None:
        self.closed = True

    def pause(self, on: bool) -> None:
        self.paused.append(on)

    pause_reading = pause


async def opened(*early: bytes) -> tuple[Side, Side, Exchange, asyncio.Task[None]]:
    conn, up = Side(list(early)), Side(list(early))
    x = Exchange("id", "GET", "/", "", Headers(), "192.0.2.1", 0.0, 0.0)
    task = asyncio.ensure_future(tunnel(conn, up, x))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    return conn, up, x, task


async def test_bytes_pass_both_ways_and_are_counted() -> None:
    conn, up, x, task = await opened(b"early")
    conn.receive(b"abc")
    up.receive(b"defg")
    assert (up.out, conn.out) == ([b"early", b"abc"], [b"early", b"defg"])
    assert (x.bytes_in, x.bytes_out) == (8, 9)
    conn.receive(b"")
    await task
    assert up.closed


@pytest.mark.parametrize("first", [0, 1])
async def test_either_end_ends_it_for_both(first: int) -> None:
    conn, up, _, task = await opened()
    sides = (conn, up)
    sides[first].receive(b"")
    await task
    assert sides[1 - first].closed
    sides[1 - first].receive(b"")  # the other one's end comes later; nothing is left to do


async def test_a_slow_end_stops_the_other() -> None:
    conn, up, _, task = await opened()
    conn.on_flow(True)
    up.client_flow(True)
    assert (up.paused, conn.paused) == ([True], [True])
    conn.receive(b"")
    await task
