"""The table of entities for docs/pii.md: ``python -m policies.pii.table`` prints it.

What lives here: that. What must never live here: anything a scanner needs.
"""

from __future__ import annotations

from policies.pii.catalogue import ENTITIES, GROUPS
from policies.pii.scanner import compile_scanner

__all__ = ["markdown"]


def markdown() -> str:
    """Markdown; one row per entity, in the order of the catalogue."""
    holds = compile_scanner(list(ENTITIES), threshold=0).worst_hold
    rows = [
        "| entity | placeholder | groups | what it is | check | score | held | extra |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entity in ENTITIES.items():
        groups = [g for g, names in GROUPS.items() if name in names and g not in ("all", "base")]
        scores = "/".join(f"{s:g}" for s in sorted({d.score for d in entity.detectors}, reverse=True))
        rows.append(
            f"| `{name}` | `{entity.label}` | {', '.join(groups)} | {entity.description} | {entity.validator} | {scores} |"
            f" {holds[name]} | {'yes' if entity.needs_extra else ''} |"
        )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
