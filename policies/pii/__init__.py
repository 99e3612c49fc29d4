"""Personal data and secrets: what is known of each kind, and the scanner that finds them.

``scanner.py`` is the way in. One file per family (contact, payment, national, network, secrets, crypto, personal) fills
``catalogue.py``; in whole texts ``shapes.py`` finds numbers, and ``prefilter.py`` says where nothing else can be.
"""

from __future__ import annotations

from policies.pii.catalogue import ENTITIES, GROUPS
from policies.pii.entity import Entity, MissingExtra
from policies.pii.scanner import REGIONS, Allow, CustomEntity, Found, Scanner, Span, compile_scanner

__all__ = [
    "ENTITIES", "GROUPS", "REGIONS", "Allow", "CustomEntity", "Entity", "Found", "MissingExtra", "Scanner", "Span",
    "compile_scanner",
]  # fmt: skip
