"""Rules as people write them, compiled into a RuleSet that makes gates.

What lives here: what a rule may say, what is refused at load, each rule's worst hold. What must never live here: a
text; actions (who asks for a gate says what a match means).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from policies.contract import Edit
from policies.detect.charset import CharSet, orbit, single
from policies.detect.gate import Hit, OnMatch, OnOverflow, RuleGate
from policies.detect.machine import Machine
from policies.detect.nfa import Nfa
from policies.detect.syntax import parse
from policies.detect.tree import Alt, Cat, Chars, Node, PatternError, Rep, Zero, width
from policies.detect.turn import Facts
from policies.detect.views import NAMES, View, decomposed, mark

__all__ = ["CAP", "Match", "Rule", "RuleError", "RuleSet", "compile_rules", "escaped", "left_of"]

CAP = 256
"""Characters that may be held for one undecided match: more than any value whose end must be seen to know it (an
e-mail's local part has 64, RFC 5321 4.5.3.1.1; a host name 253)."""

# Between the words of a phrase, and between the letters of a spaced-out one: any number of these. The second has
# the first in it, so that "b o m b" may also go over a line end.
_WHITE = CharSet.of((ord(c), ord(c)) for c in " \t\n\r\f\v\u0085\u00a0\u2002\u2003\u2009\u2028\u2029\u202f\u3000")
_GAP = _WHITE.union((ord(c), ord(c)) for c in ".,-_*/|~\u00b7\u2022")


# Every printable ASCII character after a letter, a digit, a space and a sign; common words; figures; a line of code.
_SAMPLE = "".join(a + chr(b) for b in range(32, 127) for a in ("e", " ", "T", "1", ".", "\n")) + (
    " The quick brown fox jumps over the lazy dog, and then it was not clear what they should do about that: you can"
    " have all of this for your own use in 2024, or 3.5 per cent more (see 12-14), from https://example.org/a_b?c=d&e=1"
    " at 10:30. I don't know which people would like to make some other time than ours.\n\n- **First**, `def f(x):`\n"
    "    return {'key': [x, 1000], \"name\": None}  # 50%\n| a | b |\n1. It is we who are; as I've been, so will I be."
)


class RuleError(ValueError):
    """A rule that cannot be used. rule: its name. The message says why."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"rule {rule!r}: {reason}")
        self.rule = rule
        self.reason = reason


@dataclass(frozen=True)
class Rule:
    """What to look for.

    patterns: RE2 syntax. phrases: texts as they are; a space in one is any run of white space.
    ignore_case, whole_word (no letter, digit or ``_`` of any script beside it): for both. views: names of
    ``View``; ``spaced`` is for phrases. validate: judges a candidate's text; one that it refuses is no match.
    context: judges the text before it, up to ``look_behind`` characters; it may already have left. A rule whose
    matches have no greatest length is judged once per candidate, at its shortest. value: whoever gets the match
    needs all of its text, so it is decided when it can no longer grow. escapes: for ``whole_word``, the last character of
    an escape (``\\n``, ``\\x3d``, ``\\u003d``, ``%3D``, as in JSON within a string, a log, a URL) is no letter beside the match;
    ``context`` then gets what it stands for.
    """

    name: str
    patterns: Sequence[str] = ()
    phrases: Sequence[str] = ()
    ignore_case: bool = False
    whole_word: bool = False
    views: Sequence[str] = ()
    validate: Callable[[str], bool] | None = None
    context: Callable[[str], bool] | None = None
    look_behind: int = 64
    value: bool = False
    escapes: bool = False


class Match(NamedTuple):
    """rule: index in the rule set. start, end: characters."""

    rule: int
    start: int
    end: int


@dataclass
class RuleSet:
    """Compiled rules; shared by all streams. cap: see ``gate.py``. reach: characters that a gate may hold at most.
    worst_hold: per rule, characters that it may hold for itself; ``cap`` for those that nothing else bounds."""

    rules: tuple[Rule, ...]
    cap: int
    machine: Machine
    worst_hold: tuple[int, ...]
    reach: int
    keeps: bool = field(init=False)
    look_behind: int = field(init=False)

    def __post_init__(self) -> None:
        checked = [r for r in self.rules if r.validate or r.context or r.value]
        self.keeps = bool(checked)
        self.look_behind = max((r.look_behind + 1 for r in self.rules if r.context), default=0)

    def gate(self, on_match: OnMatch, on_overflow: OnOverflow | None = None) -> RuleGate:
        """A gate for one channel. on_match: called once per match, see ``OnMatch``. on_overflow: called instead of
        letting an undecided match lose what is older than the cap; it must raise Cut."""
        return RuleGate(self, on_match, on_overflow)

    def warm(self) -> None:
        """Make the states that ordinary text meets; else the first stream pays for them, some 20 us each."""
        gate = self.gate(lambda hit: None)
        gate.push(_SAMPLE)

    def whole(self, text: str) -> list[Match]:
        """All matches of a text, leftmost-longest, rule order among equals. By the same machine, in one push."""
        found: list[Hit] = []

        def note(hit: Hit) -> str:
            found.append(hit)
            return "?"

        gate = self.gate(note)
        gate.push(text)
        gate.close()
        return [Match(hit.rule, hit.start, end) for hit, end in zip(found, _ends(gate.edits), strict=True)]

    def passes(self, rule: int, value: str, before: str) -> bool:
        one = self.rules[rule]
        if one.context is not None and not one.context(left_of(one, before)):
            return False
        return one.validate is None or one.validate(value)


_ESCAPE = re.compile(r"(?:\\(?:([abfnrtv])|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))|%([0-9A-Fa-f]{2}))\Z")
_WORD = re.compile(r"\A[^\W_]+")
_MEANT = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def escaped(text: str, at: int) -> bool:
    """Whether an escape ends right before this place."""
    return _ESCAPE.search(text, max(at - 6, 0), at) is not None


def left_of(rule: Rule, before: str) -> str:
    """What a rule's ``context`` is asked about. before: one character more than ``look_behind``, if there are as many: a
    word that is cut there is left out, for its end may be another word."""
    seen = rule.look_behind
    if len(before) > seen:
        cut = before[-seen - 1].isalnum() and seen
        before = before[-seen:] if seen else ""
        if cut:
            before = _WORD.sub("", before, count=1)
    if rule.escapes and ("\\" in before[-6:] or "%" in before[-3:]) and (found := _ESCAPE.search(before)):
        meant = _MEANT[found[1]] if found[1] else chr(int(found[2] or found[3] or found[4], 16))
        return before[: found.start()] + meant
    return before


def _ends(edits: list[Edit]) -> list[int]:
    """Where matches end; what one grew by after a gap longer than the cap belongs to it."""
    out: list[int] = []
    for edit in edits:
        if edit.text:
            out.append(edit.end)
        else:
            out[-1] = edit.end
    return out


def compile_rules(rules: Sequence[Rule], *, cap: int = CAP) -> RuleSet:
    """Compile rules, in order: among matches of one place and length the first rule's counts.

    cap: characters that one undecided match may hold. Raises RuleError, with the rule's name and the reason.
    """
    if cap < 1:
        raise ValueError("cap must be at least 1")
    nfa, facts, names = Nfa(), [], set()
    for number, rule in enumerate(rules):
        if rule.name in names:
            raise RuleError(rule.name, "two rules have this name")
        names.add(rule.name)
        try:
            facts.append(_add(nfa, number, rule))
        except PatternError as error:
            raise RuleError(rule.name, str(error)) from None
    holds = tuple(_worst(nfa, number, fact, cap) for number, fact in enumerate(facts))
    return RuleSet(tuple(rules), cap, Machine(nfa, facts), holds, _reach(nfa, facts, holds, cap))


def _add(nfa: Nfa, number: int, rule: Rule) -> Facts:
    views = View(0)
    for name in rule.views:
        if name not in NAMES:
            raise PatternError(f"no view is called {name!r}; there are {', '.join(sorted(NAMES))}")
        views |= NAMES[name]
    if views & View.SPACED and rule.patterns:
        raise PatternError("the view 'spaced' is for phrases; write patterns with their gaps")
    if not rule.patterns and not rule.phrases:
        raise PatternError("it has neither patterns nor phrases")
    left = Zero.NO_WORD_OR_ESCAPE if rule.escapes else Zero.NO_WORD_BEFORE
    around = (int(left), int(Zero.NO_WORD_AFTER)) if rule.whole_word else (0, 0)
    bounded = True
    for pattern in rule.patterns:
        node = parse(pattern, ignore_case=rule.ignore_case)
        if views & View.NFKC:
            node = _decomposed(node)
        bounded = bounded and width(node)[1] is not None
        nfa.add_tree(node, number, around)
    if rule.phrases:
        _phrases(nfa, number, rule, views, around)
    bounded = bounded and not views & (View.INVISIBLE | View.MARKS | View.SPACED)
    bounded = bounded and not any(len(p.split()) > 1 for p in rule.phrases)
    checked = rule.validate is not None or rule.context is not None
    return Facts(int(views), checked, bounded, not rule.value)


def _phrases(nfa: Nfa, number: int, rule: Rule, views: View, around: tuple[int, int]) -> None:
    letter = orbit if rule.ignore_case else single
    known: dict[str, CharSet] = {}
    rows: list[list[CharSet]] = []
    spread: list[list[CharSet]] = []
    for phrase in rule.phrases:
        text = decomposed(phrase) if views & (View.NFKC | View.MARKS) else phrase
        if views & View.MARKS:
            text = "".join(c for c in text if not mark(c))
        words = text.split()
        if not words:
            raise PatternError("a phrase is empty")
        for char in "".join(words):
            if char not in known:
                known[char] = letter(char)
        row: list[CharSet] = []
        for word in words:
            row += [_WHITE] * bool(row) + [known[c] for c in word]
        rows.append(row)
        letters = [known[c] for c in "".join(words)]
        if views & View.SPACED and len(letters) > 2:
            spread.append([s for chars in letters for s in (_GAP, chars)][1:])
    nfa.add_phrases(rows, number, around, frozenset([_WHITE]))
    nfa.add_phrases(spread, number, (int(Zero.NO_WORD_BEFORE), int(Zero.NO_WORD_AFTER)), frozenset([_GAP]))


def _decomposed(node: Node) -> Node:
    """A pattern that also takes its single characters in decomposed form, e and an accent for é."""
    if isinstance(node, Chars):
        if node.chars.size > 8:
            return node
        single_chars = [chr(code) for low, high in node.chars for code in range(low, high + 1)]
        more = [Cat(tuple(Chars(single(d)) for d in decomposed(c))) for c in single_chars if len(decomposed(c)) > 1]
        return Alt((node, *more)) if more else node
    if isinstance(node, Rep):
        return Rep(_decomposed(node.part), node.low, node.high)
    if isinstance(node, Cat | Alt):
        return type(node)(tuple(_decomposed(p) for p in node.parts))
    return node


def _worst(nfa: Nfa, number: int, fact: Facts, cap: int) -> int:
    """A rule's candidates are held while they are not complete; those that may be refused, or whose whole value is
    needed, as long as they grow."""
    longest = nfa.longest(number, undecided=fact.eager and not (fact.checked and fact.bounded))
    endless = longest is None or fact.views & (View.INVISIBLE | View.MARKS)
    return cap if endless or longest is None else min(longest, cap)


def _reach(nfa: Nfa, facts: list[Facts], holds: tuple[int, ...], cap: int) -> int:
    """Of several rules, two may compete for a match as long as both are alive."""
    if len(facts) < 2:
        return max(holds, default=0)
    whole = [_worst(nfa, n, f._replace(eager=False), cap) for n, f in enumerate(facts)]
    return max(whole)
