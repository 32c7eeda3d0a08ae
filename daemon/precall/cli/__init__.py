"""The command line. `main` runs one command and turns each expected error into an exit code and one line.

Exit codes: 0 success, 1 the answer is no, 2 usage, 3 configuration, 4 daemon or provider out of reach, 5 leadership
lost, 70 a bug, 74 a file or standard output cannot be written. A closed pipe on standard output ends a command
silently, as SIGPIPE does. The commands are in the modules beside this one, where clocks and chance enter as well.
"""

import asyncio
import sys
import traceback
from collections.abc import Callable

import typer

from precall import __version__
from precall.cli import (
    bindings,
    calls,
    completion,
    configuration,
    daemon,
    exposures,
    history,
    init,
    keys,
    notify,
    orders,
    persons,
    plan,
    provider,
    replay,
    routes,
    sources,
    status,
    streams,
    tokens,
    watch,
)
from precall.cli.help import tidy
from precall.cli.output import say
from precall.core.errors import (
    ConfigError,
    LeadershipLost,
    ListenError,
    OutOfReach,
    OutputError,
    PrecallError,
    Refusal,
    StoreError,
)
from precall.telemetry import logging as log
from precall.telemetry.redaction import masked

BROKEN = 70
"""The exit code of a bug (EX_SOFTWARE of sysexits.h)."""

UNWRITTEN = 74
"""The exit code where a file or standard output cannot be written (EX_IOERR of sysexits.h)."""

app = typer.Typer(
    name="precall",
    help="Check number-privacy bindings before they are dialled, and say which number to dial instead.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"precall {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: bool = typer.Option(
        False,
        "--version",
        callback=lambda value: _version(wanted=value),
        is_eager=True,
        help="Show the version and exit.",
    ),
) -> None:
    pass


for _commands in (
    init.app,
    daemon.app,
    status.app,
    watch.app,
    routes.app,
    history.app,
    provider.app,
    orders.app,
    calls.report_app,
    plan.app,
    replay.app,
    completion.app,
):
    app.add_typer(_commands)
app.add_typer(bindings.app, name="bindings", rich_help_panel="A running daemon")
app.add_typer(calls.app, name="calls", rich_help_panel="A running daemon")
app.add_typer(sources.app, name="source", rich_help_panel="A running daemon")
app.add_typer(exposures.app, name="exposures", rich_help_panel="A running daemon")
app.add_typer(persons.app, name="person", rich_help_panel="A running daemon")
app.add_typer(configuration.app, name="config", rich_help_panel="The daemon itself")
app.add_typer(tokens.app, name="token", rich_help_panel="The daemon itself")
app.add_typer(keys.app, name="keys", rich_help_panel="The daemon itself")
app.add_typer(notify.app, name="notify", rich_help_panel="The daemon itself")
tidy(app)


def main() -> None:
    """Run one command and exit. Expected errors are lines on standard error, never a traceback."""
    streams.prepare()
    completion.prepare()
    log.configure("warning")
    code = _ended(lambda: app())  # noqa: PLW0108  looked up at call time: tests replace it
    # Flushing what is buffered may still fail, for instance on a full disk.
    sys.exit(_ended(sys.stdout.flush) or code)


def _ended(work: Callable[[], object]) -> int:
    """Run `work`, print its error if it has one, and return the exit code."""
    try:
        work()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except PrecallError as error:
        if isinstance(error, OutputError):
            streams.close_replaced(error)
        for line in error.mistakes if isinstance(error, ConfigError) else [str(error)]:
            _complain(line, exit_code(error))
        return exit_code(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        # Python 3.11 tells of a Ctrl-C at the very start of `Runner.run` by the second.
        return 130
    except Exception as error:  # noqa: BLE001  whatever it is, its text may quote a number or a secret
        if log.is_json():
            log.get_logger("precall").critical("precall.broken", exit_code=BROKEN, exc_info=error)
        else:
            say(masked(traceback.format_exc()))
        return BROKEN
    return 0


def _complain(line: str, code: int) -> None:
    if log.is_json():
        log.get_logger("precall").critical("precall.failed", error=line, exit_code=code)
    else:
        say(f"precall: {line}")


def exit_code(error: PrecallError) -> int:
    """Return the exit code of a command that ends with this error."""
    match error:
        case LeadershipLost():
            return 5
        case ConfigError() | StoreError() | ListenError():
            return 3
        case OutOfReach():
            return 4
        case OutputError():
            return UNWRITTEN
        case Refusal(status=401 | 403):
            return 3
        case _:
            return 1
