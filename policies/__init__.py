"""The policies of headgate, and the catalogue of those that ``use:`` may name.

A policy's module is imported when a policy file names it, and not before: what nobody uses costs no start-up
time, and its optional dependencies need not be there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policies.contract import Policy

__all__ = ["CATALOGUE", "load"]

CATALOGUE: dict[str, str] = {
    "budget": "policies.budget:Budget",
    "headers": "policies.headers:HeadersPolicy",
    "output_moderation": "policies.output_moderation:OutputModeration",
    "pii_redaction": "policies.pii_redaction:PiiRedaction",
    "rate_limit": "policies.rate_limit:RateLimit",
    "request_guard": "policies.request_guard:RequestGuard",
}
"""The name that ``use:`` takes, and where its class is: ``module:Class``."""


def load(use: str) -> type[Policy]:
    """The class of a policy by its name in the catalogue. KeyError when there is no such name."""
    module, _, name = CATALOGUE[use].partition(":")
    found: type[Policy] = getattr(import_module(module), name)
    return found
