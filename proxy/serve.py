"""``headgate serve``: from arguments to the process or processes that serve.

What lives here: arguments, exit codes, who runs. One process's life is process.py; it is imported only where it is
lived, so that a supervisor of workers stays small.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from proxy.config import Config, ConfigError, Overrides, load
from proxy.supervisor import EX_CONFIG, EX_UNAVAILABLE
from proxy.worker import bind, inherited


def serve(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run until SIGTERM or SIGINT. Returns 0, or 78 (bad policy), 69 (no such address), 70 (cut off by the drain)."""

    def read() -> Config:
        return load(args.policy, env=os.environ, overrides=overrides_of(args))

    worker = inherited()
    try:
        config = read()
    except ConfigError as e:
        print(e, file=sys.stderr)
        return EX_CONFIG
    settings = config.settings
    if worker is None:
        for warning in config.warnings:
            print(warning, file=sys.stderr)
    try:
        if worker is None and settings.workers > 1:
            from proxy import supervisor

            return supervisor.run(argv, settings)
        from proxy.process import process, run

        if worker is not None:
            return run(process(config, read, worker.listen, worker.admin, worker=worker))
        listen = bind(settings.listen)
        admin = [] if settings.admin == "off" else bind(settings.admin)
    except OSError as e:
        print(
            f"headgate: cannot listen: {e.strerror or e} ({settings.listen}, admin {settings.admin})", file=sys.stderr
        )
        return EX_UNAVAILABLE
    return run(process(config, read, listen, admin))


def overrides_of(args: argparse.Namespace) -> Overrides:
    """What the command line says over the file."""
    return Overrides(
        backend=args.backend, listen=args.listen, admin=args.admin, workers=args.workers, log=args.log,
        drain_timeout=args.drain_timeout,
    )  # fmt: skip
