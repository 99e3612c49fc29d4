"""Placeholders: what stands in a request for a value, and how a model's spelling of one is read.

What lives here: tags, the written form, the forms that are read, and telling which of them a text has already. What must
never live here: values.

A placeholder is ``[TAG_1]``; ``[TAG_1B]`` is the same value in a second spelling; ``[TAG_K3F9...]`` one made with a key.
Models copy most of them right, and some in another way, so these are read too: another case, other brackets, brackets or
``_`` escaped for Markdown, hyphens, spaces or no-break hyphens for ``_``, URL escapes, and capitals without brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import re2

from policies.detect import Rule, RuleSet, compile_rules

__all__ = ["BARE", "MOST_TAG", "Forms", "canonical", "tag_of", "written"]

_GAP = r"(?:\\?_|[- \x{a0}\x{2010}\x{2011}\x{2013}])"
_NUMBER = "[1-9][0-9]{0,4}[A-Z]?|K[A-Z2-7]{10}[A-Z]?"
_BRACKETS = (
    (r"\[", r"\]"), ("<", ">"), (r"\\\[", r"\\\]"), ("%5B", "%5D"), ("%3C", "%3E"), ("&lt;", "&gt;"),
    (r"\x{3010}", r"\x{3011}"), (r"\x{ff3b}", r"\x{ff3d}"),
)  # fmt: skip
_LONGEST = 96
"""Characters of the longest form: a tag has at most 40, each ``_`` of it may be two, and brackets three."""
MOST_TAG = 40

BRACKETED, BARE = 0, 1
"""The rules of ``Forms.rules``: in brackets; capitals without them."""

_STRIP = re.compile(r"^(?:\\?\[|<|%5B|%3C|&lt;|\u3010|\uff3b)|(?:\\?\]|>|%5D|%3E|&gt;|\u3011|\uff3d)$", re.IGNORECASE)
_GAPS = re.compile("\\\\?_|[- \u00a0\u2010\u2011\u2013]")


def tag_of(label: str) -> str:
    """An entity's name as it stands in placeholders: capitals, digits and single ``_``, a letter first."""
    tag = re.sub("[^A-Z0-9]+", "_", label.upper()).strip("_")[:MOST_TAG].strip("_")
    return tag if tag[:1].isalpha() else f"X_{tag}".strip("_")


def written(tag: str, number: str) -> str:
    """The placeholder that goes into a request."""
    return f"[{tag}_{number}]"


def canonical(form: str) -> str:
    """A form as read, ``<email-1>``, to what tells it from others, ``EMAIL_1``."""
    return _GAPS.sub("_", _STRIP.sub("", form)).upper()


class Forms:
    """All forms of the placeholders of some tags, compiled once per policy; which of them a request made is asked at match
    time, so that no request compiles anything."""

    def __init__(self, tags: Iterable[str]) -> None:
        names = sorted(set(tags), key=lambda t: (-len(t), t))
        if not names:
            raise ValueError("no tags")
        loose = "|".join(t.replace("_", _GAP) for t in names)
        body = f"(?:{loose}){_GAP}(?:{_NUMBER})"
        bracketed = [f"(?i){left}{body}{right}" for left, right in _BRACKETS]
        strict = "|".join(t.replace("_", r"\\?_") for t in names)
        bare = rf"(?:{strict})\\?_(?:{_NUMBER})"
        self.rules: RuleSet = compile_rules(
            [Rule("bracketed", bracketed, value=True), Rule("bare", [bare], whole_word=True, value=True)], cap=_LONGEST
        )
        options = re2.Options()
        options.longest_match = True
        options.log_errors = False
        self._any: Any = re2.compile("|".join([*(f"(?i:{p[4:]})" for p in bracketed), bare]), options)

    def warm(self) -> None:
        """Make the states that ordinary text and placeholders meet."""
        self.rules.warm()

    def seen(self, text: str) -> list[str]:
        """The canonical forms that a text has, in brackets or not; some more, where letters stand beside one."""
        return [canonical(m.group()) for m in self._any.finditer(_clean(text))]


def _clean(text: str) -> str:
    """Without lone surrogates, which RE2 does not take."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
