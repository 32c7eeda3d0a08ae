"""Handlers of bindings: registration, reads, removal, checks and history."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, assert_never

import orjson
from aiohttp import hdrs, web

from precall.api.access.authenticator import Client
from precall.api.handlers import orders, overrides
from precall.api.problems import HEADERS, Code, FieldError, problem
from precall.api.replies import reply
from precall.api.requests import MAX_BATCH_BODY, read_body, read_query
from precall.api.schemas.bindings import (
    A_PLACE,
    BatchBody,
    BatchQuery,
    BindingBody,
    BindingsQuery,
    CheckQuery,
    ExportQuery,
    HistoryQuery,
    encode_binding,
    encode_change,
    encode_run,
    parse_batch,
)
from precall.api.schemas.fields import moment
from precall.api.schemas.routes import encode_route
from precall.core import rules
from precall.core.errors import Refusal, StoreUnavailable
from precall.core.model import Binding, BindingState, Route, Row
from precall.core.numbers import mask
from precall.core.rounding import micro, significant
from precall.core.routing.explain import explain as explain_route
from precall.core.routing.registration import RegistrationOutcome
from precall.core.routing.state import CheckResult
from precall.core.status.texts import Language
from precall.engine.exposure_audit import EXPORTED, READ
from precall.engine.on_demand import OnDemandOutcome
from precall.engine.services import Services
from precall.store import OrderFilter
from precall.table.table import TablePage

LINES = "application/x-ndjson"

_SLICE = 500
_LATEST = 10
_CURSOR = re.compile(A_PLACE, re.ASCII)

BatchOutcome = tuple[str, RegistrationOutcome | Refusal | FieldError | None]
"""An id and its result; None if nothing was stored because of another binding."""


async def put(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Register a binding. It is stored before the response, in which A and B are masked.

    201 means that the binding is new. Registering the same binding again changes nothing.
    """
    subs_id = request.match_info["subs_id"]
    if not rules.is_subs_id(subs_id):
        raise Refusal(400, Code.INVALID_FIELD, rules.NOT_A_SUBS_ID, "subs_id")
    body = await read_body(request, BindingBody)
    if body.subs_id not in (None, subs_id):
        raise Refusal(400, Code.ID_MISMATCH, "the body has another id than the path", "subs_id")
    wanted = body.binding(subs_id)
    [result] = await services.registry.register([wanted], atomic=True)
    if isinstance(result, Refusal):
        raise result
    row = services.table.get(subs_id)
    stored = row.binding if row else wanted
    return reply(encode_binding(stored, real=False), 201 if result is RegistrationOutcome.CREATED else 200)


async def get(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Return a binding as it was registered, with A and B masked.

    A token with scope `routes:real` gets the real numbers. That is audited first; 503 means that it could not be.
    """
    row = _row(request, services)
    real = client.real and request.method == hdrs.METH_GET
    if real:
        try:
            await services.audit.hand_out([row], client.name, READ)
        except StoreUnavailable:
            return _unaudited()
    return reply(encode_binding(row.binding, real=real))


async def delete(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Remove a binding, and stop checking it."""
    if not await services.registry.remove(request.match_info["subs_id"]):
        raise _unknown()
    return web.Response(status=204)


async def page(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Return bindings page by page, with A and B masked."""
    query = read_query(request, BindingsQuery)
    found = services.table.page(query.after, query.limit, partial(_keep, query))
    shown = [encode_binding(row.binding, real=False) for row in found.rows]
    return reply({"bindings": shown, "cursor": found.cursor})


async def export(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Return all bindings with their real numbers, one JSON object per line, in the order of their ids.

    Each binding is audited before it is sent. A response without its final chunk is incomplete.
    """
    query = read_query(request, ExportQuery)
    response = web.StreamResponse(headers=HEADERS)
    response.content_type = LINES
    if request.method == hdrs.METH_HEAD:
        return response
    try:
        found = await _audited(services, client, query, "")
    except StoreUnavailable:
        return _unaudited()
    await response.prepare(request)
    try:
        while True:
            lines = (orjson.dumps(encode_binding(row.binding, real=True)) + b"\n" for row in found.rows)
            await response.write(b"".join(lines))
            if not found.cursor:
                break
            found = await _audited(services, client, query, found.cursor)
    except StoreUnavailable:
        if request.transport is not None:
            request.transport.abort()  # without its end the response is not mistaken for a complete one
        return response
    await response.write_eof()
    return response


async def batch(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Register up to 5000 bindings: each for itself, or with `atomic` all of them or none.

    The results are in the order of the request. An atomic batch with a refused binding is answered 422, and nothing is
    stored.
    """
    atomic = read_query(request, BatchQuery).atomic
    items = (await read_body(request, BatchBody, most=MAX_BATCH_BODY)).bindings
    parsed: list[tuple[str, Binding | FieldError]] = []
    for start in range(0, len(items), _SLICE):
        parsed += parse_batch(items[start : start + _SLICE], start)
        await asyncio.sleep(0)
    wanted = [one for _, one in parsed if isinstance(one, Binding)]
    if atomic and len(wanted) < len(parsed):
        return _batch_refused(
            [(subs_id, one if isinstance(one, FieldError) else None) for subs_id, one in parsed]
        )
    registered = iter(await services.registry.register(wanted, atomic=atomic) if wanted else ())
    results: list[BatchOutcome] = [
        (subs_id, one if isinstance(one, FieldError) else next(registered)) for subs_id, one in parsed
    ]
    if atomic and any(isinstance(result, Refusal) for _, result in results):
        return _batch_refused(
            [(subs_id, one if isinstance(one, Refusal) else None) for subs_id, one in results]
        )
    return reply({"results": _results(results)})


async def history(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Return what the provider answered about a binding, how its route changed, and what was ordered, newest first.

    Equal answers in a row are one entry with a count. Orders for its pool and for all pools are among the orders. Who
    gave them, and why, needs scope `admin`.
    """
    query = read_query(request, HistoryQuery)
    binding = _row(request, services).binding
    before, before_order = None, None
    if query.cursor:
        if not (match := _CURSOR.fullmatch(query.cursor)):
            raise Refusal(400, Code.INVALID_CURSOR, "is not a cursor of this list", "cursor")
        before, before_order = (int(match[1]), int(match[2])), int(match[3] or 0)
    runs, changes = await services.store.history(binding.subs_id, before=before, limit=query.limit)
    concerning = OrderFilter(concerns=(binding.subs_id, binding.pool_key))
    given = await services.orders.page(concerning, limit=query.limit, before_id=before_order)
    cursor = ""
    if query.limit in (len(runs), len(changes), len(given)):
        last_run = runs[-1]["first_seq"] if runs else 0
        last_change = changes[-1]["index"] if changes else 0
        last_order = given[-1].order.id if given else 0
        cursor = f"{last_run}.{last_change}.{last_order}"
    return reply(
        {
            "results": [encode_run(run) for run in runs],
            "changes": [encode_change(change) for change in changes],
            "orders": orders.shown(given, client),
            "cursor": cursor,
        }
    )


async def check(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Ask the provider about a binding and wait up to `timeout` seconds for its answer.

    202 means that it has not answered in time; the check continues.
    """
    query = read_query(request, CheckQuery)
    subs_id = _row(request, services).binding.subs_id
    ended = await services.on_demand.check_now(subs_id, timeout=query.timeout, forced=True)
    match ended.outcome:
        case OnDemandOutcome.UNKNOWN:
            raise _unknown()
        case OnDemandOutcome.SPENT:
            return problem(
                429,
                Code.BUDGET_SPENT,
                "the budget of provider calls is spent for now",
                headers={hdrs.RETRY_AFTER: str(max(1, round(ended.retry_after + 0.5)))},
            )
        case OnDemandOutcome.ANSWERED | OnDemandOutcome.FAILED | OnDemandOutcome.LATE:
            data = {
                "outcome": ended.outcome,
                "result": ended.result,
                "route": encode_route(services.lookup.shown(_row(request, services))),
            }
            return reply(data, 202 if ended.outcome is OnDemandOutcome.LATE else 200)
        case _:
            assert_never(ended.outcome)


async def explain(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Explain the route that readers without a caller get.

    `sentences` are for people. The other fields are the data behind them: the observation, the override, the next
    check, and the latest answers. The override's author and reason are shown only with scope `admin`.
    """
    subs_id = _row(request, services).binding.subs_id
    runs = list[dict[str, Any]]()
    try:
        runs, _ = await services.store.history(subs_id, limit=_LATEST)
        results = [encode_run(run) for run in runs]
    except StoreUnavailable:
        results = None
    row = _row(request, services)
    shown = services.lookup.shown(row)
    return reply(
        {
            "sentences": sentences(services, row, shown, runs),
            "route": encode_route(shown),
            "observed": _observed(row.state),
            "override": overrides.shown(row, row.override, client) if row.override else None,
            "plan": encode_plan(services.checker.plan.explain(subs_id)),
            "results": results,
        }
    )


def sentences(
    services: Services,
    row: Row,
    route: Route,
    runs: Sequence[Mapping[str, Any]],
    language: Language = Language.EN,
) -> list[str]:
    """Explain the route of a row. `runs` are its latest replies, newest first; they name the RequestId behind it."""
    return explain_route(
        row,
        route,
        services.settings.policy,
        request_id=_request_id(row, runs),
        plan=services.checker.plan.next_check(row.binding.subs_id),
        language=language,
    )


def _request_id(row: Row, runs: Sequence[Mapping[str, Any]]) -> str:
    """The RequestId of the newest reply that said what the binding's state is, "" if it is not among these."""
    state = row.state
    said = {CheckResult.IN_EFFECT, CheckResult.GONE}
    return next(
        (
            str(run["request_id"])
            for run in runs
            if run["generation"] == row.binding.generation
            and (run["status"] == state.status if state.status else run["result"] in said)
        ),
        "",
    )


def _observed(state: BindingState) -> dict[str, Any]:
    """Return the stored observation. Its number is masked, since with Status 3 it is a real one."""
    data = asdict(state)
    data["number"] = mask(state.number)
    for name in ("checked_at", "temp_at", "exposed_at", "gone_at"):
        data[name] = moment(data[name])
    data["moves"] = [moment(at) for at in state.moves]
    return data


def encode_plan(plan: dict[str, object] | None) -> dict[str, object] | None:
    if plan is None:
        return None
    return {name: _figure(name, value) for name, value in plan.items()}


def _figure(name: str, value: object) -> object:
    if not isinstance(value, float):
        return value
    if name.endswith("_at"):
        return moment(value)
    return micro(value) if name == "age" else significant(value)


async def _audited(services: Services, client: Client, query: ExportQuery, cursor: str) -> TablePage:
    """Return bindings after `cursor`, once the exposure of their numbers has been audited."""
    found = services.table.page(cursor, _SLICE, partial(_keep, query))
    if found.rows:
        await services.audit.hand_out(found.rows, client.name, EXPORTED, fold=0.0)
    return found


def _unaudited() -> web.Response:
    detail = "real numbers are returned only once that is audited, and the database is not available"
    return problem(503, Code.AUDIT_UNAVAILABLE, detail, headers={hdrs.RETRY_AFTER: "5"})


def _keep(query: ExportQuery, row: Row) -> bool:
    binding = row.binding
    if query.pool_key not in (None, binding.pool_key) or query.origin not in (None, binding.origin):
        return False
    # A key may contain either sign, so each label is spelt both ways instead of splitting what was asked for.
    return query.label is None or any(
        query.label in (f"{key}={value}", f"{key}:{value}") for key, value in binding.labels
    )


def _batch_refused(results: Sequence[BatchOutcome]) -> web.Response:
    refused = [item for item in _results(results) if item["error"]]
    detail = f"{len(refused)} of {len(results)} are refused; nothing was stored. {refused[0]['error']}"
    field = refused[0]["error"].partition(": ")[0]
    return problem(422, Code.BATCH_REFUSED, detail, field, results=_results(results))


def _results(results: Sequence[BatchOutcome]) -> list[dict[str, str]]:
    return [_result(index, subs_id, result) for index, (subs_id, result) in enumerate(results)]


def _result(
    index: int, subs_id: str, result: RegistrationOutcome | Refusal | FieldError | None
) -> dict[str, str]:
    match result:
        case None:
            return {"subs_id": subs_id, "result": "not_stored", "error": ""}
        case RegistrationOutcome():
            return {"subs_id": subs_id, "result": result, "error": ""}
        case FieldError():
            error = f"{result.field}: {result.detail}"
        case Refusal():
            error = f"bindings[{index}].{result.field}: {result}"
        case _:
            assert_never(result)
    return {"subs_id": subs_id, "result": "refused", "error": error}


def _row(request: web.Request, services: Services) -> Row:
    row = services.table.get(request.match_info["subs_id"])
    if row is None:
        raise _unknown()
    return row


def _unknown() -> Refusal:
    return Refusal(404, Code.UNKNOWN_BINDING, "there is no binding with this id")
