"""The example of policies/README.md is a policy that works."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import policies
from policies import CATALOGUE
from policies.contract import Channel, Cut
from tests.kits import policy_kit as kit

README = (Path(policies.__file__).parent / "README.md").read_text()


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example as a file, with its line in the catalogue; the name to use it by."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    name = "answer_cap_of_the_readme"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(CATALOGUE, "answer_cap", f"{name}:AnswerCap")
    yield "answer_cap"
    sys.modules.pop(name, None)


def test_the_example_passes_the_kit(example: str) -> None:
    kit.check_declaration(example)
    kit.check_unknown_option(example)
    kit.check_idle(example)


async def test_the_example_cuts(example: str) -> None:
    p = kit.plan(kit.make(example, "max_characters: 5"))
    (guard,) = p.guard
    assert guard(kit.exchange(), Channel(0, "reasoning")) is None
    gate = guard(kit.exchange(), Channel(0, "content"))
    assert gate is not None
    assert kit.through(gate, ["abc", "de"]) == "abcde"
    gate = guard(kit.exchange(), Channel(0, "content"))
    assert gate is not None
    with pytest.raises(Cut):
        kit.through(gate, ["abc", "def"])
    x = kit.exchange()
    await kit.check_shadow(kit.make(example, "max_characters: 5"), x, None, ["abc", "def"])
    assert [f.action for f in x.findings] == ["would_cut"]


def test_every_policy_and_every_file_is_on_the_page() -> None:
    for use in CATALOGUE:
        assert f"**`{use}`**" in README
    for file in Path(policies.__file__).parent.glob("*.py"):
        assert f"`{file.name}`" in README
