"""Findings, counted: one for each kind, action and place of an exchange.

What lives here: Tally. What must never live here: text.
"""

from __future__ import annotations

from policies.contract import Channel, Exchange, Finding

__all__ = ["Tally", "place"]

_MOST = 64
"""Findings with places of their own; a request with more (a long history full of names) counts the rest without one."""


def place(channel: Channel) -> str:
    """The address of a reply channel in findings, e.g. ``choices[0].content``."""
    tool = f".tool_calls[{channel.tool}]" if channel.tool >= 0 else ""
    return f"choices[{channel.choice}]{tool}.{channel.field}"


class Tally:
    """Counts what one policy sees in one part of an exchange."""

    __slots__ = ("_found", "_policy", "_x")

    def __init__(self, policy: str, x: Exchange) -> None:
        self._policy = policy
        self._x = x
        self._found: dict[tuple[str, str, str], Finding] = {}

    def note(self, kind: str, where: str, action: str) -> None:
        """Count one. A finding that was taken away since (shadow mode does that) is made anew."""
        if len(self._found) >= _MOST and (kind, where, action) not in self._found:
            where = ""
        known, findings = self._found.get((kind, where, action)), self._x.findings
        if known is not None and any(f is known for f in reversed(findings)):
            known.count += 1
            return
        self._x.find(self._policy, kind, where=where, action=action)
        self._found[kind, where, action] = findings[-1]
