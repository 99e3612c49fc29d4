"""The states of a rule set, and the moves between them, made when first met.

What lives here: the tables. What must never live here: how candidates compete (``turn.py``), a text, offsets
(``gate.py``).

The groups of ``turn.py`` without their offsets form a finite state: this is a lazy DFA with registers, and a
character costs one dict look-up.
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.detect.alphabet import AT_BEGIN, AT_END, Alphabet, CharClass
from policies.detect.nfa import Nfa
from policies.detect.turn import EMIT, PENDING, SURE, Facts, Field, Group, Turn, Verdict

__all__ = ["APPEND", "CLEAR", "FIRST", "MOST_ENTRIES", "MOST_MEMOS", "ONE", "SHIFT", "Check", "Machine", "Move", "State"]

# What happens to the registers, in short: nothing, all go, a new one alone, a new one more, the first alone, a new one
# more and the first goes, other.
NOTHING, CLEAR, ONE, APPEND, FIRST, SHIFT, OTHER = range(7)
MOST_ENTRIES = 150_000  # entries of all rows, some 100 bytes each; more are thrown away, all at once
# Whole chunks remembered, some 270 bytes each. The words of a language come back; numbers and ids do not, and would fill
# any memory: when they were bounded with the rows alone a proxy grew by 2 kB per request over 100,000 requests.
MOST_MEMOS = 16_384
_DOOR = 65_536  # bytes; two chunks that share a byte and its value are taken for one, which costs a memo
_UNDO = 1024  # moves


@dataclass(slots=True, eq=False)
class Move:
    """What becomes of the registers: ops in order, then which are kept; the index behind the last is a new one."""

    ops: tuple[tuple[int, int, int], ...]
    keep: tuple[int, ...]


class Check:
    """A candidate has to be judged before it is known what the state is. at: 0 when it ends before the character,
    1 when it ends with it."""

    __slots__ = ("_branch", "_core", "_made", "_verdicts", "at", "group", "rule")

    def __init__(
        self, core: Core, branch: CharClass, verdicts: tuple[Verdict, ...], group: int, rule: int, at: int
    ) -> None:
        self._core = core
        self._branch = branch
        self._verdicts = verdicts
        self._made: dict[Verdict, State] = {}
        self.group = group
        self.rule = rule
        self.at = at

    def then(self, verdict: Verdict) -> State:
        found = self._made.get(verdict)
        if found is None:
            found = self._core.machine.move(self._core, self._branch, (*self._verdicts, verdict))
            self._made[verdict] = found
        return found


class State(dict[str, "State"]):
    """A row: character to next state. do: what happens on arrival; None is nothing. code: the same in short, for
    the kinds that happen often. memo: what whole chunks did, kept by the gate."""

    __slots__ = ("code", "core", "do", "memo")

    def __init__(self, core: Core, do: Move | Check | None, code: int) -> None:
        super().__init__()
        self.core = core
        self.do = do
        self.code = code
        self.memo = core.memo

    def __missing__(self, char: str) -> State:
        core = self.core
        machine = core.machine
        branch = machine.alphabet.of(char)
        found = core.moves.get(branch)
        if found is None:
            found = core.moves[branch] = machine.move(core, branch, ())
        machine.entries += 1
        self[char] = found
        return found


class Core:
    """A state without the way it was reached. waits: the first group that is complete but not decided, or -1."""

    __slots__ = ("arrivals", "groups", "kind", "machine", "memo", "moves", "waits")

    def __init__(self, machine: Machine, kind: int, groups: tuple[Group, ...]) -> None:
        self.machine = machine
        self.kind = kind
        self.groups = groups
        self.moves: dict[CharClass | int, State] = {}
        self.arrivals: dict[object, State] = {}
        self.memo: dict[str, tuple[State, tuple[int, ...]]] = {}
        self.waits = next((i for i, g in enumerate(groups) if g.stage == PENDING), -1)

    def undo(self) -> None:
        """Refer to no state any more. One that a gate still stands on works as before: what it needs is made anew."""
        for states in (self.arrivals, self.moves):
            for state in list(states.values()):
                state.clear()
            states.clear()
        self.memo.clear()


class Machine:
    """The states of one automaton. epoch counts how often they were thrown away because there were too many."""

    def __init__(self, nfa: Nfa, facts: list[Facts]) -> None:
        views = 0
        for fact in facts:
            views |= fact.views
        self.alphabet = Alphabet(nfa, views)
        self._field = Field(nfa, facts)
        self._cores: dict[tuple[int, tuple[Group, ...]], Core] = {}
        self._old: list[Core] = []  # thrown away, and not yet undone
        self.end_class = CharClass(frozenset(), AT_END)
        self.epoch = 0
        self.entries = 0
        self.memos = 0
        self._met = bytearray(_DOOR)
        self.made = 0  # moves worked out, for tests that count work

    def begin(self) -> State:
        """The state before any text."""
        return self._arrive(self._core(AT_BEGIN & self.alphabet.past, ()), (), (), 0)

    def after(self, before: str) -> State:
        """The state behind a text, nothing of a match in it. before: its last characters, enough for an escape."""
        kind = 0
        for char in before:
            kind = self.alphabet.behind(kind, self.alphabet.of(char))
        return self._arrive(self._core(kind, ()), (), (), 0)

    def again(self, state: State) -> State:
        """The same state among those that are kept now."""
        groups = state.core.groups
        return self._arrive(self._core(state.core.kind, groups), (), tuple(range(len(groups))), len(groups))

    def full(self) -> bool:
        """Throw all states away when there are too many; True when that happened."""
        if self.entries < MOST_ENTRIES:
            return False
        self.forget()
        return True

    def forget(self) -> None:
        """Throw all states away. Gates move over to the new ones by themselves."""
        self._old += self._cores.values()
        self._cores = {}
        self.entries = self.memos = 0
        self.epoch += 1

    def _undo(self) -> None:
        """Undo some of the states that were thrown away. They refer to each other in circles: the garbage collector would
        stop everything for half a second to find them all. Twice as many as were made meanwhile, and not each with one
        that is made: where as much goes as comes the collector never looks at the new ones, and then at all at once."""
        for core in self._old[-2 * _UNDO :]:
            core.undo()
        del self._old[-2 * _UNDO :]

    def met_before(self, text: str) -> bool:
        """A chunk has probably been seen before; only then it is worth remembering. Of what never comes back (numbers, ids) one
        byte is kept, and not 270 (the doorkeeper of TinyLFU, arXiv 1512.00727)."""
        mark = hash(text)
        place, tag = mark % _DOOR, (mark >> 24) & 0xFF
        if self._met[place] == tag:
            return True
        self._met[place] = tag
        return False

    def remembered(self) -> None:
        """A chunk was remembered; when there are too many, all of them go, and the states stay."""
        self.memos += 1
        if self.memos > MOST_MEMOS:
            for core in list(self._cores.values()):  # whole replies are judged in threads, and make cores meanwhile
                core.memo.clear()
            self.memos = 0

    def _core(self, kind: int, groups: tuple[Group, ...]) -> Core:
        core = self._cores.get((kind, groups))
        if core is None:
            core = self._cores[kind, groups] = Core(self, kind, groups)
            self.entries += 8  # what it weighs, in entries
        return core

    def _arrive(self, core: Core, ops: tuple[tuple[int, int, int], ...], keep: tuple[int, ...], old: int) -> State:
        quiet = not ops and keep == tuple(range(old)) and core.waits < 0
        key = None if quiet else (ops, keep, old)
        state = core.arrivals.get(key)
        if state is None:
            move = None if quiet else Move(ops, keep)
            state = core.arrivals[key] = State(core, move, _code(core, move, old))
        return state

    def end(self, core: Core) -> State:
        """What the end of the text does."""
        state = core.moves.get(self.end_class)
        if state is None:
            state = core.moves[self.end_class] = self.move(core, self.end_class, ())
        return state

    def decide(self, core: Core, index: int) -> State:
        """A group that has waited for too long: what has matched so far is the match, and may still grow."""
        state = core.moves.get(index)
        if state is None:
            groups = list(core.groups)
            groups[index] = groups[index]._replace(stage=SURE)
            keep = tuple(i for i, g in enumerate(groups) if g.positions or g.stage != SURE)
            after = self._core(core.kind, tuple(groups[i] for i in keep))
            ops = ((EMIT, index, groups[index].rule),)
            state = core.moves[index] = self._arrive(after, ops, keep, len(groups))
        return state

    def move(self, core: Core, branch: CharClass, verdicts: tuple[Verdict, ...]) -> State:
        """What a character does. verdicts: how the checks on the way have gone; one more is asked for by Check."""
        self.made += 1
        if self._old and not self.made % _UNDO:
            self._undo()
        turn = Turn(self._field, core.kind, core.groups, branch, verdicts)
        asked = turn.play()
        if asked is not None:
            return State(core, Check(core, branch, verdicts, *asked), OTHER)
        kind = self.alphabet.behind(core.kind, branch)
        groups = tuple([Group(tuple(sorted(g.positions)), g.rule, g.stage, g.now) for g in turn.live])
        keep = tuple([g.index for g in turn.live])
        return self._arrive(self._core(kind, groups), tuple(turn.ops), keep, len(core.groups))


def _code(core: Core, move: Move | None, old: int) -> int:
    if move is None:
        return NOTHING
    if move.ops or core.waits >= 0:
        return OTHER
    if move.keep == tuple(range(old + 1)):
        return APPEND if old else ONE
    if old > 1 and move.keep == tuple(range(1, old + 1)):
        return SHIFT
    return {(): CLEAR, (old,): ONE, (0,): FIRST}.get(move.keep, OTHER)
