"""Every command once, as people run them: exit codes, and what they print."""

from __future__ import annotations

import json
from pathlib import Path

from proxy import __version__
from tests.kits.process import ROOT, headgate

FREE = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")


async def ran(*argv: str, cwd: Path) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    async with headgate(*argv, cwd=cwd) as p:
        code = await p.ended()
        return code, "\n".join(p.stdout), "\n".join(p.stderr)


async def test_demo_once(tmp_path: Path) -> None:
    code, out, err = await ran("demo", "--once", *FREE, cwd=tmp_path)
    assert (code, err) == (0, ""), out
    for shown in (
        "1. A plain call", "<- 200", "2. A stream", "3. A request that asks for too much", "<- 400", "max_tokens",
        "server: headgate-demo",
        "the backend says   Our next release is called project nightjar, and project nightjar ships in May.",
        "the client reads   Our next release is called [REDACTED], and [REDACTED] ships in May.",
        "export OPENAI_BASE_URL=http://127.0.0.1:", "curl http://127.0.0.1:", "/policies",
    ):  # fmt: skip
        assert shown in out
    assert "Traceback" not in out
    tour, _, log = out.partition("Ctrl-C ends the demo.")
    assert " start " in log and " start " not in tour, "log lines stand in the middle of the tour"
    assert log.count(" POST ") == 4 and "state=clean" in log


async def test_the_demo_with_a_policy_that_refuses_everything(tmp_path: Path) -> None:
    (tmp_path / "strict.yaml").write_text(
        "version: 1\nbackends: {a: {url: 'http://127.0.0.1:9'}}\npolicies: [{use: request_guard, models: [llama-*]}]\n"
    )
    argv = ("demo", "--once", "--policy", "strict.yaml", "--listen", "127.0.0.1:0", "--admin", "off")
    code, out, err = await ran(*argv, cwd=tmp_path)
    assert (code, err) == (0, "") and out.count("<- 403") == 2 and "Edit strict.yaml" in out


def test_the_demo_ships_the_policy_file_of_the_repository() -> None:
    """``headgate demo`` outside a clone runs the same policies as within."""
    assert (ROOT / "proxy/demo/policy.yaml").read_bytes() == (ROOT / "policy.yaml").read_bytes()


async def test_demo_says_which_ports_are_taken(tmp_path: Path) -> None:
    async with headgate("demo", *FREE, cwd=tmp_path) as first:
        line: str = await first.until(lambda: [x for x in first.stdout if x.strip().startswith("headgate  ")])
        address = line[0].split()[1].removeprefix("http://").removesuffix("/v1")
        code, _, err = await ran("demo", "--once", "--listen", address, "--admin", "off", cwd=tmp_path)
        assert code == 69 and "cannot listen" in err and "Traceback" not in err
        await first.until(lambda: "Ctrl-C ends the demo" in first.text)
        assert await first.stop() == 0, first.text


async def test_check(tmp_path: Path) -> None:
    shipped = str(ROOT / "policy.yaml")
    code, out, _ = await ran("check", shipped, cwd=tmp_path)
    assert code == 0 and "ok" in out
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 1\nbackend: {local: {url: http://127.0.0.1:9}}\nbackends: {a: {url: 7}}\n")
    code, out, _ = await ran("check", "bad.yaml", cwd=tmp_path)
    assert code == 1
    assert "bad.yaml:2:1" in out and "backends" in out and "bad.yaml:3:21" in out
    code, out, _ = await ran("check", "bad.yaml", "--format", "json", cwd=tmp_path)
    assert code == 1 and [p["line"] for p in json.loads(out)["problems"]] == [2, 3]
    code, out, err = await ran("check", "absent.yaml", cwd=tmp_path)
    assert code == 2 and "absent.yaml" in out + err


async def test_explain(tmp_path: Path) -> None:
    code, out, err = await ran("explain", str(ROOT / "policy.yaml"), cwd=tmp_path)
    assert (code, err) == (0, "")
    assert "sane-requests" in out and "tier" in out and "chat" in out
    code, out, _ = await ran("explain", "absent.yaml", cwd=tmp_path)
    assert code != 0 and "Traceback" not in out


async def test_schema_help_and_version(tmp_path: Path) -> None:
    code, out, _ = await ran("schema", cwd=tmp_path)
    assert code == 0 and out == (ROOT / "proxy/policy.schema.json").read_text().rstrip("\n")
    assert (await ran("--version", cwd=tmp_path))[:2] == (0, f"headgate {__version__}")
    code, out, _ = await ran("--help", cwd=tmp_path)
    assert code == 0
    for command in ("serve", "check", "explain", "schema", "docs", "demo"):
        assert command in out
        code, _, _ = await ran(command, "--help", cwd=tmp_path)
        assert code == 0
    code, _, err = await ran("serv", cwd=tmp_path)
    assert code == 2 and "serve" in err
    assert (await ran("docs", "--check", cwd=ROOT))[0] == 0
