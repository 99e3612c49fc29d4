"""proxy/README.md is the map: every file of the package is on it."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "proxy/README.md").read_text()
NAMED = set(re.findall(r"`([a-z_*]+\.py)`", PAGE))


@pytest.mark.parametrize("path", sorted((ROOT / "proxy").glob("*.py")), ids=lambda p: p.name)
def test_every_file_is_on_the_map(path: Path) -> None:
    assert path.name == "__init__.py" or any(fnmatch.fnmatch(path.name, name) for name in NAMED)


def test_the_map_names_only_what_exists() -> None:
    for name in NAMED:
        assert list((ROOT / "proxy").glob(name)) or list((ROOT / "proxy/dialects").glob(name)), name
