"""What an entity is: its detectors, each a rule with a confidence and the mark by which a text is known to lack it.

What lives here: the data types, left context, and the door to the optional packages. What must never live here: any
one entity; a text that outlives the call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib import import_module
from typing import Any

import re2

from policies.detect import Rule

__all__ = ["LOOK_BEHIND", "Detector", "Entity", "MissingExtra", "Reach", "detector", "digits_of", "near", "stdnum"]

LOOK_BEHIND = 64
"""Characters to the left that may speak for a value. A stream never shows what stands to the right."""


class MissingExtra(RuntimeError):
    """An entity needs a package that is not installed. The message names the entities and the extra."""


class Reach(IntEnum):
    """How far from its mark a match may stand (``prefilter.py``). Every match of a detector holds a match of its mark
    (BEFORE: or has it in the look-behind), and
    TOKEN: holds no ASCII white space; SPACED: has at most 80 characters; LONG: at most 240; BEFORE: holds no ASCII
    white space; BLOCK: lies wholly inside the mark."""

    TOKEN = 0
    SPACED = 80
    LONG = 240
    BEFORE = -1
    BLOCK = -2


@dataclass(frozen=True)
class Detector:
    """rule: what to look for. score: how sure a match of it is, 0 to 1. mark: see ``Reach``; an RE2 pattern of ASCII
    characters."""

    rule: Rule
    score: float
    mark: str
    reach: Reach


@dataclass(frozen=True)
class Entity:
    """A kind of personal data. name: as a policy writes it. label: as a placeholder shows it. groups: beside ``all``.
    detectors: in any order. needs_extra: its check needs ``headgate[pii]``. whole: a gate knows the whole value;
    without it, a gate acts on the first characters that are sure and swallows the rest (values without a bound)."""

    name: str
    label: str
    groups: tuple[str, ...]
    detectors: tuple[Detector, ...]
    description: str
    validator: str
    needs_extra: bool = False
    whole: bool = True
    phones: bool = False
    """Its detectors depend on the regions that are asked for."""

    @property
    def score(self) -> float:
        """Of its surest detector."""
        return max(d.score for d in self.detectors)

    def rules(self) -> list[Rule]:
        """One per detector; names are ``entity.number``."""
        return [d.rule for d in self.detectors]


def detector(
    name: str,
    patterns: str | Sequence[str],
    score: float,
    mark: str,
    reach: Reach,
    *,
    validate: Callable[[str], bool] | None = None,
    context: Callable[[str], bool] | None = None,
    whole_word: bool = True,
    value: bool = True,
    look_behind: int = LOOK_BEHIND,
) -> Detector:
    """A detector whose rule says the usual: no letter or digit beside it, all of the value known."""
    rule = Rule(
        name,
        (patterns,) if isinstance(patterns, str) else tuple(patterns),
        whole_word=whole_word,
        validate=validate,
        context=context,
        look_behind=look_behind,
        value=value,
    )
    return Detector(rule, score, mark, reach)


def near(words: str, *, gap: int = 24, unless: str | None = None) -> Callable[[str], bool]:
    """A check that one of these words stands before the value, with no digit and no end of a sentence between (the
    dot of ``Tel.`` and ``no.`` is none).

    words: alternatives, a regular expression without groups that count; Latin words begin at a word's beginning,
    so that ``lic`` is not found in ``duplicate``. gap: characters between. unless: what must not stand there.
    """
    found = re.compile(rf"(?:(?<![^\W\d_])|(?<=[a-z])(?=[A-Z]))(?i:{words})\.?(?:[^\d.;!?\n]|(?<=[nN][oOrR])\.){{0,{gap}}}\Z")
    refused = re.compile(unless) if unless else None
    # The same but for boundaries, which RE2 takes for ASCII ones: most places fail it, in a fifth of the time.
    options = re2.Options()
    options.case_sensitive = False
    maybe = re2.compile(rf"(?:{words})\.?[^0-9;!?\n]{{0,{gap}}}\z".replace(r"\b", ""), options=options).search

    # A value is judged at each of its possible ends, with the same text before it. Its hash is kept, never the text;
    # the key of the hash is the process's own (PYTHONHASHSEED), so nobody can choose two texts that share it.
    last: list[tuple[int, bool]] = [(hash(""), False)]

    def speaks(before: str) -> bool:
        key = hash(before)
        known, verdict = last[0]
        if key != known:
            verdict = maybe(before) is not None and found.search(before) is not None
            verdict = verdict and (refused is None or refused.search(before) is None)
            last[0] = key, verdict
        return verdict

    return speaks


def digits_of(value: str) -> str:
    """Its ASCII digits."""
    return "".join([c for c in value if c in "0123456789"])


def stdnum(module: str) -> Callable[[str], bool]:
    """The check of a module of python-stdnum (``nl.bsn``), imported when first asked."""
    known: list[Callable[[str], bool]] = []

    def valid(value: str) -> bool:
        if not known:
            known.append(optional(f"stdnum.{module}").is_valid)
        return bool(known[0](value))

    return valid


def optional(module: str) -> Any:
    """A module of the extra. Raises MissingExtra."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(f"{module.split('.')[0]} is not installed: pip install 'headgate[pii]'") from error
