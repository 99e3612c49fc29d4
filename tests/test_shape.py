"""The shape of the tree: who may import whom, who may use which library, how long files are, what is banned."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from policies import CATALOGUE

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*ROOT.glob("proxy/**/*.py"), *ROOT.glob("policies/**/*.py")])

#: Libraries that belong to one place. Key: top-level module; value: path prefixes that may import it.
HOMES = {
    "yaml": ("proxy/config",),
    "prometheus_client": ("proxy/metrics.py",),
    "aiohttp": ("proxy/admin.py", "proxy/post.py", "proxy/demo/"),
    "httptools": ("proxy/connection.py", "proxy/upstream.py", "proxy/declined.py"),
    "uvloop": ("proxy/process.py",),
    "redis": ("proxy/store/redis.py",),
    "torch": ("policies/classifier/", "training/"),
    "transformers": ("policies/classifier/", "training/"),
}

#: Sans-io: text and state, never sockets or the loop.
SANS_IO = (
    "proxy/sse.py", "proxy/gated.py", "proxy/events.py", "proxy/channels.py", "proxy/headers.py", "proxy/faults.py",
    "proxy/routes.py",
    "proxy/jsonio.py", "proxy/dialects/", "policies/contract.py", "policies/exchange.py", "policies/gates.py",
    "policies/store.py", "proxy/store/shares.py", "proxy/store/scripts.py", "proxy/store/urls.py",
    "policies/gate_chain.py", "policies/chain.py", "policies/windows.py", "proxy/queueing.py",
    "policies/when.py", "policies/detect/", "policies/pii/", "policies/headers.py", "policies/request_guard.py",
)  # fmt: skip

#: May be longer than 300 lines, each with its reason.
LONG = {
    "proxy/connection.py": "one protocol object: splitting it would spread one state machine over two files",
    "proxy/upstream.py": "one protocol object and its pool",
}
LIMIT = 320


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path, *, type_checking: bool = True) -> set[str]:
    """Dotted names of all modules that a file imports; without those under ``if TYPE_CHECKING`` when asked."""
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    if not type_checking:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                skipped |= {inner for child in node.body for inner in ast.walk(child)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def module(path: Path) -> str:
    dotted = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    return dotted.removesuffix(".__init__")


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_point_one_way(path: Path) -> None:
    mine, uses = name(path), imported(path)
    if mine.startswith("policies/"):
        assert not {u for u in uses if u.split(".")[0] == "proxy"}, "a policy never reaches into the proxy"
        known = {where.partition(":")[0] for where in CATALOGUE.values()}
        if module(path) in known:
            assert not uses & known - {module(path)}, "a policy never imports another: what they share has a home of its own"
    if mine in ("policies/exchange.py", "policies/gates.py", "policies/store.py"):
        assert not {u for u in uses if u.split(".")[0] in ("proxy", "policies")}
    if mine == "policies/contract.py":
        assert {".".join(u.split(".")[:2]) for u in uses if u.startswith("policies")} <= {
            "policies.exchange",
            "policies.gates",
            "policies.store",
        }
    if not mine.startswith("proxy/demo/") and mine != "proxy/__main__.py":
        assert not {u for u in uses if u.startswith("proxy.demo")}, "nothing but the command line knows the demo"
    if mine not in ("proxy/process.py", "proxy/status.py") and not mine.startswith("proxy/demo/"):
        assert not {u for u in uses if u == "proxy.app" or u.startswith("proxy.app.")}, "nobody imports the root"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_each_library_has_its_home(path: Path) -> None:
    for use in imported(path):
        homes = HOMES.get(use.split(".")[0])
        assert homes is None or name(path).startswith(homes), f"{use} belongs to {homes}"


@pytest.mark.parametrize("path", [p for p in SOURCES if name(p).startswith(SANS_IO)], ids=name)
def test_text_and_state_know_no_sockets(path: Path) -> None:
    assert not imported(path) & {"asyncio", "socket", "ssl", "time", "threading", "selectors"}


def test_no_import_cycles() -> None:
    modules = {module(p) for p in SOURCES}
    graph = {module(p): modules & imported(p, type_checking=False) for p in SOURCES}
    done: set[str] = set()

    def visit(at: str, trail: tuple[str, ...]) -> None:
        assert at not in trail, " > ".join((*trail[trail.index(at) :], at))
        if at in done:
            return
        for to in graph[at] - {at}:
            visit(to, (*trail, at))
        done.add(at)

    for start in graph:
        visit(start, ())


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_stay_small(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= LIMIT or name(path) in LONG, f"{lines} lines: is it one thing? (reasons go into LONG)"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_every_file_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "a docstring on top: what lives here, what must never"


def test_work_per_chunk_cannot_wait() -> None:
    for file in ("proxy/pump.py", "proxy/gated_pump.py", "proxy/gated.py", "proxy/sse.py", "proxy/channels.py"):
        path = ROOT / file
        if path.exists():
            waiting = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.AsyncFunctionDef | ast.Await)]
            assert not waiting, f"{file} runs per chunk"


def test_wall_clock_is_used_where_it_is_meant() -> None:
    """Limits and durations go by the monotonic clock that is handed in; a clock step must not reach them."""
    allowed = {f"proxy/{part}.py" for part in ("relay", "runtime", "app", "status", "recorder", "tally", "keys")}
    for path in SOURCES:
        if name(path).startswith("proxy/demo/") or name(path) in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.time", "datetime.now"):
                raise AssertionError(f"{name(path)}:{node.lineno} reads the wall clock")
