"""Reported calls and how they ended: calls list, calls show, report. Thin clients of a running daemon."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from precall.cli import output
from precall.cli.files import writing_text
from precall.cli.listings import Listing, ListingFormat, ListingView, lists
from precall.cli.options import Json, duration
from precall.cli.session import Session, ask, path
from precall.cli.target import Target, asks
from precall.core.calls.statistics import ReportBy
from precall.core.model import Action

PANEL = "A running daemon"
app = typer.Typer(no_args_is_help=True, help="Show reported calls.")
report_app = typer.Typer()

TALLIED = ("placed", "connected", "failed", "not_connected", "unverified", "pending", "wrong")
COLUMNS = ("pool_key", "route_state", *TALLIED)
OBSERVED = ("pool_key", "calls", "unknown", "failed", "avoided", "connected", "changed")
BOUNDS = ("avoided_low", "avoided_high", "changed_low", "changed_high")
SHARES = ("share", "low", "high")
EXAMPLES = ("pool_key", "called_at", "call_id", "subs_id", "result", "action", "reason", "request_id")


def _listed(call: Mapping[str, Any], name: str) -> object:
    # The reasons for having no detail are long, and the same for every such call; `calls show` has them.
    if name == "meaning" and call["result"] == "unverified":
        return str(call[name]).partition(":")[0]
    return _shown(call, name)


def _shown(call: Mapping[str, Any], name: str) -> object:
    return "" if name == "duration" and call[name] < 0 else call[name]


CALLS = Listing(
    "calls",
    ("called_at", "call_id", "subs_id", "route_state", "result", "state", "meaning", "duration"),
    (
        "call_id", "subs_id", "pool_key", "prod_id", "product", "called_at", "reported_at", "route_state",
        "route_action", "result", "source", "state", "meaning", "duration", "next_at", "detail",
    ),
    _listed,
)  # fmt: skip


def _of_group(record: Mapping[str, Any], name: str) -> object:
    value = record.get(name)
    return f"{value:.1%}" if name in SHARES and value is not None else value


def _of_route(record: Mapping[str, Any], name: str) -> object:
    return f"{record[name]:.2%}" if name == "wrong" else record[name]


BY_ROUTE = Listing("by_route", COLUMNS, COLUMNS, _of_route)
OBSERVED_POOLS = Listing("observed", OBSERVED, (*OBSERVED, *BOUNDS))
GROUPS = Listing(
    "groups",
    ("group", "placed", "calls", "of", *SHARES),
    ("group", "placed", "calls", "of", *SHARES),
    _of_group,
)
CAUSES = Listing(
    "groups",
    ("group", "calls", "of", *SHARES, "meaning", "at_fault"),
    (*GROUPS.fields, "meaning", "at_fault"),
    _of_group,
)
REPORT = Listing(
    "report",
    COLUMNS,
    tuple(dict.fromkeys((*CAUSES.fields, *COLUMNS, *OBSERVED_POOLS.fields))),
)
"""Every column that some form of the report has."""
_EXPLAINED = (
    "calls: of the ended calls, those that failed for a reason that can be the number's fault;"
    " low, high: the true share lies between them (95%)"
)
_EXPLAINED_CAUSE = (
    "calls: of all ended calls, those with this cause; low, high: the true share lies between them (95%)"
)


@app.command("list")
@asks
@lists(CALLS)
def list_(
    *,
    result: Annotated[
        str, typer.Option(help="Only pending, connected, failed, not_connected or unverified.")
    ] = "",
    subs_id: Annotated[str, typer.Option(metavar="SUBS_ID", help="Only calls of this binding.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to list.")] = 20,
    daemon: Target,
    view: ListingView,
) -> None:
    """List the latest reported calls.

    Also says how many still wait for the provider's answer.
    """
    params = {"limit": str(limit)}
    params |= {name: value for name, value in (("result", result), ("subs_id", subs_id)) if value}
    answer = ask(daemon, "GET", "/v1/calls", params=params)
    view.show(answer.pop("calls"), **answer)
    if not view.is_data:
        output.say(waiting(answer["backlog"]))


@app.command("show")
@asks
def show(
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID", help="The provider's id of the call.")],
    *,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Show a reported call and how it ended.

    Exit 1: the call is unknown.
    """
    answer = ask(daemon, "GET", path("calls", call_id))
    if as_json:
        output.data(answer)
    else:
        output.facts({name: _shown(answer, name) for name in answer}, title=call_id)


@report_app.command(rich_help_panel=PANEL)
@asks
@lists(REPORT)
def report(
    *,
    within: Annotated[str, typer.Option(metavar="DURATION", help="How far to look back.")] = "24h",
    since: Annotated[str, typer.Option(metavar="DURATION", hidden=True)] = "",
    pool_key: Annotated[
        str | None, typer.Option("--pool-key", metavar="KEY", help="Only calls of this pool.")
    ] = None,
    by: Annotated[
        ReportBy | None,
        typer.Option(metavar="WHAT", help="Put calls together by hour, pool, state (of the route) or cause."),
    ] = None,
    observe: Annotated[
        bool, typer.Option("--observe", help="Print what precall would have done in pools only observed.")
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write all of it as one page that needs nothing else. -: to stdout.",
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="The same as --format csv.")] = False,
    daemon: Target,
    view: ListingView,
) -> None:
    """Summarize how calls ended.

    Calls placed, connected and failed by cause, per pool and per state of the route when dialled. With --by: of how
    many ended calls how many failed for a reason that can be the number's fault, or ended by a cause, and the bounds of
    the true share (95% confidence, Wilson). With --observe: of the calls in pools that are only observed, how many
    failed ones precall would have avoided, and how many good ones it would have changed.
    """
    if sum((by is not None, observe, page is not None)) > 1:
        raise typer.BadParameter("give only one of --by, --observe and --html")
    groups = CAUSES if by is ReportBy.CAUSE else GROUPS
    listing = groups if by else OBSERVED_POOLS if observe else BY_ROUTE
    view = _with_csv(view, as_csv=as_csv).over(listing)
    params = {"within": f"{duration(since or within):g}"} | (
        {} if pool_key is None else {"pool_key": pool_key}
    )
    if page is not None:
        _write_page(daemon, params, page)
        return
    answer = ask(daemon, "GET", "/v1/report", params=params | ({"by": by} if by else {}))
    chosen = view.form is not ListingFormat.TABLE or view.columns or view.sort
    if view.form is ListingFormat.JSON and not (view.columns or view.sort):
        output.data(answer)
    elif by:
        view.show(answer.pop("groups"), **answer)
        if not view.is_data:
            output.say(_EXPLAINED_CAUSE if by is ReportBy.CAUSE else _EXPLAINED)
    elif observe and chosen:
        view.show(map(_observed, answer["observed"]))
    elif observe:
        show_observed(answer, pool_key)
    elif chosen:
        view.show(answer.pop("by_route"), **answer)
    else:
        show_report(answer)


def _with_csv(view: ListingView, *, as_csv: bool) -> ListingView:
    if not as_csv:
        return view
    if view.form not in (ListingFormat.TABLE, ListingFormat.CSV):
        raise typer.BadParameter(f"--csv and --format {view.form} exclude each other")
    return replace(view, form=ListingFormat.CSV)


def _write_page(daemon: Target, params: Mapping[str, str], file: Path) -> None:
    from precall.cli.report_page import report_page  # noqa: PLC0415  it loads the templates

    with Session(daemon) as session:
        answers = {by: session.ask("GET", "/v1/report", params={**params, "by": by}) for by in ReportBy}
    with writing_text(file) as out:
        out.write(report_page(answers, params.get("pool_key")))
    if file != Path("-"):
        output.say(f"written to {file}")


def waiting(backlog: dict[str, Any]) -> str:
    """Return how many calls wait for the provider's answer, and since when the first of them is due."""
    text = f"{backlog['waiting']} wait for the provider's answer"
    if not backlog["waiting"]:
        return text
    if not backlog["due"]:
        return f"{text}; none of them is due yet"
    return f"{text}; {backlog['due']} of them are due, the first for {backlog['age_seconds']:.0f} s"


def show_report(answer: dict[str, Any]) -> None:
    """Print the answer of `GET /v1/report` as tables."""
    lines = [[row.get(name, "all") for name in COLUMNS] for row in (*answer["by_route"], answer["total"])]
    output.rows(COLUMNS, ([*line[:-1], f"{line[-1]:.2%}"] for line in lines))
    if answer["causes"]:
        typer.echo("")
        output.rows(
            ("calls", "cause", "meaning", "number at fault"),
            ((c["calls"], c["state"], c["meaning"], c["at_fault"]) for c in answer["causes"]),
        )


def show_observed(answer: dict[str, Any], pool_key: str | None = None) -> None:
    """Print the observed pools of `GET /v1/report`: a table, a line for each pool, and examples.

    `pool_key` is the only pool that was asked for, if any.
    """
    pools = answer["observed"]
    if not pools:
        which = "a pool" if pool_key is None else f"pool {pool_key}"
        output.say(f"no ended call was placed in {which} while it was only observed (policy.observe)")
        return
    counted = [_observed(pool) for pool in pools]
    output.rows(OBSERVED, ([row[name] for name in OBSERVED] for row in counted))
    typer.echo("")
    for pool in pools:
        for line in observed_lines(pool):
            typer.echo(line)
    examples = [{"pool_key": pool["pool_key"]} | example for pool in pools for example in pool["examples"]]
    if examples:
        typer.echo("")
        output.rows(EXAMPLES, ([example[name] for name in EXAMPLES] for example in examples))


def observed_lines(pool: dict[str, Any]) -> tuple[str, str]:
    """Return what precall would have done in an observed pool, as two lines of text."""
    return (
        f"pool {pool['pool_key']}: precall would have avoided {_of(pool['avoided'], 'failed')}",
        f"  and changed {_of(pool['changed'], 'good')}",
    )


def _of(found: dict[str, Any], kind: str) -> str:
    """Return "7 of 9 failed calls (78 %; 95 % interval 45 to 94 %): dial_temp_x 5, hold 2"."""
    text = f"{found['calls']} of {found['of']} {kind} calls"
    if found["of"]:
        text += f" ({found['share']:.0%}; 95% interval {100 * found['low']:.0f} to {found['high']:.0%})"
    by_action = ", ".join(f"{action} {found[action]}" for action in Action if found.get(action))
    return f"{text}: {by_action}" if by_action else text


def _observed(pool: dict[str, Any]) -> dict[str, Any]:
    """Return the counts of an observed pool as one flat row."""
    avoided, changed = pool["avoided"], pool["changed"]
    return {
        **{name: pool[name] for name in OBSERVED[:3]},
        "failed": avoided["of"],
        "avoided": avoided["calls"],
        "connected": changed["of"],
        "changed": changed["calls"],
        **{f"avoided_{bound}": avoided[bound] for bound in ("low", "high")},
        **{f"changed_{bound}": changed[bound] for bound in ("low", "high")},
    }
