"""Gets the verdicts that gates wait for: at most one task per stream, none where no gate has to ask.

What lives here: when gates are asked, together, and what becomes of the task. What must never live here: bytes, events,
whom a gate asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from policies.contract import JudgedGate

__all__ = ["Asking", "settle"]


class Asking:
    """The verdicts of one stream. judges: its gates, a list that grows with its channels. answered: called after each
    round, with the verdicts there. broke: called with an exception that no gate should have raised. clock: monotonic
    seconds."""

    __slots__ = ("_answered", "_broke", "_clock", "_judges", "_task")

    def __init__(
        self,
        judges: list[JudgedGate],
        answered: Callable[[], None],
        broke: Callable[[Exception], None],
        clock: Callable[[], float],
    ) -> None:
        self._judges = judges
        self._answered = answered
        self._broke = broke
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Ask, when some gate is due and no question is open. To be called after new text, at ticks, at the end."""
        if self._task is None and (due := self._due()):
            self._task = asyncio.get_running_loop().create_task(self._run(due))

    def cancel(self) -> None:
        """Nobody wants the verdicts any more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def _due(self) -> list[JudgedGate]:
        now = self._clock()
        return [judge for judge in self._judges if judge.due(now)]

    async def _run(self, due: list[JudgedGate]) -> None:
        me = asyncio.current_task()
        try:
            while due:
                await _together(due)
                self._answered()
                if self._task is not me:  # cancelled by what the verdict brought about
                    return
                self._judges[:] = [judge for judge in self._judges if not judge.settled]
                due = self._due()
        except Exception as error:
            self._broke(error)
        finally:
            if self._task is me:
                self._task = None


async def settle(judges: list[JudgedGate], clock: Callable[[], float]) -> None:
    """Ask until all of these gates, whose channels have ended, have their verdicts."""
    while due := [judge for judge in judges if not judge.settled and judge.due(clock())]:
        await _together(due)


async def _together(due: list[JudgedGate]) -> None:
    if len(due) == 1:
        await due[0].judge()
    else:
        async with asyncio.TaskGroup() as group:
            for judge in due:
                group.create_task(judge.judge())
