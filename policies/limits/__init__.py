"""Limits on what callers may use: how they are written, by whom they count, what a request will cost, what the reply says.

``policies/rate_limit.py`` and ``policies/budget.py`` are made of this. Nothing here keeps a counter: the store does
(``policies/store.py``).
"""
