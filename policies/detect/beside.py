"""Two gates on one channel, one of which only looks.

What lives here: that. What must never live here: rules; what a match means.
"""

from __future__ import annotations

from policies.contract import Gate

__all__ = ["Beside"]


class Beside(Gate):
    """act: a gate whose edits and offsets count, or None. flag: one that only looks; what it holds is not held."""

    def __init__(self, act: Gate | None, flag: Gate) -> None:
        super().__init__()
        self._act = act
        self._flag = flag
        self._pushed = 0
        self.reach = act.reach if act is not None else 0

    def lead(self, text: str) -> None:
        self._flag.lead(text)
        if self._act is not None:
            self._act.lead(text)

    def push(self, text: str) -> int:
        self._pushed += len(text)
        self._flag.push(text)
        return self._step(text)

    def close(self) -> int:
        self._flag.close()
        return self._step(None)

    def _step(self, text: str | None) -> int:
        act = self._act
        if act is None:
            return self._pushed
        try:
            return act.push(text) if text is not None else act.close()
        finally:
            if act.edits:
                self.edits += act.edits
                act.edits = []
