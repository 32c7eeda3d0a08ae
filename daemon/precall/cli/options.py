"""Options and arguments that several commands share, and the text forms of durations and addresses."""

from pathlib import Path
from typing import Annotated

import typer

from precall.config.addresses import split_address
from precall.config.schema import seconds

Json = Annotated[bool, typer.Option("--json", help="Print JSON: the API's own objects.")]
SubsId = Annotated[str, typer.Argument(metavar="SUBS_ID", help="The provider's id of the binding.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", envvar="PRECALL_CONFIG", help="TOML; see config.example.toml."
    ),
]


def duration(text: str | None) -> float | None:
    """Seconds of "30s", "5m" or plain seconds. Usage error otherwise."""
    if text is None:
        return None
    try:
        return float(seconds(text if text[-1:].isalpha() else f"{text}s"))  # type: ignore[arg-type]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def address(text: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:8080". Usage error otherwise."""
    try:
        return split_address(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
