"""The account page: what callers have used in a month, as JSON and as CSV.

What lives here: pure functions from ledgers' lines to bytes, and the reading of the page's parameters. What must never live here:
where the lines come from, HTTP.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from policies.limits.ledger import COLUMNS, Entry, Line

By = Literal["tenant", "caller", "model"]

NAMES: dict[By | None, tuple[str, ...]] = {
    None: ("tenant", "caller", "model"), "tenant": ("tenant",), "caller": ("tenant", "caller"), "model": ("model",),
}  # fmt: skip
"""What a line names, by what lines are added up. A caller's name is its own within its tenant alone."""
_MONTH = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])", re.ASCII)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class BadQuestion(ValueError):
    """A parameter of the page makes no sense; its text says which, and what would."""


class Question(NamedTuple):
    """month: ``2026-11``; empty: the current one. by: add lines up by this alone."""

    month: str
    by: By | None
    csv: bool


class Account(NamedTuple):
    """One policy's account of one month. limits: as the policy file writes them. lines: as the ledger has them."""

    policy: str
    currency: str
    limits: tuple[str, ...]
    lines: Sequence[Line]


class Usage(NamedTuple):
    """month: ``2026-11``. worker: whose account it is, where every worker keeps its own; None: that of all workers and
    replicas that share the store."""

    month: str
    worker: int | None
    accounts: Sequence[Account]


def question(given: Sequence[tuple[str, str]]) -> Question:
    """Read the parameters. given: (name, value), in order. Raises BadQuestion."""
    known: dict[str, str] = {}
    for name, value in given:
        if name not in ("month", "format", "by"):
            raise BadQuestion("there are month (2026-11), format (json or csv) and by (tenant, caller or model)")
        if name in known:
            raise BadQuestion(f"{name} is there twice")
        known[name] = value
    month, form, by = known.get("month", ""), known.get("format", "json"), known.get("by")
    if "month" in known and not _MONTH.fullmatch(month):
        raise BadQuestion("write the month as 2026-11")
    if form not in ("json", "csv"):
        raise BadQuestion("format is json or csv")
    if by not in NAMES:
        raise BadQuestion("by is tenant, caller or model")
    return Question(month, by, form == "csv")


def as_json(usage: Usage, by: By | None) -> bytes:
    """The page as JSON; every account with its lines and their total."""
    page = {
        "month": usage.month,
        "worker": usage.worker,
        "by": by or "tenant, caller, model",
        "policies": [
            {
                "policy": account.policy, "currency": account.currency, "limits": account.limits,
                "total": _numbers(_added(account.lines)),
                "lines": [
                    {**dict(zip(NAMES[by], names, strict=True)), **_numbers(line)} for names, line in _rows(account, by)
                ],
            }
            for account in usage.accounts
        ],
    }  # fmt: skip
    return msgspec.json.format(msgspec.json.encode(page), indent=2) + b"\n"


def as_csv(usage: Usage, by: By | None) -> bytes:
    """The page as CSV (RFC 4180): a head and one record for each line. A cell that a spreadsheet would take for a formula
    begins with an apostrophe: names come from callers."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)  # its lines end in CRLF
    writer.writerow(["month", "policy", "currency", *NAMES[by], *COLUMNS])
    for account in usage.accounts:
        for names, line in _rows(account, by):
            texts = (usage.month, account.policy, account.currency, *names)
            numbers = [v if type(v) is int else _Plain(v) for v in _numbers(line).values()]
            writer.writerow([*map(_cell, texts), *numbers])
    return out.getvalue().encode()


class _Plain(float):
    """A number that is written without an exponent, which not every reader of CSV knows."""

    def __str__(self) -> str:
        return f"{self:.9f}".rstrip("0").rstrip(".")


def _cell(text: str) -> str:
    return "'" + text if text.startswith(_FORMULA) else text


def _rows(account: Account, by: By | None) -> list[tuple[tuple[str, ...], Line]]:
    """(names, line): the lines, or what they come to by some of their names."""
    if by is None:
        return [(line.entry, line) for line in account.lines]
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in account.lines:
        tenant, caller, model = line.entry
        names = (tenant, caller) if by == "caller" else (tenant,) if by == "tenant" else (model,)
        groups.setdefault(names, []).append(line)
    return [(names, _added(lines)) for names, lines in sorted(groups.items())]


def _added(lines: Sequence[Line]) -> Line:
    return Line(Entry("", "", ""), *map(sum, list(zip(*lines, strict=True))[1:])) if lines else Line(Entry("", "", ""))


def _numbers(line: Line) -> dict[str, Any]:
    """Whole numbers as such; estimates and money with nine digits, more than which prices do not make."""
    return dict(zip(COLUMNS, [int(v) if v == int(v) else round(v, 9) for v in line[1:]], strict=True))
