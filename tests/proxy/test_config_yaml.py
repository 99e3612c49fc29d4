"""The strict reading of YAML: values, places, and both parsers alike."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from proxy import config_yaml
from proxy.config_node import Node
from proxy.config_report import Report
from proxy.config_scalars import resolve


def tree(text: str) -> tuple[Node | None, list[str]]:
    report = Report("p")
    node = config_yaml.parse(text, report)
    return node, [str(p) for p in report.problems]


def good(text: str) -> Any:
    node, problems = tree(text)
    assert problems == []
    assert node is not None
    return node.plain()


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("", None), ("~", None), ("null", None), ("NULL", None), ("nUll", "nUll"),
        ("true", True), ("True", True), ("FALSE", False), ("tRue", "tRue"),
        ("yes", "yes"), ("No", "No"), ("on", "on"), ("OFF", "OFF"), ("y", "y"),
        ("0", 0), ("-0", 0), ("+12", 12), ("-7", -7), ("999999999999999999", 999999999999999999),
        ("0.5", 0.5), (".5", 0.5), ("-.5", -0.5), ("5.", 5.0), ("1e3", 1000.0), ("1E-2", 0.01), ("0.0", 0.0),
        ("12:30:45", "12:30:45"), ("1_000", "1_000"), ("1,5", "1,5"), ("-", "-"), ("+", "+"), (".", "."),
        ("1.2.3", "1.2.3"),
        ("0x", "0x"), ("2001-01-01", "2001-01-01"), ("=", "="), ("1e", "1e"), ("e3", "e3"), ("٣", "٣"),
        ("127.0.0.1", "127.0.0.1"), ("00.5", 0.5),
    ],
)  # fmt: skip
def test_plain_scalars_follow_the_core_schema(written: str, value: Any) -> None:
    found = resolve(written)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("written", "cure"),
    [
        ("0755", 'write 755, or "0755" for text'), ("-00", 'write -0, or "-00" for text'),
        ("0o17", 'write 15, or "0o17" for text'), ("0xFF", 'write 255, or "0xFF" for text'),
        ("0b11", 'write 3, or "0b11" for text'), (".inf", "write a number, or quote it for text"),
        ("-.INF", "write a number, or quote it for text"), (".nan", "write a number, or quote it for text"),
        ("9" * 19, "put it in quotes if it is text"), ("1e999", "put it in quotes if it is text"),
        ("1." + "0" * 100, "put it in quotes if it is text"), ("1" * 100_000, "put it in quotes if it is text"),
    ],
)  # fmt: skip
def test_what_readers_take_differently_is_refused(written: str, cure: str) -> None:
    with pytest.raises(ValueError) as caught:
        resolve(written)
    assert caught.value.args[1] == cure


def test_quotes_and_blocks_are_text() -> None:
    assert good("a: '1'\nb: \"true\"\nc: |\n  null\nd: >-\n  0755\n") == {
        "a": "1", "b": "true", "c": "null\n", "d": "0755",
    }  # fmt: skip


def test_every_value_knows_its_place() -> None:
    node, problems = tree("# top\na:\n  - b: 1\n    cé: {d: 'x', e: [y]}\n")
    assert problems == []
    assert node is not None
    places = {
        ("a",): ((3, 3), (2, 1)),
        ("a", 0): ((3, 5), None),
        ("a", 0, "b"): ((3, 8), (3, 5)),
        ("a", 0, "cé"): ((4, 9), (4, 5)),
        ("a", 0, "cé", "d"): ((4, 13), (4, 10)),
        ("a", 0, "cé", "e", 0): ((4, 22), None),
    }
    for path, (place, key) in places.items():
        found = node.at(path)
        assert found is not None
        assert (found.place, found.key) == ((place, key) if path != ("a",) else ((3, 3), (2, 1)))
    assert node.at(("a", 1)) is None
    assert node.at(("a", 0, "b", "x")) is None


def test_the_end_of_a_document_may_be_marked() -> None:
    assert good("---\na: 1\n...\n") == {"a": 1}


DEEP = config_yaml.MAX_DEPTH


def test_depth() -> None:
    assert good("a: " + "[" * (DEEP - 1) + "]" * (DEEP - 1))["a"] is not None
    for text in ("[" * 100_000, "- " * 10_000 + "x", "{a: " * 5000, "".join("  " * i + "a:\n" for i in range(100))):
        _, problems = tree(text)
        assert [p.partition(": ")[2] for p in problems] == [f"is nested more than {DEEP} levels deep; write it flatter"]


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    _, problems = tree(text)
    assert len(problems) == 9 + 8 * 9


def test_a_key_that_is_a_mapping_does_not_shift_what_follows() -> None:
    node, problems = tree("? {a: b, c: [d]}\n: e\nf: g\n")
    assert len(problems) == 1
    assert node is not None
    assert node.bad
    assert node.plain() == {"f": "g"}


BOTH = [
    "a: [1, {b: 2}]\nc: |\n  x\n",
    "a: 1\na: 2\n",
    "a: *b\n",
    "a: b: c\n",
    "a: 'x\n",
    "a: [1\nb: 2\n",
    "- a\nb: 1\n",
    "\ta: 1\n",
    "a: {{ x }}\n",
    "--- 1\n--- 2\n",
    "",
]


@pytest.mark.parametrize("text", BOTH)
def test_the_parser_without_libyaml_says_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node, problems = tree(text)
    monkeypatch.setattr(config_yaml, "_LOADER", yaml.SafeLoader)
    other, others = tree(text)
    assert others == problems
    assert (node and node.plain()) == (other and other.plain())


def test_libyaml_is_in_use_where_it_is_there() -> None:
    expected = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    assert config_yaml._LOADER is expected
