"""What is shipped: the project file, the lock files, the version, the deployment files, the pages' promises.

These tests read files of the repository. Two do more: one builds a wheel (slow), one runs nginx (wire).
"""

from __future__ import annotations

import argparse
import http.server
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import proxy
from proxy.__main__ import main, parser

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/README.md", "deploy/sidecar/README.md")


def pins(lock: str) -> dict[str, tuple[str, list[str]]]:
    """A lock file as name -> (version, hashes); AssertionError on any line of another kind."""
    found: dict[str, tuple[str, list[str]]] = {}
    name = ""
    for line in (ROOT / lock).read_text().splitlines():
        text = line.split(" \\")[0].strip()
        if not text or text.startswith("#"):
            continue
        if match := re.fullmatch(r"([a-z0-9][a-z0-9.-]*)==([^\s;]+)(?: ; .+)?", text):
            name = match[1]
            assert name not in found, f"{lock}: {name} is pinned twice"
            found[name] = (match[2], [])
        else:
            match = re.fullmatch(r"--hash=sha256:([0-9a-f]{64})", text)
            assert match, f"{lock}: a line that is neither a pin nor a hash: {text}"
            found[name][1].append(match[1])
    return found


def wanted(requirements: list[str]) -> list[Requirement]:
    """The requirements that apply here, without the project's references to its own extras."""
    parsed = [Requirement(r) for r in requirements]
    return [r for r in parsed if r.name != "headgate" and (r.marker is None or r.marker.evaluate())]


# --- dependencies and their locks ---


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes_and_nothing_names_a_place(lock: str) -> None:
    found = pins(lock)
    assert found
    assert [name for name, (_, hashes) in found.items() if not hashes] == []
    text = (ROOT / lock).read_text()
    places = r"\w+://|(?:^|\s)/\w+/|--(?:extra-)?index|--find-links|--trusted|--editable| @ "
    assert re.findall(places, text) == []


def test_the_lock_fits_the_declared_dependencies() -> None:
    found = pins("requirements.lock")
    for need in wanted(PROJECT["dependencies"]):
        assert need.specifier.contains(found[canonicalize_name(need.name)][0]), need


def test_the_development_lock_holds_the_base_lock_and_the_tools() -> None:
    base, dev = pins("requirements.lock"), pins("requirements-dev.lock")
    assert {name: dev.get(name) for name in base} == base
    extras = PROJECT["optional-dependencies"]
    for need in wanted(extras["test"] + extras["dev"]):
        assert need.specifier.contains(dev[canonicalize_name(need.name)][0]), need


def test_every_dependency_has_a_lower_bound_and_a_cap() -> None:
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    loose = [
        str(need)
        for need in (Requirement(r) for requirements in lists for r in requirements)
        if need.name != "headgate" and {">=", "<"} != {s.operator for s in need.specifier}
    ]
    assert loose == []


def test_heavy_packages_stay_extras() -> None:
    heavy = {"torch", "transformers", "onnxruntime", "presidio-analyzer"}
    assert heavy.isdisjoint(pins("requirements-dev.lock"))
    extras = PROJECT["optional-dependencies"]
    declared = {
        need.name
        for extra in ("torch", "classifier", "presidio")
        for need in wanted(extras[extra])
    }
    assert heavy <= declared


# --- one version, one command ---


def test_the_version_has_one_source() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert PROJECT["dynamic"] == ["version"]
    assert setuptools["dynamic"]["version"] == {"attr": "proxy.__version__"}
    assert str(Version(proxy.__version__)) == proxy.__version__


def test_what_repeats_the_version_agrees() -> None:
    version = proxy.__version__
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert f"ARG VERSION={version}\n" in (ROOT / "Dockerfile").read_text()
    for page in ("README.md", "Dockerfile", "deploy/sidecar/README.md", "deploy/sidecar/vllm-pod.yaml"):
        tags = set(re.findall(r"headgate:(\d[\w.]*)", (ROOT / page).read_text()))
        assert tags == {version}, page


def test_the_console_script_points_at_a_function() -> None:
    module, _, name = PROJECT["scripts"]["headgate"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.slow
def test_the_wheel_holds_both_packages_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77.0.3", reason="pip install -r requirements-build.lock")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("proxy", "policies", "tests", "bench"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    inside = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    code = {n for n in inside if ".dist-info/" not in n}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("proxy", "policies")
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", ".json", ".yaml"} or path.name == "py.typed"
    }
    assert code == expected


# --- the tree and the pages ---


def test_the_names_of_the_design_exist() -> None:
    names = (
        "proxy policies deploy/sidecar tests bench docs Dockerfile policy.yaml pyproject.toml README.md "
        "Makefile .ci/run LICENSE CHANGELOG.md docs/architecture.md"
    )
    assert [name for name in names.split() if not (ROOT / name).exists()] == []
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text())
    dead = [link for link in links if "://" not in link and not (ROOT / page).parent.joinpath(link).exists()]
    assert dead == []


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_that_pages_name_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / page).read_text(), re.M))
    assert named <= targets


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_bare_make_lists_every_public_target() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("run", "test", "test-all", "lint", "bench", "docs", "setup", "clean"):
        assert re.search(rf"^  {target} +\S", shown, re.M), target


def shown_policies() -> dict[str, str]:
    """The policy files that pages and manifests show, by where they stand."""
    blocks = re.findall(r"^```yaml\n(version:.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    found = {f"README.md {i}": block for i, block in enumerate(blocks)}
    found["deploy/sidecar/vllm-pod.yaml"] = manifest("ConfigMap")["data"]["policy.yaml"]
    return found


def test_policy_files_that_are_shown_are_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = shown_policies()
    assert len(shown) >= 2
    for where, text in shown.items():
        (tmp_path / "policy.yaml").write_text(text)
        code = main(["check", str(tmp_path / "policy.yaml")])
        assert code == 0, (where, capsys.readouterr())


def test_the_readme_names_every_command() -> None:
    [commands] = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    named = re.findall(r"^\| `headgate (\w+)` \|", (ROOT / "README.md").read_text(), re.M)
    assert sorted(named) == sorted(commands.choices)


# --- deployment files ---


def dockerfile_line(word: str) -> str:
    """The arguments of the last instruction of this name, its continuation lines joined."""
    joined = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"^{word} +(.+)$", joined, re.M)[-1]


def test_the_image_runs_as_nobody_special_and_gets_signals() -> None:
    user = re.fullmatch(r"(\d+):(\d+)", dockerfile_line("USER"))
    assert user is not None  # numeric: Kubernetes' runAsNonRoot cannot judge a name
    assert min(int(user[1]), int(user[2])) >= 1000
    assert json.loads(dockerfile_line("ENTRYPOINT")) == ["headgate"]  # exec form: no shell keeps TERM away
    assert json.loads(dockerfile_line("CMD")) == ["serve"]


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_image_health_check_tells_good_from_bad(status: int, code: int) -> None:
    asked: list[str] = []

    class Admin(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Admin) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = json.loads(dockerfile_line("HEALTHCHECK").partition("CMD ")[2])
        assert command[:2] == ["python", "-c"]
        assert "9090" in command[2]
        script = command[2].replace("9090", str(server.server_port))
        environment = {**os.environ, "http_proxy": "http://127.0.0.1:9"}  # must not be obeyed
        done = subprocess.run([sys.executable, "-c", script], env=environment, timeout=20)
        server.shutdown()
    assert (done.returncode, asked) == (code, ["/health"])


def manifest(kind: str) -> dict[str, Any]:
    """The one object of this kind in the sidecar manifest."""
    objects = yaml.safe_load_all((ROOT / "deploy/sidecar/vllm-pod.yaml").read_text())
    [found] = [o for o in objects if o["kind"] == kind]
    return dict(found)


def test_the_sidecar_cannot_wait_for_the_model_server_that_waits_for_it() -> None:
    [gate] = manifest("Pod")["spec"]["initContainers"]
    assert gate["restartPolicy"] == "Always"
    assert gate["startupProbe"]["httpGet"]["path"] == "/health"
    assert gate["livenessProbe"]["httpGet"]["path"] == "/health"
    assert gate["readinessProbe"]["httpGet"]["path"] == "/ready"


def test_the_model_server_of_the_pod_is_reached_through_headgate_alone() -> None:
    pod, service = manifest("Pod")["spec"], manifest("Service")["spec"]
    [gate], [model] = pod["initContainers"], pod["containers"]
    policy = yaml.safe_load(manifest("ConfigMap")["data"]["policy.yaml"])
    port = policy["listen"].rpartition(":")[2]
    arguments = dict(zip(model["args"][::2], model["args"][1::2], strict=True))
    assert arguments["--host"] == "127.0.0.1"
    assert policy["backends"]["vllm"]["url"] == f"http://127.0.0.1:{arguments['--port']}"
    assert [p["targetPort"] for p in service["ports"]] == [int(port)]
    assert {p["containerPort"] for p in gate["ports"]} == {int(port), int(policy["admin"].rpartition(":")[2])}


def test_the_pod_has_time_to_end_its_streams() -> None:
    pod = manifest("Pod")["spec"]
    wait = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = yaml.safe_load(manifest("ConfigMap")["data"]["policy.yaml"])["drain_timeout"]
    assert pod["terminationGracePeriodSeconds"] >= wait + int(drain.removesuffix("s"))


@pytest.mark.wire
def test_nginx_accepts_the_configuration(tmp_path: Path) -> None:
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx is None:
        if os.environ.get("HEADGATE_REQUIRE_SERVICES") == "1":
            pytest.fail("nginx is not installed, and HEADGATE_REQUIRE_SERVICES=1")
        pytest.skip("nginx is not installed")
    text = (ROOT / "deploy/nginx/headgate.conf").read_text()
    # `nginx -t` binds the sockets: a path of ours instead of port 80.
    text, changed = re.subn(r"listen 80;", f"listen unix:{tmp_path}/nginx.sock;", text)
    assert changed == 1
    (tmp_path / "headgate.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; include {tmp_path}/headgate.conf; }}\n"
    )
    command = [nginx, "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
