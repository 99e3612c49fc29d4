"""What the kernel knows of a TCP connection and asyncio does not tell (Linux; elsewhere the answers are cautious).

What lives here: two questions to ``struct tcp_info`` (linux/tcp.h, stable since 4.1). What must never live here: state.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

_LINUX = sys.platform == "linux"
_LEFT = (b"\x07", b"\x08")  # tcpi_state: CLOSE (it was reset) and CLOSE_WAIT
_ACKED = struct.Struct("=Q")
_ACKED_AT = 120  # tcpi_bytes_acked


def _info(transport: asyncio.BaseTransport, size: int) -> bytes:
    sock = transport.get_extra_info("socket")
    if not _LINUX or sock is None:
        return b""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
    except (OSError, ValueError):  # closed, or no TCP
        return b""
    return info if isinstance(info, bytes) else b""


def peer_left(transport: asyncio.BaseTransport) -> bool:
    """The other side has closed or reset. For a connection that is left unread: there asyncio cannot tell."""
    return _info(transport, 1) in _LEFT


def bytes_acknowledged(transport: asyncio.BaseTransport) -> int | None:
    """How many of the bytes written so far the other side's kernel has taken; None when it cannot be told."""
    info = _info(transport, _ACKED_AT + 8)
    if len(info) < _ACKED_AT + 8:
        return None
    acked: int = _ACKED.unpack_from(info, _ACKED_AT)[0]
    return max(0, acked - 1)  # the SYN counts as one
