"""Who is next: order, shares, bounds, deadlines, against a plain model; and that nothing is left behind."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.queueing import LATEST, OTHERS, SOONEST, FairQueue, Full, State, Ticket

FOREVER = 1e9


def full(limit: int = 1, *, size: int = 10_000, per_key: int = 0, **weights: float) -> FairQueue:
    """A queue whose places are all taken."""
    q = FairQueue(limit, size=size, per_key=per_key, weights=weights)
    for _ in range(limit):
        assert q.take()
    assert not q.take()
    return q


def add(q: FairQueue, key: str, n: int = 1, group: str = OTHERS, deadline: float = FOREVER) -> list[Ticket]:
    return [q.join(group, key, deadline, 0.0)[0] for _ in range(n)]


def drained(q: FairQueue, n: int | None = None, held: float = 1.0) -> list[Ticket]:
    """Who gets a place, in order, while places become free one by one."""
    out: list[Ticket] = []
    last: Ticket | None = None
    while q.waiting and (n is None or len(out) < n):
        (last,) = q.release(last, held, 0.0)
        out.append(last)
    return out


def clean(q: FairQueue) -> None:
    """Nobody waits, and nothing tells of those who did."""
    assert (q.waiting, q._keys) == (0, {})
    for group in q._groups.values():
        assert (group.count, len(group.ring), group.by_length, group.longest) == (0, 0, {}, 0)


# -- order


def test_first_come_first_served_for_one_caller() -> None:
    q = full()
    tickets = add(q, "a", 50)
    assert drained(q) == tickets
    clean(q)


def test_callers_take_turns_however_many_requests_one_has() -> None:
    q = full()
    greedy = add(q, "greedy", 1000)
    late = add(q, "late", 3)
    assert drained(q, 6) == [greedy[0], late[0], greedy[1], late[1], greedy[2], late[2]]
    assert drained(q, 2) == greedy[3:5]


def test_who_comes_again_does_not_overtake() -> None:
    q = full()
    add(q, "a", 3)
    add(q, "b", 1)
    add(q, "c", 1)
    (first,) = q.release(None, 1.0, 0.0)
    assert first.key == "a"
    add(q, "a", 1)
    assert [t.key for t in drained(q)] == ["b", "c", "a", "a", "a"]


def test_classes_share_turns_by_weight_and_none_starves() -> None:
    q = full(interactive=10, batch=1)
    for group in ("interactive", "batch", "unheard of"):
        add(q, group, 200, group)
    got = Counter(t.group.name for t in drained(q, 120))
    assert got == {"interactive": 100, "batch": 10, OTHERS: 10}


def test_a_class_whose_requests_take_longer_gets_fewer_turns() -> None:
    q = full(long=1, short=1)
    add(q, "l", 400, "long")
    add(q, "s", 400, "short")
    seconds: Counter[str] = Counter()
    last: Ticket | None = None
    for _ in range(300):
        held = 1.0 if last is None else {"long": 4.0, "short": 1.0}[last.group.name]
        (last,) = q.release(last, held, 0.0)
        seconds[last.group.name] += {"long": 4, "short": 1}[last.group.name]
    assert seconds["long"] == pytest.approx(seconds["short"], rel=0.1)


def test_what_a_class_did_not_use_is_gone() -> None:
    """One that was away for long does not get the backend to itself when it comes back."""
    q = full(a=1, b=1)
    add(q, "a", 300, "a")
    drained(q, 200)
    add(q, "b", 50, "b")
    got = Counter(t.group.name for t in drained(q, 20))
    assert abs(got["a"] - got["b"]) <= 2


def test_a_lone_request_of_a_heavy_class_waits_for_one_turn() -> None:
    q = full(interactive=10, batch=1)
    add(q, "b", 1000, "batch")
    drained(q, 100)
    add(q, "i", 1, "interactive")
    assert "interactive" in [t.group.name for t in drained(q, 2)]


# -- bounds


def test_without_a_queue_nobody_waits() -> None:
    q = full(2, size=0)
    with pytest.raises(Full, match="full"):
        q.join(OTHERS, "a", FOREVER, 0.0)
    assert q.release(None, 1.0, 0.0) == () and q.take()


def test_a_full_queue_refuses_who_has_most_in_it() -> None:
    q = full(size=10)
    greedy = add(q, "greedy", 10)
    with pytest.raises(Full, match="full"):
        add(q, "greedy", 1)
    ticket, (out,) = q.join(OTHERS, "modest", FOREVER, 0.0)
    assert out is greedy[-1] and out.state is State.PUSHED_OUT and ticket.state is State.WAITING
    add(q, "modest", 4)
    assert q.waiting == 10
    with pytest.raises(Full, match="full"):
        add(q, "modest", 1)
    assert Counter(t.key for t in drained(q)) == {"greedy": 5, "modest": 5}
    clean(q)


def test_a_full_queue_has_room_for_a_class_below_its_share() -> None:
    q = full(size=110, interactive=10, batch=1)
    for n in range(110):
        add(q, f"b{n}", 1, "batch")
    for n in range(100):
        add(q, f"i{n}", 1, "interactive")
    assert q.lengths() == {OTHERS: 0, "interactive": 100, "batch": 10}
    with pytest.raises(Full):
        add(q, "one more", 1, "interactive")
    with pytest.raises(Full):
        add(q, "one more", 1, "batch")


def test_one_caller_may_have_so_many() -> None:
    q = full(per_key=2, a=1, b=1)
    add(q, "x", 1, "a")
    add(q, "x", 1, "b")
    with pytest.raises(Full, match="caller_full"):
        add(q, "x", 1)
    add(q, "y", 2)
    drained(q)
    add(q, "x", 2)


# -- time


def test_deadlines() -> None:
    q = full()
    a, b, c = (q.join(OTHERS, k, at, 0.0)[0] for k, at in (("a", 5.0), ("b", 3.0), ("c", 9.0)))
    assert not q.expire(2.9)
    assert q.expire(3.0) == [b] and b.state is State.LATE
    assert q.release(None, 1.0, 6.0) == [a, c], "one who is late gets no place, whoever notices it"
    assert (a.state, c.state) == (State.LATE, State.GRANTED)
    assert not q.expire(100.0)
    clean(q)


def test_who_leaves_makes_room_at_once() -> None:
    q = full(size=2)
    a, b = add(q, "a", 2)
    q.leave(a)
    q.leave(a)
    assert (q.waiting, a.state) == (1, State.LEFT)
    add(q, "a", 1)
    assert drained(q, 1) == [b]
    q.leave(b)
    assert b.state is State.GRANTED, "who has a place gives it back otherwise"


def test_what_has_gone_does_not_pile_up() -> None:
    q = full()
    for _ in range(10_000):
        q.leave(add(q, "a")[0])
    assert len(q._due) < 100
    clean(q)


@pytest.mark.parametrize(
    ("waiting", "held", "limit", "want"), [(0, 0.01, 4, SOONEST), (100, 2.0, 10, 20.2), (10_000, 30.0, 4, LATEST)]
)
def test_when_to_come_again(waiting: int, held: float, limit: int, want: float) -> None:
    q = full(limit)
    assert q.retry_after() == SOONEST, "nothing is known yet"
    assert q.release(None, held, 0.0) == ()
    q.take()
    add(q, "a", waiting)
    assert q.retry_after() == pytest.approx(want)


# -- other bounds, and the end


def test_more_places_after_a_reload() -> None:
    q = full(1, a=1)
    waiting = add(q, "x", 5, "a")
    assert q.configure(3, 0.0, size=1, weights={"b": 2}) == waiting[:2]
    assert (q.busy, q.waiting) == (3, 3), "who waits stays, above the new bound too"
    with pytest.raises(Full):
        add(q, "x", 1, "a")
    assert q.configure(1, 0.0, size=10) == []
    assert q.release(None, 1.0, 0.0) == q.release(None, 1.0, 0.0) == [], "above the bound a place that is given back is gone"
    assert len(q.release(None, 1.0, 0.0)) == 1


def test_emptied() -> None:
    q = full(a=3)
    waiting = [*add(q, "x", 2, "a"), *add(q, "y", 2)]
    assert q.empty() == waiting
    assert {t.state for t in waiting} == {State.SENT_AWAY}
    clean(q)


def test_ten_thousand_callers() -> None:
    q = full(8, size=10_000, interactive=10, batch=1)
    keys = [f"k{n}" for n in range(10_000)]
    random.Random(7).shuffle(keys)
    for n, key in enumerate(keys):
        q.join("interactive" if n % 2 else "batch", key, FOREVER, 0.0)
    assert len({t.key for t in drained(q)}) == 10_000
    clean(q)


# -- all of it, in any order


class Machine(RuleBasedStateMachine):
    """A queue and a list of what it should hold."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.number = 0.0, 0
        self.limit, self.size = 2, 6
        self.q = FairQueue(2, size=6, weights={"a": 5, "b": 1})
        self.waiting: list[Ticket] = []  # in the order of their coming
        self.held: list[Ticket | None] = []
        self.passed: Counter[tuple[str, str]] = Counter()

    def changed(self, tickets: object) -> None:
        assert isinstance(tickets, list | tuple)
        for ticket in tickets:
            self.waiting.remove(ticket)
            if ticket.state is State.GRANTED:
                assert ticket.deadline > self.now
                line = (ticket.group.name, ticket.key)
                assert not any((t.group.name, t.key) == line and t.owner < ticket.owner for t in self.waiting), "out of line"
                rivals = {(t.group.name, t.key) for t in self.waiting if t.group is ticket.group} - {line}
                for rival in rivals:
                    self.passed[rival] += 1
                    callers = len(rivals) + 1
                    assert self.passed[rival] <= 10 * callers, "one is passed over and over"
                self.passed[line] = 0
                self.held.append(ticket)
            else:
                assert ticket.state in (State.LATE, State.PUSHED_OUT)
                assert (ticket.state is State.LATE) == (ticket.deadline <= self.now) or ticket.state is State.PUSHED_OUT

    @rule(group=st.sampled_from(["a", "b", "?"]), key=st.sampled_from("xyz"), wait=st.floats(0.1, 20))
    def come(self, group: str, key: str, wait: float) -> None:
        if self.q.take():
            assert len(self.held) < self.limit
            self.held.append(None)
            return
        assert len(self.held) >= self.limit
        self.number += 1
        try:
            ticket, changed = self.q.join(group, key, self.now + wait, self.now, self.number)
        except Full:
            alive = [t for t in self.waiting if t.deadline > self.now]
            assert len(alive) >= self.size
            self.waiting = [t for t in self.waiting if t.state is State.WAITING]
        else:
            self.waiting.append(ticket)
            self.changed(changed)

    @precondition(lambda self: self.held)
    @rule(at=st.integers(0, 100), seconds=st.floats(0, 5))
    def done(self, at: int, seconds: float) -> None:
        self.changed(self.q.release(self.held.pop(at % len(self.held)), seconds, self.now))

    @precondition(lambda self: self.waiting)
    @rule(at=st.integers(0, 100))
    def give_up(self, at: int) -> None:
        self.q.leave(self.waiting.pop(at % len(self.waiting)))

    @rule(seconds=st.floats(0.01, 8))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.changed(self.q.expire(self.now))
        assert all(t.deadline > self.now for t in self.waiting)

    @rule(limit=st.integers(1, 4), size=st.integers(0, 8), weight=st.floats(0.1, 10))
    def reload(self, limit: int, size: int, weight: float) -> None:
        self.limit, self.size = limit, size
        self.changed(self.q.configure(limit, self.now, size=size, weights={"a": weight}))

    @invariant()
    def counts(self) -> None:
        q = self.q
        assert q.waiting == len(self.waiting) == sum(q.lengths().values())
        assert q.busy == len(self.held)
        assert not self.waiting or q.busy >= self.limit, "a place is free, and somebody waits"
        assert all(t.state is State.WAITING for t in self.waiting)
        assert q._keys == Counter(t.key for t in self.waiting)
        for group in q._groups.values():
            lengths = {key: len(line) for key, line in group.ring.items()}
            assert group.longest == max(lengths.values(), default=0)
            assert {k: n for n, keys in group.by_length.items() for k in keys} == lengths

    def teardown(self) -> None:
        while self.held:
            self.changed(self.q.release(self.held.pop(), 1.0, self.now))
        assert self.q.busy == 0 and not self.waiting
        clean(self.q)


TestMachine = Machine.TestCase
TestMachine.settings = hypothesis_settings(max_examples=50, stateful_step_count=60, deadline=None)
