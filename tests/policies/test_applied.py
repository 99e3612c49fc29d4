"""A phase as the engine runs it: conditions, shadow mode, error stance, time budget, cancellation, verdicts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from policies.chain import compile_plan
from policies.contract import (
    Attempt,
    Candidate,
    Cut,
    Exchange,
    Headers,
    Kind,
    Policy,
    Refuse,
    ReplyHead,
    RequestBody,
    at_once,
)
from policies.entry import When
from tests.kits.policy_kit import CHAT, Log, chat_body, exchange, plan, run, step


class Admits(Policy):
    """Runs a given coroutine function in admit."""

    def __init__(self, act: Callable[[Exchange], Awaitable[None]], name: str = "p") -> None:
        super().__init__(name, None)
        self.act = act

    async def admit(self, x: Exchange) -> None:
        await self.act(x)


class Settles(Admits):
    def phases(self) -> frozenset[str]:
        return frozenset({"settle"})

    async def settle(self, x: Exchange) -> None:
        await self.act(x)


class Sync(Policy):
    """Runs a given function in choose, observe and respond."""

    def __init__(self, act: Callable[[Any], None]) -> None:
        super().__init__("p", None)
        self.act = act

    def choose(self, x: Exchange, candidates: list[Candidate]) -> None:
        self.act(candidates)

    def observe(self, x: Exchange, attempt: Attempt) -> None:
        self.act(attempt)

    def respond(self, x: Exchange, head: ReplyHead) -> None:
        self.act(head)


def raises(error: BaseException) -> Callable[[Any], Any]:
    def act(_: Any) -> Any:
        raise error

    return act


async def nothing(_: Exchange) -> None:
    return None


def test_a_phase_that_does_not_wait_needs_no_loop_and_no_timer() -> None:
    log = Log()
    run(plan(Admits(nothing), log=log).admit[0](exchange()))
    assert log.verdicts == [("p", "admit", "pass")]


class AtOnce(Policy):
    """Runs a given function in phases that are declared never to wait."""

    def __init__(self, act: Callable[[Any], None]) -> None:
        super().__init__("p", None)
        self.act = act

    @at_once
    def admit(self, x: Exchange) -> None:
        self.act(x)

    @at_once
    def inspect(self, x: Exchange, body: RequestBody) -> None:
        self.act(body)


def test_a_phase_that_is_declared_at_once_is_an_async_phase_like_any() -> None:
    seen: list[Any] = []
    policy, x, body = AtOnce(seen.append), exchange(), chat_body()
    run(policy.admit(x))
    run(policy.inspect(x, body))
    p = compile_plan([step(policy)], CHAT, Log().hooks)
    run(p.admit[0](x))
    run(p.inspect[0](x, body))
    assert seen == [x, body, x, body]


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_refusals_and_failures_at_once(mode: str) -> None:
    for error, kind, verdict in (
        (Refuse(Kind.FORBIDDEN), Kind.FORBIDDEN, "refuse"),
        (RuntimeError("text"), Kind.POLICY_ERROR, "error"),
    ):
        log, x, seen = Log(), exchange(), []

        def act(given: Any, error: Exception = error, seen: list[Any] = seen) -> None:
            seen.append(given)
            raise error

        (call,) = plan(AtOnce(act), mode=mode, log=log).admit
        if mode == "enforce":
            with pytest.raises(Refuse) as caught:
                run(call(x))
            assert caught.value.kind is kind
        else:
            run(call(x))
            assert seen[0] is not x
            verdict = verdict if verdict == "error" else "shadow_refuse"
        assert log.verdicts == [("p", "admit", verdict)]
        assert [f.shadow for f in x.findings] == [mode == "shadow"]


def test_a_subclass_may_wait_where_its_base_does_not() -> None:
    done = []

    class Waits(AtOnce):
        async def admit(self, x: Exchange) -> None:
            await asyncio.sleep(0)
            done.append(x)

    async def work() -> None:
        await plan(Waits(done.append)).admit[0](exchange())

    asyncio.run(work())
    assert len(done) == 1


def test_seconds_come_from_the_clock() -> None:
    log = Log()

    async def slow(_: Exchange) -> None:
        log.now += 0.25

    run(plan(Admits(slow), log=log).admit[0](exchange()))
    assert log.seconds == [0.25]


def test_a_policy_whose_conditions_are_not_met_does_not_run() -> None:
    log = Log()
    p = plan(Admits(raises(RuntimeError())), log=log, when=When(callers=["a"]))
    run(p.admit[0](exchange(caller="b")))
    assert log.verdicts == log.errors == []


async def test_a_waiting_phase_goes_on_where_it_stopped() -> None:
    seen = []
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def waits(_: Exchange) -> None:
        await asyncio.sleep(0)
        seen.append(await gate)
        try:
            await failed
        except KeyError:
            seen.append("caught")

    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(plan(Admits(waits)).admit[0](exchange()))
    for _ in range(3):
        await asyncio.sleep(0)
    gate.set_result("there")
    for _ in range(3):
        await asyncio.sleep(0)
    failed.set_exception(KeyError())
    await task
    assert seen == ["there", "caught"]


class Clock(asyncio.SelectorEventLoop):
    """An event loop on which time passes only when nothing else can happen."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready:  # type: ignore[attr-defined]
            assert self._scheduled, "nothing will ever happen"  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def on_clock(work: Callable[[], Awaitable[Any]]) -> float:
    """Run work to its end; the seconds it took by the loop's clock."""
    with asyncio.Runner(loop_factory=Clock) as runner:

        async def main() -> float:
            await work()
            return asyncio.get_running_loop().time()

        return runner.run(main())


async def forever(_: Exchange) -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("on_error", ["closed", "open"])
def test_time_budget(on_error: str) -> None:
    log = Log()
    p = plan(Admits(forever), log=log, timeout=1.5, on_error=on_error)

    async def work() -> None:
        if on_error == "open":
            await p.admit[0](exchange())
            return
        with pytest.raises(Refuse) as caught:
            await p.admit[0](exchange())
        assert caught.value.kind is Kind.POLICY_ERROR
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    assert on_clock(work) == 1.5
    assert log.verdicts == [("p", "admit", "timeout")]
    assert log.errors == [("p", "admit", "TimeoutError")]


def test_no_budget() -> None:
    async def long(_: Exchange) -> None:
        await asyncio.sleep(10_000)

    async def work() -> None:
        await plan(Admits(long), timeout=0).admit[0](exchange())

    assert on_clock(work) == 10_000


def test_a_timeout_of_the_policys_own_is_an_error_like_any() -> None:
    log = Log()

    async def own(_: Exchange) -> None:
        async with asyncio.timeout(0.5):
            await asyncio.sleep(60)

    async def work() -> None:
        with pytest.raises(Refuse):
            await plan(Admits(own), log=log).admit[0](exchange())

    assert on_clock(work) == 0.5
    assert log.verdicts == [("p", "admit", "error")]


async def test_the_clients_cancellation_passes_untouched() -> None:
    log, cleaned = Log(), []

    async def waits(x: Exchange) -> None:
        try:
            await forever(x)
        finally:
            cleaned.append(True)

    task = asyncio.ensure_future(plan(Admits(waits), log=log, on_error="open").admit[0](exchange()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == [True]
    assert log.verdicts == log.errors == []


async def test_a_cancelled_helper_of_the_policy_is_the_policys_failure() -> None:
    log = Log()
    helper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    helper.cancel()

    async def waits(_: Exchange) -> None:
        await helper

    with pytest.raises(Refuse):
        await plan(Admits(waits), log=log).admit[0](exchange())
    assert log.errors == [("p", "admit", "CancelledError")]


async def test_closing_a_waiting_phase_closes_the_policy() -> None:
    cleaned = []

    async def waits(x: Exchange) -> None:
        try:
            await forever(x)
        finally:
            cleaned.append(True)

    work = plan(Admits(waits)).admit[0](exchange())
    work.send(None)
    work.close()
    assert cleaned == [True]


def test_refusals_pass_as_they_are_and_leave_a_finding() -> None:
    log = Log()
    refusal = Refuse(Kind.RATE_LIMITED, "Slow down.", param="n", retry_after=2.0, headers=[("a", "b")])
    x = exchange()
    with pytest.raises(Refuse) as caught:
        run(plan(Admits(raises(refusal)), log=log).admit[0](x))
    assert caught.value is refusal
    assert [(f.policy, f.kind, f.where, f.action, f.shadow) for f in x.findings] == [
        ("p", "rate_limit_exceeded", "n", "refuse", False)
    ]
    assert log.verdicts == [("p", "admit", "refuse")]
    assert log.errors == []


@pytest.mark.parametrize("phase", ["choose", "respond"])
def test_sync_phases_may_refuse(phase: str) -> None:
    p = plan(Sync(raises(Refuse(Kind.FORBIDDEN))))
    with pytest.raises(Refuse):
        getattr(p, phase)[0](exchange(), ReplyHead(200, Headers()) if phase == "respond" else [])


def test_a_cut_before_there_is_a_reply_blocks_the_request() -> None:
    with pytest.raises(Refuse) as caught:
        run(plan(Admits(raises(Cut("rule", "No.")))).admit[0](exchange()))
    assert (caught.value.kind, caught.value.message) == (Kind.BLOCKED, "No.")


@pytest.mark.parametrize("error", [ValueError("x"), Refuse(Kind.FORBIDDEN), Cut("r"), ExceptionGroup("g", [OSError()])])
def test_observe_and_settle_harm_nobody(error: Exception) -> None:
    log = Log()
    plan(Sync(raises(error)), log=log).observe[0](exchange(), Attempt("b", 0.0))
    run(plan(Settles(raises(error)), log=log).settle[0](exchange()))
    name = type(error).__name__
    assert log.errors == [("p", "observe", name), ("p", "settle", name)]


def test_what_is_not_an_exception_passes() -> None:
    log = Log()
    with pytest.raises(SystemExit):
        run(plan(Admits(raises(SystemExit())), log=log).admit[0](exchange()))
    with pytest.raises(KeyboardInterrupt):
        plan(Sync(raises(KeyboardInterrupt())), log=log).choose[0](exchange(), [])
    assert log.verdicts == []


def test_shadow_refusals_become_findings() -> None:
    log, x = Log(), exchange()
    p = plan(Admits(raises(Refuse(Kind.BLOCKED, "No.", param="messages"))), mode="shadow", log=log)
    run(p.admit[0](x))
    assert [(f.kind, f.where, f.action, f.shadow) for f in x.findings] == [
        ("content_filter", "messages", "would_refuse", True)
    ]
    assert log.verdicts == [("p", "admit", "shadow_refuse")]


@pytest.mark.parametrize(("on_error", "found"), [("closed", ["would_refuse"]), ("open", [])])
def test_shadow_errors_never_refuse(on_error: str, found: list[str]) -> None:
    log, x = Log(), exchange()
    run(plan(Admits(raises(OSError())), mode="shadow", on_error=on_error, log=log).admit[0](x))
    assert [f.action for f in x.findings] == found
    assert log.verdicts == [("p", "admit", "error")]


class Meddler(Policy):
    """Changes everything it can reach, in every phase."""

    async def admit(self, x: Exchange) -> None:
        x.labels["a"] = "b"
        x.caller = "me"
        x.max_body = 1
        x.headers.add("X-New", "1")
        x.headers.remove("host")
        x.find(self.name, "seen", count=2, where="head", action="redact")
        x.notes[self.name] = "kept"

    async def inspect(self, x: Exchange, body: RequestBody) -> None:
        body.segments[0].text = "changed"
        body.doc["n"] = 9
        body.doc["messages"].append(1)

    def choose(self, x: Exchange, candidates: list[Candidate]) -> None:
        candidates[0].model = "other"
        candidates.clear()

    def observe(self, x: Exchange, attempt: Attempt) -> None:
        attempt.status = 1

    def respond(self, x: Exchange, head: ReplyHead) -> None:
        head.status = 500
        head.headers.remove("server")
        head.headers.add("a", "b")

    async def settle(self, x: Exchange) -> None:
        assert x.notes[self.name] == "kept"


def test_shadow_works_on_copies() -> None:
    log, x, body = Log(), exchange(), chat_body("Hello")
    p = plan(Meddler("p", None), mode="shadow", log=log)
    candidates, attempt = [Candidate("local")], Attempt("local", 0.0, status=200)
    head = ReplyHead(200, Headers([(b"Server", b"x")]))
    run(p.admit[0](x))
    run(p.inspect[0](x, body))
    p.choose[0](x, candidates)
    p.observe[0](x, attempt)
    p.respond[0](x, head)
    run(p.settle[0](x))
    assert (x.labels, x.caller, x.max_body) == ({}, None, None)
    assert x.headers.get("host") == "localhost"
    assert "X-New" not in x.headers
    assert body.doc["messages"] == [{"role": "user", "content": "Hello"}]
    assert "n" not in body.doc
    assert not body.read
    assert candidates == [Candidate("local")]
    assert attempt.status == 200
    assert (head.status, head.headers.fields) == (200, [(b"Server", b"x")])
    assert [(f.kind, f.count, f.action, f.shadow) for f in x.findings] == [("seen", 2, "redact", True)]
    assert {v for _, _, v in log.verdicts} == {"pass"}
    assert log.errors == []


def test_the_same_policy_enforced_changes_it_all() -> None:
    x, body = exchange(), chat_body("Hello")
    p = plan(Meddler("p", None))
    run(p.admit[0](x))
    run(p.inspect[0](x, body))
    assert x.labels == {"a": "b"}
    assert body.doc["messages"][0]["content"] == "changed"


def test_settle_ends_what_an_earlier_phase_began() -> None:
    class Labels(Policy):
        async def admit(self, x: Exchange) -> None:
            x.labels["tier"] = "changed"

        async def settle(self, x: Exchange) -> None:
            x.labels["settled"] = "yes"

    p = plan(Labels("p", None), when=When(labels={"tier": "gold"}))
    for tier, settled in (("gold", "yes"), ("tin", None)):
        x = exchange(labels={"tier": tier})
        run(p.admit[0](x))
        run(p.settle[0](x))
        assert x.labels.get("settled") == settled
