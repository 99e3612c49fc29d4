"""Workers: answers in order, the queue's bound, deadlines, turns, failures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from policies.inference import Overloaded, Workers


class Model:
    """Says each text in capitals, once ``gate`` is set. batches: what it was given, in order."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.threads: set[str] = set()

    def __call__(self, texts: list[str]) -> Sequence[str]:
        self.batches.append(texts)
        self.threads.add(threading.current_thread().name)
        self.begun.set()
        assert self.gate.wait(20)
        if "bad" in texts:
            raise ValueError("it said bad")
        return [text.upper() for text in texts]


@asynccontextmanager
async def working(model: Callable[[list[str]], Sequence[str]], **given: int) -> AsyncIterator[Workers[str]]:
    workers = Workers(model, **given)
    try:
        yield workers
    finally:
        if isinstance(model, Model):
            model.gate.set()
        workers.stop()


async def begun(model: Model) -> None:
    """The model has been given something that it has not answered."""
    assert await asyncio.to_thread(model.begun.wait, 20)


async def test_answers_come_in_the_order_of_the_texts() -> None:
    model = Model()
    async with working(model, batch=3) as workers:
        texts = [f"t{n}" for n in range(10)]
        assert await workers.ask(texts, 10) == [t.upper() for t in texts]
        assert [len(b) for b in model.batches] == [3, 3, 3, 1]
        assert await workers.ask([], 10) == []
    assert threading.current_thread().name not in model.threads


async def test_several_questions_share_a_batch_and_long_ones_take_turns() -> None:
    model = Model()
    async with working(model, batch=4) as workers:
        model.gate.clear()
        first = asyncio.ensure_future(workers.ask(["first"], 10))
        await begun(model)
        long = asyncio.ensure_future(workers.ask([f"l{n}" for n in range(8)], 10))
        await asyncio.sleep(0)
        short = asyncio.ensure_future(workers.ask(["s1", "s2"], 10))
        await asyncio.sleep(0)
        model.gate.set()
        assert await short == ["S1", "S2"] and await first == ["FIRST"]
        assert len(await long) == 8
    assert model.batches == [["first"], ["l0", "l1", "l2", "l3"], ["s1", "s2", "l4", "l5"], ["l6", "l7"]]


async def test_threads_work_at_once() -> None:
    together = threading.Barrier(3, timeout=20)

    def work(texts: list[str]) -> Sequence[str]:
        together.wait()
        return texts

    async with working(work, threads=3, batch=1) as workers:
        assert await asyncio.gather(*(workers.ask([t], 10) for t in "abc")) == [["a"], ["b"], ["c"]]


async def test_one_question_more_than_the_queue_holds_is_refused_at_once() -> None:
    model = Model()
    async with working(model, queue=2) as workers:
        model.gate.clear()
        tasks = [asyncio.ensure_future(workers.ask([t], 10)) for t in ("a", "b")]
        await begun(model)
        with pytest.raises(Overloaded):
            await workers.ask(["c"], 10)
        model.gate.set()
        await asyncio.gather(*tasks)
        assert await workers.ask(["d"], 10) == ["D"]
    assert ["c"] not in model.batches


async def test_a_late_answer_is_a_timeout_and_what_waits_is_not_asked_any_more() -> None:
    model = Model()
    async with working(model) as workers:
        model.gate.clear()
        under_way = asyncio.ensure_future(workers.ask(["slow"], 0.05))
        await begun(model)
        with pytest.raises(TimeoutError):
            await workers.ask(["waits"], 0.01)
        with pytest.raises(TimeoutError):
            await under_way
        model.gate.set()
        assert await workers.ask(["next"], 10) == ["NEXT"]
    assert model.batches == [["slow"], ["next"]]


async def test_a_cancelled_question_is_taken_back() -> None:
    model = Model()
    async with working(model, queue=2) as workers:
        model.gate.clear()
        slow = asyncio.ensure_future(workers.ask(["slow"], 10))
        await begun(model)
        gone = asyncio.ensure_future(workers.ask(["gone"], 10))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        kept = asyncio.ensure_future(workers.ask(["kept"], 10))
        await asyncio.sleep(0)
        model.gate.set()
        assert await asyncio.gather(slow, kept) == [["SLOW"], ["KEPT"]]
    assert model.batches == [["slow"], ["kept"]]


async def test_a_failure_reaches_who_asked_and_the_thread_goes_on() -> None:
    model = Model()
    async with working(model, batch=1) as workers:
        with pytest.raises(ValueError, match="it said bad"):
            await workers.ask(["bad", "never asked"], 10)
        assert await workers.ask(["good"], 10) == ["GOOD"]
    assert model.batches == [["bad"], ["good"]]


async def test_a_wrong_number_of_answers_is_a_failure() -> None:
    async with working(lambda texts: ["one too few"][:0]) as workers:
        with pytest.raises(ValueError, match="one answer"):
            await workers.ask(["a"], 10)


async def test_each_thread_gets_ready_once_and_a_failure_there_is_told() -> None:
    got: list[str] = []
    workers = Workers(lambda texts: texts, ready=lambda: got.append(threading.current_thread().name), threads=2)
    try:
        await workers.ask(["a"], 10)
    finally:
        workers.stop()
    assert len(got) == len(set(got)) and got

    def broken() -> None:
        raise OSError("no such model")

    workers = Workers(lambda texts: texts, ready=broken)
    try:
        with pytest.raises(OSError, match="no such model"):
            await workers.ask(["a"], 10)
    finally:
        workers.stop()


async def test_a_stopped_one_refuses() -> None:
    workers = Workers(lambda texts: texts)
    workers.stop()
    with pytest.raises(Overloaded):
        await workers.ask(["a"], 10)
