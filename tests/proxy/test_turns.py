"""Sharing the event loop: who works when, and for how long, by a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.turns import BUDGET, Turns, turns

STEP = BUDGET / 10


class Loop:
    """Callbacks that wait for their turn, and a clock that only work moves."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.now = 1.0
        self.turns = Turns(self.waiting.append, lambda: self.now)

    def turn(self) -> float:
        """One turn of the loop; the time that it took."""
        began, waiting = self.now, self.waiting[:]
        self.waiting.clear()
        for act in waiting:
            act()
        return self.now - began


class Job:
    """Work of so many steps."""

    def __init__(self, loop: Loop, steps: int) -> None:
        self.loop = loop
        self.left = steps
        self.calls = 0

    def __call__(self, until: float) -> bool:
        self.calls += 1
        while self.left:
            self.left -= 1
            self.loop.now += STEP
            if self.loop.now >= until:
                break
        return not self.left


def test_what_is_short_is_done_at_once() -> None:
    loop = Loop()
    job = Job(loop, 5)
    assert loop.turns.begin(job)
    assert job.left == 0
    loop.turn()
    assert not loop.waiting, "nobody waits: nothing is called again"


def test_what_is_long_is_done_in_turns() -> None:
    loop = Loop()
    job = Job(loop, 95)
    assert not loop.turns.begin(job)
    taken = []
    while loop.waiting:
        taken.append(loop.turn())
    assert job.left == 0
    assert len(taken) >= 9
    assert max(taken) < BUDGET + 2 * STEP


def test_one_turn_has_one_budget_however_many_begin_in_it() -> None:
    loop = Loop()
    jobs = [Job(loop, 8) for _ in range(50)]
    began = loop.now
    done = [loop.turns.begin(job) for job in jobs]
    assert done[0]
    assert not done[2], "the time of this turn is over"
    assert loop.now - began < BUDGET + 2 * STEP
    while loop.waiting:
        assert loop.turn() < BUDGET + 2 * STEP
    assert not any(job.left for job in jobs)


def test_nobody_waits_for_the_longest() -> None:
    loop = Loop()
    endless = Job(loop, 1_000_000)
    loop.turns.begin(endless)
    loop.turn()
    short = [Job(loop, 3) for _ in range(5)]
    assert not any(loop.turns.begin(job) for job in short), "it has to wait for its turn"
    for _ in range(10):
        loop.turn()
    assert not any(job.left for job in short)
    assert endless.left > 999_000 - 200


def test_a_new_turn_has_its_own_time() -> None:
    loop = Loop()
    assert loop.turns.begin(Job(loop, 9))
    loop.turn()
    assert loop.turns.begin(Job(loop, 9))


async def test_each_loop_has_its_own() -> None:
    mine = turns()
    assert turns() is mine
    assert await asyncio.to_thread(lambda: asyncio.run(_other())) is not mine


async def _other() -> Turns:
    return turns()
