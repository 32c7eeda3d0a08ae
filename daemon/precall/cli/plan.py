"""What a call budget buys: precall plan."""

from dataclasses import asdict
from typing import Annotated

import typer

from precall.cli import output
from precall.cli.options import Json, duration
from precall.core.planning.forecast import Forecast, forecast

app = typer.Typer()


@app.command(rich_help_panel="Looking ahead")
def plan(
    bindings: Annotated[int, typer.Option(min=1, max=100_000_000, help="How many active bindings.")],
    rate: Annotated[float, typer.Option(min=0.001, help="Calls per second for checks.")],
    max_age: Annotated[str, typer.Option(help="freshness.max_age: how old a route may get.")] = "5m",
    *,
    as_json: Json = False,
) -> None:
    """Forecast what a call budget buys.

    Shows expected ages of routes and the share of wrong dials. It assumes that each binding fails once in three days,
    for some 40 minutes; the metrics of a running daemon show the real rates.
    """
    expected = forecast(bindings, rate, max_age=duration(max_age) or 300.0)
    if as_json:
        output.data(asdict(expected))
    else:
        output.facts(_shown(expected))
        if not expected.holds_max_age:
            output.say(
                f"precall: {rate:g} calls/s cannot hold a max_age of {max_age} for {bindings} bindings:"
                f" that takes {expected.rate_needed:,.0f} calls/s"
            )


def _shown(expected: Forecast) -> dict[str, object]:
    return {
        "one round": f"{_time(expected.round)}: every binding once",
        "age of a route": f"{_time(expected.mean_age)} on average, never above {_time(expected.longest_age)}",
        "holds max_age": "yes" if expected.holds_max_age else "no",
        "wrong dials": f"{expected.wrong:.2%}, against {expected.wrong_in_turn:.2%} if checked in turn",
        "live checks": f"up to {expected.verifiable:,.0f} dials/s can be checked as they are made, within this budget",
        "cost": f"{expected.calls_per_day:,.0f} calls a day",
    }


def _time(seconds: float) -> str:
    """Return a duration as people write it."""
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
