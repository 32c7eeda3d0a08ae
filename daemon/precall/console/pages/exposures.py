"""The page Exposures: the audit of real numbers that were handed out, with filters, and as a file."""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import hdrs, web

from precall.api.handlers.exposures import audited
from precall.api.problems import Code
from precall.api.schemas.exposures import ExposureAnswer, ExposuresQuery, encode_exposure
from precall.console import headers
from precall.console.filters import in_utc, validated
from precall.console.forms import read_form
from precall.console.render import render
from precall.console.visit import Visit
from precall.core.errors import Refusal, StoreUnavailable
from precall.core.numbers import clean, fault

PAGE = 50
"""Entries on one page."""
PART = 1000
"""Entries written at once into a file."""

_COLUMNS = tuple(ExposureAnswer.model_fields)
_FILTERS = ("pool_key", "reader", "subs_id", "since")
_HASHES = re.compile(r"[0-9a-f]{32}(?:,[0-9a-f]{32}){0,9}", re.ASCII)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The beginnings of a cell that a spreadsheet takes for a formula."""


async def show(visit: Visit) -> web.StreamResponse:
    """Show a page of the audit."""
    return await _page(visit, visit.request.query)


async def search(visit: Visit) -> web.StreamResponse:
    """Show a page of the exposures of one number, which comes in a form.

    The next page is asked for by the hashes of the number, so that it is shown nowhere.
    """
    fields = await read_form(visit.request, visit.csrf)
    hashes, wrong = _hashes(fields), ""
    if number := fields.get("number", "").strip():
        if fault(number) is not None:
            wrong = visit.t("exposures.number.wrong")
        else:
            hashes = visit.services.audit.hashes(clean(number))
    return await _page(visit, fields, hashes, wrong=wrong, status=422 if wrong else 200)


async def download(visit: Visit) -> web.StreamResponse:
    """Send the audit as CSV. A file without its final chunk is incomplete."""
    return await _file(visit, visit.request.query)


async def download_number(visit: Visit) -> web.StreamResponse:
    """Send the exposures of one number as CSV."""
    fields = await read_form(visit.request, visit.csrf)
    return await _file(visit, fields, _hashes(fields))


async def _page(
    visit: Visit,
    fields: Mapping[str, str],
    hashes: tuple[str, ...] = (),
    *,
    wrong: str = "",
    status: int = 200,
) -> web.Response:
    query = _query(fields, PAGE)
    rows, cursor = await audited(visit.services, query, hashes)
    chosen = {name: fields[name] for name in _FILTERS if fields.get(name)}
    return render(
        visit,
        "exposures.html",
        status=status,
        exposures=[] if wrong else [encode_exposure(row) for row in rows],
        cursor="" if wrong else cursor,
        chosen=chosen,
        address=urlencode(chosen),
        hashes=",".join(hashes),
        began=not query.cursor,
        wrong=wrong,
    )


async def _file(visit: Visit, fields: Mapping[str, str], hashes: tuple[str, ...] = ()) -> web.StreamResponse:
    query = _query({name: fields.get(name, "") for name in _FILTERS}, PART)
    rows, cursor = await audited(visit.services, query, hashes)
    response = web.StreamResponse(
        headers={
            **headers.PAGE,
            hdrs.CONTENT_TYPE: "text/csv; charset=utf-8",
            hdrs.CONTENT_DISPOSITION: 'attachment; filename="exposures.csv"',
        }
    )
    await response.prepare(visit.request)
    if visit.request.method == hdrs.METH_HEAD:
        return response
    await response.write(lines([_COLUMNS]))
    try:
        while True:
            await response.write(lines(encode_exposure(row).values() for row in rows))
            if not cursor:
                break
            rows, cursor = await audited(visit.services, query.model_copy(update={"cursor": cursor}), hashes)
    except StoreUnavailable:
        if visit.request.transport is not None:
            visit.request.transport.abort()  # without its end the file is not mistaken for a complete one
        return response
    await response.write_eof()
    return response


def lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Return rows as CSV in UTF-8. A text that a spreadsheet would take for a formula begins with a `'`."""
    text = io.StringIO()
    csv.writer(text).writerows([_plain(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def _plain(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _query(fields: Mapping[str, str], limit: int) -> ExposuresQuery:
    """Return the filters of a form or URL. Raises Refusal (400)."""
    given = {name: fields.get(name, "").strip() for name in (*_FILTERS, "cursor")}
    return validated(given | {"since": in_utc(given["since"])}, ExposuresQuery, limit=limit)


def _hashes(fields: Mapping[str, str]) -> tuple[str, ...]:
    """Return the hashes of the number that an earlier page was about."""
    given = fields.get("hashes", "")
    if given and not _HASHES.fullmatch(given):
        raise Refusal(400, Code.INVALID_PARAMETER, "is not what this page has given", "hashes")
    return tuple(given.split(",")) if given else ()
