"""Putting values back: forms that models write, exact holds, one pass, and the laws of the round trip."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.contract import Cut
from policies.pii.placeholders import Forms
from policies.pii.restore import NameTap, ToolNames, restore, restoring
from policies.pii.vault import Vault
from tests.kits.gate_kit import check_gate, drive
from tests.kits.policy_kit import through

FORMS = Forms(["EMAIL", "CARD", "US_SSN"])


def vault() -> Vault:
    v = Vault()
    for tag, value in (("EMAIL", "ann@x.org"), ("EMAIL", "Ann@x.org"), ("CARD", 'a"b\\c'), ("US_SSN", "078-05-1120")):
        v.placeholder(tag, value)
    return v


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("[EMAIL_1]", "ann@x.org"),
        ("[EMAIL_1B]", "Ann@x.org"),
        ("<EMAIL_1>", "ann@x.org"),
        ("[email_1]", "ann@x.org"),
        ("**[EMAIL_1]**", "**ann@x.org**"),
        ("[**EMAIL_1**]", "[**ann@x.org**]"),
        ("`[EMAIL_1]`,", "`ann@x.org`,"),
        ("EMAIL_1", "ann@x.org"),
        ("EMAIL_1's", "ann@x.org's"),
        ("[EMAIL_1]s", "ann@x.orgs"),
        ("(EMAIL_1)", "(ann@x.org)"),
        ("[EMAIL\\_1]", "ann@x.org"),
        ("\\[EMAIL\\_1\\]", "ann@x.org"),
        ("[EMAIL-1]", "ann@x.org"),
        ("[EMAIL\u20111]", "ann@x.org"),
        ("[Email 1]", "ann@x.org"),
        ("[US SSN 1] [us-ssn_1]", "078-05-1120 078-05-1120"),
        ("mailto:%5BEMAIL_1%5D", "mailto:ann@x.org"),
        ("&lt;EMAIL_1&gt;", "ann@x.org"),
        ("【EMAIL_1】", "ann@x.org"),
        ("[[EMAIL_1]]", "[ann@x.org]"),
        ("[EMAIL_1", "[ann@x.org"),
        ("[EMAIL_1](mailto:[EMAIL_1])", "ann@x.org(mailto:ann@x.org)"),
        ("[EMAIL_[EMAIL_1]", "[EMAIL_ann@x.org"),
        ("[EMAIL_1][EMAIL_1B][CARD_1]", 'ann@x.orgAnn@x.orga"b\\c'),
    ],
)
def test_forms_that_models_write(said: str, shown: str) -> None:
    assert restore(FORMS, vault(), said) == shown


@pytest.mark.parametrize(
    "said",
    [
        "[EMAIL_2]", "[EMAIL_11]", "[EMAIL_1C]", "[EMAIL_01]", "[EMAIL]", "[CARD_2]", "XEMAIL_1", "EMAIL_1X", "EMAIL_1_2",
        "email_1", "my email 1", "e-mail 1", "[MAIL_1]", "[email_1}", "[ EMAIL_1234567890 ]", "EMAIL_10",
    ],
)  # fmt: skip
def test_what_is_no_placeholder_of_this_request_stays(said: str) -> None:
    assert restore(FORMS, vault(), said) == said


def test_what_is_put_back_is_not_read_again() -> None:
    """Published failure: sequential replacing substitutes inside what it has put back."""
    v = Vault()
    v.placeholder("EMAIL", "[CARD_1]")
    v.placeholder("CARD", "[EMAIL_1]")
    assert restore(FORMS, v, "[EMAIL_1] [CARD_1]") == "[CARD_1] [EMAIL_1]"


def test_a_placeholder_that_begins_like_another() -> None:
    """Published failure: ``EMAIL_1`` replaced inside ``EMAIL_10``."""
    v = Vault()
    for n in range(1, 13):
        v.placeholder("EMAIL", f"<{n}>")
    assert restore(FORMS, v, "[EMAIL_1] [EMAIL_12] EMAIL_11 [EMAIL_10]") == "<1> <12> <11> <10>"


def test_every_cut_of_a_placeholder_gives_the_same() -> None:
    text = "To **[EMAIL_1]** or <email_1b>, EMAIL_1; \\[CARD\\_1\\] %5BUS_SSN_1%5D [EMAIL_9] [EMA"
    for at in range(len(text)):
        check_gate(lambda: restoring(FORMS, vault(), lambda tag, outcome: None), text, [at, at + 1])
    check_gate(lambda: restoring(FORMS, vault(), lambda tag, outcome: None), text, range(len(text)))


def test_nothing_is_held_that_cannot_become_a_placeholder() -> None:
    gate = restoring(FORMS, vault(), lambda tag, outcome: None)
    for n, c in enumerate("Hello, this is ordinary prose about lists[0] and a<b, 50% of it. ", 1):
        clear = gate.push(c)
        assert n - clear <= (1 if c in "[<%&" else 0), c
    before = gate.push("see [EMAIL_")
    assert gate.push("1") == before
    assert gate.push("]") == before + 9


def test_outcomes_are_told() -> None:
    told: list[tuple[str, str]] = []
    v = Vault(["EMAIL_7"])
    v.placeholder("EMAIL", "ann@x.org")
    text = "[EMAIL_1] [EMAIL_7] [EMAIL_8] EMAIL_9"
    gate = restoring(FORMS, v, lambda tag, outcome: told.append((tag, outcome)))
    assert through(gate, [text]) == "ann@x.org [EMAIL_7] [EMAIL_8] EMAIL_9"
    assert told == [("EMAIL", "restored"), ("EMAIL", "unknown")]
    told.clear()
    gate = restoring(FORMS, v, lambda tag, outcome: told.append((tag, outcome)), put_back=False)
    assert through(gate, [text]) == text
    assert told == [("EMAIL", "not_restored"), ("EMAIL", "unknown")]


def test_a_tap_holds_nothing_and_hears_a_name() -> None:
    heard: list[tuple[str, bool]] = []
    assert drive(NameTap(lambda name, whole: heard.append((name, whole))), ["web_", "search"]) == ("web_search", None)
    assert heard == [("web_", False), ("web_search", False), ("web_search", True)]


def tell(names: ToolNames, tool: int, *pieces: str) -> None:
    for piece in pieces:
        drive(names.tap(0, tool), [piece])


def test_names_of_tools_as_they_come() -> None:
    names = ToolNames(lambda name: not name.startswith("web_") and "x" not in name)
    assert not names.may(0, 0), "no name yet"
    tell(names, 0, "web", "_search")
    assert not names.may(0, 0)
    tell(names, 1, "lookup", "lookup")
    assert names.may(0, 1), "said twice"
    tell(names, 1, "lookup")
    tap = names.tap(0, 1)
    tap.push("x")
    with pytest.raises(Cut, match="tool_name"):
        tap.close()
    tell(names, 2, "look", "up")
    assert names.may(0, 2) and not names.may(1, 2), "another choice"
    tell(names, 3, "")
    assert not names.may(0, 3)


BITS = st.sampled_from([
    "[", "]", "<", ">", "EMAIL", "email", "CARD", "US", "SSN", "_", "-", " ", "1", "2", "1B", "B", "\\", "%5B", "%5D", "【",
    "】", "[EMAIL_1]", "EMAIL_1", "<card_2>", "x", "é", "\x00", "\ud800", "ＥMAIL", "&lt;", "&gt;", "[EMAIL_", "_1]", "\u2011",
])  # fmt: skip
PIECES = st.lists(st.one_of(BITS, st.text(max_size=3)), max_size=12).map("".join)
VALUES = st.one_of(PIECES.filter(bool), st.text(min_size=1, max_size=6))
TEXTS = st.lists(st.one_of(PIECES, st.tuples(st.sampled_from(["EMAIL", "CARD", "US_SSN"]), VALUES)), max_size=8)


def hidden(parts: list[str | tuple[str, str]], key: bytes | None) -> tuple[str, str, Vault]:
    """A text, the text with placeholders for its values, and the vault."""
    rest = "\x00".join("".join(group) for group in _between(parts))
    v = Vault(FORMS.seen(rest), key=key)
    shown = "".join(p if isinstance(p, str) else v.placeholder(p[0], p[1]) for p in parts)
    return "".join(p if isinstance(p, str) else p[1] for p in parts), shown, v


def _between(parts: list[str | tuple[str, str]]) -> list[list[str]]:
    out: list[list[str]] = [[]]
    for part in parts:
        if isinstance(part, str):
            out[-1].append(part)
        else:
            out.append([])
    return out


@given(TEXTS, st.sets(st.integers(0, 200), max_size=12), st.sampled_from([None, b"k" * 32]))
def test_the_round_trip_is_exact_for_any_text_and_any_split(
    parts: list[str | tuple[str, str]], cuts: set[int], key: bytes | None
) -> None:
    text, shown, v = hidden(parts, key)
    assert restore(FORMS, v, shown) == text
    edges = sorted({0, len(shown), *(c for c in cuts if c < len(shown))})
    pieces = [shown[a:b] for a, b in pairwise(edges)]
    assert drive(restoring(FORMS, v, lambda tag, outcome: None), pieces) == (text, None)
