"""The laws of hold-back, over random rules, texts and cuts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from policies.detect import Hit, Rule, RuleError, RuleSet, compile_rules
from tests.policies.detect.driving import applied, drive, pieces, redacted, streamed
from tests.policies.detect.reference import Slow, slow_matches

LETTERS = "ab1- \n"
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def patterns(alphabet: str = LETTERS, *, looks: bool = True) -> st.SearchStrategy[str]:
    atoms = [st.sampled_from([c if c.isalnum() else "\\n" if c == "\n" else c for c in alphabet])]
    atoms.append(st.sampled_from([".", "[ab]", "[^a]", r"\w", r"\d", "(?:ab|a)", "(?i:A)"] if looks else ["[ab]", "."]))
    if looks:
        atoms.append(st.sampled_from([r"\b", r"\B", "^", "$", "(?m:^)", "(?m:$)"]))

    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.lists(inner, min_size=1, max_size=4).map("".join),
            st.lists(inner, min_size=2, max_size=3).map(lambda p: f"(?:{'|'.join(p)})"),
            st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}"])).map(lambda t: f"(?:{t[0]}){t[1]}"),
        )  # fmt: skip

    return st.recursive(st.one_of(*atoms), grown, max_leaves=8)


def compiled(rules: list[Rule], cap: int = 256) -> RuleSet:
    try:
        return compile_rules(rules, cap=cap)
    except RuleError:
        assume(False)
        raise


texts = st.text(LETTERS, max_size=24)
rule_lists = st.lists(st.tuples(patterns(), st.booleans(), st.booleans()), min_size=1, max_size=3)


def passes(value: str) -> bool:
    """A check that depends on every character, as check digits do."""
    return sum(i * ord(c) for i, c in enumerate(value, 1)) % 3 != 0


def made(specs: list[tuple[str, bool, bool]], *, checks: bool) -> tuple[list[Rule], list[Slow]]:
    rules = [
        Rule(f"r{i}", [p], ignore_case=fold, validate=passes if check and checks else None, value=not fold)
        for i, (p, fold, check) in enumerate(specs)
    ]
    return rules, [Slow(r.patterns[0], r.ignore_case, r.validate) for r in rules]


@RELAXED
@given(rule_lists, texts)
def test_whole_text_is_leftmost_longest_with_rule_order_breaking_ties(specs, text) -> None:
    rules, slow = made(specs, checks=False)
    assert compiled(rules).whole(text) == slow_matches(slow, text)


@RELAXED
@given(st.lists(st.tuples(patterns().filter(lambda p: not any(c in p for c in "*+,")), st.booleans(), st.booleans()),
                min_size=1, max_size=3), texts)  # fmt: skip
def test_a_refused_candidate_is_no_match(specs, text) -> None:
    """Of rules with a greatest length: every candidate is judged."""
    rules, slow = made(specs, checks=True)
    assert compiled(rules).whole(text) == slow_matches(slow, text)


@RELAXED
@given(rule_lists, texts, st.lists(st.integers(0, 24), max_size=8), st.sampled_from([1, 3, 8, 256]))
def test_any_cut_gives_the_whole_text_s_result(specs, text, cuts, cap) -> None:
    """Checks, rules that ask for their value, and caps that overflow included; ``drive`` asserts that nothing is
    edited after it left."""
    rules, _ = made(specs, checks=True)
    found = compiled(rules, cap)
    whole, _ = streamed(found, [text])
    out, held = streamed(found, pieces(text, [c for c in cuts if c <= len(text)]))
    assert out == whole
    assert max(held, default=0) <= found.reach <= cap
    again, held_again = streamed(found, pieces(text, [c for c in cuts if c <= len(text)]))
    assert (again, held_again) == (whole, held), "what is remembered of a chunk is what reading it gives"
    one_by_one, held = streamed(found, list(text))
    assert one_by_one == whole
    assert max(held, default=0) <= found.reach
    if cap == 256:
        assert whole == redacted(found, text)


@RELAXED
@given(rule_lists, texts, st.integers(0, 24), st.lists(st.integers(0, 24), max_size=4))
def test_text_that_is_out_is_left_context(specs, text, seam, cuts) -> None:
    """What a gate is told of the text in front: behind the seam the same is replaced as if all had been pushed, and of what
    ends in front of it nothing is said."""
    rules, _ = made(specs, checks=True)
    found = compiled(rules)
    seam = min(seam, len(text))
    whole = found.gate(lambda hit: f"[{hit.rule}]")
    whole.push(text)
    whole.close()
    behind = [e for e in whole.edits if e.end > seam]
    told: list[int] = []

    def note(hit: Hit) -> str:
        assert 0 <= hit.start < hit.end
        told.append(hit.rule)
        return f"[{hit.rule}]"

    gate = found.gate(note)
    gate.lead(text[:seam])
    out, _ = drive(gate, pieces(text[seam:], [c for c in cuts if c <= len(text) - seam]))
    assert out == applied(text[seam:], [(max(e.start - seam, 0), e.end - seam, e.text) for e in behind])
    assert len(told) == sum(bool(e.text) for e in behind)


@RELAXED
@given(patterns("ab", looks=False), st.text("ab", max_size=6))
def test_exactly_what_may_still_become_a_match_is_held(pattern, text) -> None:
    """A character may leave when its fate is the same under every continuation, and not before. Continuations of up
    to five characters reach every state of patterns this small that are not refused here."""
    rules = [Rule("r", [pattern])]
    found = compiled(rules)
    assume(found.reach < 5)
    fates: list[tuple[object, ...]] = []
    for size in range(6):
        for more in itertools.product("ab", repeat=size):
            matches = slow_matches([Slow(pattern)], text + "".join(more))
            fates.append(tuple(next((m.start for m in matches if m.start <= i < m.end), None) for i in range(len(text))))
    safe = next((i for i, fate in enumerate(zip(*fates, strict=True)) if len(set(fate)) > 1), len(text))
    assert found.gate(lambda hit: "").push(text) == safe


@pytest.mark.parametrize("pattern", ["ab", "a+b", "abc|b", "a.b", r"\bab\b"])
def test_nothing_is_held_where_nothing_can_match(pattern) -> None:
    _, held = streamed(compile_rules([Rule("r", [pattern])]), list("zzz zzz. zzz"))
    assert max(held) == 0
