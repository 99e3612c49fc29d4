"""``output_moderation``: what matches do, on which channels, and what is refused at load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from policies.contract import Channel, Cut, Exchange, Gate
from policies.output_moderation import OutputModeration, OutputModerationOptions
from tests.kits import policy_kit as kit

CONTENT = Channel(0, "content")


def policy(*rules: dict[str, Any], **options: Any) -> OutputModeration:
    made = kit.make("output_moderation", {"rules": list(rules), **options})
    assert isinstance(made, OutputModeration)
    return made


def gate(made: OutputModeration, channel: Channel = CONTENT) -> tuple[Exchange, Gate]:
    x = kit.exchange()
    found = made.guard(x, channel)
    assert found is not None
    return x, found


def shown(x: Exchange) -> list[tuple[str, str, int, str, str]]:
    return [(f.policy, f.kind, f.count, f.where, f.action) for f in x.findings]


SPLITS = [lambda t: [t], list, lambda t: [t[:7], t[7:]]]


@pytest.mark.parametrize("split", SPLITS)
def test_each_action(split) -> None:
    made = policy(
        {"name": "key", "category": "secret", "patterns": ["sk-[a-z]{4,}"]},
        {"name": "own", "patterns": ["ak-[a-z]{4}"], "placeholder": "<{RULE}>"},
        {"name": "name", "action": "replace", "phrases": ["bluebird"], "replacement": "it"},
        {"name": "hedge", "severity": 1, "phrases": ["sk-abcdefg b"]},
        placeholder="[{CATEGORY}]",
    )
    x, g = gate(made)
    assert kit.through(g, split("a sk-abcdefg bluebird ak-abcd sk-abcd.")) == "a [SECRET] it <OWN> [SECRET]."
    assert sorted(shown(x)) == [
        ("output_moderation", "hedge", 1, "choices[0].content", "flag"),
        ("output_moderation", "name", 1, "choices[0].content", "replace"),
        ("output_moderation", "own", 1, "choices[0].content", "redact"),
        ("output_moderation", "secret", 2, "choices[0].content", "redact"),
    ]


@pytest.mark.parametrize("split", SPLITS)
def test_block_lets_out_what_is_before_the_match_and_no_more(split) -> None:
    made = policy(
        {"name": "key", "patterns": ["sk-[a-z]{4,}"]},
        {"name": "bomb", "severity": 3, "phrases": ["pipe bomb"], "category": "violence"},
        {"name": "note", "action": "flag", "phrases": ["with"]},
        message="Stopped.",
    )
    x, g = gate(made)
    text, out, taken, clear = "sk-abcdef then with pipe bomb and sk-qqqq", "", 0, 0
    cut = None
    try:
        for piece in split(text):
            clear = g.push(piece)
    except Cut as stop:
        cut = stop
    assert cut is not None
    assert (cut.reason, cut.message, cut.at) == ("bomb", "Stopped.", text.index("pipe"))
    assert clear <= text.index("pipe")
    for edit in g.edits:
        out += text[taken : edit.start] + edit.text
        taken = edit.end
    assert out + text[taken : cut.at] == "[REDACTED] then with "
    assert ("output_moderation", "violence", 1, "choices[0].content", "block") in shown(x)


@pytest.mark.parametrize("split", SPLITS)
def test_a_cut_passes_the_engine_with_its_place_and_the_edits_before_it(split) -> None:
    made = policy({"name": "key", "patterns": ["sk-[a-z]{4,}"]}, {"name": "bomb", "severity": 3, "phrases": ["pipe bomb"]})
    (guard,) = kit.plan(made).guard
    g = guard(kit.exchange(), CONTENT)
    assert g is not None
    text, edits, at = "a sk-abcdef then pipe bomb", [], None
    try:
        for piece in split(text):
            g.push(piece)
    except Cut as cut:
        at = cut.at
    edits += g.edits
    assert at == text.index("pipe")
    assert [(e.start, e.end) for e in edits] == [(2, 11)] or "".join(e.text for e in edits) == "[REDACTED]"


def test_rules_act_on_their_channels() -> None:
    made = policy(
        {"name": "a", "phrases": ["x"], "channels": ["content"]},
        {"name": "b", "phrases": ["y"], "channels": ["arguments", "thinking"]},
        {"name": "c", "phrases": ["z"]},
    )
    for field, out in [
        ("content", "1y1"), ("text", "1y1"), ("arguments", "x11"), ("input", "x11"), ("thinking", "x11"),
        ("reasoning_content", "xy1"), ("refusal", "xy1"),
    ]:  # fmt: skip
        assert kit.through(gate(made, Channel(0, field))[1], ["xyz"]).replace("[REDACTED]", "1") == out, field
    only = policy({"name": "a", "phrases": ["x"], "channels": ["refusal"]})
    assert only.guard(kit.exchange(), CONTENT) is None
    x, g = gate(only, Channel(2, "refusal", 1))
    kit.through(g, ["x"])
    assert [f.where for f in x.findings] == ["choices[2].tool_calls[1].refusal"]


def test_nothing_is_held_for_rules_that_flag() -> None:
    x, g = gate(policy({"name": "a", "action": "flag", "phrases": ["long phrase"]}))
    assert g.reach == 0
    assert [g.push(t) for t in ("a long", " phr", "ase b")] == [6, 10, 15]
    assert g.close() == 15
    assert [f.action for f in x.findings] == ["flag"]


def test_phrases_file(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_bytes("\ufeff# a comment\r\nfirst phrase\r\n\r\n  zweite größe \n".encode())
    made = policy({"name": "a", "phrases_file": str(path), "phrases": ["third"], "ignore_case": True})
    assert kit.through(gate(made)[1], list("First  Phrase, ZWEITE GRÖSSE Zweite Größe third")).count("[REDACTED]") == 3
    path.write_bytes(b"ok\n\xff\n")
    with pytest.raises(ValidationError, match="not UTF-8, at byte 3"):
        policy({"name": "a", "phrases_file": str(path)})
    with pytest.raises(ValidationError, match="cannot be read"):
        policy({"name": "a", "phrases_file": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"name": "a"}], "neither patterns nor phrases"),
        ([{"name": "a", "patterns": ["a(?=b)"]}], "look-around is not supported"),
        ([{"name": "a", "patterns": ["a*"]}], "matches the empty text"),
        ([{"name": "a", "phrases": ["x", " "]}], "a phrase is empty"),
        ([{"name": "a", "phrases": ["x"], "action": "replace"}], "go together"),
        ([{"name": "a", "phrases": ["x"], "replacement": "y"}], "go together"),
        ([{"name": "a", "phrases": ["x"], "severity": 4}], "less than or equal to 3"),
        ([{"name": "a", "phrases": ["x"]}, {"name": "a", "phrases": ["y"]}], "the same name"),
        ([{"name": "a", "patterns": ["x"], "views": ["spaced"]}], "for phrases"),
        ([{"name": "a", "phrases": ["x"], "views": ["rot13"]}], "Input should be"),
    ],
)
def test_refused_at_load(rules: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OutputModerationOptions.model_validate({"rules": rules})


def test_explain_has_names_and_holds_and_no_patterns() -> None:
    flag = {"name": "f", "action": "flag", "phrases": ["hidden"]}
    made = policy({"name": "key", "patterns": ["sk-[a-z]{20,}"]}, flag)
    assert made.worst_hold() == {"key": 22, "f": 0}
    assert made.describe() == "key redact, holds 22; f flag, holds 0"
    assert gate(made)[1].reach == 22


@pytest.mark.parametrize("split", SPLITS)
def test_max_hold(split) -> None:
    rule = {"name": "mail", "patterns": [r"\w+@\w+"]}
    text = "x" * 40 + "@host"
    assert kit.through(gate(policy(rule, max_hold=16))[1], split(text)) == "x" * 26 + "[REDACTED]"
    x, g = gate(policy(rule, max_hold=16, on_overflow="cut", message="m"))
    with pytest.raises(Cut) as caught:
        kit.through(g, split(text))
    assert (caught.value.reason, caught.value.at, caught.value.message) == ("max_hold", 0, "m")
    assert [f.kind for f in x.findings] == ["max_hold"]


async def test_preparing_makes_the_states_that_prose_needs() -> None:
    made = kit.make("output_moderation", OutputModeration.EXAMPLE)
    assert isinstance(made, OutputModeration)
    await made.prepare()
    machines = [rules.machine for rules in made._sets.values()]
    before = sum(m.made for m in machines)
    kit.through(gate(made)[1], ["When it was ", "written, nobody ", "thought of 17 more."])
    assert sum(m.made for m in machines) - before < 10


async def test_shadow_mode_reports_and_changes_nothing() -> None:
    made = policy({"name": "a", "phrases": ["bb"]}, {"name": "f", "action": "flag", "phrases": ["c"]})
    x = kit.exchange()
    await kit.check_shadow(made, x, None, ["a b", "b c", " bb c"])
    assert sum(f.count for f in x.findings if f.kind == "a") == 2
    assert sum(f.count for f in x.findings if f.kind == "f") == 2
