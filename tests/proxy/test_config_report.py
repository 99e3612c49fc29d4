"""The words and the masks of reports."""

from __future__ import annotations

import pytest

from proxy.config_report import ConfigError, Problem, dotted, is_sensitive, mask, nearest, shorten, suggest


def test_a_problem_and_an_error_as_text() -> None:
    one = Problem("p.yaml", 3, 7, "a.b", "is wrong", "write c")
    two = Problem("--listen", 0, 0, "", "is wrong")
    assert str(one) == "p.yaml:3:7: a.b: is wrong; write c"
    assert str(ConfigError([one])) == str(one)
    assert str(ConfigError([one, two])) == f"{one}\n--listen: is wrong\n2 problems"


def test_paths() -> None:
    assert dotted(()) == ""
    assert dotted(("policies", 1, "when", "headers", "X-Team", "a b", "")) == (
        'policies[1].when.headers.X-Team["a b"][""]'
    )


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("blok", ["allow", "block"], "block"),
        ("Max-Tokens", ["max_tokens"], "max_tokens"),
        ("zzz", ["max_tokens"], None),
        ("", ["a"], None),
        ("a" * 100, ["a" * 99], None),
    ],
)
def test_near_names(word: str, known: list[str], near: str | None) -> None:
    assert nearest(word, known) == near


def test_suggestions() -> None:
    assert suggest("blok", ["block"]) == "did you mean 'block'?"
    assert suggest("x", ["one", "two"], "there are") == "there are: one, two"
    assert suggest("x", []) == ""
    assert suggest("!", [str(i) for i in range(30)]).endswith("22, 23, ...")


def test_long_and_odd_text_is_shown_short() -> None:
    assert shorten("a" * 50) == "a" * 37 + "..."
    assert shorten("a\nb\u202e\x1b[31m") == "a\\nb\\u202e\\x1b[31m"


@pytest.mark.parametrize(
    "name", ["key", "api_key", "X-Api-Key", "Authorization", "client_secret", "tokens", "auth-token", "Cookie"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_sensitive(("backends", "a", name))
    assert is_sensitive((name, 0, "x"))


@pytest.mark.parametrize(
    "name", ["max_tokens", "keepalive", "monkey", "secretary", "model", "token_limit", "key_file_mode"]
)
def test_names_of_nothing_secret(name: str) -> None:
    assert not is_sensitive(("a", name))


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("key: abc", "key: ***"),
        ('  a: {url: x, key: "abc", b: 1}', "  a: {url: x, key: ************"),
        ("key: ${KEY}", "key: ${KEY}"),
        ("a: {key: '${KEY}', token: abc}", "a: {key: '${KEY}', token: ****"),
        ("key: ${KEY}abc", "key: *********"),
        ("key: ${KEY:-abc}", "key: ***********"),
        ("key: file:/run/key # why", "key: file:/run/key # why"),
        ("url: http://me:pw@host", "url: http://*****@host"),
        ("url: 'http://host/?key=abc'", "url: 'http://host/?*******'"),
        ("max_tokens: 5", "max_tokens: 5"),
        ("# key: abc", "# key: ***"),
    ],
)
def test_masked_lines(line: str, masked: str) -> None:
    assert mask(line) == [masked]


def test_what_is_indented_below_a_secrets_key_is_masked() -> None:
    text = "a:\n  keys:\n    - abc\n\n    b: def\n  key: |\n    gh\n  name: x"
    assert mask(text) == ["a:", "  keys:", "    *****", "", "    ******", "  key: *", "    **", "  name: x"]


def test_lines_that_nobody_reads_are_not_shown() -> None:
    assert mask("key" * 2000 + "\nb: 1") == ["", "b: 1"]
