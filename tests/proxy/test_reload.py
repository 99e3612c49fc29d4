"""The watcher: changes are seen however they are made, half-written files are not, and errors never end it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.reload import Watcher


class Steps:
    """A sleep that the test lets go, one at a time."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[float, asyncio.Future[None]]] = asyncio.Queue()

    async def __call__(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self.asked.put((seconds, future))
        await future

    async def step(self) -> float:
        """End the sleep that is going on and wait for the next; returns the next one's seconds."""
        if not hasattr(self, "current"):
            self.current = await asyncio.wait_for(self.asked.get(), 10)
        self.current[1].set_result(None)
        self.current = await asyncio.wait_for(self.asked.get(), 10)
        return self.current[0]


@asynccontextmanager
async def watching(watcher: Watcher) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(watcher.run())
    try:
        yield task
        assert not task.done(), "nothing ends it"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Source:
    """A fingerprint that the test sets; calls counts what ``on_change`` was told."""

    def __init__(self) -> None:
        self.value: Any = 1
        self.live: list[Any] = []
        self.error: Exception | None = None
        self.failures: list[Exception] = []

    def fingerprint(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    async def on_change(self) -> None:
        if self.error is not None:
            raise self.error
        self.live.append(self.value)

    def watcher(self, **more: Any) -> tuple[Watcher, Steps]:
        steps = Steps()
        given = {"interval": 0.5, "failed": self.failures.append, "sleep": steps, **more}
        return Watcher(self.fingerprint, self.on_change, **given), steps


async def test_a_change_goes_live_when_it_rests() -> None:
    source = Source()
    watcher, steps = source.watcher()
    async with watching(watcher):
        assert await steps.step() == 0.5
        source.value = 2
        assert await steps.step() == 0.125, "seen: look again soon"
        assert source.live == []
        assert await steps.step() == 0.5
        assert source.live == [2]
        assert await steps.step() == 0.5
        assert source.live == [2]


async def test_a_half_written_file_is_waited_for_but_not_for_ever() -> None:
    source = Source()
    watcher, steps = source.watcher()
    async with watching(watcher):
        slept = [await steps.step()]
        for n in range(2, 5):
            source.value = n
            slept.append(await steps.step())
        assert source.live == [4], "it never rested, and was tried"
        assert slept == [0.5, 0.125, 0.125, 0.5]
        assert sum(slept[:3]) < 1.0


async def test_a_change_taken_back_is_none() -> None:
    source = Source()
    watcher, steps = source.watcher()
    async with watching(watcher):
        await steps.step()
        source.value = 2
        await steps.step()
        source.value = 1
        await steps.step()
        await steps.step()
        assert source.live == []


async def test_a_change_made_before_it_watches_is_seen() -> None:
    source = Source()
    watcher, steps = source.watcher(known=0)
    async with watching(watcher):
        await steps.step()
        await steps.step()
        assert source.live == [1]


async def test_a_trigger_reloads_at_once_and_unchanged() -> None:
    source = Source()
    watcher, steps = source.watcher()
    done = asyncio.Event()
    async with watching(watcher):
        await steps.step()
        on_change = source.on_change

        async def told() -> None:
            await on_change()
            done.set()

        watcher._on_change = told
        watcher.trigger()
        await asyncio.wait_for(done.wait(), 10)
        assert source.live == [1]


async def test_errors_are_told_and_never_end_it() -> None:
    source = Source()
    watcher, steps = source.watcher()
    async with watching(watcher):
        await steps.step()
        source.error, source.value = ValueError("bad policy"), 2
        await steps.step()
        await steps.step()
        assert [type(e) for e in source.failures] == [ValueError]
        await steps.step()
        assert len(source.failures) == 1, "the same bad file is not tried again"
        source.error, source.value = None, 3
        await steps.step()
        await steps.step()
        assert source.live == [3]


async def test_a_missing_file_is_no_change_and_told_once() -> None:
    source = Source()
    watcher, steps = source.watcher()
    async with watching(watcher):
        await steps.step()
        source.value = FileNotFoundError("gone")
        await steps.step()
        await steps.step()
        assert [type(e) for e in source.failures] == [FileNotFoundError]
        source.value = 1
        await steps.step()
        assert source.live == []
        source.value = PermissionError("no")
        await steps.step()
        assert len(source.failures) == 2
        source.value = 2
        await steps.step()
        await steps.step()
        assert source.live == [2]


async def test_a_failing_report_does_not_end_it() -> None:
    source = Source()

    def bad(_: Exception) -> None:
        raise RuntimeError

    watcher, steps = source.watcher(failed=bad)
    async with watching(watcher):
        await steps.step()
        source.value, source.error = 2, ValueError()
        await steps.step()
        await steps.step()
        await steps.step()


def in_place(path: Path) -> None:
    path.write_text("second")


def renamed(path: Path) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text("second")
    fresh.replace(path)


def config_map(path: Path) -> None:
    """What the kubelet does: policy.yaml -> ..data/policy.yaml, ..data -> a directory that is swapped."""
    fresh = path.parent / "v2"
    fresh.mkdir()
    (fresh / path.name).write_text("second")
    link = path.parent / "..data_tmp"
    link.symlink_to("v2")
    os.replace(link, path.parent / "..data")


@pytest.mark.parametrize("change", [in_place, renamed, config_map])
async def test_real_files_go_live_within_a_second(tmp_path: Path, change: Callable[[Path], None]) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "policy.yaml").write_text("first")
    (tmp_path / "..data").symlink_to("v1")
    path = tmp_path / "policy.yaml"
    if change is config_map:
        path.symlink_to("..data/policy.yaml")
    else:
        path.write_text("first")
    live, seen = asyncio.Event(), []

    async def on_change() -> None:
        seen.append(path.read_text())
        live.set()

    async with watching(Watcher(path.read_bytes, on_change, known=b"first")):
        began = time.monotonic()
        change(path)
        await asyncio.wait_for(live.wait(), 10)
        assert time.monotonic() - began < 1.0
        assert seen == ["second"]
