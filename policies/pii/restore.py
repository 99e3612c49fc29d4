"""Putting values back: the gate that turns a reply's placeholders into what they stand for.

What lives here: RestoreGate's making, and the tap that hears a tool's name. What must never live here: detection; text
in findings.

It is the last of a policy's gates: nothing looks for personal data in what it has put back, and a value that looks like a
placeholder is not read again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from policies.contract import Cut, Gate
from policies.detect import Hit
from policies.detect.gate import OnMatch
from policies.pii.placeholders import BARE, Forms, canonical
from policies.pii.vault import Vault

__all__ = ["NameTap", "Outcome", "Told", "ToolNames", "putting_back", "restore", "restoring"]

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


class ToolNames:
    """The names of one reply's tool calls, as they come, and which of the calls may have values. allows: of a whole name.

    A name may come in pieces, and some backends say it again with every piece of the arguments. A call that was given values
    and then turns out to have another name is cut: a reader who never gets the whole call cannot make it.
    """

    __slots__ = ("_allows", "_given", "_pieces")

    def __init__(self, allows: Callable[[str], bool]) -> None:
        self._allows = allows
        self._pieces: dict[tuple[int, int], list[str]] = {}
        self._given: set[tuple[int, int]] = set()

    def may(self, choice: int, tool: int) -> bool:
        """Asked when a call's arguments begin: may they have values? Without a name they may not."""
        if not self._passes((choice, tool)):
            return False
        self._given.add((choice, tool))
        return True

    def tap(self, choice: int, tool: int) -> NameTap:
        """A gate for one more piece of a name."""
        key = choice, tool
        pieces = self._pieces.setdefault(key, [])
        at = len(pieces)

        def told(text: str, whole: bool) -> None:
            if at == len(pieces):
                pieces.append("")
            pieces[at] = text
            if whole and key in self._given and not self._passes(key):
                raise Cut("tool_name")

        return NameTap(told)

    def _passes(self, key: tuple[int, int]) -> bool:
        pieces = [piece for piece in self._pieces.get(key, ()) if piece]
        again = all(piece == pieces[0] for piece in pieces)
        return bool(pieces) and self._allows(pieces[0] if again else "".join(pieces))


class NameTap(Gate):
    """Hears a tool's name go by, and holds nothing. told: gets what came of it so far, and whether that is all."""

    def __init__(self, told: Callable[[str, bool], None]) -> None:
        super().__init__()
        self._told = told
        self._name = ""
        self._size = 0

    def push(self, text: str) -> int:
        self._size += len(text)
        self._name = (self._name + text)[:256]
        self._told(self._name, False)
        return self._size

    def close(self) -> int:
        self._told(self._name, True)
        return self._size
