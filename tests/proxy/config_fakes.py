"""A small catalogue for the tests of policy.yaml: the messages must not depend on the shipped policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self

from pydantic import Field, model_validator

from policies.contract import Policy, PolicyOptions
from policies.units import BackendName, Duration, Record, Size


class Rule(Record):
    """One rule."""

    pattern: str = Field(min_length=1, examples=["secret-[0-9]+"])
    """What to look for."""
    action: Literal["allow", "redact", "block"] = "block"
    """What to do with it."""


class GuardOptions(PolicyOptions):
    """Options of the guard."""

    max_body: Size | None = None
    """Largest body."""
    max_tokens: int | None = Field(default=None, ge=1, le=100_000, examples=[4096])
    """Most tokens."""
    ratio: float = Field(default=1.0, gt=0, le=1)
    """A share."""
    models: list[str] | str = []
    """Allowed models."""
    rules: list[Rule] = []
    """Rules, in order."""
    strict: bool = False
    """Be strict."""
    window: Duration = 1.0
    """A window."""
    token: str = Field(default="", repr=False)
    """A secret of its own."""
    labels: dict[Literal["team", "project"], str] = {}
    """Labels to write."""
    limit: int | Literal["off"] = "off"
    """A limit."""
    tags: frozenset[str] = frozenset()
    """Tags."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if self.strict and not self.models:
            raise ValueError("`strict` needs `models`: write which are allowed")
        return self


class Guard(Policy):
    """Guards things."""

    USE = "guard"
    Options = GuardOptions
    EXAMPLE = "max_tokens: 4096\n"


class SparesOptions(PolicyOptions):
    """Options of the spares."""

    order: list[BackendName] = Field(min_length=1)
    """Backends in order."""


class Spares(Policy):
    """Orders backends."""

    USE = "spares"
    Options = SparesOptions
    EXAMPLE = "order: [local]\n"


class BrokenOptions(PolicyOptions):
    """Options whose own check is faulty."""

    text: str = ""
    """Any text."""

    @model_validator(mode="after")
    def _fault(self) -> Self:
        raise LookupError(f"a fault with {self.text}")


class Broken(Policy):
    """Fails in its own check."""

    USE = "broken"
    Options = BrokenOptions


def _missing_package() -> type[Policy]:
    raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")


CATALOGUE: dict[str, Callable[[], type[Policy]]] = {
    "guard": lambda: Guard,
    "spares": lambda: Spares,
    "broken": lambda: Broken,
    "classifier": _missing_package,
}

ENV = {
    "KEY": "env-secret-3f9a",
    "URL": "http://10.9.8.7:8000",
    "COUNT": "3",
    "FLAG": "true",
    "WORD": "not-a-number-77b1",
    "EMPTY": "",
    "ODD": "caf\udce9-secret",
    "LINES": "first-secret\nsecond-secret",
}
"""The environment of the golden files."""

SECRETS = ("env-secret-3f9a", "10.9.8.7", "not-a-number-77b1", "secret-in-clear", "first-secret", "second-secret")
"""What no message may hold: values of ENV, and keys that golden files have in clear."""
