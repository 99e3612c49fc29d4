"""How mistakes in policy.yaml are told: problems, their collection, masks for secrets, near names.

What lives here: plain text work. What must never live here: YAML, pydantic, files, the environment. No text
made here holds a secret: values from outside are shown as their expression, keys in clear are masked.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

Path = tuple[str | int, ...]
"""Where a value stands in the file: ``("policies", 1, "action")``."""

MAX_PROBLEMS = 200
"""More are counted, not listed: nobody reads them, and a hostile file must not cost minutes."""

MAX_EXCERPT = 400
"""Characters of a source line worth showing."""

_SENSITIVE = re.compile(
    r"(?i)(?:^|[_-])(?:api)?(?:key|secret|password|passwd|passphrase|credential|cookie|authorization|bearer|salt)s?$"
    r"|^tokens?$|(?:^|[_-])(?:access|api|auth|bearer|client|id|refresh|secret)[_-]?tokens?$"
)
_KEY_LINE = re.compile(r"""(?P<name>[A-Za-z0-9_.-]+)["']?[ \t]*:(?:[ \t]+|$)""")
_FROM_OUTSIDE = re.compile(r"""["']?(?:\$\{[A-Za-z_][A-Za-z0-9_]*\}|file:/[^\s,"'}\]]*)["']?(?=\s*(?:$|[,}\]#]))""")
_URL_QUERY = re.compile(r"""(://[^\s"'?]*\?)([^\s"'}]+)""")
_QUERY = re.compile(r"\?.+", re.DOTALL)
_USERINFO = re.compile(r"//[^/@\s\"']+@")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or doubtful, in a file or on the command line.

    file: as the user named it, or the option, such as ``--listen``. line, column: from 1; 0 for none. path:
    the place in the document. message, hint: what is wrong, and what to write instead. excerpt: the source
    line with secrets masked by ``*``, for the caret display.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""
    excerpt: str = field(default="", compare=False)

    @property
    def where(self) -> str:
        """``file:line:column``, or the file alone."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def text(self) -> str:
        """All that is said about it but its place in the file."""
        return (f"{self.path}: " if self.path else "") + self.message + (f"; {self.hint}" if self.hint else "")

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


class ConfigError(Exception):
    """The configuration cannot be used. ``unreadable`` is True when its file could not be read at all."""

    def __init__(
        self, problems: Sequence[Problem], warnings: Sequence[Problem] = (), *, unreadable: bool = False
    ) -> None:
        super().__init__(problems, warnings)
        self.problems = list(problems)
        self.warnings = list(warnings)
        self.unreadable = unreadable

    def __str__(self) -> str:
        lines = [str(p) for p in self.problems]
        if len(lines) > 1:
            lines.append(f"{len(lines)} problems")
        return "\n".join(lines)


class Report:
    """Collects the problems and warnings of one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.more = 0

    def error(self, place: tuple[int, int], path: Path, message: str, hint: str = "", file: str = "") -> None:
        """Note a problem. place: line and column from 1, or (0, 0)."""
        if len(self.problems) >= MAX_PROBLEMS:
            self.more += 1
        else:
            self.problems.append(Problem(file or self.file, *place, dotted(path), message, hint))

    def warn(self, place: tuple[int, int], path: Path, message: str, hint: str = "", file: str = "") -> None:
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(Problem(file or self.file, *place, dotted(path), message, hint))

    def finish(self, text: str, secrets: Iterable[str] = ()) -> None:
        """Sort by place, add excerpts, and blot out what of ``secrets`` slipped into a message."""
        masked = mask(text) if self.problems or self.warnings else []
        known = [s for s in secrets if s]

        def done(problem: Problem) -> Problem:
            excerpt = masked[problem.line - 1] if 0 < problem.line <= len(masked) else ""
            return replace(
                problem,
                message=blot(problem.message, known),
                hint=blot(problem.hint, known),
                excerpt=excerpt,
            )

        self.problems = [done(p) for p in sorted(self.problems, key=_order)]
        self.warnings = [done(p) for p in sorted(self.warnings, key=_order)]
        if self.more:
            self.problems.append(Problem(self.file, 0, 0, "", f"{self.more} more problems are not listed"))
            self.more = 0


def _order(problem: Problem) -> tuple[int, int]:
    return problem.line, problem.column


def dotted(path: Path) -> str:
    """``policies[1].action``; keys that are not plain words stand quoted in brackets."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", part):
            out += f".{part}" if out else part
        else:
            out += f'["{shorten(part)}"]'
    return out


def shorten(text: str, limit: int = 40) -> str:
    """The text on one line, cut to ``limit`` characters; what does not print is escaped."""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def is_sensitive(path: Path) -> bool:
    """True when a key on the path names something that is usually secret (key, token, password, ...)."""
    return any(isinstance(part, str) and _SENSITIVE.search(part) is not None for part in path)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant, or None. Case and ``-`` against ``_`` do not count."""
    if not word or len(word) > 64:  # difflib is quadratic, and nothing that long is a slip of the pen
        return None
    names = {_fold(k): k for k in known}
    found = difflib.get_close_matches(_fold(word), list(names), n=1, cutoff=0.6)
    return names[found[0]] if found else None


def _fold(name: str) -> str:
    return name.lower().replace("-", "_")


def suggest(word: str, known: Iterable[str], what: str = "known") -> str:
    """``did you mean 'x'?``, or the list of what may stand there."""
    names = list(known)
    near = nearest(word, names)
    if near is not None:
        return f"did you mean '{near}'?"
    if not names:
        return ""
    listed = ", ".join(names[:24]) + (", ..." if len(names) > 24 else "")
    return f"{what}: {listed}"


def without_credentials(text: str) -> str:
    """A URL's user, password and query never show: that is where people put keys."""
    if "://" not in text:
        return text
    return _QUERY.sub("?***", _USERINFO.sub("//***@", text))


def blot(text: str, secrets: Sequence[str]) -> str:
    """The last net: secrets become ``***``; short ones are left, or they would eat plain words."""
    for secret in secrets:
        if len(secret) >= 8 and secret in text:
            text = text.replace(secret, "***")
    return text


def mask(text: str) -> list[str]:
    """The lines of a policy file with the values of sensitive keys as ``*``, columns unchanged.

    Works on lines and not on the document: it must hold for files that are not YAML, too. It hides too much
    rather than too little: the rest of the line, and the lines below that are indented deeper.
    """
    out: list[str] = []
    deeper_than: int | None = None
    for line in re.split(r"\r\n|\r|\n", text):
        indent = len(line) - len(line.lstrip(" \t"))
        if deeper_than is not None and (indent > deeper_than or not line.strip()):
            out.append(line[:indent] + "*" * min(len(line) - indent, MAX_EXCERPT))
        elif len(line) > MAX_EXCERPT:  # the search below is quadratic at worst
            out.append("")
            deeper_than = indent
        else:
            shown, hidden = _mask_line(line)
            out.append(shown)
            deeper_than = indent if hidden else None
    return out


def _mask_line(line: str) -> tuple[str, bool]:
    """The line as it may be shown, and whether a sensitive key stands on it in clear."""
    for found in _KEY_LINE.finditer(line):
        start = found.end()
        if _SENSITIVE.search(found["name"]) and not _FROM_OUTSIDE.match(line, start):
            return line[:start] + "*" * (len(line) - start), True
    line = _USERINFO.sub(lambda m: "//" + "*" * (len(m[0]) - 3) + "@", line)
    return _URL_QUERY.sub(lambda m: m[1] + "*" * len(m[2]), line), False
