"""From what a model says of each token to names: labels, whole words, entities of several words.

What lives here: pure functions over numbers and offsets. What must never live here: models, tokenizers.

Labels may be plain (``PER``) or have a prefix (``B-``, ``I-``, ``E-``, ``S-``, ``L-``, ``U-``). What a model gives to a type
is the sum over all of its labels, so that a doubt between ``B-PER`` and ``I-PER`` is no doubt about the name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from policies.pii.ner_sentences import Name, trimmed

__all__ = ["Aggregation", "Labels", "Token", "names_of", "read_labels"]

Aggregation = Literal["first", "average", "max"]

_PREFIX = re.compile(r"([BIESLU])[-_](.+)")
_BREAKS = re.compile("[\\s\"{}\\[\\]<>|:;=,/\\\\\u201c\u201d()]+")
"""No name reaches over these: they stand between the fields of JSON, tables, lists and mail headers."""
_GLUE = frozenset("-'\u2019.&\u2010\u2011")
_SPACE = re.compile(r"\s")
_GAP = re.compile("[ \u00a0]{0,3}")
_POSSESSIVE = re.compile("['\u2019][sS]\\Z")


class Labels(NamedTuple):
    """A model's labels. types: those that are looked for and that it has. column: per label, 0 for what is none of them,
    else one more than the type's index. begins: per label, whether it begins a name."""

    types: tuple[str, ...]
    column: tuple[int, ...]
    begins: tuple[bool, ...]


class Token(NamedTuple):
    """start, end: code points. word: what its tokenizer calls its word. scores: per column, summing to 1. begins: per type,
    whether a label that begins a name is the likeliest of the type's."""

    start: int
    end: int
    word: int | None
    scores: Sequence[float]
    begins: Sequence[bool]


def read_labels(id2label: Mapping[int, str], meaning: Mapping[str, str], wanted: Sequence[str], *, strict: bool) -> Labels:
    """id2label: the model's. meaning: label, with or without prefix and in any case, to type. wanted: types that are looked
    for. strict: every label of ``meaning`` must be one of the model's.

    Raises ValueError, which lists the model's labels, when a type has none or (strict) a label does not exist.
    """
    known = {label.casefold(): type for label, type in meaning.items()}
    types: dict[int, str] = {}
    begins: dict[int, bool] = {}
    used: set[str] = set()
    for index, label in id2label.items():
        match = _PREFIX.fullmatch(label)
        for form in (label, match[2] if match else label):
            if form.casefold() in known:
                used.add(form.casefold())
                types[index] = known[form.casefold()]
                begins[index] = match is not None and match[1] in "BSU" and form != label
                break
    missing = [t for t in wanted if t not in types.values()]
    unknown = [label for label in meaning if strict and label.casefold() not in used]
    if missing or unknown:
        has = ", ".join(sorted({m[2] if (m := _PREFIX.fullmatch(label)) else label for label in id2label.values()})[:40])
        what = f"the model has no label {', '.join(unknown)}" if unknown else f"no label of the model means {', '.join(missing)}"
        raise ValueError(f"ner: {what}; its labels are {has}; write `labels: {{LABEL: person}}`")
    size = max(id2label, default=-1) + 1
    order = tuple(wanted)
    column = tuple(order.index(types[i]) + 1 if types.get(i) in order else 0 for i in range(size))
    return Labels(order, column, tuple(begins.get(i, False) for i in range(size)))


class _Word(NamedTuple):
    start: int
    end: int
    scores: Sequence[float]
    begins: Sequence[bool]
    glue: bool  # nothing but signs that may stand inside a name


def names_of(
    text: str, tokens: Sequence[Token], types: Sequence[str], *, aggregation: Aggregation, threshold: float
) -> list[Name]:
    """The names of a text, in order. A name's score is the mean of its words'; below the threshold it is none. A name
    has a letter, begins and ends with a letter or digit, and goes without ``'s``."""
    out: list[Name] = []
    column = start = end = 0  # of the name under way; column 0: none is
    scores: list[float] = []
    glued = -1  # the end of a sign that stands right behind the name

    def finish() -> None:
        if not column or sum(scores) / len(scores) < threshold:
            return
        first, last = trimmed(text, start, end)
        if (possessive := _POSSESSIVE.search(text, first, last)) is not None:
            last = possessive.start()
        if any(c.isalpha() for c in text[first:last]):
            out.append(Name(first, last, types[column - 1], sum(scores) / len(scores)))

    for word in _words(text, tokens, _AGGREGATE[aggregation]):
        best = max(range(len(word.scores)), key=word.scores.__getitem__)
        if best and best == column and _goes_on(text, word, best, end, glued):
            end = word.end
            scores.append(word.scores[best])
            continue
        if not best and word.glue and word.start == end and column:
            glued = word.end
            continue
        if best and word.glue:
            best = 0  # a sign alone is no name
        finish()
        column, start, end, scores, glued = best, word.start, word.end, [word.scores[best]], -1
    finish()
    return out


def _goes_on(text: str, word: _Word, column: int, end: int, glued: int) -> bool:
    """The word belongs to the name that ended at ``end``."""
    if word.start in (end, glued):
        return True
    return not word.begins[column - 1] and _GAP.fullmatch(text, end, word.start) is not None


def _words(text: str, tokens: Sequence[Token], pick: Callable[[list[Token]], Sequence[float]]) -> Iterator[_Word]:
    """Tokens to words: what the tokenizer calls one, without the signs that no name reaches over."""
    pieces: list[Token] = []
    for token in tokens:
        start, end = token.start, token.end
        while start < end and text[start].isspace():
            start += 1
        while start < end and text[end - 1].isspace():
            end -= 1
        if start == end:
            continue
        token = token._replace(start=start, end=end)
        alone = _BREAKS.fullmatch(text, start, end) is not None
        if pieces and (alone or token.word != pieces[-1].word or _SPACE.search(text, pieces[-1].end, start)):
            yield _word(text, pieces, pick)
            pieces = []
        if alone:
            outside = [1.0] + [0.0] * (len(token.scores) - 1)
            yield _Word(start, end, outside, token.begins, False)
        else:
            pieces.append(token)
    if pieces:
        yield _word(text, pieces, pick)


def _word(text: str, pieces: list[Token], pick: Callable[[list[Token]], Sequence[float]]) -> _Word:
    """Signs that a tokenizer counts to a word, such as a bracket in front of it, do not speak for it."""
    telling = [t for t in pieces if any(c.isalnum() for c in text[t.start : t.end])] or pieces
    glue = all(c in _GLUE for c in text[pieces[0].start : pieces[-1].end])
    return _Word(pieces[0].start, pieces[-1].end, pick(telling), telling[0].begins, glue)


def _average(pieces: list[Token]) -> Sequence[float]:
    return [sum(column) / len(pieces) for column in zip(*(t.scores for t in pieces), strict=True)]


_AGGREGATE: dict[Aggregation, Callable[[list[Token]], Sequence[float]]] = {
    "first": lambda pieces: pieces[0].scores,
    "average": _average,
    "max": lambda pieces: max(pieces, key=lambda t: max(t.scores)).scores,
}
