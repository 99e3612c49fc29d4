"""Matches in whole texts, by an automaton that reads parts of them, and a judge that remembers what stands to the left.

What lives here: Reader, for one list of detectors. What must never live here: which parts are read (``prefilter.py``);
what is done with a find; a text beyond the call.

A number is judged at each place where it may end, by each entity whose shape it has. What stands before it is the same
each time, so each question about that is asked once per place where a candidate begins; and all lists of words that may
stand there are looked for in one pass of RE2, whose time does not grow with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from policies.detect import Hit, RuleSet
from policies.detect.rules import left_of
from policies.detect.turn import Verdict
from policies.detect.whole import WholeReader
from policies.pii.cues import Cues, any_of
from policies.pii.engine import WordSet
from policies.pii.entity import Hinted, Near, humped
from policies.pii.prefilter import data_of

__all__ = ["Match", "Reader", "Span"]

_NONE: frozenset[int] = frozenset()
_FEW, _FEW_EACH = 16, 256  # places to look back from (and characters for one more), before all of the text is looked at
_MOST_KNOWN = 4096  # verdicts kept at a time: those of the last few places are asked for again


class Span(NamedTuple):
    """start, end: code points, end exclusive. type: an entity's name. score: 0 to 1."""

    start: int
    end: int
    type: str
    score: float


class Match(NamedTuple):
    """rule: a number in its reader's rules. left: it is on an allow-list."""

    start: int
    end: int
    rule: int
    left: bool


class Reader:
    """rules: compiled. types, scores: per rule. allowed: values that are left alone, or None."""

    def __init__(
        self, rules: RuleSet, types: Sequence[str], scores: Sequence[float], allowed: Callable[[str], bool] | None
    ) -> None:
        self.rules = rules
        self.types, self.scores = tuple(types), tuple(scores)
        self._allowed = allowed
        self.validates = [rule.validate for rule in rules.rules]
        self.surely: list[Callable[[str], bool]] = []  # per question, who answers it
        shapes: dict[tuple[int, bool], int] = {}
        known: dict[tuple[Callable[[str], bool], int], tuple[int, list[int]]] = {}
        for number, rule in enumerate(rules.rules):
            if rule.context is not None:
                shape = shapes.setdefault((rule.look_behind, rule.escapes), len(shapes))
                known.setdefault((rule.context, shape), (len(known), []))[1].append(number)
        self.asks: list[tuple[int, int, frozenset[int], bool] | None] = [None] * len(rules.rules)
        """Per rule, its question about what is before (a number of ``surely``), how much it sees of that, all rules with
        this question, and whether it is about words."""
        words: list[list[tuple[int, Near | Hinted, frozenset[int]]]] = [[] for _ in shapes]
        for (context, shape), (question, asking) in known.items():
            self.surely.append(context.surely if isinstance(context, Near | Hinted) else context)
            for one in asking:
                self.asks[one] = question, shape, frozenset(asking), isinstance(context, Near | Hinted)
            if isinstance(context, Near | Hinted):
                words[shape].append((question, context, frozenset(asking)))
        self.words = [_Words(some, seen) for some, (seen, _) in zip(words, shapes, strict=True)]

    def spans(self, text: str, parts: Iterable[tuple[int, int]]) -> list[Span]:
        """Matches within these parts (start, end), in order; of those that are left alone the type is empty. Linear in
        the length of the parts."""
        return [self.span(found) for found in self.matches(text, parts)]

    def span(self, found: Match) -> Span:
        start, end, rule, left = found
        return Span(start, end, "" if left else self.types[rule], self.scores[rule])

    def matches(self, text: str, parts: Iterable[tuple[int, int]]) -> list[Match]:
        """The same, as matches."""
        hits: list[tuple[int, bool]] = []
        allowed = self._allowed

        def note(hit: Hit) -> str:
            hits.append((hit.rule, allowed is not None and allowed(hit.value)))
            return "?"

        out: list[Match] = []
        reader = WholeReader(self.rules, text, note, self.judge(text))
        for start, end in parts:
            hits.clear()
            out += [Match(e.start, e.end, *hit) for e, hit in zip(reader.read(start, end), hits, strict=True)]
        return out

    def judge(self, text: str) -> _Judge:
        """Of the candidates of one text."""
        return _Judge(self, text)

    def match(self, text: str, start: int, end: int, rule: int) -> Match:
        """A match that was found without the automaton."""
        return Match(start, end, rule, self._allowed is not None and self._allowed(text[start:end]))


class _Words:
    """All lists of words at once. questions: number, list, and the rules that ask for it."""

    def __init__(self, questions: Sequence[tuple[int, Near | Hinted, frozenset[int]]], seen: int) -> None:
        self._questions, self._seen = questions, seen
        self._cues: Cues | None = None
        self.silent = frozenset[int]().union(*[rules for _, _, rules in questions])
        self._set = WordSet([one.maybe for _, one, _ in questions]) if questions else None
        self._known: dict[tuple[int, ...], tuple[frozenset[int], frozenset[int]]] = {}

    def regions(self, text: str) -> list[tuple[int, int]]:
        """The parts of a text in which a value may have one of the words before it."""
        if not self._questions:
            return []
        if self._cues is None:
            self._cues = Cues([one.maybe for _, one, _ in self._questions], self._seen)
        return self._cues.regions(text, data_of(text), 0)

    def before(self, before: str) -> tuple[frozenset[int], frozenset[int]]:
        """The questions that may be answered with yes; the rules whose question may not."""
        found = tuple(self._set.numbers(humped(before))) if self._set is not None else ()
        known = self._known.get(found)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            silent = [rules for n, (_, _, rules) in enumerate(self._questions) if n not in found]
            known = frozenset(self._questions[n][0] for n in found), frozenset[int]().union(*silent)
            self._known[found] = known
        return known


class _Place:
    """What is known of a place: the text before it, the answers, and of the words that may stand there the questions they
    leave open, and the rules that they leave out."""

    __slots__ = ("answers", "before", "open", "silent")

    def __init__(self, before: str) -> None:
        self.before = before
        self.answers: dict[int, bool] = {}
        self.open: frozenset[int] | None = None
        self.silent = _NONE


class _Judge:
    """Verdicts on the candidates of one text."""

    def __init__(self, reader: Reader, text: str) -> None:
        self._text = text
        self._reader = reader
        self._asks, self._validates = reader.asks, reader.validates
        self._known: dict[tuple[int, int], _Place] = {}
        self._looked, self._few = 0, _FEW + len(text) // _FEW_EACH
        self._loud: dict[int, list[tuple[int, int]]] = {}

    def __call__(self, rule: int, start: int, end: int) -> Verdict:
        ask = self._asks[rule]
        if ask is not None:
            question, shape, alone, worded = ask
            known = self._known.get((start, shape)) or self._first(rule, start, shape)
            if worded:
                if known.open is None:
                    self._words(known, start, shape)
                if question not in known.open:  # type: ignore[operator]
                    return known.silent
            verdict = known.answers.get(question)
            if verdict is None:
                verdict = known.answers[question] = self._reader.surely[question](known.before)
            if not verdict:
                return alone
        validate = self._validates[rule]
        return validate is None or validate(self._text[start:end])

    def _first(self, rule: int, start: int, shape: int) -> _Place:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        one = self._reader.rules.rules[rule]
        found = self._known[start, shape] = _Place(left_of(one, self._text[max(start - one.look_behind - 1, 0) : start]))
        return found

    def _words(self, place: _Place, start: int, shape: int) -> None:
        """Look for words: before this place, or once for all where there are many places."""
        words = self._reader.words[shape]
        self._looked += 1
        if self._looked > self._few:
            parts = self._loud.get(shape)
            if parts is None:
                parts = self._loud[shape] = words.regions(self._text)
            if not any_of(parts, start):
                place.open, place.silent = _NONE, words.silent
                return
        place.open, place.silent = words.before(place.before)
