"""One entry of ``policies:`` in policy.yaml: the keys every policy has, whatever its kind.

Validated data only; ``policies/chain.py`` applies it.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from policies.units import Duration, Name, Record


def _method(value: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z-]*", value):
        raise ValueError("write a method in capitals, for instance POST")  # RFC 9110 9.1: methods have case
    return value


def _path(value: str) -> str:
    if not re.match(r"[/*?]", value):
        raise ValueError("write a path that begins with / or *, for instance /v1/chat/*")
    return value


def _header(value: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):  # RFC 9110 5.6.2, token
        raise ValueError("write the name of a header field, for instance X-Team")
    return value


Method = Annotated[str, AfterValidator(_method)]
PathGlob = Annotated[str, AfterValidator(_path)]
HeaderName = Annotated[str, AfterValidator(_header)]


class When(Record):
    """A request matches when every key given here matches: a list when any of its values does, ``labels`` and
    ``headers`` when all of theirs do. In globs ``*`` is any run of characters, ``?`` any one."""

    models: list[str] = Field(default=[], examples=[["llama-*"]])
    """Globs over the model asked for, without case. A request that names none matches too, where its text can
    be read."""
    paths: list[PathGlob] = Field(default=[], examples=[["/v1/chat/*"]])
    """Globs over the path, such as ``/v1/chat/*``."""
    methods: list[Method] = Field(default=[], examples=[["POST"]])
    """Request methods, in capitals."""
    callers: list[str] = []
    """Names of callers; ``anonymous`` for none."""
    tenants: list[str] = []
    """Names of tenants, for setups in which a caller belongs to one."""
    labels: dict[str, str] = {}
    """Labels that earlier policies wrote; values are globs, an empty value means absent."""
    headers: dict[HeaderName, str] = {}
    """Request header fields, looked at once, at this policy's place in the list; values are globs, an empty
    value means absent."""
    stream: bool | None = None
    """True or false as the body says; a body without the flag is false."""


class PolicyEntry(BaseModel):
    """What every policy in the list may say, whatever its kind. The other keys are its own options."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    use: str = Field(examples=["request_guard"])
    """Which policy: a name of the catalogue."""
    name: Name = ""
    """Its name in logs, metrics and findings, like no other policy's; default: the value of ``use``."""
    when: When | None = None
    """Apply only to matching requests; all given keys must match."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """``shadow``: run it, log what it would have done, change nothing."""
    on_error: Literal["open", "closed"] = "closed"
    """When the policy itself fails or overruns its ``timeout``: go on without it, or refuse."""
    timeout: Duration = 5.0
    """Time for each of its waiting phases; 0 means no bound."""
