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
from policies.pii.entity import Hinted, Near, WordSet

__all__ = ["Reader", "Span"]

_MOST_KNOWN = 4096  # verdicts kept at a time: those of the last few places are asked for again


class Span(NamedTuple):
    """start, end: code points, end exclusive. type: an entity's name. score: 0 to 1."""

    start: int
    end: int
    type: str
    score: float


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
        self.asks: list[tuple[int, int, frozenset[int]] | None] = [None] * len(rules.rules)
        """Per rule, its question about what is before (a number of ``surely``), how much it sees of that, and all
        rules with this question."""
        words: list[list[tuple[int, Near | Hinted, frozenset[int]]]] = [[] for _ in shapes]
        self.others: list[dict[int, bool | None]] = [{} for _ in shapes]
        for (context, shape), (question, asking) in known.items():
            self.surely.append(context.surely if isinstance(context, Near | Hinted) else context)
            for one in asking:
                self.asks[one] = question, shape, frozenset(asking)
            if isinstance(context, Near | Hinted):
                words[shape].append((question, context, frozenset(asking)))
            else:
                self.others[shape][question] = None
        self.words = [_Words(some) for some in words]

    def spans(self, text: str, parts: Iterable[tuple[int, int]]) -> list[Span]:
        """Matches within these parts (start, end), in order; of those that are left alone the type is empty. Linear in
        the length of the parts."""
        hits: list[int] = []
        allowed = self._allowed

        def note(hit: Hit) -> str:
            hits.append(-1 if allowed is not None and allowed(hit.value) else hit.rule)
            return "?"

        out: list[Span] = []
        reader = WholeReader(self.rules, text, note, _Judge(self, text))
        for start, end in parts:
            hits.clear()
            for edit, rule in zip(reader.read(start, end), hits, strict=True):
                out.append(Span(edit.start, edit.end, self.types[rule] if rule >= 0 else "", self.scores[rule]))
        return out


class _Words:
    """All lists of words at once. questions: number, list, and the rules that ask for it."""

    def __init__(self, questions: Sequence[tuple[int, Near | Hinted, frozenset[int]]]) -> None:
        self._questions = questions
        self._set = WordSet([one.maybe for _, one, _ in questions]) if questions else None
        self._known: dict[tuple[int, ...], tuple[dict[int, bool | None], frozenset[int]]] = {}

    def before(self, before: str) -> tuple[dict[int, bool | None], frozenset[int]]:
        """The questions that may be answered with yes, each with None; the rules whose question may not."""
        found = tuple(self._set.numbers(before)) if self._set is not None else ()
        known = self._known.get(found)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            silent = [rules for n, (_, _, rules) in enumerate(self._questions) if n not in found]
            known = dict.fromkeys([self._questions[n][0] for n in found]), frozenset[int]().union(*silent)
            self._known[found] = known
        return dict(known[0]), known[1]


class _Judge:
    """Verdicts on the candidates of one text. Of what is before a place: question to verdict, None: not known yet (those
    about words of which there are none are not in it); and the rules that these words leave out."""

    def __init__(self, reader: Reader, text: str) -> None:
        self._text = text
        self._reader = reader
        self._asks, self._validates = reader.asks, reader.validates
        self._known: dict[tuple[int, int], tuple[dict[int, bool | None], frozenset[int], str]] = {}

    def __call__(self, rule: int, start: int, end: int) -> Verdict:
        ask = self._asks[rule]
        if ask is not None:
            question, shape, alone = ask
            known = self._known.get((start, shape))
            if known is None:
                known = self._first(rule, start, shape)
            answers, silent, before = known
            if question not in answers:
                return silent
            verdict = answers[question]
            if verdict is None:
                context = self._reader.surely[question]
                verdict = answers[question] = context(before)
            if not verdict:
                return alone
        validate = self._validates[rule]
        return validate is None or validate(self._text[start:end])

    def _first(self, rule: int, start: int, shape: int) -> tuple[dict[int, bool | None], frozenset[int], str]:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        one = self._reader.rules.rules[rule]
        before = left_of(one, self._text[max(start - one.look_behind, 0) : start])
        answers, silent = self._reader.words[shape].before(before)
        answers.update(self._reader.others[shape])
        self._known[start, shape] = found = answers, silent, before
        return found
