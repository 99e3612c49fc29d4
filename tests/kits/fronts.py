"""What the official clients talk to in the tests: headgate before the demo backend, under several policy files, and
the same backend without headgate beside it. Clocks stand still, so that equal requests get equal replies."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anthropic
import openai

from proxy.demo import backend as demo
from tests.kits.gate import Gate, gate

NOW = 1_700_000_000.0
#: The key of the callers; it must show nowhere but at the backend.
KEY = "sk-planted-5a1f"

_POLICIES = """
policies:
  - name: sane-requests
    use: request_guard
    max_body: 20MB
    max_tokens: 4096
    n: 4
  - name: tidy-headers
    use: headers
    request: {drop: [cookie], set: {X-Model: "{model}"}}
    response: {drop: [server], set: {X-Gate: here}}
"""

_MODERATION = """
unscanned: allow
policies:
  - name: never-said
    use: output_moderation
    rules: [{name: marker, phrases: [xyzzy plugh], patterns: ["[0-9]{16,19}x"], action: block}]
"""

#: Settings of the policy file by name. empty: what ``serve --backend`` runs. watched: token usage is read on the way.
#: policies: bodies are read, judged and written anew, head fields change. moderated: replies pass gates that find nothing.
FRONTS: dict[str, dict[str, Any]] = {
    "empty": {"usage": False},
    "watched": {"usage": True},
    "policies": {"usage": True, "policy_yaml": _POLICIES},
    "moderated": {"usage": True, "policy_yaml": _MODERATION},
}

#: One for all clients: each would read the system's certificates anew, which takes longer than the calls.
_TLS = ssl.create_default_context()
_HTTP: dict[type, Callable[..., Any]] = {
    openai.AsyncOpenAI: openai.DefaultAsyncHttpxClient,
    openai.OpenAI: openai.DefaultHttpxClient,
    anthropic.AsyncAnthropic: anthropic.DefaultAsyncHttpxClient,
    anthropic.Anthropic: anthropic.DefaultHttpxClient,
}

C = TypeVar("C", openai.AsyncOpenAI, openai.OpenAI, anthropic.AsyncAnthropic, anthropic.Anthropic)


@dataclass
class Front:
    """gate: headgate. backend: the demo backend behind it. twin: another one, which nothing stands before."""

    name: str
    gate: Gate
    backend: demo.RunningBackend
    twin: demo.RunningBackend
    _open: contextlib.AsyncExitStack = field(repr=False)

    def client(self, kind: type[C] = openai.AsyncOpenAI, *, direct: bool = False, **more: Any) -> C:  # type: ignore[assignment]
        """A client of headgate, or, with ``direct``, of the twin. It does not retry unless told to."""
        url = self.twin.url if direct else self.gate.url
        if issubclass(kind, (openai.AsyncOpenAI, openai.OpenAI)):
            url += "/v1"
        made = kind(base_url=url, api_key=KEY, http_client=_HTTP[kind](verify=_TLS), **{"max_retries": 0, **more})
        if isinstance(made, (openai.AsyncOpenAI, anthropic.AsyncAnthropic)):
            self._open.push_async_callback(made.close)
        else:
            self._open.callback(made.close)
        return made

    async def both(self, call: Callable[[Any], Any], kind: type[C] = openai.AsyncOpenAI) -> Any:  # type: ignore[assignment]
        """Make the same calls directly and through headgate; what comes of them must be equal, and is returned."""
        headers = {"X-Request-Id": "req-1"}
        direct = await call(self.client(kind, direct=True, default_headers=headers))
        through = await call(self.client(kind, default_headers=headers))
        assert through == direct
        assert self.backend.state.stats.by_route == self.twin.state.stats.by_route
        assert self.backend.state.stats.cancelled == 0
        return through


@contextlib.asynccontextmanager
async def front(name: str, **more: Any) -> AsyncIterator[Front]:
    """Everything running, torn down at the end: nothing may be in flight then. more: over the settings of FRONTS."""
    async with contextlib.AsyncExitStack() as stack:
        backends = []
        for _ in range(2):
            one = await demo.start(rate=0, clock=lambda: NOW)
            stack.push_async_callback(one.close)
            backends.append(one)
        made = await stack.enter_async_context(gate(backends[0].url, **{**FRONTS[name], **more}))
        clients = await stack.enter_async_context(contextlib.AsyncExitStack())
        yield Front(name, made, *backends, clients)
