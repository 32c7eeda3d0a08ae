"""Options and arguments that several commands share, and parsers for durations, addresses and labels."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from precall.config.addresses import split_address
from precall.config.durations import seconds

R = TypeVar("R")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, as the API returns it.")]
JsonObject = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SubsId = Annotated[str, typer.Argument(metavar="SUBS_ID", help="The provider's id of the binding.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", envvar="PRECALL_CONFIG", help="The configuration file (TOML)."
    ),
]


def supplied(work: Callable[..., R], name: str, build: Callable[..., object]) -> Callable[..., R]:
    """Return the command `work` with the options of `build` in place of its parameter `name`.

    That parameter gets what `build` returns.
    """
    given = inspect.signature(work)
    shared = inspect.signature(build).parameters
    own = [parameter for parameter in given.parameters.values() if parameter.name != name]

    @wraps(work)
    def command(**values: Any) -> R:
        chosen = {option: values.pop(option) for option in shared}
        return work(**values, **{name: build(**chosen)})

    command.__signature__ = given.replace(parameters=[*own, *shared.values()])  # type: ignore[attr-defined]
    return command


def duration(text: str | None) -> float | None:
    """Return the seconds of "30s", "5m" or "30", and None for None. Usage error for anything else."""
    if text is None:
        return None
    try:
        return float(seconds(text if text[-1:].isalpha() else f"{text}s"))  # type: ignore[arg-type]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def address(text: str) -> tuple[str, int]:
    """Return host and port of "127.0.0.1:8080". Usage error for anything else."""
    try:
        return split_address(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def label(text: str) -> tuple[str, str]:
    """Return key and value of "city=Hangzhou". Usage error for anything else."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise typer.BadParameter(f"--label {text}: write KEY=VALUE")
    return key, value


def label_filter(text: str) -> str:
    """Return the label of a filter, KEY=VALUE, as it is. KEY:VALUE, the earlier spelling, is accepted."""
    return text if text.find(":") > 0 else "=".join(label(text))
