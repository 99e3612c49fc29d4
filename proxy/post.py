"""The way out for parts that ask a service: one POST or GET, and its answer.

What lives here: the HTTP client that is lent to policies (``Deps.poster``), and fetches key sets. What must never live here:
what is asked; texts in errors; anything of the relay's own data path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from policies.contract import Post

if TYPE_CHECKING:
    import aiohttp

__all__ = ["MAX_ANSWER", "Poster"]

#: Bytes of an answer; a verdict is small.
MAX_ANSWER = 1_048_576
#: Connections to one host that may stand at once, and seconds that an idle one is kept.
_CONNECTIONS, _KEEPALIVE = 256, 15.0


class Poster:
    """No proxies of the environment, no redirects, no cookies, no decompression bombs. The session is made by the first
    call, and closed by ``close``; a call after that makes another."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> Post:
        """``Deps.poster``. aiohttp's 11 MB, and the 0.1 s of its import, are for those who need it."""
        await asyncio.to_thread(import_module, "aiohttp")
        return self.post

    async def post(self, url: str, fields: Mapping[str, str], body: bytes, seconds: float) -> tuple[int, bytes]:
        """(status, body). Raises OSError, and TimeoutError after so many seconds (0: no bound)."""
        import aiohttp

        try:
            async with (
                asyncio.timeout(seconds or None),
                self._client().post(url, headers=fields, data=body, allow_redirects=False) as reply,
            ):
                return reply.status, await _bounded(reply)
        except aiohttp.ClientError as error:
            raise OSError(type(error).__name__) from None  # its message may hold the address

    async def get(self, url: str, seconds: float) -> bytes:
        """The body of a 200. Raises OSError for any other answer, and TimeoutError."""
        await asyncio.to_thread(import_module, "aiohttp")
        import aiohttp

        try:
            async with (
                asyncio.timeout(seconds),
                self._client().get(url, allow_redirects=False) as reply,
            ):
                if reply.status != 200:
                    raise OSError(f"status {reply.status}")
                return await _bounded(reply)
        except aiohttp.ClientError as error:
            raise OSError(type(error).__name__) from None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _client(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, limit_per_host=_CONNECTIONS, keepalive_timeout=_KEEPALIVE, ttl_dns_cache=30
                ),
                timeout=aiohttp.ClientTimeout(total=None),  # each call has its own
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "headgate", "Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


async def _bounded(reply: aiohttp.ClientResponse) -> bytes:
    out = bytearray()
    async for piece in reply.content.iter_any():
        out += piece
        if len(out) > MAX_ANSWER:
            raise OSError("an answer that is too large")
    return bytes(out)
