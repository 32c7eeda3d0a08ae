"""Completion of commands and options in a shell: completion."""

import os
from enum import StrEnum
from typing import Annotated

import typer
from typer._completion_classes import completion_init
from typer._completion_shared import get_completion_script

app = typer.Typer()

VARIABLE = "_PRECALL_COMPLETE"
"""Set by the script of a shell, to ask for what may come next. Its name is Typer's."""


class Shell(StrEnum):
    """A shell that commands can be completed in."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command("completion", rich_help_panel="The daemon itself")
def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_choices=False)],
) -> None:
    """Print the completion script of a shell.

    bash: source <(precall completion bash). zsh: source <(precall completion zsh), after compinit. fish: precall
    completion fish | source.
    """
    script = get_completion_script(prog_name="precall", complete_var=VARIABLE, shell=shell)
    typer.echo(script)


def prepare() -> None:
    """Let Typer answer if the script of a shell asks."""
    if VARIABLE in os.environ:
        completion_init()
