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
        found = _ask(session, lang)
        if watch:
            _watch(session, found, lang, as_json=as_json)
        if as_json:
            output.data(found)
        else:
            console = output.console()
            for line in _view(found, lang).lines():
                console.print(line)
    if found["verdict"] != "fine":
        raise typer.Exit(1)


def _ask(session: Session, language: Language) -> Any:
    return answered(session.request("GET", "/v1/status", language=language))


def _view(found: Any, language: Language) -> StatusView:
    console = output.console()
    if not console.is_terminal:
        return StatusView(found, language)
    return StatusView(found, language, width=console.width, height=console.height)


def _watch(session: Session, found: Any, language: Language, *, as_json: bool) -> None:
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
            found = _ask(session, language)
    shown = _screen(found, language)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(shown, refresh=True)
            session.wait(EVERY)
            try:
                shown = _screen(_ask(session, language), language)
            except OutOfReach as error:
                shown = Text(f"precall: {error}", style="bold red")


def _screen(found: Any, language: Language) -> Group | Text:
    return Group(*_view(found, language).lines())
