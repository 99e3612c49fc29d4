"""Who is calling: API keys, JWTs, client certificates told of by a trusted proxy, and nobody in particular.

``identify.py`` decides; ``keys.py``, ``tokens.py`` (with ``jwks.py``), ``certificates.py`` and ``addresses.py`` know one kind of
proof each; ``settings.py`` is the ``callers:`` part of policy.yaml. docs/callers.md tells what is promised.
"""
