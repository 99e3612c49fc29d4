"""Labels, words and names, from numbers that tests write by hand."""

from __future__ import annotations

import re

import pytest

from policies.pii.ner import LABELS
from policies.pii.ner_tags import Aggregation, Token, names_of, read_labels

TYPES = ("person", "location")


def token(start: int, end: int, tag: str, chance: float = 0.9, word: int | None = None) -> Token:
    """tag: O, or B or I with P or L, such as BP."""
    column = {"O": 0, "P": 1, "L": 2}[tag[-1]]
    scores = [(1 - chance) / 2] * 3
    scores[column] = chance
    return Token(start, end, start if word is None else word, scores, (tag == "BP", tag == "BL"))


def found(text: str, tags: str, aggregation: Aggregation = "first", threshold: float = 0.5) -> list[str]:
    """The names, where each word or sign of the text has a tag."""
    words = list(re.finditer(r"\w+|[^\w\s]", text))
    tokens = [token(*m.span(), tag) for m, tag in zip(words, tags.split(), strict=True)]
    names = names_of(text, tokens, TYPES, aggregation=aggregation, threshold=threshold)
    return [f"{text[n.start : n.end]}/{n.type}" for n in names]


@pytest.mark.parametrize(
    ("text", "tags", "expected"),
    [
        ("I met John Smith here", "O O BP IP O", ["John Smith/person"]),
        ("John Smith Mary", "BP IP BP", ["John Smith/person", "Mary/person"]),
        ("John in Paris", "IP O IL", ["John/person", "Paris/location"]),
        ("John Paris", "IP IL", ["John/person", "Paris/location"]),
        ("Anne-Marie O'Brien", "BP O BP BP O BP", ["Anne-Marie/person", "O'Brien/person"]),
        ("J. R. Brown.", "BP O IP O IP O", ["J/person", "R/person", "Brown/person"]),
        ("J. R. Brown.", "BP IP IP IP IP IP", ["J. R. Brown/person"]),
        ("Eric's cat, Eric’s dog", "BP IP IP O O BP IP IP O", ["Eric/person", "Eric/person"]),
        ("John, Mary and Ann", "BP IP IP IP IP", ["John/person", "Mary and Ann/person"]),
        ("| Paris | Rome |", "O BL IL IL IL", ["Paris/location", "Rome/location"]),
        ('{"a":"John","b":"Ann"}', "O O BP O O O IP IP IP O BP O O O IP O O", None),
        ("John\nSmith", "BP IP", ["John/person", "Smith/person"]),
        ("John    Smith", "BP IP", ["John/person", "Smith/person"]),
        ("the -0.96 and 1234567", "O BP IP IP IP O BP", []),
        ("( John )", "BP IP IP", ["John/person"]),
        ("none of it", "O O O", []),
        ("", "", []),
    ],
)
def test_words_become_names(text: str, tags: str, expected: list[str] | None) -> None:
    if expected is None:  # no name reaches over the signs of JSON
        words = len(re.findall(r"\w+|[^\w\s]", text))
        names = found(text, " ".join(["IP"] * words))
        assert names == ["a/person", "John/person", "b/person", "Ann/person"]
    else:
        assert found(text, tags) == expected


@pytest.mark.parametrize(
    ("aggregation", "expected"), [("first", []), ("average", []), ("max", ["Smithsonian"])]
)
def test_pieces_of_a_word_by_aggregation(aggregation: Aggregation, expected: list[str]) -> None:
    text = "Smithsonian"
    tokens = [token(0, 5, "O", 0.8, 0), token(5, 8, "O", 0.7, 0), token(8, 11, "IP", 0.9, 0)]
    names = names_of(text, tokens, TYPES, aggregation=aggregation, threshold=0.5)
    assert [text[n.start : n.end] for n in names] == expected
    pieces = [token(0, 5, "BP", 0.9, 0), token(5, 11, "O", 0.6, 0)]
    for way in ("first", "average", "max"):  # a word is found as a whole or not at all
        (name,) = names_of(text, pieces, TYPES, aggregation=way, threshold=0.5)
        assert (name.start, name.end) == (0, 11)


def test_a_bracket_does_not_speak_for_its_word() -> None:
    text = "(Paris)"
    tokens = [token(0, 1, "O", word=0), token(1, 6, "BL", word=0), token(6, 7, "O", word=0)]
    (name,) = names_of(text, tokens, TYPES, aggregation="first", threshold=0.5)
    assert text[name.start : name.end] == "Paris"


def test_blanks_in_a_token_are_no_part_of_a_name() -> None:
    text = "in New York"
    tokens = [token(0, 2, "O"), token(2, 6, "BL"), token(6, 11, "IL")]
    (name,) = names_of(text, tokens, TYPES, aggregation="first", threshold=0.5)
    assert text[name.start : name.end] == "New York"


def test_the_threshold_is_on_the_mean_of_the_words() -> None:
    text = "John Smith"
    tokens = [token(0, 4, "BP", 0.9), token(5, 10, "IP", 0.5)]
    assert names_of(text, tokens, TYPES, aggregation="first", threshold=0.71) == []
    (name,) = names_of(text, tokens, TYPES, aggregation="first", threshold=0.7)
    assert name.score == pytest.approx(0.7)


def test_labels_with_and_without_prefix_in_any_case() -> None:
    labels = dict(enumerate(["O", "B-PER", "I-PER", "E-per", "S_PER", "U-LOC", "L-LOC", "MISC", "GPE"]))
    read = read_labels(labels, LABELS, ["location", "person"], strict=False)
    assert read.types == ("location", "person")
    assert read.column == (0, 2, 2, 2, 2, 1, 1, 0, 1)
    assert read.begins == (False, True, False, False, True, True, False, False, False)


def test_labels_of_ones_own_and_types_that_nobody_asked_for() -> None:
    labels, meaning = {0: "LABEL_0", 1: "LABEL_1", 2: "CITY"}, {"label_1": "person", "CITY": "location"}
    read = read_labels(labels, meaning, ["person"], strict=True)
    assert read.column == (0, 1, 0)


def test_a_type_without_a_label_and_a_label_that_is_none_are_refused() -> None:
    labels = {0: "O", 1: "B-PER", 2: "I-PER"}
    with pytest.raises(ValueError, match=r"no label of the model means location.*PER"):
        read_labels(labels, LABELS, ["person", "location"], strict=False)
    with pytest.raises(ValueError, match="has no label PERS"):
        read_labels(labels, {"PERS": "person", "PER": "person"}, ["person"], strict=True)
