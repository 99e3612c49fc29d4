"""Gates as the engine hands them on: enforced, in shadow mode, and when they fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.contract import Channel, Cut, Edit, Exchange, Gate, Kind, Policy, Refuse
from policies.entry import When
from policies.watched_gate import place
from tests.kits.policy_kit import Log, exchange, plan, through

CONTENT = Channel(0, "content")


class Upper(Gate):
    """Holds one character back, and replaces every ``x`` by ``YY``."""

    reach = 1

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.clear = 0

    def push(self, text: str) -> int:
        self.text += text
        return self._to(max(self.clear, len(self.text) - 1))

    def close(self) -> int:
        return self._to(len(self.text))

    def _to(self, end: int) -> int:
        self.edits += [Edit(i, i + 1, "YY") for i in range(self.clear, end) if self.text[i] == "x"]
        self.clear = end
        return end


class Failing(Upper):
    """Does what it is told to when it meets ``!``; by default it cuts."""

    error: Exception = Cut("rule", "No.")

    def push(self, text: str) -> int:
        if "!" in text:
            raise self.error
        return super().push(text)


class Guards(Policy):
    def __init__(self, make: Callable[[Exchange], Gate | None], name: str = "p") -> None:
        super().__init__(name, None)
        self.make = make

    def guard(self, x: Exchange, channel: Channel) -> Gate | None:
        return self.make(x)


def gate_of(make: Callable[[Exchange], Gate | None], x: Exchange, log: Log, **entry: Any) -> Gate:
    gate = plan(Guards(make), log=log, **entry).guard[0](x, CONTENT)
    assert gate is not None
    return gate


def failing(error: Exception) -> Callable[[Exchange], Gate]:
    def make(_: Exchange) -> Gate:
        gate = Failing()
        gate.error = error
        return gate

    return make


@given(st.lists(st.text("abx", max_size=4), max_size=6))
def test_an_enforced_gate_does_what_the_gate_does(texts: list[str]) -> None:
    log, x = Log(), exchange()
    gate = gate_of(lambda _: Upper(), x, log)
    assert gate.reach == 1
    assert through(gate, texts) == "".join(texts).replace("x", "YY") == through(Upper(), texts)
    assert log.verdicts == [("p", "guard", "change" if "x" in "".join(texts) else "pass")]
    assert x.findings == []


@given(st.lists(st.text("abx", max_size=4), max_size=6))
def test_a_shadow_gate_holds_and_changes_nothing(texts: list[str]) -> None:
    log, x = Log(), exchange()
    gate = gate_of(lambda _: Upper(), x, log, mode="shadow")
    assert gate.reach == 0
    total = 0
    for text in texts:
        total += len(text)
        assert gate.push(text) == total
        assert gate.edits == []
    assert gate.close() == total
    assert gate.edits == []
    count = "".join(texts).count("x")
    found = [(f.kind, f.count, f.where, f.action, f.shadow) for f in x.findings]
    assert found == ([("edit", count, "choices[0].content", "would_change", True)] if count else [])
    assert log.verdicts == [("p", "guard", "shadow_change" if count else "pass")]


def test_a_cut_passes_and_nothing_after_it() -> None:
    log, x = Log(), exchange()
    gate = gate_of(failing(Cut("rule", "No.")), x, log)
    assert gate.push("ab") == 1
    for act in (lambda: gate.push("c!d"), lambda: gate.push("e"), gate.close):
        with pytest.raises(Cut) as caught:
            act()
        assert (caught.value.reason, caught.value.message) == ("rule", "No.")
    assert [(f.kind, f.action, f.where) for f in x.findings] == [("rule", "cut", "choices[0].content")]
    assert log.verdicts == [("p", "guard", "cut")]


def test_a_shadow_cut_is_a_finding() -> None:
    log, x = Log(), exchange()
    gate = gate_of(failing(Cut("rule")), x, log, mode="shadow")
    assert through(gate, ["ab", "!", "x", "!"]) == "ab!x!"
    assert [(f.kind, f.action, f.shadow) for f in x.findings] == [("rule", "would_cut", True)]
    assert log.verdicts == [("p", "guard", "shadow_cut")]


def test_a_refusal_in_a_gate_is_a_cut() -> None:
    gate = gate_of(failing(Refuse(Kind.BLOCKED, "No.")), exchange(), Log())
    with pytest.raises(Cut) as caught:
        gate.push("!")
    assert (caught.value.reason, caught.value.message) == ("content_filter", "No.")


def test_a_failing_gate_closed() -> None:
    log, x = Log(), exchange()
    gate = gate_of(failing(OSError("text")), x, log)
    with pytest.raises(Cut) as caught:
        gate.push("!")
    assert caught.value.reason == "policy_error"
    assert caught.value.message is None
    assert log.errors == [("p", "guard", "OSError")]
    with pytest.raises(Cut):
        gate.close()
    assert [f.action for f in x.findings] == ["cut"]


def test_a_failing_gate_open_lets_the_rest_through() -> None:
    log, x = Log(), exchange()
    gate = gate_of(failing(OSError("text")), x, log, on_error="open")
    assert through(gate, ["xa", "b!", "xx"]) == "YYab!xx"
    assert log.verdicts == [("p", "guard", "error")]
    assert x.findings == []


@pytest.mark.parametrize("offsets", [[3, 3], [2, 1], [-1, 2]])
def test_offsets_that_make_no_sense_are_errors(offsets: list[int]) -> None:
    class Wrong(Gate):
        def push(self, text: str) -> int:
            return offsets.pop(0)

        def close(self) -> int:
            return 0

    log = Log()
    gate = gate_of(lambda _: Wrong(), exchange(), log)
    with pytest.raises(Cut):
        through(gate, ["ab", "c"])
    assert log.errors == [("p", "guard", "ValueError")]


def test_a_gate_must_decide_all_at_its_close() -> None:
    class Keeps(Upper):
        def close(self) -> int:
            return 0

    log = Log()
    gate = gate_of(lambda _: Keeps(), exchange(), log)
    assert gate.push("a") == 0
    with pytest.raises(Cut):
        gate.close()
    assert log.errors == [("p", "guard", "ValueError")]


@pytest.mark.parametrize(("error", "reason"), [(Cut("rule"), "rule"), (KeyError(), "policy_error")])
def test_guard_itself_may_raise(error: Exception, reason: str) -> None:
    def make(_: Exchange) -> Gate:
        raise error

    with pytest.raises(Cut) as caught:
        plan(Guards(make)).guard[0](exchange(), CONTENT)
    assert caught.value.reason == reason
    x = exchange()
    assert plan(Guards(make), mode="shadow").guard[0](x, CONTENT) is None
    assert [(f.kind, f.action) for f in x.findings] == [(reason, "would_cut")]


def test_no_gate_and_no_match() -> None:
    log = Log()
    assert plan(Guards(lambda _: None), log=log).guard[0](exchange(), CONTENT) is None
    assert log.verdicts == [("p", "guard", "pass")]
    assert plan(Guards(lambda _: Upper()), when=When(callers=["a"])).guard[0](exchange(), CONTENT) is None


def test_findings_of_a_shadow_gate_arrive_marked() -> None:
    class Finds(Upper):
        def __init__(self, x: Exchange) -> None:
            super().__init__()
            self.x = x

        def push(self, text: str) -> int:
            self.x.find("p", "mail", action="redact")
            self.x.labels["seen"] = "yes"
            return super().push(text)

    x = exchange()
    gate = gate_of(Finds, x, Log(), mode="shadow")
    gate.push("a")
    gate.push("b")
    assert [(f.kind, f.shadow) for f in x.findings] == [("mail", True)] * 2
    assert x.labels == {}


def test_time_in_gates_adds_up() -> None:
    log = Log()

    class Slow(Upper):
        def push(self, text: str) -> int:
            log.now += 0.5
            return super().push(text)

    gate = gate_of(lambda _: Slow(), exchange(), log)
    through(gate, ["a", "b"])
    assert log.seconds == [1.0]


def test_places() -> None:
    assert place(CONTENT) == "choices[0].content"
    assert place(Channel(1, "arguments", 2)) == "choices[1].tool_calls[2].arguments"
