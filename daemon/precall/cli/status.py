"""The state of the system: a verdict, what is wrong, and its remedy. A thin client of a running daemon."""

from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from precall.cli import output
from precall.cli.options import Json
from precall.cli.session import Session, answered
from precall.cli.status_view import StatusView
from precall.cli.target import Target, asks
from precall.core.errors import OutOfReach
from precall.core.status.texts import Language

EVERY = 2.0
"""Seconds between two looks with `--watch`."""

app = typer.Typer()


@app.command(rich_help_panel="A running daemon")
@asks
def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 s until Ctrl-C.")] = False,
    lang: Annotated[Language, typer.Option(help="Language of the texts.", metavar="en|zh")] = Language.EN,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Show what is wrong now, why, and the command that helps.

    Exit 0: nothing is wrong. Exit 1: something is. Exit 4: the daemon is out of reach.
    """
    with Session(daemon) as session:
        found = _ask(session, lang, daemon)
        if watch:
            _watch(session, found, lang, daemon, as_json=as_json)
        if as_json:
            output.data(found)
        else:
            console = output.console()
            for line in _view(found, lang).lines():
                console.print(line)
    if found["verdict"] != "fine":
        raise typer.Exit(1)


def _ask(session: Session, language: Language, daemon: Target) -> Any:
    return with_options(answered(session.request("GET", "/v1/status", language=language)), daemon)


def with_options(status: Any, daemon: Target) -> Any:
    """Return an answer of `/v1/status` whose remedies reach the same daemon when they are pasted."""
    for finding in status["findings"]:
        finding["remedy"] = daemon.options.into(finding["remedy"])
    return status


def _view(found: Any, language: Language) -> StatusView:
    console = output.console()
    if not console.is_terminal:
        return StatusView(found, language)
    return StatusView(found, language, width=console.width, height=console.height)


def _watch(session: Session, found: Any, language: Language, daemon: Target, *, as_json: bool) -> None:
    """Show the state again and again: on a terminal in place, otherwise as lines. Ctrl-C ends it."""
    console = output.console()
    if as_json or not console.is_terminal:
        while True:
            if as_json:
                output.data(found)
            else:
                for line in _view(found, language).lines():
                    console.print(line)
                console.print()
            session.wait(EVERY)
            found = _ask(session, language, daemon)
    shown = _screen(found, language)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(shown, refresh=True)
            session.wait(EVERY)
            try:
                shown = _screen(_ask(session, language, daemon), language)
            except OutOfReach as error:
                shown = Text(f"precall: {error}", style="bold red")


def _screen(found: Any, language: Language) -> Group | Text:
    return Group(*_view(found, language).lines())
