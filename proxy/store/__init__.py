"""The stores that count for policies: memory, Redis, and the guard in front of Redis.

What lives here: how the calls of ``policies/store.py`` are answered. What must never live here: what is counted,
and for whom; policies decide that. ``opening.py`` makes the store that policy.yaml asks for; ``redis.py`` alone
imports the client library, and only where Redis is asked for.
"""
