"""``headgate demo``: the demo backend, headgate in front of it, and a short tour that a newcomer can watch.

What lives here: what is shown. Everything shown really happens: each step is a request over a socket.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from importlib import resources
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from proxy import __version__
from proxy.app import App
from proxy.config import Config, ConfigError, Overrides, load
from proxy.demo.backend import start
from proxy.process import process, run
from proxy.supervisor import EX_CONFIG, EX_UNAVAILABLE
from proxy.worker import bind

#: What the demo backend is asked to say in the step where a policy acts on a stream.
SPOKEN = "Our next release is called project nightjar, and project nightjar ships in May."


def demo(args: argparse.Namespace) -> int:
    """Run the demo until Ctrl-C, or, with ``--once``, until the tour is over. Returns the exit code."""
    return run(_demo(args))


async def _demo(args: argparse.Namespace) -> int:
    backend = await start(rate=25.0)
    overrides = Overrides(backend=backend.url, listen=args.listen, admin=args.admin, log="text")
    path, text = _policy(args.policy)

    def read() -> Config:
        return load(path, text=text, env=os.environ, overrides=overrides)

    try:
        config = read()
        listen = bind(config.settings.listen)
        admin = [] if config.settings.admin == "off" else bind(config.settings.admin)
    except ConfigError as e:
        print(e, file=sys.stderr)
        return EX_CONFIG
    except OSError as e:
        print(
            f"headgate: cannot listen: {e.strerror or e}; try other ports: --listen 127.0.0.1:0 --admin 127.0.0.1:0",
            file=sys.stderr,
        )
        return EX_UNAVAILABLE
    url = "http://{}:{}".format(*listen[0].getsockname()[:2])
    admin_url = "http://{}:{}".format(*admin[0].getsockname()[:2]) if admin else "off"

    async def tour(app: App) -> bool:
        app.log.hold(True)  # its lines would stand in the middle of ours
        say(f"headgate {__version__}: a short tour\n")
        names = ", ".join(spec.entry.name for spec in config.policies)
        say(f"  headgate      {url}/v1   ({path or 'the shipped policy'}: {names})")
        say(f"  demo backend  {backend.url}   (speaks the OpenAI API, needs no model)")
        say(f"  admin         {admin_url}")
        async with aiohttp.ClientSession(base_url=url) as session:
            steps: list[Step] = [plain, streamed, refused, partial(tidied, backend.url)]
            if any(spec.entry.use == "output_moderation" for spec in config.policies):
                steps.append(moderated)
            for i, step in enumerate(steps, 1):
                await step(i, session)
        say(NEXT.format(url=url, command=_command()))
        if admin:
            say(f"  curl {admin_url}/policies    # what is in force\n")
        if path is not None:
            say(f"Edit {path} and save it: the new policy is live within a second.")
        say("Ctrl-C ends the demo.\n")
        app.log.hold(False)
        return bool(args.once)

    try:
        return await process(config, read, listen, admin, meanwhile=tour)
    finally:
        await backend.close()


def _policy(asked: str | None) -> tuple[str | None, bytes | None]:
    """The policy file: the one asked for, the one here, or the shipped one."""
    if asked is not None:
        return asked, None
    if os.path.exists("policy.yaml"):
        return "policy.yaml", None
    return None, resources.files("proxy.demo").joinpath("policy.yaml").read_bytes()


NEXT = """
Try next, in another terminal:

  curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\
       -d '{{"model": "demo", "stream": true, "messages": [{{"role": "user", "content": "hello"}}]}}'

  export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=none     # any OpenAI client, unchanged
  {command} explain    # what runs where"""

Step = Callable[[int, aiohttp.ClientSession], Awaitable[None]]


def _command() -> str:
    """How this very command is called from here: ``headgate``, or where a virtual environment has it."""
    beside = os.path.join(os.path.dirname(sys.executable), "headgate")
    if shutil.which("headgate") or not os.path.exists(beside):
        return "headgate"
    return os.path.relpath(beside)


def say(text: str) -> None:
    """A line for the person who watches."""
    print(text, flush=True)


def question(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": text}], **more}


async def plain(number: int, session: aiohttp.ClientSession) -> None:
    """One call, one answer."""
    say(f"\n{number}. A plain call")
    started = time.perf_counter()
    async with session.post("/v1/chat/completions", json=question("Say hello.", max_tokens=24)) as reply:
        answer = await reply.text()
        took = (time.perf_counter() - started) * 1000
        scanned = reply.headers.get("X-Headgate-Scanned", "-")
        say(f"   <- {reply.status} in {took:.0f} ms   x-headgate-scanned: {scanned}")
        if reply.status == 200:
            answer = msgspec.json.decode(answer)["choices"][0]["message"]["content"]
        say(f"   {answer}")


async def streamed(number: int, session: aiohttp.ClientSession) -> None:
    """A stream, shown as it comes."""
    say(f"\n{number}. A stream: each piece leaves as it comes")
    started, first, pieces = time.perf_counter(), 0.0, 0
    print("   ", end="")
    async for text in deltas(session, question("Tell me about rivers.", stream=True, max_tokens=40)):
        first = first or time.perf_counter() - started
        pieces += 1
        print(text, end="", flush=True)
    say(f"\n   first piece after {first * 1000:.0f} ms, {pieces} pieces" if pieces else "refused, as the call above")


async def refused(number: int, session: aiohttp.ClientSession) -> None:
    """A request that the shipped policy does not allow."""
    say(f"\n{number}. A request that asks for too much: max_tokens: 10000000 (request_guard)")
    async with session.post("/v1/chat/completions", json=question("Go on for ever.", max_tokens=10_000_000)) as reply:
        say(f"   <- {reply.status} {(await reply.text())[:300]}")


async def tidied(backend: str, number: int, session: aiohttp.ClientSession) -> None:
    """Header fields that a policy drops or sets: the same reply as the backend gives it, and as the client has it."""
    say(f"\n{number}. The header fields of a reply (headers)")
    async with session.get(f"{backend}/v1/models") as direct, session.get("/v1/models") as through:
        for who, reply in (("the backend says  ", direct), ("the client reads  ", through)):
            shown = [f"{k.lower()}: {v}" for k, v in reply.headers.items() if k.lower() not in _DULL]
            say(f"   {who} {', '.join(shown) or '-'}")


async def moderated(number: int, session: aiohttp.ClientSession) -> None:
    """A stream in which a policy replaces a phrase, however the pieces are cut."""
    say(f"\n{number}. A phrase in a stream, however its pieces are cut (output_moderation)")
    say(f"   the backend says   {SPOKEN}")
    print("   the client reads   ", end="")
    knobs = {"x-demo": f"say={quote(SPOKEN)}; rate=20; piece=5"}
    async for text in deltas(session, question("What is next?", stream=True), knobs):
        print(text, end="", flush=True)
    say("")


_DULL = frozenset(("content-type", "content-length", "date", "x-request-id"))


async def deltas(
    session: aiohttp.ClientSession, body: dict[str, Any], headers: dict[str, str] | None = None
) -> AsyncIterator[str]:
    """The pieces of text of a streamed chat reply."""
    async with session.post("/v1/chat/completions", json=body, headers=headers) as reply:
        async for line in reply.content:
            if line.startswith(b"data: {"):
                for choice in msgspec.json.decode(line[6:]).get("choices", ()):
                    text = choice["delta"].get("content")
                    if text:
                        yield text
