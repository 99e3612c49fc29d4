"""The engine: what rules mean, what is refused, how much work it is."""

from __future__ import annotations

import random
import re

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.contract import Cut, Gate
from policies.detect import Hit, Rule, RuleError, compile_rules
from policies.detect import machine as machine_module
from tests.policies.detect.driving import pieces, random_pieces, streamed


def found(rule: Rule, text: str) -> list[str]:
    return [text[m.start : m.end] for m in compile_rules([rule]).whole(text)]


# ---- patterns mean what RE2 says

PATTERNS = [
    "abc", "a.c", r"(?s)a.c", "[a-c]+", "[^a-c ]+", r"\d{2,3}",
    r"\w+@\w+\.com", r"(?i)stra[sß]e", "(?i)k+", r"[[:alpha:]]+[[:digit:]]",
    r"\bab\b", r"\Bb", "^ab", "ab$", "(?m)^ab", "(?m)ab$", r"\Aab",
    r"ab\z", r"\x41\x{42}", r"\101", r"\Qa.b\E+", r"a{,2}", "(?:ab|abc)d?",
    r"\p{Greek}+", r"\PL+", r"\p{Lu}\p{Ll}", r"[\p{N}_]+", r"[^\d\s]+",
    r"[]a]+", r"[a\]-]+", "(?P<x>a)(?U)b+", "(?i:A)b", r"[\x30-\x39]+",
    r"(?i)[^k]+", r"a(?:b{2}){2}", "(?i)[a-c]x", "x*y", "(a|b)*abb",
    r"\n+", r"[[:^alpha:]]+", r"\.\*\+", "é|e\u0301", "(?-i)a", r"\pN",
]  # fmt: skip
SAMPLES = [
    "abc a.c a\nc aBC", "AB ab\nab ab", "12 345 6789", "x@y.com a.b ab abb",
    "Straße STRASSE strase", "kK\u212a K", "αβγ Ωmega ABC",
    "a{,2} ]a] a-b abcd", "_9٣ é e\u0301", "aaabbb babb abbbb", "a.b.b a.*+",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_re2_s(pattern: str) -> None:
    options = re2.Options()
    options.longest_match = True
    oracle = re2.compile(pattern, options)
    for text in SAMPLES:
        assert found(Rule("r", [pattern]), text) == [m[0] for m in oracle.finditer(text) if m[0]]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(?<=a)b", "look-around is not supported"),
        (r"a(?!b)", "look-around is not supported"),
        (r"(a)\1", "back references are not supported"),
        (r"(?P<x>a)(?P=x)", "back references are not supported"),
        ("(", "RE2 refuses it"),
        ("a**", "RE2 refuses it"),
        ("a{1001}", "RE2 refuses it"),
        (r"\p{Klingon}", "RE2 refuses it"),
        ("a*", "matches the empty text"),
        (r"\b", "matches the empty text"),
        ("", "matches the empty text"),
        ("(?:a|^)", "matches the empty text"),
        (r"\C", "not supported"),
        ("(" * 150 + "a" + ")" * 150, "groups within each other"),
        ("(?:(?:(?:a{100}){100}){100})", ""),
        ("(?:(?:(?:){1000}){1000}){1000}a", ""),
        ("(?:" + "|".join("abcdefghij" * 60) + "){2,}", "too large"),
        (r"[^\x{0}-\x{10FFFF}]", ""),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_rule_s_name(pattern: str, reason: str) -> None:
    with pytest.raises(RuleError, match="rule 'mine': ") as caught:
        compile_rules([Rule("mine", [pattern])])
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Rule("r"), "neither patterns nor phrases"),
        (Rule("r", phrases=[" "]), "a phrase is empty"),
        (Rule("r", ["a"], views=["rot13"]), "no view is called"),
        (Rule("r", ["a"], views=["spaced"]), "for phrases"),
    ],
)
def test_other_refusals(rule: Rule, reason: str) -> None:
    with pytest.raises(RuleError, match=reason):
        compile_rules([rule])
    with pytest.raises(RuleError, match="two rules"):
        compile_rules([Rule("x", ["a"]), Rule("x", ["b"])])


# ---- phrases


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("abc ", min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=8),
    st.text("abc \n", max_size=20),
)
def test_phrases_are_patterns_with_white_space(phrases: list[str], text: str) -> None:
    oracle = [r"\s+".join(map(re.escape, p.split())) for p in phrases]
    trie, tree = compile_rules([Rule("r", phrases=phrases)]), compile_rules([Rule("r", oracle)])
    assert trie.whole(text) == tree.whole(text)


@pytest.mark.parametrize(
    ("text", "there"),
    [("bomb", 1), ("a bomb.", 1), ("bombs", 0), ("_bomb", 0), ("ébomb", 0), ("бbomb", 0), ("bomb1", 0), ("爆bomb弹", 1)],
)
def test_whole_word(text: str, there: int) -> None:
    rule = Rule("r", phrases=["bomb"], whole_word=True)
    assert len(found(rule, text)) == there
    assert len(compile_rules([rule]).whole(text)) == there


VIEWS = [
    ("nfkc", "ｂｏｍｂ"), ("nfkc", "𝐛𝐨𝐦𝐛"), ("nfkc", "ⓑomb"),
    ("invisible", "b\u200bo\u00admb"), ("invisible", "bo" + "\u200b" * 40 + "mb"),
    ("invisible", "".join(chr(0xE0000 + ord(c)) for c in "bomb")),
    ("invisible", "b\ufe0fomb"), ("marks", "b\u0336o\u0336m\u0336b"),
    ("marks", "bömb"), ("homoglyphs", "bоmb"), ("leet", "80m8"),
    ("leet", "b0mb"), ("spaced", "b o m b"), ("spaced", "b-o-m-b"),
    ("spaced", "b. o. m. b"),
]  # fmt: skip


@pytest.mark.parametrize(("view", "text"), VIEWS)
def test_views_see_through_and_edit_the_original(view: str, text: str) -> None:
    rules = compile_rules([Rule("r", phrases=["bomb"], views=[view], ignore_case=True)])
    around = f"a {text} c"
    assert [around[m.start : m.end] for m in rules.whole(around)] == [text]
    assert found(Rule("r", phrases=["bomb"], ignore_case=True), around) == []
    for cut in range(len(around) + 1):
        assert streamed(rules, pieces(around, [cut]))[0] == "a [0] c"
    assert streamed(rules, list(around))[0] == "a [0] c"


def test_views_work_together_and_only_for_their_rule() -> None:
    views = ["nfkc", "invisible", "marks", "homoglyphs", "leet", "spaced"]
    every = Rule("r", phrases=["office bomb"], views=views, ignore_case=True)
    assert found(every, "x о\u200bﬃ\u0301сｅ  ８ó\u2060ⓜb y") == ["о\u200bﬃ\u0301сｅ  ８ó\u2060ⓜb"]
    assert found(Rule("r", ["fi"], views=["nfkc"]), "eﬁn ﬀi") == ["ﬁ", "ﬀi"]
    assert found(Rule("r", ["f"], views=["nfkc"]), "eﬁn") == ["ﬁ"]
    assert found(Rule("r", ["café"], views=["nfkc"]), "café cafe\u0301 cafe") == ["café", "cafe\u0301"]
    assert found(Rule("r", phrases=["café"], views=["nfkc"]), "café cafe\u0301 cafe") == ["café", "cafe\u0301"]
    both = compile_rules([Rule("plain", phrases=["bomb"]), Rule("wide", phrases=["bomb"], views=["nfkc"])])
    assert [m.rule for m in both.whole("bomb ｂomb")] == [0, 1]


def test_what_joins_emoji_is_skipped_only_inside_a_match() -> None:
    rules = compile_rules([Rule("r", phrases=["bomb"], views=["invisible"], whole_word=True)])
    text = "👨‍👩‍👧 bomb\u200b 👩‍🚀"
    assert streamed(rules, list(text))[0] == "👨‍👩‍👧 [0]\u200b 👩‍🚀"


# ---- checks


def test_context_is_the_text_before_also_when_it_has_left() -> None:
    rule = Rule("pin", [r"\b\d{4}\b"], context=lambda before: "pin" in before, look_behind=8, value=True)
    rules = compile_rules([rule])
    hits: list[Hit] = []
    gate = rules.gate(lambda hit: hits.append(hit) or "?")
    for char in "year 2024, my pin is 1234. pin, much later: 5678":
        gate.push(char)
    gate.close()
    assert [h.value for h in hits] == ["1234"]


def test_a_word_that_the_look_behind_cuts_is_not_seen_as_another() -> None:
    seen: list[str] = []
    rule = Rule("pin", [r"\b\d{4}\b"], context=lambda before: seen.append(before) or False, look_behind=8, value=True)
    rules = compile_rules([rule])
    for text in ("your pin 1234", "my our pin 1234", "pin is: 1234"):
        rules.whole(text)
    assert seen == [" pin ", "our pin ", "pin is: "]


def test_a_candidate_without_a_greatest_length_is_judged_once() -> None:
    asked: list[str] = []

    def judge(value: str) -> bool:
        asked.append(value)
        return value != "key-aaaa"

    rules = compile_rules([Rule("r", [r"key-\w{4,}"], validate=judge)])
    out, _ = streamed(rules, list("key-aaaaXXXX key-bbbbXXXX"))
    assert out == "key-aaaaXXXX [0]"
    assert asked == ["key-aaaa", "key-bbbb"]


def test_values_are_whole_for_rules_that_ask() -> None:
    hits: list[Hit] = []
    rules = compile_rules([Rule("r", [r"key-\w{4,}"], value=True)])
    gate = rules.gate(lambda hit: hits.append(hit) or "?")
    for char in "a key-bbbbXXXX!":
        gate.push(char)
    assert [(h.start, h.end, h.value) for h in hits] == [(2, 14, "key-bbbbXXXX")]


# ---- hold, cap, overflow


def test_worst_holds() -> None:
    rules = [Rule("key", [r"sk-\w{20,}"]), Rule("ssn", [r"\d{3}-\d{2}-\d{4}"]), Rule("mail", [r"\w+@\w+"])]
    rules.append(Rule("word", phrases=["bomb"]))
    assert compile_rules(rules).worst_hold == (22, 10, 256, 3)
    assert compile_rules(rules[:1]).reach == 22


def test_a_long_key_is_decided_at_its_shortest_and_then_swallowed() -> None:
    rules = compile_rules([Rule("key", [r"sk-\w{20,}"])])
    text = "a sk-" + "x" * 10_000 + " b"
    out, held = streamed(rules, list(text))
    assert out == "a [0] b"
    assert max(held) == 22


def test_an_undecided_match_loses_what_is_older_than_the_cap() -> None:
    rules = compile_rules([Rule("mail", [r"\w+@\w+"])], cap=8)
    text = "x" * 100 + "@host y"
    for chunks in ([text], list(text), random_pieces(text, random.Random(1))):
        out, held = streamed(rules, chunks)
        assert out == "x" * 94 + "[0] y"
        assert max(held) <= 8


def push_all(gate: Gate, chunks: list[str]) -> None:
    for chunk in chunks:
        gate.push(chunk)


def test_overflow_can_cut() -> None:
    rules = compile_rules([Rule("mail", [r"\w+@\w+"])], cap=8)

    def overflow(clear: int) -> None:
        raise Cut("max_hold", at=clear)

    text = "ok " + "x" * 100
    for chunks in ([text], list(text), random_pieces(text, random.Random(1))):
        gate = rules.gate(lambda hit: "?", overflow)
        with pytest.raises(Cut) as caught:
            push_all(gate, chunks)
        assert caught.value.at == 3


# ---- work


HOSTILE = [
    (r"(a+)+$", "a"), (r"\s+$", " "), (r"(.*a){20}", "a"),
    (r"(?s)(?:.*a){20}", "ab"), (r"(x+x+)+y", "x"), (r"\w+@\w+", "a"),
    (r"(?:a|aa)+b", "a"), (r"a.*z|a", "a"), (r"(?:a?){50}a{50}", "a"),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "unit"), HOSTILE)
def test_hostile_patterns_do_a_bounded_number_of_moves(pattern: str, unit: str) -> None:
    """Each character is one look-up; what costs is a move made for the first time. Their number must not grow with
    the text, whether it comes whole or one character at a time."""
    rules = compile_rules([Rule("r", [pattern])])
    gate = rules.gate(lambda hit: "?")
    gate.push(unit * 2_000)
    made = rules.machine.made
    assert made < 2_000
    gate.push(unit * 10_000)
    for char in unit * 2_000:
        gate.push(char)
    gate.close()
    assert rules.machine.made - made <= 5


def test_a_megabyte_without_a_space() -> None:
    mail, card = r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b", r"\b\d(?:[ -]?\d){12,18}\b"
    rules = compile_rules([Rule("mail", [mail]), Rule("card", [card])])
    gate = rules.gate(lambda hit: "?")
    clear = gate.push("QUJD" * 262_144)
    assert len("QUJD" * 262_144) - clear <= rules.reach
    assert rules.machine.made < 200
    assert gate.close() == 1_048_576
    assert gate.edits == []


def test_ten_thousand_phrases() -> None:
    rng = random.Random(5)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(3_000)]
    phrases = sorted({" ".join(rng.choices(words, k=rng.randint(1, 3))) for _ in range(10_500)})[:10_000]
    rules = compile_rules([Rule("list", phrases=phrases, ignore_case=True, whole_word=True)])
    picked = rng.sample(phrases, 50)
    text = " ... ".join(p.upper() for p in picked)
    out, _ = streamed(rules, random_pieces(text, rng))
    assert out == " ... ".join(["[0]"] * 50)


def test_states_are_thrown_away_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "MOST_ENTRIES", 300)
    monkeypatch.setattr("policies.detect.gate.MOST_ENTRIES", 300)
    rules = compile_rules([Rule("r", [r"(?:a|b)*a(?:a|b){9}c"], value=True), Rule("n", [r"\d{3}"])])
    rng = random.Random(2)
    text = "".join(rng.choices("aabbb1", k=3_000)) + "abbbbbbbbbc 123 "
    first, second = streamed(rules, random_pieces(text, rng)), streamed(rules, list(text))
    assert first[0] == second[0]
    assert first[0].endswith("[0] [1] ")
    assert rules.machine.epoch > 3


def test_chunks_that_never_come_back_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "MOST_MEMOS", 50)
    rules = compile_rules([Rule("n", [r"\b\d{3}-\d{4}\b"]), Rule("p", [], ["night jar"])])
    gate = rules.gate(lambda hit: "[X]")
    text = "".join(f"word{i} " for i in range(400)) + "555-1234 night jar"
    for at in range(0, len(text), 6):
        gate.push(text[at : at + 6])
    gate.close()
    machine = rules.machine
    assert sum(len(core.memo) for core in machine._cores.values()) <= 51
    assert [edit.text for edit in gate.edits] == ["[X]", "[X]"], "and nothing else changes"
