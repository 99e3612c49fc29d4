"""Whose address it is: X-Forwarded-For, as far as trusted proxies have written it.

Sans-io. What must never live here: believing a hop that nobody vouches for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

__all__ = ["Hops"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_MOST = 64  # hops looked at; who writes more is no proxy of ours


@lru_cache(maxsize=4096)
def _parse(text: str) -> _Address | None:
    """An address, perhaps with a port (``1.2.3.4:5``, ``[::1]:5``), as proxies write it; an IPv4 one inside IPv6 is itself."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class Hops:
    """trusted: networks whose word counts."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(text) for text in trusted]
        self.any = bool(self._networks)
        """Somebody is trusted."""
        self._trusts = lru_cache(maxsize=4096)(self._look)

    def trusts(self, peer: str) -> bool:
        """The address belongs to a trusted network."""
        return self._trusts(peer)

    def _look(self, peer: str) -> bool:
        address = _parse(peer)
        return address is not None and any(address in n for n in self._networks if n.version == address.version)

    def client(self, peer: str, forwarded: list[str]) -> str:
        """The caller's address. forwarded: the values of X-Forwarded-For, in order of the lines.

        From the right, as proxies append: the first address that no trusted network holds. What is no address ends the
        search: then the hop that wrote it is as far as can be known.
        """
        if not self._networks or not self._trusts(peer):
            return peer
        known = peer
        for hop in reversed(",".join(forwarded).split(",")[-_MOST:] if forwarded else ()):
            address = _parse(hop)
            if address is None:
                break
            known = str(address)
            if not self._trusts(known):
                break
        return known
