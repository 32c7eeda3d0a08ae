"""The sync with the customer's own database: source check, source apply."""

import asyncio
import time
from typing import Annotated, Any

import typer

from precall.cli import output
from precall.cli.options import ConfigFile, Json
from precall.cli.session import ask
from precall.cli.target import Target, asks
from precall.config.schema import load
from precall.core.errors import ConfigError
from precall.core.sync.columns import BadRow
from precall.core.sync.plan import EXAMPLES, SyncPlan

app = typer.Typer(no_args_is_help=True, help="Sync bindings from your own database ([source]).")

PATIENCE = 600.0
"""Seconds to wait for a sync: the first one of a million rows takes minutes."""


@app.command("check")
def check(config: ConfigFile = None, *, as_json: Json = False) -> None:
    """Show what a sync would do now.

    Writes nothing and needs no daemon. Exit 1: rows or removals would be refused.
    """
    from precall.engine.source_sync import preview  # noqa: PLC0415 - a client of a running daemon starts without it
    from precall.store import snapshot  # noqa: PLC0415

    loaded = load(config)
    if not loaded.source.configured:
        raise ConfigError(["source.url: is not set, so there is nothing to sync"])
    stored = snapshot(loaded.store.database, loaded.store.timeout, loaded.store.key_file)
    plan = asyncio.run(preview(loaded.source, stored, loaded.policies(), time.time()))
    _show(_planned(plan), as_json=as_json)
    if plan.guarded or plan.refused:
        raise typer.Exit(1)


@app.command("apply")
@asks
def apply(
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Apply all removals, even if the query is empty.")
    ] = False,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Make a running daemon sync now.

    Exit 1: rows or removals were refused.
    """
    answer = ask(daemon, "POST", "/v1/source/apply", body={"force": force}, timeout=PATIENCE)
    _show(answer, as_json=as_json)
    if answer["removals_refused"] or answer["refused"]:
        raise typer.Exit(1)


def _planned(plan: SyncPlan) -> dict[str, Any]:
    return {
        "rows": {str(fate): count for fate, count in plan.counts().items()},
        "removals_refused": plan.guard,
        "refused": [_row(row) for row in plan.examples],
        "would_add": [binding.subs_id for binding in plan.added[:EXAMPLES]],
        "would_update": [binding.subs_id for binding in plan.updated[:EXAMPLES]],
        "would_remove": list((plan.removed or plan.withheld)[:EXAMPLES]),
    }


def _row(row: BadRow) -> dict[str, str]:
    return {"subs_id": row.subs_id or "", "column": row.column, "detail": row.text}


def _show(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.data(answer)
        return
    output.facts(answer["rows"])
    for name in ("would_add", "would_update", "would_remove"):
        if shown := answer.get(name):
            typer.echo(f"{name.replace('_', ' ')}: {', '.join(shown)}")
    for row in answer["refused"]:
        typer.echo(f"refused: {row['subs_id'] or 'a row'}, {row['column']} {row['detail']}")
    if answer["removals_refused"]:
        typer.echo(
            f"removals refused: {answer['removals_refused']}; if they are right: precall source apply --force"
        )
