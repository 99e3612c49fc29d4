"""The command line: ``headgate serve | check | explain | schema | docs | demo | scan | decrypt |
keys``. Parses, and calls one function."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from proxy import __version__


def parser() -> argparse.ArgumentParser:
    """The whole command line; ``--help`` is printed from it."""
    top = argparse.ArgumentParser(
        prog="headgate", description="A sidecar reverse proxy for OpenAI-compatible traffic.",
        epilog="Start with `headgate demo`, or `headgate serve --backend http://127.0.0.1:8000`.",
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"headgate {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="run the proxy", description="Run the proxy until SIGTERM.")
    _policy_options(serve)
    serve.add_argument("--workers", type=int, metavar="N", help="processes on the one port (default 1)")
    serve.add_argument("--log", choices=("json", "text", "off"), help="form of the request log on standard output")
    serve.add_argument("--drain-timeout", metavar="DURATION", help="time for running requests after SIGTERM")

    check = commands.add_parser(
        "check", help="validate a policy file", description="Exit code 0: valid; 1: not; 2: unreadable."
    )
    check.add_argument("file", nargs="?", default="policy.yaml", help="policy file (default policy.yaml)")
    check.add_argument("--format", choices=("text", "json"), default="text", help="json: one document, for editors and CI")

    explain = commands.add_parser("explain", help="what runs where, in which tier, and the worst hold")
    explain.add_argument("file", nargs="?", default="policy.yaml", help="policy file (default policy.yaml)")

    commands.add_parser("schema", help="print the JSON Schema of policy.yaml, for editors")

    docs = commands.add_parser("docs", help="write the generated documents and the shipped schema")
    docs.add_argument("--check", action="store_true", help="write nothing; exit code 1 when one is stale")

    demo = commands.add_parser("demo", help="a demo backend, headgate in front of it, and a short tour")
    demo.add_argument("--policy", metavar="FILE", help="policy file (default: policy.yaml here, else the shipped one)")
    demo.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT", help="default 127.0.0.1:8080")
    demo.add_argument("--admin", default="127.0.0.1:9090", metavar="HOST:PORT|off", help="default 127.0.0.1:9090")
    demo.add_argument("--once", action="store_true", help="leave after the tour instead of staying up")

    scan = commands.add_parser("scan", help="find personal data in the rows of a file", description="See docs/pii.md.")
    scan.add_argument("file", metavar="FILE.jsonl", help='one JSON object per line with a "text"; may be .gz; - is stdin')
    scan.add_argument("--entities", default="all", metavar="NAMES", help="entities and groups, by commas (default all)")
    scan.add_argument("--threshold", type=float, default=0.5, metavar="X", help="least score, 0 to 1 (default 0.5)")
    scan.add_argument("--regions", default="", metavar="CODES", help="countries whose telephone numbers count, by commas")
    scan.add_argument("--evaluate", action="store_true", help="compare to the rows' own spans: precision and recall")
    _decrypt_options(commands)
    _keys_options(commands)
    return top


def _decrypt_options(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    decrypt = commands.add_parser(
        "decrypt", help="put encrypted values back into a text",
        description="Puts back what the action `encrypt` of pii_redaction wrote, [EMAIL:...]. Exit code 0: all; 1: some were "
        "left, because another key made them or they were changed; 2: no key, or nothing to read.",
        epilog="A key is never given on the command line: other processes can read it there.",
    )  # fmt: skip
    decrypt.add_argument("file", nargs="?", metavar="FILE", help="text to read (default, and -: standard input)")
    decrypt.add_argument("--text", metavar="TEXT", help="the text itself, instead of a file")
    decrypt.add_argument("--policy", metavar="FILE", help="policy file with the key (default ./policy.yaml)")
    decrypt.add_argument("--key-file", metavar="FILE", help="file that holds the key")
    decrypt.add_argument("--key-env", metavar="NAME", help="environment variable that holds the key")
    decrypt.add_argument("--json", action="store_true", help="the text is JSON: escape values so that it stays JSON")


def _keys_options(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    keys = commands.add_parser("keys", help="make API keys for callers", description="See docs/callers.md.")
    which = keys.add_subparsers(dest="which", metavar="new|hash|revoke", required=True)
    new = which.add_parser(
        "new", help="make a key",
        description="Prints the key on standard output, and on standard error the row for policy.yaml, which holds its SHA-256.",
    )  # fmt: skip
    new.add_argument("name", help="who gets it")
    new.add_argument("--tenant", help="the customer or team it belongs to")
    new.add_argument("--scopes", default="", metavar="NAMES", help="what it may do, by commas")
    new.add_argument("--tier", help="the label `tier` of its requests")
    new.add_argument("--expires", metavar="DAY", help="2027-01-31, or a time with its offset")
    new.add_argument("--into", metavar="POLICY", help="put the row into this policy file's store (`keys_in_store`)")
    revoke = which.add_parser(
        "revoke", help="take a key out of the store", description="Reads the key, or its SHA-256, from standard input."
    )
    revoke.add_argument("--policy", default="policy.yaml", metavar="FILE", help="policy file (default policy.yaml)")
    which.add_parser("hash", help="print the SHA-256 of a key", description="Reads the key from standard input.")


def _policy_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--policy", metavar="FILE", help="policy file (default: ./policy.yaml, unless --backend is given)"
    )
    command.add_argument(
        "--backend", metavar="URL", help="backend; without a policy file headgate is a plain relay to it"
    )
    command.add_argument("--listen", metavar="HOST:PORT", help="where clients connect (default 127.0.0.1:8080)")
    command.add_argument("--admin", metavar="HOST:PORT|off", help="health, readiness, metrics (default 127.0.0.1:9090)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = parser().parse_args(argv)
    match args.command:
        case "serve":
            from proxy.serve import serve

            return serve(args, list(argv) if argv is not None else sys.argv[1:])
        case "check":
            from proxy.commands import check

            return check(args.file, os.environ, sys.stdout, format=args.format)
        case "explain":
            from proxy.explain import run

            return run(args.file, os.environ, sys.stdout)
        case "schema":
            from proxy.commands import schema

            return schema(sys.stdout)
        case "docs":
            from proxy.commands import docs

            return docs(os.getcwd(), check_only=args.check)
        case "scan":
            from proxy.scan import run as scan

            return scan(
                args.file, sys.stdout, sys.stderr, entities=args.entities, threshold=args.threshold,
                regions=args.regions, measure=args.evaluate,
            )  # fmt: skip
        case "decrypt":
            from proxy.decrypt import run as decrypt

            return decrypt(
                args.file, sys.stdin.buffer, sys.stdout.buffer, sys.stderr, os.environ, text=args.text, policy=args.policy,
                key_file=args.key_file, key_env=args.key_env, in_json=args.json,
            )  # fmt: skip
        case "keys":
            from proxy import keys

            if args.which == "hash":
                return keys.hash_key(sys.stdin, sys.stdout, sys.stderr)
            if args.which == "revoke":
                return keys.revoke(sys.stdin, sys.stderr, os.environ, policy=args.policy)
            return keys.new(
                args.name, sys.stdout, sys.stderr, os.environ, tenant=args.tenant, tier=args.tier, expires=args.expires,
                scopes=[s for s in args.scopes.split(",") if s], into=args.into,
            )  # fmt: skip
        case _:
            from proxy.demo.tour import demo

            return demo(args)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # `headgate explain | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
