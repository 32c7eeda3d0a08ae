"""The provider asked directly, without a daemon: check, call (in `call_detail`), doctor."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.text import Text

from precall.cli import output
from precall.cli.call_detail import call
from precall.cli.direct import PANEL, connected, effect, explained, leave, show
from precall.cli.options import ConfigFile, JsonObject, SubsId
from precall.cli.remedies import GivenOptions, given
from precall.config.schema import Config, load
from precall.core.model import Answer, Status
from precall.core.numbers import clean, fault
from precall.provider import STATUS, RawReply, error_advice, read_status
from precall.telemetry import logging as log

if TYPE_CHECKING:
    from precall.cli.doctor import StepFinding

app = typer.Typer()

CONTACT_CALLS = 30

MEANING = {
    Status.NORMAL: "the binding works: dial X",
    Status.TEMPORARY: "X fails: dial the temporary number of this reply",
    Status.UNREACHABLE: "X fails and no temporary number is free: dial the real callee, if policy allows",
    Status.EXPIRED: "the binding has expired: never dial, whatever the number",
}


@app.command(rich_help_panel=PANEL)
def check(
    subs_id: SubsId,
    *,
    pool_key: Annotated[str, typer.Option(metavar="POOL", help="The number pool of the binding.")],
    call_no: Annotated[
        str, typer.Option(metavar="NUMBER", help="The calling number, sent as CallNo. Default: none is sent.")
    ] = "",
    config: ConfigFile = None,
    as_json: JsonObject = False,
) -> None:
    """Ask the provider about a binding (QueryCallStatus).

    The console shows the pool key under 号码池管理 (number pools), and the SubsId under 号码管理 > 号码详情 (numbers >
    details). BindAxb and its siblings return the SubsId too.

    Shows the reply as it came, and what it means. Exit 1: no answer for this binding.
    """
    params = {"PoolKey": pool_key, "SubsId": subs_id}
    if call_no:
        if wrong := fault(call_no):
            raise typer.BadParameter(f"--call-no {wrong}")
        params["CallNo"] = clean(call_no)
    loaded = load(config)

    async def ask() -> RawReply:
        async with connected(loaded) as provider:
            return await provider.raw(STATUS, params)

    reply = asyncio.run(ask())
    read = reply.read(read_status)
    meaning = MEANING[read.status] if isinstance(read, Answer) else f"{explained(read)}; {effect(read)}"
    show(reply, read, {"meaning": meaning}, error_advice(STATUS, reply, read), as_json=as_json)
    leave(read)


app.command(rich_help_panel=PANEL)(call)


@app.command(rich_help_panel=PANEL)
def doctor(
    *,
    context: typer.Context,
    config: ConfigFile = None,
    subs_id: Annotated[
        str,
        typer.Option(metavar="SUBS_ID", help="Ask about this binding twice, to see what a Status 2 does."),
    ] = "",
    pool_key: Annotated[str, typer.Option(metavar="POOL", help="The number pool of --subs-id.")] = "",
    contact: Annotated[
        Path | None,
        typer.Option(
            metavar="BINDINGS", help="Examine what precall assumes about the provider, with these bindings."
        ),
    ] = None,
    calls: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="The most calls that --contact may make. Default: 30."),
    ] = None,
    transcript: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the calls of --contact here, masked, for `simulate --like`."
        ),
    ] = None,
    as_json: JsonObject = False,
) -> None:
    """Check provider, database and this machine, and say what to fix.

    Makes only a few calls. With --contact: confirms or refutes each assumption about the provider. Exit 1: something
    fails, or is refuted. Exit 4: something is out of reach.
    """
    if bool(subs_id) != bool(pool_key):
        raise typer.BadParameter("--subs-id and --pool-key go together")
    if contact is not None:
        if subs_id:
            raise typer.BadParameter("give --contact or --subs-id, not both")
        _contact(load(config), contact, calls or CONTACT_CALLS, transcript, as_json=as_json)
    if transcript is not None or calls is not None:
        raise typer.BadParameter("--calls and --transcript need --contact")
    options = given(context, {"config": config})
    _examine(load(config), subs_id, pool_key, options, as_json=as_json)


def _examine(config: Config, subs_id: str, pool_key: str, options: GivenOptions, *, as_json: bool) -> None:
    """Check the provider, the database and this machine, print the findings, and exit unless all is well."""
    from precall.cli.doctor import StepVerdict, examine  # noqa: PLC0415 - see serving
    from precall.cli.doctor_local import examine_machine  # noqa: PLC0415

    async def probe() -> Any:
        async with connected(config) as provider:
            found = await examine(config, provider, time.time, subs_id, pool_key)
        return found + [finding async for finding in examine_machine(config, time.time)]

    findings = [replace(finding, fix=options.into(finding.fix)) for finding in asyncio.run(probe())]
    _show_findings(findings, as_json=as_json)
    failed = [finding for finding in findings if finding.verdict is StepVerdict.FAIL]
    if failed:
        raise typer.Exit(4 if any(finding.out_of_reach for finding in failed) else 1)


def _show_findings(findings: "Sequence[StepFinding]", *, as_json: bool) -> None:
    if as_json:
        output.data([asdict(finding) for finding in findings])
        return
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        verdict = Text(finding.verdict.ljust(4), style=output.STYLES[finding.verdict])
        head = verdict + Text(f"  {finding.what.ljust(width)}  ")
        output.paragraph(finding.found, " " * len(head), head)
        for advice in _advice(finding):
            output.paragraph(f"      -> {advice}", " " * 9)
    output.console().print(f"\n{summary(findings)}", markup=False)


def _advice(finding: "StepFinding") -> Iterator[str]:
    if finding.fix:
        yield finding.fix
    if finding.recommend:
        yield f"the provider recommends {finding.recommend}"
    if finding.error_page:
        yield f"the provider explains its errors at {finding.error_page}"


def summary(findings: "Sequence[StepFinding]") -> str:
    """Return how many findings have which verdict: "9 ok, 1 warning, 1 failed"."""
    found = Counter(str(finding.verdict) for finding in findings)
    warnings = f"{found['warn']} warning{'' if found['warn'] == 1 else 's'}"
    return f"{found['ok']} ok, {warnings}, {found['fail']} failed"


def _contact(
    config: Config, bindings: Path, calls: int, transcript: Path | None, *, as_json: bool
) -> NoReturn:
    """Examine what precall assumes about the provider, and exit."""
    from precall.cli import contact  # noqa: PLC0415 - see serving
    from precall.cli.daemon import stop_signal  # noqa: PLC0415

    log.configure("critical")
    order = contact.ContactOrder(bindings, calls, transcript, stop_signal)
    result = asyncio.run(contact.examine(config, order))
    contact.show(result, transcript, as_json=as_json)
    raise typer.Exit(result.exit_code)
