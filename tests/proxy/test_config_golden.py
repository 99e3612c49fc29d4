"""Wrong policy files and the exact words that are said about them: ``golden/config/*.txt``.

A golden file is a policy file, a line of ``=``, and the problems, then the warnings. ``UPDATE_GOLDEN=1 pytest
tests/proxy/test_config_golden.py`` writes the second part anew; read the difference before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.config import ConfigError, load
from tests.proxy.config_fakes import CATALOGUE, ENV, SECRETS

GOLDEN = Path(__file__).with_name("golden") / "config"
FILES = sorted(GOLDEN.glob("*.txt"))
RULE = "=" * 20 + "\n"


def told(text: str) -> str:
    """Everything that loading the text says, one line each."""
    try:
        config = load("policy.yaml", text=text.encode(), env=ENV, known=CATALOGUE)
    except ConfigError as exc:
        lines = [str(p) for p in exc.problems] + [f"warning: {w}" for w in exc.warnings]
    else:
        lines = ["ok"] + [f"warning: {w}" for w in config.warnings]
    return "".join(line + "\n" for line in lines)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_the_words(file: Path) -> None:
    text, rule, expected = file.read_text(encoding="utf-8").partition(RULE)
    found = told(text)
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text + RULE + found, encoding="utf-8")
        return
    assert rule, f"{file.name} has no rule"
    assert found == expected


def test_there_are_enough_of_them() -> None:
    wrong = [f for f in FILES if not f.read_text(encoding="utf-8").partition(RULE)[2].startswith("ok")]
    assert len(wrong) >= 40


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_no_secret_and_nothing_of_pydantic_shows(file: Path) -> None:
    said = file.read_text(encoding="utf-8").partition(RULE)[2]
    for secret in SECRETS:
        assert secret not in said
    for leak in ("Input should", "Value error", "pydantic", "function-", "[type=", "Options", "literal["):
        assert leak not in said
