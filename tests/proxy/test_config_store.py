"""``store:`` in policy.yaml: its forms, what is refused, and that its password is shown nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from policies.contract import Exchange, Policy
from proxy.config import Config, ConfigError, load
from proxy.settings import StoreSettings
from proxy.store.guarded import Guarded
from proxy.store.memory import Memory
from proxy.store.opening import make

BASE = "backends: {a: {url: 'http://h'}}\n"


class Counting(Policy):
    """Counts."""

    USE = "counting"
    counts = True

    async def admit(self, x: Exchange) -> None:
        """Counts."""


def read(text: str, env: dict[str, str] | None = None) -> Config:
    return load("policy.yaml", text=(BASE + text).encode(), env=env or {}, known={"counting": lambda: Counting})


def problems(text: str, env: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, env)
    return "\n".join(str(p) + p.excerpt for p in caught.value.problems)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", StoreSettings()),
        ("store: memory", StoreSettings()),
        ("store: redis://h/1", StoreSettings(url="redis://h/1")),
        ("store: {url: 'unix:///s', prefix: x, on_error: closed, replicas: 3, timeout: 20ms, ca: /ca.pem}",
         StoreSettings(url="unix:///s", prefix="x", on_error="closed", replicas=3, timeout=0.02, ca="/ca.pem")),
        ("store: {approximate: true}", StoreSettings(approximate=True)),
        ("store: {url: '${U}', replicas: '${N}'}", StoreSettings(url="redis+cluster://a,b", replicas=4)),
    ],
)  # fmt: skip
def test_forms(text: str, want: StoreSettings) -> None:
    assert read(text, {"U": "redis+cluster://a,b", "N": "4"}).settings.store_settings == want


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("store: localhost:6379", "store: write redis://"),
        ("store: 7", "store: must be text or a mapping"),
        ("store: [redis://h]", "store: must be text or a mapping"),
        ("store: {url: 'redis://h', on_eror: open}", "did you mean 'on_error'"),
        ("store: {url: 'redis://h', replicas: 0}", "store.replicas: must be at least 1"),
        ("store: {url: 'redis://h', timeout: 0}", "store.timeout"),
        ("store: {url: 'redis://h', on_error: fail}", "store.on_error"),
        ("store: {url: 'redis://h', prefix: 'a{b}'}", "store.prefix"),
        ("store: redis://:hunter2@h:x", "store: write redis://"),
        ("store: {url: 'redis://:hunter2@h/x'}", "store.url: the database is a number"),
        ("store: '${U}'", "store: write redis://"),
    ],
)
def test_what_is_refused(text: str, where: str) -> None:
    told = problems(text, {"U": "redis://:hunter2@h:x"})
    assert where in told and "hunter2" not in told


def test_the_password_is_shown_nowhere() -> None:
    for text in ("store: '${U}'", "store: {url: '${U}'}", "store: redis://:hunter2@h", "store: {url: 'redis://:hunter2@h'}"):
        config = read(text, {"U": "redis://:hunter2@h"})
        assert "hunter2" not in repr(config) + repr(config.settings) + repr(config.settings.store_settings)
        assert "hunter2" not in "".join(str(w) + w.excerpt for w in config.warnings)
        assert "hunter2" in config.settings.store_settings.url


def test_a_password_in_clear_is_a_warning() -> None:
    (warning,) = read("store: redis://:hunter2@h").warnings
    assert str(warning).startswith("policy.yaml:2:8: store: a secret stands in the file in clear")
    assert [w.path for w in read("store: {url: 'redis://:hunter2@h'}").warnings] == ["store.url"]
    assert read("store: redis://h").warnings == [] == read("store: '${U}'", {"U": "redis://:pw@h"}).warnings


def test_several_workers_need_a_shared_store_when_somebody_counts() -> None:
    policies = "policies: [{use: counting, name: fair}]\n"
    told = problems("workers: 4\n" + policies)
    assert told.startswith(
        "policy.yaml:2:10: workers: 'fair' counts in memory, and each of the 4 workers has a memory of its own: limits would"
        " be 4 times what they say; write `store: redis://host:6379/0`, or `store: {url: memory, approximate: true}`"
    )
    assert "store: 'fair' counts" in problems("store: memory\nworkers: 2\n" + policies)
    for fine in (
        "workers: 4\n", policies, "workers: 4\nstore: redis://h\n" + policies,
        "workers: 4\nstore: {approximate: true}\n" + policies,
    ):  # fmt: skip
        assert read(fine).warnings == []


def test_keys_without_effect_are_told() -> None:
    warned = {w.path for w in read("store: {prefix: x, on_error: open, timeout: 1s, ca: /x}").warnings}
    assert warned == {"store.prefix", "store.on_error", "store.timeout", "store.ca"}
    assert [w.path for w in read("store: {url: 'redis://h', approximate: true}").warnings] == ["store.approximate"]


def made(settings: StoreSettings, workers: int, told: list[Any] | None = None) -> Any:
    return make(settings, workers, told=lambda *what: None if told is None else told.append(what))


def test_the_store_that_is_asked_for() -> None:
    assert isinstance(made(StoreSettings(), 3), Memory) and made(StoreSettings(), 3).n == 1
    assert made(StoreSettings(approximate=True, replicas=2), 3).n == 6
    guard = made(StoreSettings(url="redis://h", on_error="closed", replicas=2, timeout=0.02, prefix="x"), 3)
    assert isinstance(guard, Guarded)
    assert (guard.n, guard.on_error, guard._timeout, guard.remote.prefix) == (6, "closed", 0.02, "x")


async def test_a_change_of_state_is_told_as_an_event() -> None:
    from tests.kits.store_kit import free_port

    told: list[Any] = []
    store = made(StoreSettings(url=f"redis://:hunter2@127.0.0.1:{free_port()}"), 1, told)
    assert await store.open("p") is await store.open("p")
    assert told == [("store_away", {"reason": "connection", "mode": "local"})]
    await store.close()


async def test_a_full_table_is_told() -> None:
    from policies.store import Rate

    told: list[Any] = []
    table = made(StoreSettings(), 1, told)
    table.max_keys = 10
    store = await table.open("p")
    for i in range(30):
        await store.take([Rate(f"k{i}", 1, 1, 60, 1)])
    assert told == [("store_full", {"evicted": 1})]
