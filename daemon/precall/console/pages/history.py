"""The figures of the charts, as a script of the page asks for them."""

import orjson
from aiohttp import hdrs, web

from precall.console import headers
from precall.console.charts import FIGURES, SPANS, curves, span_of
from precall.console.visit import Visit


async def show(visit: Visit) -> web.StreamResponse:
    """Return the figures of the last hours: point number N stands at `begin` + N * `step` (Unix seconds).

    A gap is null. With `hours=6` a point covers a minute.
    """
    hours = span_of(visit)
    points, found = curves(visit, hours, SPANS[hours], FIGURES)
    facts = {"begin": round(points[0]), "step": SPANS[hours], "figures": found}
    return web.Response(
        body=orjson.dumps(facts), headers={**headers.PAGE, hdrs.CONTENT_TYPE: "application/json"}
    )
