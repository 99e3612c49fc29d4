"""Detection: rules over text, and the gates that hold back exactly what may still become a match.

``rules.py`` is the way in. A rule's way to a gate: syntax (and charset, tree), nfa, alphabet (and views), step, turn,
machine, gate; each file looks only at those before it.
"""

from __future__ import annotations

from policies.detect.beside import Beside
from policies.detect.gate import Hit, RuleGate
from policies.detect.rules import CAP, Match, Rule, RuleError, RuleSet, compile_rules

__all__ = ["CAP", "Beside", "Hit", "Match", "Rule", "RuleError", "RuleGate", "RuleSet", "compile_rules"]
