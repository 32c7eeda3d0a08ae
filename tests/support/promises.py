"""Snapshots of the public interfaces, one text file per kind in tests/data/promises.

After an intended change, rewrite them with `python -m tests.support.promises`. Every difference is visible to users:
it needs a line in the CHANGELOG, and a migration note if something was removed.
"""

import ast
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from enum import StrEnum

import typer
from pydantic import BaseModel
from sqlalchemy import create_engine, text

from precall.api.endpoints import ENDPOINTS
from precall.api.openapi import document
from precall.api.problems import Code
from precall.cli import app, exit_code
from precall.config.schema import Config
from precall.core import errors
from precall.core.model import Action, Failure, Flag, Reason, State
from precall.store import upgrade
from precall.telemetry.metrics import Metrics
from tests.support.forked import PROJECT

FOLDER = PROJECT / "tests" / "data" / "promises"
SOURCE = PROJECT / "daemon" / "precall"
LOGGING = {"debug", "info", "warning", "error", "critical", "say", "_alarm", "AccountHealth"}
"""Logger methods, and what else in precall takes the name of an event to log."""
EVENT = re.compile(r"^[a-z_]+\.[a-z_]+$")


def openapi() -> str:
    """Return the document of `/openapi.json`, without its version."""
    whole = document(ENDPOINTS, "")
    return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False)


def command_help() -> str:
    """Return `--help` of every command, for a terminal of 100 columns."""
    environment = os.environ | {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    code = (
        "import sys, contextlib; from typer.main import get_command; from precall.cli import app\n"
        "command = get_command(app)\n"
        "for line in sys.stdin:\n"
        "    words = line.split()\n"
        "    print('$ precall', *words, '--help', flush=True)\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        command.main([*words, '--help'], prog_name='precall')\n"
    )
    commands = "\n".join(" ".join(words) for words in _commands(typer.main.get_command(app), []))
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=commands,
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


def _commands(command: object, words: list[str]) -> Iterator[list[str]]:
    yield words
    for name, sub in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(sub, [*words, name])


def metrics() -> str:
    """Return name, type, labels and buckets of every metric family of precall."""
    lines = []
    for family in Metrics().registry._collector_to_names:
        name = getattr(family, "_name", None)
        if name is None:
            continue
        buckets = " ".join(f"{edge:g}" for edge in getattr(family, "_upper_bounds", ()))
        labels = ",".join(getattr(family, "_labelnames", ()))
        lines.append(f"{name} {getattr(family, '_type', '')} {{{labels}}} {buckets}".rstrip())
    return "\n".join(sorted(lines))


def log_events() -> str:
    """Return the name of every event that the daemon logs."""
    events: set[str] = set()
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if called in LOGGING:
                    events.update(
                        part.value
                        for argument in (node.args[0], *(keyword.value for keyword in node.keywords))
                        for part in ast.walk(argument)
                        if isinstance(part, ast.Constant)
                        and isinstance(part.value, str)
                        and EVENT.match(part.value)
                    )
    return "\n".join(sorted(events))


def exit_codes() -> str:
    """Return the exit code of a command for each class of error."""
    lines = []
    for name, kind in sorted(vars(errors).items()):
        if isinstance(kind, type) and issubclass(kind, errors.PrecallError):
            lines.append(f"{name} {exit_code(kind.__new__(kind))}")
    return "\n".join(lines)


def codes() -> str:
    """Return the closed sets of words in API responses."""
    sets: tuple[type[StrEnum], ...] = (Code, Action, State, Reason, Flag, Failure)
    return "\n".join(f"{kind.__name__}: {' '.join(sorted(kind))}" for kind in sets)


def configuration() -> str:
    """Return every key with its default."""
    return "\n".join(_keys(Config, ""))


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _keys(kind, f"{prefix}{name}.")
        else:
            default = field.get_default(call_default_factory=True, validated_data={})
            yield f"{prefix}{name} = {default!r}"


def schema() -> str:
    """Return the tables, indexes and views of a new SQLite database."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/precall.db"
        asyncio.run(upgrade(url))
        engine = create_engine(url)
        with engine.connect() as connection:
            rows = connection.execute(
                text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name")
            )
            statements = [row.sql for row in rows]
        engine.dispose()
    return ";\n".join(statements)


def start_imports() -> str:
    """Return the third-party packages that `precall --help` imports, as a stable measure of its start time."""
    code = (
        "import sys\n"
        "sys.argv = ['precall', '--help']\n"
        "from precall.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "names = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        # The documentation's dependencies install colorama, which other packages import if they find it, and
        # distributions a sitecustomize.
        "names -= {'colorama', 'sitecustomize', 'usercustomize'}\n"
        "print(*sorted(name for name in names if not name.startswith('_')), sep='\\n', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.strip()


KINDS: dict[str, Callable[[], str]] = {
    "openapi.json": openapi,
    "help.txt": command_help,
    "metrics.txt": metrics,
    "log_events.txt": log_events,
    "exit_codes.txt": exit_codes,
    "codes.txt": codes,
    "configuration.txt": configuration,
    "schema.sql": schema,
    "start_imports.txt": start_imports,
}


def main() -> None:
    """Write all snapshots."""
    for name, snapshot in KINDS.items():
        (FOLDER / name).write_text(snapshot() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
