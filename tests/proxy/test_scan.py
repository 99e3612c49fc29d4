"""``headgate scan``: rows in, spans out; counting; bad files."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest

from policies.pii import compile_scanner
from proxy.__main__ import main
from proxy.scan import evaluate, run

ROWS = [
    {"text": "mail jane@example.com", "spans": [{"start": 5, "end": 21, "type": "EMAIL_ADDRESS"}]},
    {"text": "🙂 a@b.io and card 4111 1111 1111 1111", "spans": [{"start": 2, "end": 8, "type": "EMAIL_ADDRESS"}]},
    {
        "text": "secret place",
        "spans": [{"start": 0, "end": 6, "type": "EMAIL_ADDRESS"}, {"start": 7, "end": 12, "type": "PERSON"}],
    },
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in ROWS) + "\n")
    return path


def scan(path: Path | str, **options: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return run(str(path), out, err, **options), out.getvalue(), err.getvalue()  # type: ignore[arg-type]


def test_spans_in_code_points_and_no_text(file: Path) -> None:
    code, out, err = scan(file)
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"row": 0, "spans": [{"start": 5, "end": 21, "type": "email", "score": 0.95}]},
        {
            "row": 1,
            "spans": [
                {"start": 2, "end": 8, "type": "email", "score": 0.95},
                {"start": 18, "end": 37, "type": "credit_card", "score": 0.95},
            ],
        },
        {"row": 2, "spans": []},
    ]
    assert "jane" not in out


def test_gzip_and_entities(file: Path, tmp_path: Path) -> None:
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    code, out, _ = scan(packed, entities="payment")
    assert code == 0
    assert [len(json.loads(line)["spans"]) for line in out.splitlines()] == [0, 1, 0]


def test_counts(file: Path) -> None:
    counts, bad = evaluate(str(file), compile_scanner(["email", "credit_card"]), io.StringIO())
    assert bad == 0
    assert (counts["EMAIL_ADDRESS"].recall, counts["EMAIL_ADDRESS"].precision) == (2 / 3, 1.0)
    assert counts["EMAIL_ADDRESS"].f1 == pytest.approx(0.8)
    assert (counts["CREDIT_CARD"].found, counts["CREDIT_CARD"].right, counts["CREDIT_CARD"].recall) == (1, 0, None)
    assert "PERSON" not in counts


def test_the_command(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", str(file), "--evaluate", "--entities", "email"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["type", "spans", "found", "precision", "recall", "F1", "exact"]
    assert lines[1].split() == ["EMAIL_ADDRESS", "3", "2", "1.000", "0.667", "0.800", "0.667"]


def test_bad_rows_are_named_by_their_line_and_nothing_else(file: Path) -> None:
    with file.open("a") as more:
        more.write('{"text": 1}\nnot json hunter2\n[]\n{"text": "x"}\n')
    code, out, err = scan(file)
    assert code == 1 and len(out.splitlines()) == 4
    assert "line 4" in err and "line 5: not JSON" in err and "hunter2" not in err


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"entities": "emial"}, "emial"), ({"regions": "XX"}, "XX"), ({"threshold": 2.0}, "threshold")],
)
def test_options_that_cannot_be_used(file: Path, options: dict[str, object], reason: str) -> None:
    code, out, err = scan(file, **options)
    assert (code, out) == (2, "") and reason in err


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bin.jsonl").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "bad.gz").write_bytes(b"no gzip")
    for name in ("none.jsonl", "bin.jsonl", "bad.gz"):
        code, out, err = scan(tmp_path / name)
        assert (code, out) == (2, "") and err.startswith("headgate scan: ")
