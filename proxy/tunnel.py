"""After a 101: bytes pass both ways untouched, with backpressure, until either side goes.

WebSocket frames are not looked at; a route that a text policy enforces on is never upgraded.
"""

from __future__ import annotations

import asyncio

from policies.contract import Exchange
from proxy.connection import ClientConnection
from proxy.upstream import BackendConnection


async def tunnel(conn: ClientConnection, up: BackendConnection, x: Exchange) -> None:
    """Join both sides; returns when it is over."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def from_client(data: bytes) -> None:
        if not data:
            up.close_when_sent()
            finish()
        else:
            x.bytes_in += len(data)
            up.write(data)

    def from_backend(data: bytes) -> None:
        if not data:
            conn.close_when_sent()
            finish()
        else:
            x.bytes_out += len(data)
            conn.send_raw(data)

    conn.on_flow = up.pause
    up.client_flow = conn.pause_reading
    up.open_tunnel(from_backend)
    conn.open_tunnel(from_client)
    await done
