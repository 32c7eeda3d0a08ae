"""Pages in HTML, from the templates of this room. The one home of Jinja.

Every value is escaped, and a name that a template does not get is an error.
"""

from functools import cache
from typing import Any

from aiohttp import hdrs, web
from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from precall.console import assets, charts, headers, reckoning
from precall.console.visit import Visit
from precall.core.status.texts import Language, duration


def _prose(text: str) -> Markup:
    """Return a text whose commands stand between backticks."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


@pass_context
def _span(context: Context, seconds: float) -> str:
    """Return a duration in the language of the visitor; in English where a macro has none."""
    visit = context.get("visit")
    return duration(max(0.0, seconds), visit.language if isinstance(visit, Visit) else Language.EN)


FRAGMENT = "HX-Request"
"""The header of a request for the part of a page that has changed."""


@cache
def environment() -> Environment:
    """Return the environment of the templates."""
    made = Environment(
        loader=PackageLoader("precall.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals.update(asset=assets.url, languages=tuple(Language))
    made.globals.update(charts=charts.shown, strip=charts.strip)
    made.filters.update(reckoning.FILTERS, span=_span, prose=_prose)
    return made


def render(visit: Visit, template: str, *, status: int = 200, **context: Any) -> web.Response:
    """Return a page. Templates get `visit`, `t` for texts, `status`, and `context`.

    A page extends `layout`: the whole frame, or the content alone where htmx asks for it.
    """
    layout = "fragment.html" if FRAGMENT in visit.request.headers else "layout.html"
    text = (
        environment()
        .get_template(template)
        .render(context, visit=visit, t=visit.t, layout=layout, status=status)
    )
    return web.Response(
        status=status,
        text=text,
        headers={
            **headers.PAGE,
            hdrs.CONTENT_TYPE: "text/html; charset=utf-8",
            hdrs.CONTENT_LANGUAGE: visit.language,
        },
    )


def redirect(path: str) -> web.Response:
    """Lead the visitor to another page of the console, also after a form."""
    return web.Response(status=303, headers={**headers.PAGE, hdrs.LOCATION: path})
