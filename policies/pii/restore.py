"""Putting values back: the gate that turns a reply's placeholders into what they stand for.

What lives here: RestoreGate's making, and the tap that hears a tool's name. What must never live here: detection; text
in findings.

It is the last of a policy's gates: nothing looks for personal data in what it has put back, and a value that looks like a
placeholder is not read again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from policies.contract import Gate
from policies.detect import Hit
from policies.detect.gate import OnMatch
from policies.pii.placeholders import BARE, Forms, canonical
from policies.pii.vault import Vault

__all__ = ["NameTap", "Outcome", "Told", "putting_back", "restore", "restoring"]

Outcome = Literal["restored", "not_restored", "unknown"]
"""What became of a placeholder in a reply: its value was put back; it may not be in this place; this request made none
like it."""
Told = Callable[[str, Outcome], None]
"""Told of each placeholder in a reply: (its tag, its outcome)."""


def putting_back(vault: Vault, told: Told, *, put_back: bool = True) -> OnMatch:
    """What a match of ``Forms.rules`` becomes. put_back: False only counts what would have been."""
    done: Outcome = "restored" if put_back else "not_restored"

    def on_match(hit: Hit) -> str | None:
        form = canonical(hit.value)
        value = vault.value(form)
        if value is not None:
            told(form.rpartition("_")[0], done)
            return value if put_back else None
        if hit.rule != BARE and not vault.foreign(form):
            told(form.rpartition("_")[0], "unknown")
        return None

    return on_match


def restoring(forms: Forms, vault: Vault, told: Told, *, put_back: bool = True) -> Gate:
    """A gate that puts back the values of one request; see ``putting_back``."""
    return forms.rules.gate(putting_back(vault, told, put_back=put_back))


def restore(forms: Forms, vault: Vault, text: str) -> str:
    """A whole text with its values put back."""
    gate = restoring(forms, vault, lambda tag, outcome: None)
    gate.push(text)
    gate.close()
    out: list[str] = []
    at = 0
    for edit in gate.edits:
        out += text[at : edit.start], edit.text
        at = edit.end
    return "".join(out) + text[at:]


class NameTap(Gate):
    """Hears a tool's name go by, and holds nothing. told: gets the name when it is complete."""

    def __init__(self, told: Callable[[str], None]) -> None:
        super().__init__()
        self._told = told
        self._name = ""
        self._size = 0

    def push(self, text: str) -> int:
        self._size += len(text)
        self._name = (self._name + text)[:256]
        self._told(self._name)
        return self._size

    def close(self) -> int:
        return self._size
