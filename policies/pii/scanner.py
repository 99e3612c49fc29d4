"""The scanner: the entities that a policy names, compiled; spans of a whole text, gates for streams.

What lives here: which detectors take part, allow-lists, types and scores. What must never live here: shapes, what is
done with a find. Both ways find the same: a gate reads each character with one automaton; ``spans``, which has all of the
text, lets RE2 find numbers and the like, reads with an automaton only where another mark is, and has no cap (``finder.py``).

Of matches that overlap the leftmost counts, of those the longest, of those the one with the highest score.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

import re2

from policies.contract import Gate
from policies.detect import CAP, Hit, Rule, RuleError, RuleSet, compile_rules
from policies.pii.catalogue import ENTITIES, detectors, resolve
from policies.pii.entity import Detector, Reach
from policies.pii.finder import Finder
from policies.pii.prefilter import OwnPrefilter
from policies.pii.reader import Reader, Span
from policies.pii.shapes import fits

__all__ = ["Allow", "CustomEntity", "Found", "Scanner", "Span", "compile_scanner", "REGIONS"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Found(NamedTuple):
    """What a gate reports. value: all of it; for entities that are not ``whole``, what was there when it was sure.
    start, end: characters since the stream began."""

    type: str
    score: float
    value: str
    start: int
    end: int


@dataclass(frozen=True)
class Allow:
    """What is left alone though it is found. values: compared without regard to case. domains: of e-mail and web
    addresses, with all below them. patterns: RE2, over the whole value. Entities that are not ``whole`` are judged by their
    first characters."""

    values: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True)
class CustomEntity:
    """An entity of a policy's own. name: lower case; label: in placeholders, else the name in upper case. patterns: RE2.
    words: texts as they are, whole words. score: when the threshold is higher it is off."""

    name: str
    patterns: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    label: str = ""
    score: float = 0.9
    ignore_case: bool = True


class _Allowed:
    def __init__(self, allow: Allow) -> None:
        self._values = frozenset(v.casefold() for v in allow.values)
        self._domains = tuple(d.casefold().lstrip("@.") for d in allow.domains)
        self._patterns: list[Any] = []
        for pattern in allow.patterns:
            try:
                self._patterns.append(re2.compile(pattern))
            except re2.error:
                raise ValueError(f"an allow pattern is no RE2 pattern: {pattern!r}") from None
        self.any = bool(self._values or self._domains or self._patterns)

    def __call__(self, value: str) -> bool:
        folded = value.casefold()
        if folded in self._values:
            return True
        if self._domains and ("@" in value or "://" in value):
            host = re.split(r"[/?#]", folded.rpartition("@")[2] or folded)[0].partition(":")[0]
            if any(host == d or host.endswith("." + d) for d in self._domains):
                return True
        return any(p.fullmatch(value) for p in self._patterns)


@dataclass
class Scanner:
    """Use ``compile_scanner``. types, scores: per rule. allowed: whether a value is on an allow-list (``any``: there is one)."""

    rules: RuleSet
    types: tuple[str, ...]
    scores: tuple[float, ...]
    labels: dict[str, str]
    allowed: _Allowed
    _all: Reader
    _built_in: Finder | None
    _own: tuple[Reader, OwnPrefilter] | None
    worst_hold: dict[str, int] = field(init=False)
    """Entity to the characters that a gate may hold for it at most."""

    def __post_init__(self) -> None:
        self.worst_hold = {}
        for name, hold in zip(self.types, self.rules.worst_hold, strict=True):
            self.worst_hold[name] = max(hold, self.worst_hold.get(name, 0))

    @property
    def reach(self) -> int:
        """Characters that a gate may hold at most."""
        return self.rules.reach

    def gate(
        self, on_match: Callable[[Found], str | None], on_overflow: Callable[[int], None] | None = None
    ) -> Gate:
        """A gate for one channel. on_match: called once per find; returns what to put in its place, None to leave it. May
        raise Cut. on_overflow: as ``RuleSet.gate``."""
        types, scores, allowed = self.types, self.scores, self.allowed

        def decided(hit: Hit) -> str | None:
            if allowed.any and allowed(hit.value):
                return None
            return on_match(Found(types[hit.rule], scores[hit.rule], hit.value, hit.start, hit.end))

        return self.rules.gate(decided, on_overflow)

    def warm(self) -> None:
        """Make the states that ordinary text meets, and load what the checks need; else the first request pays."""
        self.rules.warm()
        for _ in range(2):
            self.spans(_EXAMPLES)

    def spans(self, text: str) -> list[Span]:
        """All finds of a whole text, in order, none in another. Linear in its length."""
        found = self._matches(text)
        return [span for span in found if span.type] if self.allowed.any else found

    def _matches(self, text: str) -> list[Span]:
        """What two automata find apart is what one finds that knows all, unless finds of theirs overlap: the first match
        of all is the first of one of them, and where it ends, both are where they would be anyway."""
        found = self._built_in.spans(text) if self._built_in is not None else []
        if self._own is not None:
            reader, prefilter = self._own
            more = reader.spans(text, prefilter.windows(text))
            found = sorted(found + more) if found and more else found or more
        if self._own is not None and any(b.start < a.end for a, b in pairwise(found)):
            return self.plain(text)
        return found

    def plain(self, text: str) -> list[Span]:
        """The matches that reading all of the text with one automaton finds: what ``spans`` must equal, for longer."""
        return self._all.spans(text, [(0, len(text))])


_NOTHING = Allow()
_EXAMPLES = (
    "mail jane.doe@example.com, phone +1 415-555-2671, (415) 555-2671, 020 7946 0958, SSN 536-22-1234, account 12345678, "
    "card 4111 1111 1111 1111, 4111111111111111, IBAN DE89 3704 0044 0532 0130 00, DE89370400440532013000, ip 10.1.2.3, "
    "on 2024-04-23T10:15:30.123456 and 25.06.1942 for $1,234.56, 123.456.789-09, NHS 943 476 5919, aadhaar 2341 2341 2346\n"
)
REGIONS = ("US", "CA", "GB", "DE", "FR", "IT", "ES", "NL", "PL", "PT", "BR", "MX", "IN", "CN", "JP", "KR", "AU")
"""Whose national forms of telephone numbers count by default."""


def compile_scanner(
    entities: Sequence[str],
    *,
    threshold: float = 0.5,
    custom: Sequence[CustomEntity] = (),
    allow: Allow = _NOTHING,
    regions: Sequence[str] = REGIONS,
    cap: int = CAP,
) -> Scanner:
    """A scanner for these entities and groups.

    threshold: detectors that are less sure are off. custom: entities of the policy's own. regions: countries (ISO
    3166) whose telephone numbers count without a word before them. cap: characters held for one undecided match.
    Raises ValueError for names, patterns and regions that do not exist, MissingExtra for packages that are not
    installed.
    """
    chosen: list[tuple[str, Detector]] = []
    labels: dict[str, str] = {}
    for name in resolve(entities):
        labels[name] = ENTITIES[name].label
        chosen += [(name, d) for d in detectors(name, tuple(regions)) if d.score >= threshold]
    mine: list[tuple[str, Detector]] = []
    for own in custom:
        if own.name in labels or not _NAME.fullmatch(own.name):
            raise ValueError(f"custom entity {own.name!r}: the name must be new, of lower case letters, digits and _")
        labels[own.name] = own.label or own.name.upper()
        if own.score >= threshold:
            mine.append((own.name, _custom(own)))
    if not chosen and not mine:
        raise ValueError(f"no detector of these entities reaches the threshold {threshold:g}")
    allowed = _Allowed(allow)
    everything = _reader([*chosen, *mine], allowed, cap)
    built_in = everything if not mine else _reader(chosen, allowed, cap) if chosen else None
    apart = everything if not chosen else _reader(mine, allowed, cap) if mine else None
    return Scanner(
        everything.rules,
        everything.types,
        everything.scores,
        labels,
        allowed,
        everything,
        None if built_in is None else _finder(built_in, chosen, allowed, cap),
        None if apart is None else (apart, OwnPrefilter([d.rule for _, d in mine])),
    )


def _finder(every: Reader, chosen: Sequence[tuple[str, Detector]], allowed: _Allowed, cap: int) -> Finder:
    """Of these detectors, which ``every`` knows."""
    numbered = list(enumerate(_ordered(chosen)))
    rest = [pair for pair in numbered if not fits(pair[1][1])]
    shapes = [(n, d) for n, (_, d) in numbered if fits(d)]
    if not rest:
        return Finder(every, shapes, None)
    return Finder(every, shapes, (_reader([pair for _, pair in rest], allowed, cap), [(n, d) for n, (_, d) in rest]))


def _ordered(chosen: Sequence[tuple[str, Detector]]) -> list[tuple[str, Detector]]:
    return sorted(chosen, key=lambda pair: -pair[1].score)


def _reader(chosen: Sequence[tuple[str, Detector]], allowed: _Allowed, cap: int) -> Reader:
    """Of detectors with the names of their entities; the surest has what several match."""
    ordered = _ordered(chosen)
    try:
        rules = compile_rules([replace(d.rule, escapes=True) for _, d in ordered], cap=cap)
    except RuleError as error:
        raise ValueError(str(error)) from None
    types, scores = tuple(name for name, _ in ordered), tuple(d.score for _, d in ordered)
    return Reader(rules, types, scores, allowed if allowed.any else None)


def _custom(own: CustomEntity) -> Detector:
    rule = Rule(
        f"custom.{own.name}", own.patterns, own.words, ignore_case=own.ignore_case, whole_word=bool(own.words), value=True
    )
    return Detector(rule, own.score, "", Reach.TOKEN)
