"""Handlers of calls and of the receipts that the provider pushes."""

import hashlib
import hmac
import re
from dataclasses import replace
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from precall.api.access.authenticator import Client
from precall.api.problems import Code, FieldError, FieldErrors, mistakes
from precall.api.replies import reply
from precall.api.requests import MAX_BATCH_BODY, json_body, raw_body, read_query
from precall.api.schemas.calls import (
    A_CALL,
    AHEAD,
    MAX_CALLS,
    CallBody,
    CallsQuery,
    ReportQuery,
    encode_backlog,
    encode_call,
    encode_cause,
    encode_group,
    encode_observed,
    encode_tally,
)
from precall.api.schemas.fields import moment
from precall.core.calls.call import Call
from precall.core.calls.observed import observed_report
from precall.core.calls.statistics import ReportBy, by_hour, group
from precall.core.calls.statistics import report as sum_up
from precall.core.duplicate_keys import Contradiction
from precall.core.errors import Refusal
from precall.engine.receipt_intake import parse_receipts, take_receipts
from precall.engine.services import Services
from precall.store import StoredCall

_EXAMPLES = 3
_CURSOR = re.compile(A_CALL, re.ASCII)


async def post(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Report one placed call or up to 1000. They are stored before the response.

    Reporting a call again is harmless: only what is new about it is stored. With `prod_id` the provider is asked how
    the call ended (QueryCallDetailByCallId). That API does not cover calls of the voice robot, nor calls placed from a
    handset: report those with `outcome` alone.
    """
    data = await json_body(request)
    items = data if isinstance(data, list) else [data]
    if len(items) > MAX_CALLS:
        detail = f"should have at most {MAX_CALLS} items"
        raise FieldErrors(422, [FieldError("", Code.INVALID_FIELD, detail)])
    now = services.clock()
    parsed = [
        _parsed(item, f"[{index}]" if isinstance(data, list) else "", now) for index, item in enumerate(items)
    ]
    if not isinstance(data, list) and isinstance(parsed[0], FieldError):
        raise FieldErrors(422, [parsed[0]])
    reported = [one for one in parsed if isinstance(one, Call)]
    filed = await services.call_results.file(reported, placed=True) if reported else {}
    results = [_result(item, one, filed) for item, one in zip(items, parsed, strict=True)]
    return reply({"results": results})


async def get(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Return a reported call and how it ended."""
    call = await services.store.calls.get(request.match_info["call_id"])
    if call is None:
        raise Refusal(404, Code.UNKNOWN_CALL, "no call with this id was reported")
    return reply(encode_call(call))


async def page(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Return reported calls page by page, the latest first, and how many still wait for the provider's answer."""
    query = read_query(request, CallsQuery)
    before = None
    if query.cursor:
        if not (match := _CURSOR.fullmatch(query.cursor)):
            raise Refusal(400, Code.INVALID_CURSOR, "is not a cursor of this list", "cursor")
        before = float(match[1]), match[2]
    book, now = services.store.calls, services.clock()
    found = await book.page(before=before, limit=query.limit, result=query.result, subs_id=query.subs_id)
    more = len(found) == query.limit
    return reply(
        {
            "calls": [encode_call(call) for call in found],
            "cursor": f"{found[-1].called_at!r}~{found[-1].call_id}" if more else "",
            "backlog": encode_backlog(await book.backlog(now), now),
        }
    )


async def report(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Return how the calls of the last `within` seconds ended, by pool and by the state of the route when dialled.

    With `by`, `groups` puts them together by hour, pool, state or cause, each share with its 95 % interval. `observed`
    lists, for each pool in `policy.observe`, the calls that precall would have routed differently, judged by
    its route when the call was placed.
    """
    query, now, book = read_query(request, ReportQuery), services.clock(), services.store.calls
    since = now - query.seconds
    counts = await book.counts(since, query.pool_key)
    found = sum_up(counts)
    counted = await book.observed_counts(since, query.pool_key)
    examples = await book.observed_examples(since, query.pool_key, each=_EXAMPLES) if counted else []
    by_route = [
        {"pool_key": pool_key, "route_state": state, **encode_tally(tally)}
        for (pool_key, state), tally in found.by_route.items()
    ]
    return reply(
        {
            "since": moment(since),
            "until": moment(now),
            "total": encode_tally(found.total),
            "by_route": by_route,
            "causes": [encode_cause(state, calls) for state, calls in found.causes.items()],
            "observed": [
                encode_observed(pool_key, calls)
                for pool_key, calls in observed_report(counted, examples).items()
            ],
        }
        | ({} if query.by is None else {"groups": await _groups(services, query, since, counts)})
    )


async def _groups(
    services: Services, query: ReportQuery, since: float, counts: list[tuple[str, str, str, str, int]]
) -> list[dict[str, Any]]:
    """Return what `query.by` asks for. `since` is in Unix seconds."""
    if query.by is None:
        return []
    if query.by is ReportBy.HOUR:
        hourly = by_hour(await services.store.calls.hourly_counts(since, query.pool_key))
        return [encode_group(replace(one, name=moment(start)), query.by) for start, one in hourly]
    return [encode_group(one, query.by) for one in group(counts, query.by)]


async def receipts(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Accept an array of receipts that the provider pushes. They are stored before they are acknowledged.

    Receipts may come twice and in any order. One that cannot be understood is counted and logged by its position, and
    acknowledged all the same, since pushing it again would not help.
    """
    elements = await _elements(await raw_body(request, most=MAX_BATCH_BODY, named=False))
    await take_receipts(elements, services.call_results, services.metrics, services.clock())
    return reply({"code": 0, "msg": "OK"})


async def _elements(raw: bytearray) -> list[object]:
    """Return the elements of a pushed array; one with a repeated key is a `Contradiction`.

    A single object, as queues deliver it, counts as an array of one. Raises Refusal: 400 for invalid JSON, 422 for
    anything but an array.
    """
    try:
        data = await parse_receipts(raw)
    except ValueError as error:
        raise Refusal(400, Code.MALFORMED_JSON, f"the body is not JSON: {error}") from None
    if isinstance(data, dict | Contradiction):
        return [data]
    if not isinstance(data, list):
        raise Refusal(422, Code.INVALID_FIELD, "should be an array of receipts")
    return data


async def pushed(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Accept receipts on a secret path, for senders that cannot set headers.

    The last part of the path is the secret, and its SHA-256 is in the configuration.
    """
    digest = hashlib.sha256(request.match_info["secret"].encode("utf-8", "surrogateescape")).hexdigest()
    expected = services.settings.config.api.receipts_secret_sha256
    if not (hmac.compare_digest(digest, expected) and expected):
        raise Refusal(404, Code.NOT_FOUND, "there is no such path; see /openapi.json")
    return await receipts(request, services, client)


def _parsed(item: Any, place: str, now: float) -> Call | FieldError:
    try:
        call = CallBody.model_validate(item).call(now)
    except ValidationError as error:
        return mistakes(error, place)[0]
    if call.called_at > now + AHEAD:
        field = f"{place}.called_at" if place else "called_at"
        return FieldError(field, Code.INVALID_FIELD, "lies in the future")
    return call


def _result(item: Any, parsed: Call | FieldError, filed: dict[str, StoredCall]) -> dict[str, str]:
    if isinstance(parsed, FieldError):
        given = item.get("call_id") if isinstance(item, dict) else None
        known = given if isinstance(given, str) and len(given) <= 128 else ""
        error = f"{parsed.field}: {parsed.detail}"
        return {"call_id": known, "result": "refused", "error": error}
    return {
        "call_id": parsed.call_id,
        "result": "stored" if filed[parsed.call_id].changed else "known",
        "error": "",
    }
