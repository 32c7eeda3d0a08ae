"""The runbook inside the console. It holds nothing of this system, so it needs no login."""

from functools import cache

from aiohttp import web

from precall.api import runbook
from precall.console.render import render
from precall.console.visit import Visit


async def show(visit: Visit) -> web.StreamResponse:
    """Show the runbook, with an anchor for each finding and alert, such as `#brake_engaged`."""
    return render(visit, "runbook.html", runbook=_parts())


@cache
def _parts() -> runbook.RunbookText:
    return runbook.rendered(runbook.text())
