"""The login page."""

from aiohttp import web

from precall.console.render import render
from precall.console.visit import Visit


def form(visit: Visit, to: str, *, error: str = "", status: int = 200) -> web.Response:
    """Return the form that takes a token. `to` is where it leads, `error` the key of what went wrong."""
    return render(visit, "login.html", status=status, to=to, error=error)
