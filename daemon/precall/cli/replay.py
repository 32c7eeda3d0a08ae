"""The dial log: fetched from a running daemon, and replayed under other orders of checks."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TextIO

import typer

from precall.cli import output
from precall.cli.files import OutputFile, writing
from precall.cli.options import Json
from precall.cli.session import Session
from precall.cli.target import Target, asks
from precall.core.calls.observed import Proportion
from precall.core.errors import ConfigError
from precall.core.planning import replay as core
from precall.core.planning.sample import DialRecord, read

PANEL = "Looking ahead"
SHOWN_MISTAKES = 5
app = typer.Typer()


@app.command(rich_help_panel=PANEL)
@asks
def dials(*, file: OutputFile = None, daemon: Target) -> None:
    """Download the sampled log of dials and answers.

    As JSON Lines, without any number or id: precall dials -o LOG.
    """
    with writing(file) as out, Session(daemon) as session:
        session.download("/v1/dials", out.write)


@app.command(rich_help_panel=PANEL)
def replay(
    file: Annotated[str, typer.Argument(metavar="LOG", help="A log of `precall dials`; - for stdin.")],
    rate: Annotated[
        list[float] | None,
        typer.Option(
            min=0.000001,
            help="Calls per second for the sampled bindings; may be repeated. Default: that of the log.",
        ),
    ] = None,
    *,
    refit: Annotated[
        bool, typer.Option("--refit", help="Show the fitted rates of trouble and dials instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Replay a dial log under another order of checks.

    Shows how many wrong dials the same traffic would have met, at the same number of calls. The log shows only that a
    route changed between two answers; the change is taken to be half way. Warns where the dials are too few to tell.
    """
    world = core.reconstruct(_lines(file))
    if not world.rate:
        raise ConfigError([f"{file}: no binding in it was checked"])
    if refit:
        _show_fits(core.refit(world), as_json=as_json)
        return
    found = []
    try:
        for calls in rate or [world.rate]:
            found += [(calls, core.score(world, name, calls)) for name in core.POLICIES]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    for doubt in doubts(found):
        output.say(doubt)
    if as_json:
        output.data([{"rate": calls, **asdict(score)} for calls, score in found])
        return
    base = {calls: score.wrong for calls, score in found if score.policy == core.BASELINE}
    output.rows(
        ("policy", "calls/s", "dials", "wrong", "gain", "age at dial", "longest age"),
        [
            (
                score.policy,
                f"{calls:.4g}",
                score.dials,
                f"{score.wrong:.3%}",
                f"{base[calls] / score.wrong:.2f}x" if score.wrong else "",
                f"{score.mean_age:.0f} s",
                f"{score.longest_age:.0f} s",
            )
            for calls, score in found
        ],
    )


def doubts(found: Sequence[tuple[float, core.PolicyScore]]) -> list[str]:
    """Return a line for each rate at which the differences to round robin may be chance.

    `found` are scores and their rates of calls.
    """
    lines = []
    for base_rate, base in found:
        if base.policy != core.BASELINE:
            continue
        low, high = _wrong(base).interval
        alike = [
            score.policy
            for rate, score in found
            if rate == base_rate and score is not base and _overlap(_wrong(score).interval, (low, high))
        ]
        if alike:
            lines.append(
                f"{base.dials:,} dials are too few to tell {' and '.join(alike)} from {base.policy} at"
                f" {base_rate:.4g} calls/s: with 95% confidence it has {low:.2%} to {high:.2%} wrong dials, and so may"
                " they; log more bindings (store.dial_log), or for longer"
            )
    return lines


def _wrong(score: core.PolicyScore) -> Proportion:
    return Proportion(round(score.wrong * score.dials), score.dials)


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _show_fits(fits: list[core.RateFit], *, as_json: bool) -> None:
    if as_json:
        output.data([asdict(fit) for fit in fits])
        return
    output.rows(
        ("rate per second", "starts at", "in the log", "events"),
        [(fit.name, f"{fit.start:.2e}", f"{fit.fitted:.2e}", f"{fit.events:.0f}") for fit in fits],
    )


def _lines(file: str) -> list[DialRecord]:
    try:
        if file == "-":
            return _read(file, sys.stdin)
        with Path(file).open(encoding="utf-8-sig") as source:
            return _read(file, source)
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError([f"{file}: is not text in UTF-8"]) from None


def _read(file: str, source: TextIO) -> list[DialRecord]:
    """All lines. ConfigError that names those that are none."""
    mistakes: list[str] = []
    found = list(_good(file, source, mistakes))
    if mistakes:
        more = len(mistakes) - SHOWN_MISTAKES
        raise ConfigError(
            mistakes[:SHOWN_MISTAKES] + ([f"{file}: {more} more like these"] if more > 0 else [])
        )
    return found


def _good(file: str, source: Iterable[str], mistakes: list[str]) -> Iterator[DialRecord]:
    for number, line in enumerate(source, 1):
        if line.strip():
            try:
                yield read(json.loads(line))
            except (ValueError, KeyError, TypeError, RecursionError):
                mistakes.append(f"{file}:{number}: is not a line of a dial log")
