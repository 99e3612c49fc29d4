"""``headgate check``, ``explain``, ``schema`` and ``docs``: what they print and how they end.

What lives here: output for people, editors and CI. What must never live here: the rules of policy.yaml.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TextIO

from proxy import config_schema, reference
from proxy.config import DEFAULT_FILE, Config, ConfigError, Overrides, Problem, catalogue, load

OK, INVALID, UNREADABLE = 0, 1, 2
"""Exit codes of ``check``."""

SCHEMA_FILE = "proxy/policy.schema.json"
REFERENCE_FILE = "docs/policy-reference.md"


def check(
    path: str | None,
    env: Mapping[str, str],
    out: TextIO,
    *,
    format: Literal["text", "json"] = "text",
    overrides: Overrides | None = None,
) -> int:
    """Validate a policy file and print every problem and warning to ``out``.

    path: the file; None means policy.yaml here. format: ``text`` (with the source line on a terminal), or
    ``json``, one document. Returns 0 when it is valid, 1 when it is not, 2 when it cannot be read.
    """
    config: Config | None = None
    problems: list[Problem] = []
    code = OK
    try:
        config = load(path, env=env, overrides=overrides)
        warnings = config.warnings
    except ConfigError as exc:
        problems, warnings = exc.problems, exc.warnings
        code = UNREADABLE if exc.unreadable else INVALID
    if format == "json":
        _print_json(path, config, problems, warnings, out)
    else:
        _print_text(config, problems, warnings, out)
    return code


def explain(path: str | None, env: Mapping[str, str], out: TextIO) -> int:
    """Print which policies run on which route, in which tier, and why; exit codes as ``check``."""
    from proxy import explain as page  # it brings in the whole engine, which the other commands do not need

    return page.run(path or DEFAULT_FILE, env, out)


def schema(out: TextIO) -> int:
    """Print the JSON Schema of policy.yaml."""
    out.write(config_schema.text(catalogue()))
    return OK


def docs(root: str | Path, check_only: bool, out: TextIO | None = None) -> int:
    """Write the generated files below ``root``, the source tree; or, with ``check_only``, say which are stale.

    Returns 0, or 1 when ``check_only`` finds a file that is not what would be written, or 2 where ``root`` is
    not the source tree: nothing is written there.
    """
    out = sys.stdout if out is None else out
    if not Path(root, "proxy", "settings.py").is_file():
        print(f"{root} is not headgate's source tree; run this in the directory of pyproject.toml", file=out)
        return UNREADABLE
    stale = 0
    for name, text in generated().items():
        file = Path(root, name)
        old = file.read_text(encoding="utf-8") if file.exists() else None
        if old == text:
            continue
        if check_only:
            stale += 1
            print(f"{name} is not up to date; run `headgate docs` in the source tree", file=out)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            print(f"wrote {name}", file=out)
    return 1 if stale else 0


def generated() -> dict[str, str]:
    """The generated files: path in the source tree, content."""
    known = catalogue()
    return {SCHEMA_FILE: config_schema.text(known), REFERENCE_FILE: reference.markdown(known)}


def _print_json(
    path: str | None, config: Config | None, problems: list[Problem], warnings: list[Problem], out: TextIO
) -> None:
    listed = [("error", p) for p in problems] + [("warning", p) for p in warnings]
    document = {
        "ok": config is not None,
        "source": path or DEFAULT_FILE,
        "hash": config.hash if config is not None else None,
        "problems": [
            {
                "severity": severity,
                "file": p.file,
                "line": p.line,
                "column": p.column,
                "path": p.path,
                "message": p.message,
                "hint": p.hint,
            }
            for severity, p in listed
        ],
    }
    json.dump(document, out, ensure_ascii=False, indent=2)
    out.write("\n")


def _print_text(config: Config | None, problems: list[Problem], warnings: list[Problem], out: TextIO) -> None:
    excerpts = out.isatty()
    for problem in problems:
        _print_problem(str(problem), problem, excerpts, out)
    for warning in warnings:
        _print_problem(f"warning: {warning}", warning, excerpts, out)
    if config is None:
        print(f"not valid: {_count(len(problems), 'problem')}, {_count(len(warnings), 'warning')}", file=out)
    else:
        print(summary(config), file=out)


def summary(config: Config) -> str:
    """One line: what a valid configuration holds."""
    shadow = sum(1 for spec in config.policies if spec.entry.mode == "shadow")
    counts = [
        _count(len(config.settings.backends), "backend"),
        f"{len(config.policies)} {'policy' if len(config.policies) == 1 else 'policies'}"
        + (f" ({shadow} in shadow)" if shadow else ""),
        _count(len(config.warnings), "warning"),
    ]
    return f"{config.source or 'plain relay'}: ok, {', '.join(counts)}, hash {config.short_hash}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _print_problem(text: str, problem: Problem, excerpts: bool, out: TextIO) -> None:
    print(text, file=out)
    if not excerpts or not problem.excerpt.strip():
        return
    number = str(problem.line)
    # Tabs stay tabs below the line, so that the caret keeps its column on any terminal.
    before = "".join(c if c == "\t" else " " for c in problem.excerpt[: problem.column - 1])
    print(f"  {number} | {problem.excerpt}\n  {' ' * len(number)} | {before}^", file=out)
