"""``headgate scan``: what the detectors of personal data find in a file, and how right they are.

What lives here: reading rows, printing spans, counting against spans that are given. What must never live here: detection;
any text in what is printed.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

from policies.pii import GROUPS, REGIONS, MissingExtra, Scanner, Span, compile_scanner

__all__ = ["Counts", "evaluate", "rows", "run"]

OK, BAD_ROWS, UNUSABLE = 0, 1, 2

_SECRETS = {
    "OPENAI_KEY": "openai_key", "ANTHROPIC_KEY": "anthropic_key", "AWS_ACCESS_KEY": "aws_access_key",
    "AWS_SECRET_KEY": "aws_secret_key", "GITHUB_TOKEN": "github_token", "GOOGLE_API_KEY": "google_key",
    "SLACK_TOKEN": "slack_token", "STRIPE_KEY": "stripe_key", "JWT": "jwt", "PRIVATE_KEY": "private_key",
    "CONNECTION_STRING": "connection_string", "GENERIC_SECRET": "generic_secret", "PASSWORD": "password",
}  # fmt: skip
#: Names that labelled data uses, and the entities that answer to them.
KNOWN: dict[str, tuple[str, ...]] = {
    "EMAIL_ADDRESS": ("email",), "PHONE_NUMBER": ("phone",), "CREDIT_CARD": ("credit_card",), "IBAN_CODE": ("iban",),
    "IP_ADDRESS": ("ipv4", "ipv6"), "MAC_ADDRESS": ("mac",), "BANK_ACCOUNT": ("bank_account",), "US_SSN": ("us_ssn", "us_itin"),
    "NATIONAL_ID": tuple(n for n in GROUPS["national_ids"] if n not in GROUPS["us_ids"]),
    "DATE_OF_BIRTH": ("date_of_birth",), "PASSPORT": ("passport",), "DRIVER_LICENSE": ("driver_licence",),
    "STREET_ADDRESS": ("postal_address",), "CRYPTO_ADDRESS": GROUPS["crypto"],
    "LLM_API_KEY": ("openai_key", "anthropic_key", "llm_key"),
    **{name: (entity,) for name, entity in _SECRETS.items()},
}  # fmt: skip


class BadRow(ValueError):
    """line: counted from 1. The message holds nothing of the row."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")


def rows(path: str) -> Iterator[dict[str, Any] | BadRow]:
    """The rows of a JSON Lines file, plain or gzip, ``-`` for standard input. A row that is no object with a ``text``
    comes as BadRow. Raises OSError."""
    if path == "-":
        yield from _parsed(sys.stdin)
    elif path.endswith(".gz"):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from _parsed(file)
    else:
        with open(path, encoding="utf-8") as file:
            yield from _parsed(file)


def _parsed(lines: Any) -> Iterator[dict[str, Any] | BadRow]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            yield BadRow(number, "not JSON")
            continue
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            yield BadRow(number, 'not an object with a string "text"')
            continue
        yield row


def run(
    path: str,
    out: TextIO,
    err: TextIO,
    *,
    entities: str = "all",
    threshold: float = 0.5,
    regions: str = "",
    measure: bool = False,
) -> int:
    """Print, for each row, one JSON line with its number and spans; or, with measure, a table of how they compare to
    the row's own ``spans``. entities, regions: separated by commas. Returns the exit code: 0, 1 when rows
    could not be read, 2 when the file or the options could not be used."""
    try:
        scanner = compile_scanner(_list(entities), threshold=threshold, regions=_list(regions) or REGIONS)
        if measure:
            counts, bad = evaluate(path, scanner, err)
            _table(counts, out)
        else:
            bad = _spans(path, scanner, out, err)
    except (OSError, EOFError, UnicodeDecodeError, ValueError, MissingExtra) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        print(f"headgate scan: {reason}", file=err)
        return UNUSABLE
    return BAD_ROWS if bad else OK


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _spans(path: str, scanner: Scanner, out: TextIO, err: TextIO) -> int:
    bad = 0
    for number, row in enumerate(rows(path)):
        if isinstance(row, BadRow):
            print(f"headgate scan: {row}", file=err)
            bad += 1
            continue
        found = [{"start": s.start, "end": s.end, "type": s.type, "score": s.score} for s in scanner.spans(row["text"])]
        print(json.dumps({"row": number, "spans": found}), file=out)
    return bad


@dataclass
class Counts:
    """Of one type. gold: spans given; hit: those found (overlap by half or more of both together); exact: with their very
    ends; found: spans reported; right: those that overlap a given one so."""

    gold: int = 0
    hit: int = 0
    exact: int = 0
    found: int = 0
    right: int = 0

    @property
    def recall(self) -> float | None:
        return self.hit / self.gold if self.gold else None

    @property
    def precision(self) -> float | None:
        return self.right / self.found if self.found else None

    @property
    def f1(self) -> float | None:
        p, r = self.precision, self.recall
        return None if p is None or r is None else 2 * p * r / (p + r) if p + r else 0.0


@dataclass
class _Types:
    """Which given type an entity counts under."""

    of: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, answering in KNOWN.items():
            for entity in answering:
                self.of.setdefault(entity, name)


_HOME = _Types().of
_HOME.update(openai_key="LLM_API_KEY", anthropic_key="LLM_API_KEY")


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> float:
    shared = min(a[1], b[1]) - max(a[0], b[0])
    return shared / (max(a[1], b[1]) - min(a[0], b[0])) if shared > 0 else 0.0


def evaluate(path: str, scanner: Scanner, err: TextIO) -> tuple[dict[str, Counts], int]:
    """Compare to the rows' ``spans`` (``start``, ``end``, ``type``). Types: those of ``KNOWN``, else the entities' own.
    Returns the counts by type and how many rows could not be used."""
    counts: dict[str, Counts] = {}
    bad = 0
    asked = set(scanner.types)
    for row in rows(path):
        if isinstance(row, BadRow):
            print(f"headgate scan: {row}", file=err)
            bad += 1
            continue
        gold = [(g["type"], (g["start"], g["end"])) for g in row.get("spans", ())]
        _compare(counts, gold, scanner.spans(row["text"]), asked)
    return counts, bad


def _compare(
    counts: dict[str, Counts], gold: list[tuple[str, tuple[int, int]]], found: list[Span], asked: set[str]
) -> None:
    for name, place in gold:
        answering = KNOWN.get(name, (name,))
        if not asked.intersection(answering):
            continue
        count = counts.setdefault(name, Counts())
        shares = [_overlap(place, s[:2]) for s in found if s.type in answering]
        count.gold += 1
        count.hit += max(shares, default=0.0) >= 0.5
        count.exact += 1.0 in shares
    for span in found:
        count = counts.setdefault(_HOME.get(span.type, span.type), Counts())
        count.found += 1
        count.right += any(
            span.type in KNOWN.get(name, (name,)) and _overlap(place, span[:2]) >= 0.5 for name, place in gold
        )


def _table(counts: dict[str, Counts], out: TextIO) -> None:
    print(f"{'type':<20}{'spans':>7}{'found':>7}{'precision':>11}{'recall':>8}{'F1':>7}{'exact':>7}", file=out)
    for name, c in sorted(counts.items()):
        exact = c.exact / c.gold if c.gold else None
        rates = ((c.precision, 11), (c.recall, 8), (c.f1, 7), (exact, 7))
        cells = "".join(f"{'-' if v is None else f'{v:.3f}':>{wide}}" for v, wide in rates)
        print(f"{name:<20}{c.gold:>7}{c.found:>7}{cells}", file=out)
