"""Globs and plain paths, against slow references."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.globs import any_of, glob, is_plain, path_test, plain_path, remembered


def slow(pattern: str, text: str) -> bool:
    """A glob by its definition."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(slow(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and (pattern[0] in ("?", text[0])) and slow(pattern[1:], text[1:])


@given(st.text("ab*?.", max_size=7), st.text("ab.\n", max_size=8))
@example("*ab*b", "aab")  # a middle piece may not reach into the end
@example("a*a", "a")
def test_glob_is_its_definition(pattern: str, text: str) -> None:
    assert glob(pattern)(text) is slow(pattern, text)


@given(st.lists(st.text("aB*?", max_size=5), max_size=4), st.text("abAB", max_size=6))
def test_any_of_is_any(patterns: list[str], text: str) -> None:
    assert any_of(patterns)(text) is any(slow(p, text) for p in patterns)
    assert any_of(patterns, fold=True)(text) is any(slow(p.casefold(), text.casefold()) for p in patterns)
    assert all(glob(p, fold=True)(text) is slow(p.casefold(), text.casefold()) for p in patterns)


@pytest.mark.parametrize("pattern", ["[a]", "a+b", "(", "a\\b", "{x}", "$", "^a"])
def test_all_else_is_itself(pattern: str) -> None:
    assert glob(pattern)(pattern)
    assert not glob(pattern)("a")


def test_no_text_makes_a_glob_slow() -> None:
    test = glob("*".join(["", *("a" * 30), "b", ""]))
    began = time.perf_counter()
    assert not test("a" * 20_000)
    assert time.perf_counter() - began < 1.0


PLAIN = ["/", "/v1/models", "/v1/chat/completions/", "/v1/models/a.b", "/v1/...", "/a/.b", "/a/b..", "/~x@y:z"]
ODD = [
    ("/v1//models", "/v1/models"),
    ("//v1/models", "/v1/models"),
    ("/v1/%6Dodels", "/v1/models"),
    ("/v1/models/a%2Fb", "/v1/models/a/b"),
    ("/v1/./models", "/v1/models"),
    ("/x/../v1/models", "/v1/models"),
    ("/../../v1/models", "/v1/models"),
    ("/v1/models/..", "/v1"),
    ("/v1/models/.", "/v1/models"),
    ("/v1/models;a=1", "/v1/models"),
    ("/v1;x/models", "/v1/models"),
    ("/v1\\models", "/v1/models"),
    ("/v1/%2e%2e/v1/models", "/v1/models"),
    ("/v1/%252e", "/v1/%2e"),
    ("*", "/*"),
    ("v1/models", "/v1/models"),
    ("/v1/models\x00", "/v1/models\x00"),
    ("/v1/mod\u00e9", "/v1/mod\u00e9"),
    ("", "/"),
]


@pytest.mark.parametrize("path", PLAIN)
def test_plain_paths(path: str) -> None:
    assert is_plain(path)
    assert plain_path(path) == (path.rstrip("/") or "/")


@pytest.mark.parametrize(("path", "plain"), ODD)
def test_odd_paths(path: str, plain: str) -> None:
    assert not is_plain(path)
    assert plain_path(path) == plain


@given(st.lists(st.sampled_from(["v1", "a.b", "..", ".", "", "x"]), max_size=6))
def test_the_plain_form_of_a_plain_form_is_itself(parts: list[str]) -> None:
    once = plain_path("/" + "/".join(parts))
    assert is_plain(once)
    assert plain_path(once) == once


@pytest.mark.parametrize(
    ("path", "met"),
    [
        ("/v1/chat/completions", True),
        ("/v1/chat/completions/", True),
        ("/v1/%63hat/completions", True),
        ("/v1//chat/completions", True),
        ("/x/../v1/chat/completions", True),
        ("/v1/chat", False),
        ("/v2/chat/completions", False),
    ],
)
def test_no_spelling_leaves_a_policys_reach(path: str, met: bool) -> None:
    assert path_test(["/v1/chat/*"])(path) is met


def test_answers_are_remembered_within_bounds() -> None:
    asked: list[str] = []

    def test(text: str) -> bool:
        asked.append(text)
        return text.startswith("a")

    memory = remembered(test)
    for _ in range(3):
        assert (memory("ab"), memory("b")) == (True, False)
    assert asked == ["ab", "b"]
    for _ in range(3):
        assert memory("a" * 129), "callers choose the text: what is long is asked for each time"
    assert len(asked) == 5
    for n in range(5000):
        assert memory(f"{n}") is False
    asked.clear()
    assert memory("ab")
    assert memory("4999") is False
    assert asked == ["ab"], "the memory starts again when it is full"
