"""The command line: `main` runs one command and turns the error tree into exit codes and one clear line each.

0 ok, 1 the answer is no, 2 usage, 3 configuration, 4 daemon or provider out of reach. Commands stand in the modules
beside this one; time and chance enter there, as they do in `app`.
"""

import sys
import traceback

import typer

from precall import __version__
from precall.cli import (
    bindings,
    calls,
    exposures,
    keys,
    live,
    orders,
    planning,
    replaying,
    routes,
    serving,
    sources,
)
from precall.cli.output import say
from precall.core.errors import ConfigError, ListenError, OutOfReach, PrecallError, Refusal, StoreError
from precall.secrecy import masked

BROKEN = 70
"""The exit code of a bug, as sysexits.h has it."""

app = typer.Typer(
    name="precall",
    help="Checks number-privacy bindings before they are dialled, and says which number to dial instead.",
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
        False, "--version", callback=lambda value: _version(wanted=value), is_eager=True
    ),
) -> None:
    pass


for _commands in (
    serving.app,
    routes.app,
    live.app,
    orders.app,
    calls.report_app,
    planning.app,
    replaying.app,
):
    app.add_typer(_commands)
app.add_typer(bindings.app, name="bindings", rich_help_panel="A running daemon")
app.add_typer(calls.app, name="calls", rich_help_panel="A running daemon")
app.add_typer(sources.app, name="source", rich_help_panel="A running daemon")
app.add_typer(exposures.app, name="exposures", rich_help_panel="A running daemon")
app.add_typer(keys.app, name="keys", rich_help_panel="The daemon itself")


def main() -> None:
    """The entry point. Expected errors are lines on standard error, never a traceback."""
    try:
        app()
    except ConfigError as error:
        for mistake in error.mistakes:
            say(f"precall: {mistake}")
        sys.exit(3)
    except PrecallError as error:
        say(f"precall: {error}")
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # noqa: BLE001  whatever it is, its text may quote a number or a secret
        say(masked(traceback.format_exc()))
        sys.exit(BROKEN)


def exit_code(error: PrecallError) -> int:
    """What the shell is told of an error."""
    match error:
        case ConfigError() | StoreError() | ListenError():
            return 3
        case OutOfReach():
            return 4
        case Refusal(status=401 | 403):
            return 3
        case _:
            return 1
