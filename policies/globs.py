"""Matching by globs, and request paths in their plain form: pure functions that ``when:`` and policies share.

What lives here: functions from strings to tests. What must never live here: backtracking patterns. The globs
come from the operator, but the text they meet comes from callers: no text may make a test slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import unquote

__all__ = ["StrTest", "any_of", "glob", "is_plain", "path_test", "plain_path", "remembered"]

StrTest = Callable[[str], bool]

# What makes a path look different from the route that a backend may take it for: escapes (frameworks route on
# the decoded path), empty and dot segments (proxies merge them), path parameters, backslashes.
_ODD = re.compile(r"[^!-~]|[%;\\]|//|/\.{1,2}(?=/|\Z)")


def glob(pattern: str, *, fold: bool = False) -> StrTest:
    """A test for one glob: ``*`` is any run of characters, slashes included, ``?`` any one, all else itself.

    fold: compare without case. The time is at most (length of the text) x (length of the glob).
    """
    if fold:
        inner = glob(pattern.casefold())
        return lambda text: inner(text.casefold())
    if "?" not in pattern:
        stem = pattern.rstrip("*")
        if "*" not in stem:
            if stem == pattern:
                return lambda text: text == pattern
            return lambda text: text.startswith(stem)
    parts = pattern.split("*")
    pieces = [re.compile("".join("." if c == "?" else re.escape(c) for c in p), re.S) for p in parts]
    sizes = [len(p) for p in parts]
    first, last, least = pieces[0], pieces[-1], sum(sizes)
    if len(pieces) == 1:
        return lambda text: first.fullmatch(text) is not None

    def test(text: str) -> bool:
        stop = len(text) - sizes[-1]
        if len(text) < least or not first.match(text) or not last.match(text, stop):
            return False
        at = sizes[0]
        for piece in pieces[1:-1]:  # pieces have fixed lengths, so the leftmost place is as good as any other
            found = piece.search(text, at, stop)
            if found is None:
                return False
            at = found.end()
        return True

    return test


def any_of(patterns: Iterable[str], *, fold: bool = False) -> StrTest:
    """True when any of the globs matches; with none of them, never."""
    given = [p.casefold() for p in patterns] if fold else list(patterns)
    exact = frozenset(p for p in given if "*" not in p and "?" not in p)
    stems = {p: p.rstrip("*") for p in given if p not in exact}
    starts = tuple(stem for stem in stems.values() if "*" not in stem and "?" not in stem)
    tests = [glob(p) for p, stem in stems.items() if stem not in starts]

    def test(text: str) -> bool:
        if fold:
            text = text.casefold()
        if text in exact or text.startswith(starts):
            return True
        for t in tests:  # noqa: SIM110 - a generator costs more than the tests
            if t(text):
                return True
        return False

    return test


class _Answers(dict[str, bool]):
    """Answers by text. Texts come from callers: only short ones are kept, and not for ever."""

    __slots__ = ("_test",)

    def __init__(self, test: StrTest) -> None:
        self._test = test

    def __missing__(self, text: str) -> bool:
        answer = self._test(text)
        if len(text) <= 128:
            if len(self) >= 1024:
                self.clear()
            self[text] = answer
        return answer


def remembered(test: StrTest) -> StrTest:
    """The same test for few different texts that come again and again (model names): at most 1,024 answers of at
    most 128 characters are kept, and each costs one look into a dict."""
    return _Answers(test).__getitem__


def is_plain(path: str) -> bool:
    """True when a request path can mean only one route: it begins with ``/``, is printable ASCII, and has no
    escape, empty segment, dot segment, path parameter or backslash. A slash at the end is plain."""
    return path.startswith("/") and _ODD.search(path) is None


def plain_path(path: str) -> str:
    """The route that a lenient backend may take a raw path for: escapes decoded once, path parameters and
    empty segments dropped, dot segments resolved, backslashes as slashes, no slash at the end."""
    out: list[str] = []
    for part in unquote(path, errors="replace").replace("\\", "/").split("/"):
        name = part.partition(";")[0]
        if name == "..":
            if out:
                out.pop()
        elif name not in ("", "."):
            out.append(name)
    return "/" + "/".join(out)


def path_test(patterns: Iterable[str]) -> StrTest:
    """True when the raw path or its plain form matches a glob: spelling a path in another way does not take a
    request out of a policy's reach."""
    test = any_of(patterns)

    def check(path: str) -> bool:
        return test(path) or ((path.endswith("/") or not is_plain(path)) and test(plain_path(path)))

    return check
