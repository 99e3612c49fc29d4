"""Models on the CPU or GPU: questions about texts are answered in threads of their own, a bounded number at a time.

What lives here: Workers (threads, the queue, fairness, deadlines). What must never live here: a model; a text in an
error. The event loop only waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["Overloaded", "Workers"]

Answer = TypeVar("Answer")


class Overloaded(Exception):
    """As many questions as may wait are waiting already."""


class _Job(Generic[Answer]):
    """One question. next: the first text that no thread has taken. left: texts without an answer. dead: nobody waits for
    it any more."""

    __slots__ = ("answers", "dead", "future", "left", "loop", "next", "texts")

    def __init__(self, texts: Sequence[str], loop: asyncio.AbstractEventLoop) -> None:
        self.texts = texts
        self.answers: list[Answer | None] = [None] * len(texts)
        self.next = 0
        self.left = len(texts)
        self.dead = False
        self.loop = loop
        self.future: asyncio.Future[list[Answer]] = loop.create_future()


class Workers(Generic[Answer]):
    """Answers questions about texts in threads.

    work: called in a thread with up to ``batch`` texts, perhaps of several questions; returns one answer for each. ready:
    called once in each thread before its first work. threads: how many. queue: questions that may wait or be under way;
    one more is refused. Questions with more texts than ``batch`` take turns with the others, so that a long request does
    not keep short ones waiting until it is done.
    """

    def __init__(
        self,
        work: Callable[[list[str]], Sequence[Answer]],
        *,
        ready: Callable[[], None] = lambda: None,
        threads: int = 1,
        queue: int = 64,
        batch: int = 8,
        name: str = "inference",
    ) -> None:
        self._work = work
        self._ready = ready
        self._queue = queue
        self.batch = batch
        """Texts of one turn; may be changed at any time."""
        self._jobs: deque[_Job[Answer]] = deque()  # with texts that no thread has taken
        self._open = 0  # questions that somebody waits for; the event loop's alone
        self._turn = threading.Condition()
        self._stopped = False
        # Daemons: a model that hangs must not keep the process from ending.
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    async def ask(self, texts: Sequence[str], timeout: float) -> list[Answer]:
        """One answer for each text. timeout: seconds, with the time in the queue; 0: no bound.

        Raises Overloaded, TimeoutError, or what ``work`` raised. A question that is given up (or cancelled) is taken
        from the queue; what a thread has begun it ends, and nobody hears of it.
        """
        if not texts:
            return []
        if self._open >= self._queue or self._stopped:
            raise Overloaded
        job: _Job[Answer] = _Job(texts, asyncio.get_running_loop())
        self._open += 1
        try:
            with self._turn:
                self._jobs.append(job)
                self._turn.notify()
            async with asyncio.timeout(timeout or None):
                return await job.future
        finally:
            self._open -= 1
            job.dead = True

    def stop(self) -> None:
        """End the threads, each after the work it has begun. Questions that wait get no answer but their timeout."""
        with self._turn:
            self._stopped = True
            self._jobs.clear()
            self._turn.notify_all()

    def _run(self) -> None:
        try:
            self._ready()
            failed: BaseException | None = None
        except BaseException as error:
            failed = error
        while (taken := self._take()) is not None:
            try:
                if failed is not None:
                    raise failed
                answers = self._work([job.texts[n] for job, n in taken])
                if len(answers) != len(taken):
                    raise ValueError("not one answer for each text")
            except BaseException as error:
                self._tell(taken, None, error)
            else:
                self._tell(taken, answers, None)

    def _take(self) -> list[tuple[_Job[Answer], int]] | None:
        """Up to a batch of texts, those that came first first; None when there is nothing more to do for ever."""
        with self._turn:
            while True:
                taken: list[tuple[_Job[Answer], int]] = []
                batch = self.batch
                for _ in range(len(self._jobs)):  # each job once: a long one comes again when the others have been
                    job = self._jobs.popleft()
                    if job.dead:
                        continue
                    end = min(len(job.texts), job.next + batch - len(taken))
                    taken += [(job, n) for n in range(job.next, end)]
                    job.next = end
                    if end < len(job.texts):
                        self._jobs.append(job)  # the others have their turn first
                    if len(taken) == batch:
                        break
                if self._stopped:
                    return None
                if taken:
                    return taken
                self._turn.wait()

    def _tell(
        self, taken: list[tuple[_Job[Answer], int]], answers: Sequence[Answer] | None, error: BaseException | None
    ) -> None:
        done: dict[int, _Job[Answer]] = {}
        with self._turn:
            for at, (job, n) in enumerate(taken):
                if answers is not None:
                    job.answers[n] = answers[at]
                job.left -= 1
                job.dead |= error is not None  # the rest of it need not be asked
                if not job.left or job.dead:
                    done[id(job)] = job
        for job in done.values():
            try:
                job.loop.call_soon_threadsafe(_settle, job, error)
            except RuntimeError:  # its loop has ended
                job.dead = True


def _settle(job: _Job[Answer], error: BaseException | None) -> None:
    if job.future.done():
        return
    if error is None:
        job.future.set_result(job.answers)  # type: ignore[arg-type]  # all of them are there
        return
    job.future.set_exception(error if isinstance(error, Exception) else RuntimeError(type(error).__name__))
