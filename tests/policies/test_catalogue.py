"""The catalogue: names to classes, imported only when asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from policies import CATALOGUE, load
from policies.contract import Policy


@pytest.mark.parametrize("use", sorted(CATALOGUE))
def test_load_gives_the_class(use: str) -> None:
    found = load(use)
    assert issubclass(found, Policy)
    assert use == found.USE


def test_unknown_name() -> None:
    with pytest.raises(KeyError):
        load("no_such_policy")


def test_importing_the_catalogue_and_the_engine_imports_no_policy() -> None:
    modules = [where.partition(":")[0] for where in CATALOGUE.values()]
    code = f"import sys, policies, policies.chain; print([m for m in {modules!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
