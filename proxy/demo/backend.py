"""The demo backend as an application: its routes, how errors leave, how it starts and stops.

    python -m proxy.demo.backend --port 8000 [--rate 30] [--knobs "fail=503"]

Here: the route table and the life of the server. Never here: what any route answers.
No request is logged; a bug is logged as the name of its exception and its place.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aiohttp import WSCloseCode, web

from proxy.demo import chat, completions, knobs, media, messages, realtime, responses, small
from proxy.demo.call import MAX_BODY, STATE, Call, State
from proxy.demo.errors import HungUp, Refused, error_body
from proxy.demo.fields import dumps
from proxy.demo.knobs import Knobs

RATE: Final = 30.0
"""Events per second of a stream where no knob says another rate."""
_SHUTDOWN: Final = 1.0
_MAX_LINE: Final = 65_536
_log = logging.getLogger("headgate.demo")

Handler = Callable[[Call], Awaitable[web.StreamResponse]]
_ROUTES: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("POST", "/v1/chat/completions", chat.chat),
    ("POST", "/v1/completions", completions.completions),
    ("POST", "/v1/responses", responses.create),
    ("GET", "/v1/responses/{id}", responses.retrieve),
    ("DELETE", "/v1/responses/{id}", responses.delete),
    ("POST", "/v1/responses/{id}/cancel", responses.cancel),
    ("POST", "/v1/messages", messages.messages),
    ("POST", "/v1/messages/count_tokens", messages.count_tokens),
    ("POST", "/v1/embeddings", small.embeddings),
    ("GET", "/v1/models", small.models),
    ("GET", "/v1/models/{id:.+}", small.one_model),
    ("POST", "/v1/moderations", small.moderations),
    ("POST", "/v1/files", media.upload_file),
    ("GET", "/v1/files", media.list_files),
    ("GET", "/v1/files/{id}", media.one_file),
    ("DELETE", "/v1/files/{id}", media.delete_file),
    ("GET", "/v1/files/{id}/content", media.file_content),
    ("POST", "/v1/audio/transcriptions", media.transcriptions),
    ("POST", "/v1/audio/speech", media.speech),
    ("GET", "/v1/realtime", realtime.realtime),
    ("POST", "/tokenize", small.tokenize),
    ("GET", "/health", small.health),
    ("GET", "/ping", small.health),
    ("POST", "/ping", small.health),
    ("GET", "/version", small.version),
    ("GET", "/metrics", small.metrics),
    ("GET", "/demo/stats", small.stats),
    ("POST", "/demo/reset", small.reset),
)


def _served(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        return await handler(Call(request.app[STATE], request))

    return serve


@web.middleware
async def _counted(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Count the request, and turn what a handler raises into a reply."""
    if request.path.startswith("/demo/"):
        return await _answered(request, handler)
    state = request.app[STATE]
    resource = request.match_info.route.resource
    route = f"{request.method} {resource.canonical}" if resource is not None else "other"
    stats = state.stats
    stats.requests += 1
    stats.by_route[route] = stats.by_route.get(route, 0) + 1
    stats.in_flight += 1
    try:
        return await _answered(request, handler)
    except (asyncio.CancelledError, ConnectionError):
        state.stats.cancelled += 1
        raise
    finally:
        state.stats.in_flight -= 1


async def _answered(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refused:
        return _error(request, refused.status, refused.message, refused.param, refused.headers)
    except HungUp:
        return web.Response()  # the transport is closed: nothing of this is sent
    except web.HTTPException as problem:
        allow = {"Allow": problem.headers["Allow"]} if "Allow" in problem.headers else {}
        return _error(request, problem.status, problem.reason, None, allow)
    except RecursionError:
        return _error(request, 400, "The body is nested too deeply.", None, {})
    except ConnectionError:
        raise
    except Exception as bug:
        place = traceback.extract_tb(bug.__traceback__)[-1]
        _log.error("demo backend: %s in %s line %s", type(bug).__name__, place.name, place.lineno)
        return _error(request, 500, "The demo backend has a bug.", None, {})


def _error(request: web.Request, status: int, message: str, param: str | None, headers: dict[str, str]) -> web.Response:
    body = dumps(error_body(request.path, status, message, param))
    return web.Response(body=body, status=status, headers={"Content-Type": "application/json"} | headers)


async def _named(request: web.Request, reply: web.StreamResponse) -> None:
    """Headers of each reply: who answers, and the client's request id."""
    reply.headers["Server"] = "headgate-demo"
    given = request.headers.get("X-Request-Id")
    if given is not None and given.isascii():
        reply.headers["X-Request-Id"] = given


async def _close_all(app: web.Application) -> None:
    state = app[STATE]
    state.closing.set()
    for socket in list(state.sockets):
        await socket.close(code=WSCloseCode.GOING_AWAY)


def build_app(
    *,
    rate: float = RATE,
    defaults: str = "",
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> web.Application:
    """The application.

    rate: events per second of a stream, 0 for as fast as possible. defaults: knobs of every request that
    does not say otherwise, `"fail=503"`. clock: Unix time in seconds. sleep: waits so many seconds.
    Raises KnobError for bad defaults.
    """
    app = web.Application(middlewares=[_counted], client_max_size=MAX_BODY)
    app[STATE] = State(knobs.parse(defaults, Knobs(rate=rate)), clock=clock, sleep=sleep)
    for method, path, handler in _ROUTES:
        app.router.add_route(method, path, _served(handler))
    app.on_response_prepare.append(_named)
    app.on_shutdown.append(_close_all)
    return app


@dataclass(slots=True)
class RunningBackend:
    """A backend that listens. `url` has no path: `http://127.0.0.1:40123`."""

    url: str
    port: int
    state: State
    _runner: web.AppRunner

    async def close(self) -> None:
        """Stop listening, end what is still running, free the port. May be called twice."""
        self.state.closing.set()
        await self._runner.cleanup()


async def start(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    rate: float = RATE,
    defaults: str = "",
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> RunningBackend:
    """Start a backend; port 0 takes a free one. The rest is as for build_app.

    Raises OSError when it cannot listen, KnobError for bad defaults.
    """
    app = build_app(rate=rate, defaults=defaults, clock=clock, sleep=sleep)
    # handler_cancellation: a client that leaves stops the generation at once, not at the next write.
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=_SHUTDOWN,
        max_line_size=_MAX_LINE,
        max_field_size=_MAX_LINE,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    bound = runner.addresses[0][1]
    shown = f"[{host}]" if ":" in host else host
    return RunningBackend(f"http://{shown}:{bound}", bound, app[STATE], runner)


async def _run(args: argparse.Namespace) -> None:
    backend = await start(args.host, args.port, rate=args.rate, defaults=args.knobs)
    print(f"demo backend: {backend.url}/v1", flush=True)
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()
    await backend.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM. Returns the exit status: 0, or 1 when it cannot listen."""
    about = "An OpenAI-compatible backend without a model."
    parser = argparse.ArgumentParser(prog="python -m proxy.demo.backend", description=about)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--rate", type=float, default=RATE, help="events per second; 0 is unlimited")
    parser.add_argument("--knobs", default="", help="knobs of every request, such as fail=503")
    args = parser.parse_args(argv)
    try:
        knobs.parse(f"rate={args.rate:g}; {args.knobs}")
        asyncio.run(_run(args))
    except knobs.KnobError as problem:
        parser.error(str(problem))
    except (OSError, OverflowError) as problem:
        print(f"cannot listen on {args.host}:{args.port}: {problem}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
