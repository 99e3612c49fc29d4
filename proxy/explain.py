"""``headgate explain``: what a policy file does, before it does it.

What lives here: the words. Everything said is read off the compiled plans, so it cannot differ from what runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any, TextIO

from policies.chain import Plan, compile_plan
from policies.contract import Channel, Exchange, Gate, Headers
from proxy.callers.settings import Callers
from proxy.config import Config, ConfigError, load
from proxy.routes import ROUTES, Route
from proxy.runtime import Runtime, facts, silent_hooks, steps_of
from proxy.settings import Backend


def tier(plan: Plan, route: Route, usage: bool) -> tuple[str, str]:
    """The tier of a route's replies, and why: opaque, watched or gated."""
    if plan.guard:
        return "gated", "its reply text passes " + ", ".join(
            dict.fromkeys(r.policy for r in plan.rows if r.phase == "guard")
        )
    if plan.meters and route.dialect.asks_usage:
        return "watched", "token usage is read; of a stream it is asked for, and kept from a client who did not ask (gated)"
    if (usage or plan.meters) and route.dialect.counts:
        return "watched", "token usage is read from the reply as it passes; bytes are not changed"
    return "opaque", "nothing looks at the reply; bytes in, the same bytes out"


def body(plan: Plan, config: Config) -> str:
    """What happens to a request's body on this route."""
    if plan.inspect:
        return "read and re-encoded for " + ", ".join(
            dict.fromkeys(r.policy for r in plan.rows if r.phase == "inspect")
        )
    if plan.needs_body:
        return "read and re-encoded: a policy needs the model, the stream flag or how much is asked for"
    if any(b.models for b in config.settings.backends.values()):
        return "read and re-encoded: backends rename models"
    return "streamed on unread"


def run(file: str, env: Mapping[str, str], out: TextIO) -> int:
    """``headgate explain FILE``. Returns the exit code: 0, or 1 when the file is not valid (its problems are printed)."""
    try:
        return explain(load(file, env=env), out)
    except ConfigError as e:
        out.write(f"{e}\n")
        return 1


def explain(config: Config, out: TextIO) -> int:
    """Print backends, policies, and per route what runs and in which tier. Returns the exit code, 0."""
    settings = config.settings
    out.write(f"policy   {config.source or 'command line'}  hash {config.short_hash}\n")
    out.write(f"listen   {settings.listen}   admin {settings.admin}   workers {settings.workers}\n")
    for name, backend in settings.backends.items():
        passes = settings.callers is None or settings.callers.pass_through
        key = "its own key" if backend.key else "the caller's key" if passes else "no key"
        models = ", ".join(f"{k} -> {v}" for k, v in backend.models.items()) or "all models, as asked"
        out.write(f"backend  {name}: {backend.url}  ({key}; {models})\n")
        if backend.max_in_flight:
            out.write(f"         {bound(backend, settings.workers)}\n")
    if settings.callers is not None:
        out.write(f"callers  {_callers(settings.callers)}\n")
    steps = steps_of(config)
    out.write("\npolicies, in order\n")
    if not steps:
        out.write("  none: every route is relayed byte for byte\n")
    for i, step in enumerate(steps, 1):
        mode = "  [shadow: changes nothing]" if step.entry.mode == "shadow" else ""
        out.write(f"  {i}. {step.policy.name} ({step.entry.use}){mode}: {step.policy.describe()}\n")
    plans = {route.name: (route, compile_plan(steps, facts(route), silent_hooks())) for route in ROUTES}
    out.write("\nroutes\n")
    for text, names in _alike(plans, config).items():
        shown = fill(", ".join(names), 110, initial_indent="  ", subsequent_indent="  ")
        out.write(f"{shown}\n{text}\n")
    return 0


def _callers(asked: Callers) -> str:
    """How callers prove who they are."""
    ways = [f"{len(asked.keys)} keys"] if asked.keys else []
    ways += [f"keys of {asked.keys_file}"] if asked.keys_file else []
    ways += ["keys of the store"] if asked.keys_in_store else []
    ways += [f"tokens of {asked.jwt.jwks or 'a shared secret'}"] if asked.jwt else []
    ways += [f"certificates told of in {asked.certificate.header}"] if asked.certificate else []
    others = "others are let in" if asked.anonymous is not None else "others get 401"
    return "; ".join([", ".join(ways) or "nobody by name", others, *(f"{path} needs {s}" for path, s in asked.scopes.items())])


def bound(backend: Backend, workers: int) -> str:
    """How many requests a backend gets at once, and who waits for it."""
    most, queue = backend.max_in_flight, backend.queue
    text = f"{most} requests at once" + (f" per worker, {most * workers} in all" if workers > 1 else "")
    if queue is None:
        return f"{text}, others are refused (503)"
    text += f"; {queue.size} may wait, {queue.timeout:g} s at most, each {queue.fair_by} in turn"
    if queue.per_caller:
        text += f", {queue.per_caller} of one {queue.fair_by}"
    if queue.priority is None or not queue.classes:
        return text
    weights = queue.classes if "*" in queue.classes else queue.classes | {"*": 1.0}
    return f"{text}; classes by {queue.priority}: " + ", ".join(f"{name} {weight:g}" for name, weight in weights.items())


def _alike(plans: dict[str, tuple[Route, Plan]], config: Config) -> dict[str, list[str]]:
    """Routes with the same story, told once."""
    groups: dict[str, list[str]] = {}
    for name, (route, plan) in plans.items():
        groups.setdefault(_story(route, plan, config), []).append(name)
    return groups


def _story(route: Route, plan: Plan, config: Config) -> str:
    name, why = tier(plan, route, config.settings.usage)
    lines = [f"      tier     {name}: {why}", f"      request  {body(plan, config)}"]
    blind = [p for p in plan.enforcing_request if not route.reads_request and not route.textless]
    if blind:
        verdict = "refused (403)" if config.settings.unscanned == "refuse" else "let through unscanned"
        lines.append(f"      POST     {verdict}: {', '.join(blind)} cannot read it")
    steps: dict[str, list[str]] = {}
    for row in plan.rows:
        note = " ".join(w for w in ("[shadow]" if row.mode == "shadow" else "", row.conditions) if w)
        steps.setdefault(row.policy + (f"  ({note})" if note else ""), []).append(row.phase)
    lines += [f"      {'policies' if not i else '':<8} {', '.join(p)}: {who}" for i, (who, p) in enumerate(steps.items())]
    if plan.guard:
        hold, asks = worst_hold(plan, route)
        verdict = ", and what waits for a verdict" if asks else ""
        lines.append(f"      hold     at worst {hold} characters of a channel are held back{verdict}")
    return "\n".join(lines)


def worst_hold(plan: Plan, route: Route) -> tuple[int, bool]:
    """The sum of the gates' declared reach on the content channel: what may be held back at most, in characters; and
    whether gates wait for verdicts beside that."""
    path = route.path or route.pattern.replace("{}", "x") or "/"
    x = Exchange("explain", route.method or "POST", path, "", Headers(), "", 0.0, 0.0)
    gates: list[Gate] = [gate for guard in plan.guard if (gate := guard(x, Channel(0, "content"))) is not None]
    return sum(gate.reach for gate in gates), any(gate.judges for gate in gates)


def rows(runtime: Runtime) -> list[dict[str, Any]]:
    """The live plans as data, for the admin port: one entry per route that any policy concerns."""
    found = []
    for route in ROUTES:
        plan = runtime.plans[route.name]
        name, why = tier(plan, route, runtime.settings.usage)
        if plan.rows:
            steps = [
                {"policy": r.policy, "use": r.use, "phase": r.phase, "mode": r.mode, "when": r.conditions}
                for r in plan.rows
            ]
            found.append(
                {"route": route.name, "tier": name, "why": why, "request": body(plan, runtime.config), "steps": steps}
            )
    return found
