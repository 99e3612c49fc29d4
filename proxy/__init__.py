"""headgate's proxy: listener, relay, upstream client, admin port and command line.

The text policies live beside it in the package ``policies``; this package imports them, never the reverse.
"""

__version__ = "0.1.0"
