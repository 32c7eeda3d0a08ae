"""What a call budget buys: precall plan."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from precall.cli import output
from precall.cli.options import Json, duration
from precall.core.model import Promise
from precall.core.planning.forecast import (
    DIALS_PER_DAY,
    Forecast,
    PromiseCost,
    cost,
    curve_rates,
    default_dials,
    forecast,
)
from precall.core.planning.promise import choose

app = typer.Typer()

MAX_AGE = 300.0


@app.command(rich_help_panel="Looking ahead")
def plan(
    bindings: Annotated[int, typer.Option(min=1, max=100_000_000, help="How many active bindings.")],
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Calls per second for checks. Without it: a table of rates."),
    ] = None,
    max_age: Annotated[str, typer.Option(help="freshness.max_age: how old a route may get.")] = "5m",
    dials_per_second: Annotated[
        float | None, typer.Option(min=0, help="Reads for a dial. Without it: two per binding and day.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Forecast what a call budget buys.

    Shows what either freshness promise costs: that no route gets older than max_age, or that none is dialled that is.
    It assumes that each binding fails once in three days, for some 40 minutes, and that the dials spread over all
    bindings evenly; the metrics of a running daemon show the real rates.
    """
    limit = duration(max_age) or MAX_AGE
    dials = default_dials(bindings) if dials_per_second is None else dials_per_second
    if rate is None:
        rates = curve_rates(bindings, max_age=limit, dials=dials)
        _curve([_forecasts(bindings, one, limit, dials) for one in rates], as_json=as_json)
        return
    expected = _forecasts(bindings, rate, limit, dials)
    if as_json:
        output.data(expected)
    else:
        _told(bindings, rate, limit, dials, assumed=dials_per_second is None)


def _forecasts(bindings: int, rate: float, limit: float, dials: float) -> dict[str, Any]:
    """The forecast as plain data, with what either promise costs, and the one that "auto" chooses."""
    expected = forecast(bindings, rate, max_age=limit)
    promises = {one: cost(one, bindings, rate, max_age=limit, dials=dials) for one in Promise}
    return asdict(expected) | {
        "max_age": limit,
        "dials_per_second": dials,
        "promise": choose("auto", None, expected.longest_age, limit),
        "promises": {str(one): asdict(costs) for one, costs in promises.items()},
    }


def _curve(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        output.data({"curve": found})
        return
    lines = []
    for one in found:
        costs = one["promises"][one["promise"]]
        lines.append(
            (
                f"{one['rate']:,g}",
                _time(one["round"]),
                one["promise"],
                "yes" if costs["kept"] else "no",
                _share(costs["live"]),
                _share(costs["stale"]),
                _share(costs["wrong"]),
                f"{one['calls_per_day']:,.0f}",
            )
        )
    output.rows(("CALLS/S", "ROUND", "PROMISE", "KEPT", "WAIT", "TOO OLD", "WRONG", "CALLS/DAY"), lines)
    output.say(
        'precall: ROUND is the time to check every binding once, PROMISE what freshness.promise = "auto" chooses, KEPT'
        " whether it can be kept. Of the dials, WAIT are checked as they are made, TOO OLD get a route older than"
        " max_age, WRONG meet a wrong route. --rate R explains one line."
    )


def _told(bindings: int, rate: float, limit: float, dials: float, *, assumed: bool) -> None:
    expected = forecast(bindings, rate, max_age=limit)
    chosen = choose("auto", None, expected.longest_age, limit)
    output.facts(_budget(expected, dials, assumed=assumed), title="Budget")
    for promise, words in ((Promise.ALL, _all), (Promise.DIAL, _dial)):
        costs = cost(promise, bindings, rate, max_age=limit, dials=dials)
        note = ", as auto would choose" if promise is chosen else ""
        typer.echo()
        output.facts(words(costs, limit, dials), title=f'freshness.promise = "{promise}"{note}')


def _budget(expected: Forecast, dials: float, *, assumed: bool) -> dict[str, object]:
    note = f" ({DIALS_PER_DAY:g} per binding and day, assumed: --dials-per-second)" if assumed else ""
    return {
        "bindings": f"{expected.bindings:,} active",
        "rate": f"{expected.rate:,g} calls/s: {expected.calls_per_day:,.0f} calls a day",
        "dials": f"{_rate(dials)} reads for a dial per second{note}",
        "one round": f"{_time(expected.round)}: the time to check every binding once",
        "age of a route": f"{_time(expected.mean_age)} on average, never above {_time(expected.longest_age)}:"
        " six rounds, if no dial is checked live",
        "in turn": f"{_share(expected.wrong_in_turn)} of the dials would meet a wrong route if bindings were checked in"
        " turn",
    }


def _all(costs: PromiseCost, limit: float, dials: float) -> dict[str, object]:
    return {
        "means": f"no route gets older than {_time(limit)}, dialled or not",
        "kept": f"{_kept(costs)}, since six rounds must fit into {_time(limit)}; that makes"
        f" {costs.rate_needed * 86_400:,.0f} calls a day",
        "dials": f"none of {_rate(dials)}/s waits: each is answered from memory",
        "too old": f"{_share(costs.stale)} of the dials get a route older than {_time(limit)}, marked stale",
        "wrong dials": f"{_share(costs.wrong)} of the dials meet a wrong route",
    }


def _dial(costs: PromiseCost, limit: float, dials: float) -> dict[str, object]:
    return {
        "means": f"no route is dialled that is older than {_time(limit)}: it is checked live as it is read",
        "kept": f"{_kept(costs)}, since live checks may take 70 % of the calls",
        "dials": f"{_share(costs.live)} of {_rate(dials)}/s wait for a live check, as long as one provider call takes:"
        f" {costs.wait:g} s assumed, at most the reader's timeout",
        "too old": f"{_share(costs.stale)} of the dials get a route older than {_time(limit)}, marked stale",
        "wrong dials": f"{_share(costs.wrong)} of the dials meet a wrong route; a checked one is right",
        "live checks": f"{_rate(costs.live_checks)} calls/s, {costs.live_checks * 86_400:,.0f} a day",
        "background": f"{_rate(costs.background)} calls/s are left: a binding that nobody dials is checked every"
        f" {_time(costs.round)} on average, every {_time(costs.longest_age)} at the latest",
    }


def _kept(costs: PromiseCost) -> str:
    return f"{'yes' if costs.kept else 'no'}: it needs {_rate(costs.rate_needed)} calls/s"


def _share(share: float) -> str:
    """Return a share in per cent; one that is small but not zero does not look like zero."""
    if share < 0.0001:
        return "<0.01%" if share > 1e-9 else "0%"
    return f"{share:.2%}" if share < 0.1 else f"{share:.0%}"


def _rate(per_second: float) -> str:
    """Return a rate with three digits, or all of its whole ones."""
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"


def _time(seconds: float) -> str:
    """Return a duration as people write it."""
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
