"""docs/pii.md tells of the entities that there are."""

from __future__ import annotations

import re
from pathlib import Path

from policies.pii.table import markdown

PAGE = (Path(__file__).parents[3] / "docs" / "pii.md").read_text()


def test_the_table_is_fresh() -> None:
    (shown,) = re.findall(r"<!-- entities: .*? -->\n(.*?)<!-- end -->", PAGE, re.S)
    assert shown == markdown(), "put the output of `python -m policies.pii.table` into docs/pii.md"
