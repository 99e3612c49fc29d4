"""TLS on the listening side: one context, whose certificate is replaced when its files change.

What must never live here: TLS towards backends (backends.py), sockets.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from proxy.settings import ListenTls

__all__ = ["ListenerTls"]


class ListenerTls:
    """context: for the server; connections that are up keep what they were made with. Raises OSError or ssl.SSLError when the
    files cannot be used. tell: writes an event to the log."""

    def __init__(self, settings: ListenTls, tell: Callable[..., None]) -> None:
        self._settings = settings
        self._tell = tell
        self._seen = self._stamp()
        self.context = _context(settings)

    def refresh(self) -> None:
        """Take a changed certificate over; one that cannot be used leaves the old one in force. To be called about once a
        second: it costs two calls of stat."""
        try:
            seen = self._stamp()
        except OSError:  # between the removal of the old file and the new one's coming
            return
        if seen == self._seen:
            return
        self._seen = seen
        try:
            # tried elsewhere first: a pair that does not fit would leave half of it in the context
            _context(self._settings)
            self.context.load_cert_chain(self._settings.cert, self._settings.key)
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            self._tell("error", "certificate_rejected", file=self._settings.cert, error=reason)
            return
        self._tell("info", "certificate_reloaded", file=self._settings.cert)

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        infos = [Path(name).stat() for name in (self._settings.cert, self._settings.key)]
        return tuple((info.st_mtime_ns, info.st_size, info.st_ino) for info in infos)


def _context(settings: ListenTls) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(settings.cert, settings.key, password=_no_password)
    return context


def _no_password() -> str:
    """Asked for where the key is encrypted; without this OpenSSL would ask on the terminal and wait for ever."""
    raise OSError("the key is encrypted")
