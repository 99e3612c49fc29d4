"""A bare relay as one writes it with aiohttp in an afternoon: the floor that a Python proxy starts from.
PORT UPSTREAM.
"""

import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web

PORT, UPSTREAM = int(sys.argv[1]), int(sys.argv[2])
NOT_RELAYED = frozenset(
    ("host", "connection", "keep-alive", "te", "trailer", "upgrade", "transfer-encoding", "content-length")
)
SESSION = web.AppKey("session", aiohttp.ClientSession)


async def session_of(app: web.Application) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as app[SESSION]:
        yield


async def relay(request: web.Request) -> web.StreamResponse:
    sent = [(k, v) for k, v in request.headers.items() if k.lower() not in NOT_RELAYED]
    url = f"http://127.0.0.1:{UPSTREAM}{request.path_qs}"
    async with request.app[SESSION].request(request.method, url, headers=sent, data=await request.read()) as answer:
        headers = [(k, v) for k, v in answer.headers.items() if k.lower() not in NOT_RELAYED]
        if answer.content_length is not None:
            whole = web.Response(status=answer.status, body=await answer.read())
            whole.headers.clear()
            whole.headers.extend(headers)
            return whole
        reply = web.StreamResponse(status=answer.status)
        reply.headers.extend(headers)
        await reply.prepare(request)
        async for piece in answer.content.iter_any():
            await reply.write(piece)
        await reply.write_eof()
        return reply


def main() -> None:
    app = web.Application(client_max_size=64 << 20)
    app.cleanup_ctx.append(session_of)
    app.router.add_route("*", "/{rest:.*}", relay)
    web.run_app(
        app,
        host="127.0.0.1",
        port=PORT,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
        handler_cancellation=True,
    )


if __name__ == "__main__":
    main()
