"""Detection: rules over text, and the gates that hold back exactly what may still become a match.

``rules.py`` is the way in. charset, syntax, nfa, alphabet, views, step and machine are what it is made of; ``gate.py``
runs a compiled set over the text of a channel.
"""

from __future__ import annotations

from policies.detect.gate import Hit, RuleGate
from policies.detect.rules import CAP, Match, Rule, RuleError, RuleSet, compile_rules

__all__ = ["CAP", "Hit", "Match", "Rule", "RuleError", "RuleGate", "RuleSet", "compile_rules"]
