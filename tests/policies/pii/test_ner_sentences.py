"""Sentences: the same pieces under every split, nothing lost between them, names on a seam found whole."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.pii.ner_sentences import LEAST, OVERLAP, Joiner, Name, Piece, Splitter, join, minus, trimmed
from tests.kits.names import Phrases

WORDS = st.sampled_from(
    ["John ", "Smith", "Dr. ", "J. ", "3. ", "2019. ", "end. ", "end.\" ", "e.g. ", "no", "? ", "! ", "\n", " ", "\u3002",
     "...", "x" * 90, "word " * 30, "\U0001f600", "\u0301", "\t", ".", "\"", "U.S. "]
)  # fmt: skip
TEXTS = st.lists(WORDS, max_size=40).map("".join)
CUTS = st.sets(st.integers(0, 2000), max_size=20)


def pieces_of(text: str, bound: int = LEAST, *, fill: bool = False, cuts: set[int] | None = None) -> list[Piece]:
    splitter = Splitter(bound, fill=fill)
    edges = sorted({0, len(text), *(c for c in cuts or () if c < len(text))})
    out = [p for a, b in pairwise(edges) for p in splitter.push(text[a:b])]
    return out + splitter.close()


def sentences(text: str) -> list[str]:
    return [p.text[p.lead : p.lead + p.done] for p in pieces_of(text, 400)]


@settings(max_examples=150, deadline=None)
@given(TEXTS, CUTS, st.booleans(), st.sampled_from([LEAST, 300, 500]))
def test_any_split_gives_the_same_pieces(text: str, cuts: set[int], fill: bool, bound: int) -> None:
    assert pieces_of(text, bound, fill=fill, cuts=cuts) == pieces_of(text, bound, fill=fill)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.booleans())
def test_pieces_are_the_text_and_keep_their_bounds(text: str, fill: bool) -> None:
    at = 0
    for piece in pieces_of(text, fill=fill):
        assert piece.done > 0 and piece.start + piece.lead == at
        assert piece.text == text[piece.start : piece.start + len(piece.text)]
        assert piece.lead + piece.done <= len(piece.text)
        assert len(piece.text) - piece.lead <= LEAST and piece.lead <= 2 * OVERLAP
        at += piece.done
    assert at == len(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One. ", "Two! ", "Three? ", "Four"]),
        ("Dr. Smith met J. R. Brown. He left.", ["Dr. Smith met J. R. Brown. ", "He left."]),
        ("at 3. May, in 2019. Then", ["at 3. May, in 2019. ", "Then"]),
        ("(see the U.S. report e.g. this) ok", ["(see the U.S. report e.g. this) ok"]),
        ('He said "yes." She left.', ['He said "yes." ', "She left."]),
        ("- Paris\n- Berlin\n", ["- Paris\n", "- Berlin\n"]),
        ("\u6771\u4eac\u3002\u5927\u962a\uff01", ["\u6771\u4eac\u3002", "\u5927\u962a\uff01"]),
        ("version 1.2.3 of a.b.c", ["version 1.2.3 of a.b.c"]),
        ("Well... yes. Fine", ["Well... ", "yes. ", "Fine"]),
        ("", []),
    ],
)
def test_where_sentences_end(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_whole_texts_go_in_few_pieces() -> None:
    text = "A short sentence. " * 100
    assert len(pieces_of(text, 400)) == 100
    full = pieces_of(text, 400, fill=True)
    assert len(full) == 5 and all(p.text.endswith(". ") for p in full)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 900), st.sampled_from(["x", "word ", "ab, "]), st.booleans(), st.integers(LEAST, 500))
def test_a_name_on_any_seam_is_found_whole(at: int, filler: str, fill: bool, bound: int) -> None:
    front = (filler * 1000)[:at] + " "
    text = f"{front}Maria de la Cruz {(filler * 1000)[:600]}"
    engine = Phrases({"Maria de la Cruz": "person"})
    pieces = pieces_of(text, bound, fill=fill)
    found = join(pieces, [engine.find(p.text) for p in pieces])
    assert [text[n.start : n.end] for n in found] == ["Maria de la Cruz"]


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.data())
def test_what_a_piece_finds_is_covered_and_nothing_twice(text: str, data: st.DataObject) -> None:
    """Whatever a model answers: finds do not overlap, and each letter of one that begins in the decided part is covered."""
    joiner, found, wanted = Joiner(), [], set()
    for piece in pieces_of(text):
        edges = data.draw(st.lists(st.integers(0, len(piece.text)), max_size=6))
        names = [Name(min(a, b), max(a, b), "person", 1.0) for a, b in zip(edges[::2], edges[1::2], strict=False) if a != b]
        before = joiner.decided
        found += joiner.take(piece, names)
        upto = piece.start + piece.lead + piece.done
        wanted |= {i + piece.start for n in names for i in range(n.start, n.end) if before <= i + piece.start < upto}
        assert joiner.decided >= upto
    assert all(a.end <= b.start for a, b in pairwise(found))
    covered = {i for n in found for i in range(n.start, n.end)}
    assert {i for i in wanted - covered if text[i].isalnum()} == set()


def test_a_text_without_blanks_is_cut_all_the_same_and_in_linear_time() -> None:
    pieces = pieces_of("x" * 200_000, 400)
    assert len(pieces) < 200_000 // (400 - 2 * OVERLAP) + 2
    assert len(pieces_of("a " + "x" * 300 + " b" * 100_000, 256)) < 3000


def test_what_stands_before_the_text_is_read_and_not_decided() -> None:
    splitter = Splitter(LEAST)
    splitter.lead("far away " * 20 + "I am John")
    (piece,) = [*splitter.push(" Smith of"), *splitter.close()]
    assert piece.text.endswith("I am John Smith of") and piece.lead == OVERLAP and piece.done == len(" Smith of")
    found = join([piece], [Phrases({"John Smith": "person"}).find(piece.text)])
    assert [(n.start, n.end) for n in found] == [(1, 6)]


def test_in_a_hurry_a_piece_ends_at_the_last_blank() -> None:
    splitter = Splitter(LEAST)
    assert splitter.push("I am John Smi") == []
    assert [p.text for p in splitter.flush()] == ["I am John "]
    (rest,) = [*splitter.push("th."), *splitter.close()]
    assert (rest.text, rest.lead) == ("I am John Smith.", 10)
    assert splitter.flush() == []


def test_a_bound_that_two_overlaps_would_fill_is_refused() -> None:
    with pytest.raises(ValueError, match=str(LEAST)):
        Splitter(LEAST - 1)


@pytest.mark.parametrize(
    ("text", "taken", "left"),
    [
        ("John Smith", [], ["John Smith"]),
        ("John <j@x.org> Smith", [(6, 13)], ["John", "Smith"]),
        ("John j@x.org", [(5, 12)], ["John"]),
        ("j@x.org", [(0, 7)], []),
        ("Ann (1) Lee", [(2, 9)], ["An", "ee"]),
        ("\u0930\u093e\u092e 1 x", [(4, 5)], ["\u0930\u093e\u092e", "x"]),
    ],
)
def test_what_is_left_of_a_name(text: str, taken: list[tuple[int, int]], left: list[str]) -> None:
    assert [text[s:e] for s, e in minus(text, 0, len(text), taken)] == left


def test_ends_without_letters_are_trimmed_and_marks_stay() -> None:
    text = " (Jose\u0301). "
    assert trimmed(text, 0, len(text)) == (2, 7)
    start, end = trimmed(" .- ", 0, 4)
    assert start >= end
