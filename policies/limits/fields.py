"""What a reply says of limits, in header fields: the names and forms of OpenAI's API (platform.openai.com, "Rate limits in
headers").

What must never live here: whose limit it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from policies.contract import Headers
from policies.limits.spec import Limit
from policies.store import PartState

__all__ = ["put_rate_fields", "rate_fields", "span"]

_KINDS = {"requests": "requests", "tokens": "tokens", "prompt_tokens": "tokens", "completion_tokens": "tokens"}
_NAMES = {
    kind: (f"x-ratelimit-limit-{kind}", f"x-ratelimit-remaining-{kind}", f"x-ratelimit-reset-{kind}")
    for kind in ("requests", "tokens")
}


def span(seconds: float) -> str:
    """``20ms``, ``1s``, ``6m0s``, ``1h0m0s``: rounded up, so that who waits as long as it says has waited long enough."""
    if seconds <= 0:
        return "0s"
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours}h{minutes}m{whole % 60}s"
    return f"{minutes}m{whole % 60}s" if minutes else f"{whole}s"


def rate_fields(limits: Sequence[Limit], states: Sequence[PartState]) -> list[tuple[str, str]]:
    """``x-ratelimit-{limit,remaining,reset}-{requests,tokens}``: of several limits on one kind the one with the least left,
    as a share of it."""
    tightest: dict[str, tuple[float, PartState]] = {}
    for limit, state in zip(limits, states, strict=True):
        kind = _KINDS.get(limit.measure)
        if kind is not None:
            left = state.remaining / state.limit if state.limit else 0.0
            known = tightest.get(kind)
            if known is None or left < known[0]:
                tightest[kind] = left, state
    out: list[tuple[str, str]] = []
    for kind, (_, state) in tightest.items():
        limit_name, remaining_name, reset_name = _NAMES[kind]
        out.append((limit_name, str(int(state.limit))))
        out.append((remaining_name, str(int(state.remaining)) if state.remaining > 0 else "0"))
        out.append((reset_name, span(state.reset_after_s)))
    return out


def put_rate_fields(headers: Headers, fields: Sequence[tuple[str, str]]) -> None:
    """Put them on a reply. Where another policy, or the backend, has said already that less is left, its word stays."""
    lines = headers.fields
    said_already = {k.lower() for k, _ in lines if len(k) > 20 and k[:11].lower() == b"x-ratelimit"}
    if not said_already:  # nearly always
        lines += [(name.encode(), value.encode()) for name, value in fields]
        return
    for kind in ("requests", "tokens"):
        mine = {name: value for name, value in fields if name.endswith(kind)}
        left = f"x-ratelimit-remaining-{kind}"
        if left not in mine:
            continue
        said = headers.get(left)
        if said is not None and said.isdecimal() and int(said) <= int(mine[left]):
            continue
        for name, value in mine.items():
            headers.set(name, value)
