"""The first page: the state of the system, from the same source as `/v1/status`."""

from aiohttp import web

from precall.api.schemas.status import encode_facts, encode_finding
from precall.console.render import render
from precall.console.visit import Visit
from precall.core.status.finding import verdict


async def show(visit: Visit) -> web.StreamResponse:
    """Show the verdict, what is wrong, and the facts behind it."""
    state = visit.services.status.look()
    findings = [encode_finding(finding, visit.language) for finding in state.findings]
    return render(
        visit,
        "now.html",
        verdict=verdict(state.findings),
        findings=findings,
        facts=encode_facts(state.facts),
    )
