"""Plans: who acts where, in which order, what a route settles, what the relay is told; and the policies' life."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from policies.chain import (
    EMPTY_PLAN,
    PrepareError,
    RouteFacts,
    Step,
    close_all,
    compile_plan,
    prepare_all,
)
from policies.contract import Channel, Exchange, Gate, Policy, RequestBody
from policies.entry import When
from tests.kits.policy_kit import ANY_ROUTE, CHAT, Log, chat_body, exchange, plan, run, step

NO_BODY = RouteFacts("response_get", "GET", None, True, True)
UNREAD = RouteFacts("files", "POST", "/v1/files", False, False)


class All(Policy):
    """Writes its name down in every phase; reads what it is told."""

    def __init__(self, name: str, sides: tuple[Literal["request", "reply"], ...] = ()) -> None:
        super().__init__(name, None)
        self.sides = sides

    @property
    def reads(self) -> frozenset[Literal["request", "reply"]]:
        return frozenset(self.sides)

    async def admit(self, x: Exchange) -> None:
        self._seen(x, "admit")

    async def inspect(self, x: Exchange, body: RequestBody) -> None:
        self._seen(x, "inspect")

    def guard(self, x: Exchange, channel: Channel) -> Gate | None:
        self._seen(x, "guard")
        return None

    async def settle(self, x: Exchange) -> None:
        self._seen(x, "settle")

    def _seen(self, x: Exchange, phase: str) -> None:
        x.notes.setdefault("seen", []).append((self.name, phase))

    def describe(self) -> str:
        return f"I am {self.name}"


def test_an_empty_plan() -> None:
    for p in (EMPTY_PLAN, plan()):
        assert p.empty
        assert not p.needs_body
        assert (p.admit, p.admit_late, p.inspect, p.choose) == ((), (), (), ())
        assert (p.observe, p.respond, p.guard, p.settle) == ((), (), (), ())
        assert p.rows == ()
        assert p.enforces(exchange(), "request") == ()
    with pytest.raises(AttributeError):
        EMPTY_PLAN.more = 1  # type: ignore[attr-defined]


def test_policies_run_in_the_order_of_the_list() -> None:
    x = exchange()
    p = plan(All("a"), All("b"))
    for admit in p.admit:
        run(admit(x))
    for inspect in p.inspect:
        run(inspect(x, chat_body()))
    assert x.notes["seen"] == [("a", "admit"), ("b", "admit"), ("a", "inspect"), ("b", "inspect")]
    assert p.needs_body
    assert not p.empty


def test_phases_left_alone_are_empty() -> None:
    p = plan(All("a"))
    assert (p.choose, p.observe, p.respond) == ((), (), ())


def test_a_policy_that_cannot_match_a_route_is_not_there() -> None:
    p = plan(All("a", ("request", "reply")), when=When(paths=["/v1/embeddings"]))
    assert p.empty
    assert p.rows == ()
    assert p.enforcing_request == p.enforcing_reply == ()


def test_model_conditions_wait_for_the_body() -> None:
    p = plan(All("a"), when=When(models=["llama*"]))
    assert len(p.admit) == 0
    assert len(p.admit_late) == 1
    assert p.needs_body
    assert [r.phase for r in p.rows] == ["admit_late", "inspect", "guard", "settle"]
    for model, ran in (("llama-3", True), ("gpt", False)):
        x = exchange(model_asked=model)
        run(p.admit_late[0](x))
        assert ("seen" in x.notes) is ran


def test_a_body_is_needed_for_a_condition_alone() -> None:
    class OnlySettles(Policy):
        async def settle(self, x: Exchange) -> None:
            pass

    assert not plan(OnlySettles("a", None)).needs_body
    assert plan(OnlySettles("a", None), when=When(stream=True)).needs_body
    assert plan(OnlySettles("a", None), when=When(stream=True), route=UNREAD).needs_body
    assert not plan(OnlySettles("a", None), when=When(stream=True), route=NO_BODY).needs_body
    assert not plan(Policy("a", None), when=When(stream=True)).needs_body


def test_header_conditions_are_noted_in_admit_whatever_phases_there_are() -> None:
    class Guards(All):
        def phases(self) -> frozenset[str]:
            return frozenset({"guard"})

    x = exchange(fields=[("X-Team", "red")])
    p = plan(step(Guards("a"), when=When(headers={"X-Team": "red"})), step(Guards("b")))
    for admit in p.admit:
        run(admit(x))
    x.headers.remove("x-team")
    for guard in p.guard:
        guard(x, Channel(0, "content"))
    assert x.notes["seen"] == [("a", "guard"), ("b", "guard")]


def test_no_gate_where_the_reply_cannot_be_read_and_no_inspect_where_there_is_no_body() -> None:
    p = plan(All("a", ("request", "reply")), route=UNREAD)
    assert p.guard == ()
    assert len(p.admit) == len(p.inspect) == len(p.settle) == 1, "JSON is inspected on every route"
    assert p.needs_body
    assert p.enforcing_request == p.enforcing_reply == ("a",)
    p = plan(All("a"), route=NO_BODY)
    assert p.inspect == ()
    assert len(p.guard) == 1
    assert not p.needs_body


def test_who_enforces_on_which_text() -> None:
    p = plan(
        step(All("a", ("request",))),
        step(All("b", ("reply",))),
        step(All("c", ("request", "reply")), mode="shadow"),
        step(All("d")),
    )
    assert (p.enforcing_request, p.enforcing_reply) == (("a",), ("b",))
    assert (p.shadow_request, p.shadow_reply) == (("c",), ("c",))


def test_enforces_asks_the_conditions() -> None:
    steps = [
        step(All("a", ("request",)), when=When(callers=["team"])),
        step(All("b", ("request", "reply")), when=When(models=["llama"])),
    ]
    p = plan(*steps)
    assert p.enforces(exchange(caller="team", model_asked="gpt"), "request") == ("a",)
    assert p.enforces(exchange(model_asked="llama"), "request") == ("b",)
    assert p.enforces(exchange(model_asked="llama"), "reply") == ("b",)
    blind = plan(*steps, route=UNREAD)
    assert blind.enforces(exchange(), "request") == ("b",), "the model of an unread body could be any"
    assert blind.enforces(exchange(caller="team"), "request") == ("a", "b")
    dynamic = plan(step(All("a", ("request",)), when=When(paths=["/v1/x"])), route=ANY_ROUTE)
    assert dynamic.enforces(exchange("/v1/%78"), "request") == ("a",)
    assert dynamic.enforces(exchange("/v1/y"), "request") == ()


def test_rows_for_explain() -> None:
    p = plan(step(All("a"), mode="shadow", when=When(callers=["me"])))
    assert p.rows[0] == ("a", "test", "admit", "shadow", "callers: me", "I am a")
    assert [r.phase for r in p.rows] == ["admit", "inspect", "guard", "settle"]


def test_two_policies_of_one_name() -> None:
    with pytest.raises(ValueError, match="'a'"):
        plan(All("a"), All("a"))


def test_colour_is_contract() -> None:
    class Wrong(Policy):
        def admit(self, x: Exchange) -> None:  # type: ignore[override]
            pass

    class AlsoWrong(Policy):
        async def choose(self, x: Exchange, candidates: Any) -> None:  # type: ignore[override]
            pass

    class NoPhase(Policy):
        def phases(self) -> frozenset[str]:
            return frozenset({"later"})

    with pytest.raises(TypeError, match="admit must be a plain `async def`"):
        plan(Wrong("a", None))
    with pytest.raises(TypeError, match="choose must be a plain `def`"):
        plan(AlsoWrong("a", None))
    with pytest.raises(ValueError, match="later"):
        plan(NoPhase("a", None))


def test_settle_runs_for_a_request_that_ended_early() -> None:
    x = exchange()
    run(plan(All("a")).settle[0](x))
    assert x.notes["seen"] == [("a", "settle")]


class Opens(Policy):
    """Prepares and closes, and tells."""

    def __init__(self, name: str, log: list[str], *, prepare: Any = None, close: Any = None) -> None:
        super().__init__(name, None)
        self.log, self.on_prepare, self.on_close = log, prepare, close

    async def prepare(self) -> None:
        self.log.append(f"prepare {self.name}")
        if isinstance(self.on_prepare, BaseException):
            raise self.on_prepare
        if self.on_prepare is not None:
            await self.on_prepare

    async def close(self) -> None:
        self.log.append(f"close {self.name}")
        if self.on_close is not None:
            raise self.on_close


def steps(log: list[str], **kind: Any) -> list[Step]:
    return [step(Opens("a", log)), step(Opens("b", log, **kind)), step(Opens("c", log))]


async def test_life() -> None:
    log: list[str] = []
    three = steps(log)
    await prepare_all(three)
    assert await close_all(three) == []
    assert log == ["prepare a", "prepare b", "prepare c", "close c", "close b", "close a"]


async def test_all_or_none_are_prepared() -> None:
    log: list[str] = []
    cause = OSError("no such file")
    with pytest.raises(PrepareError, match="policy 'b' could not start: OSError: no such file") as caught:
        await prepare_all(steps(log, prepare=cause, close=ValueError()))
    assert caught.value.policy == "b"
    assert caught.value.__cause__ is cause
    assert log == ["prepare a", "prepare b", "close b", "close a"]


async def test_a_cancelled_start_closes_what_was_open() -> None:
    log: list[str] = []
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(prepare_all(steps(log, prepare=never)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["prepare a", "prepare b", "close b", "close a"]


async def test_one_that_fails_to_close_keeps_no_other_open() -> None:
    log: list[str] = []
    error = ValueError()
    assert await close_all(steps(log, close=error)) == [("b", error)]
    assert log == ["close c", "close b", "close a"]
    log.clear()
    with pytest.raises(asyncio.CancelledError):
        await close_all(steps(log, close=asyncio.CancelledError()))
    assert log == ["close c", "close b", "close a"]


def test_hooks_are_silent_where_nobody_runs() -> None:
    log = Log()
    compile_plan([step(All("a"))], CHAT, log.hooks)
    assert log.verdicts == log.errors == []
