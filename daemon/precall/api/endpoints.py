"""The one table of all endpoints: method, path, scope, handler, and what goes in and out. The router, the guard and the
OpenAPI document are made from it; there is no other place where a path is written."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web
from pydantic import BaseModel

from precall.api.access.authenticator import Client
from precall.api.handlers import (
    bindings,
    calls,
    changes,
    dials,
    exposures,
    hints,
    operations,
    overrides,
    routes,
    sources,
)
from precall.api.schemas.bindings import (
    BatchAnswer,
    BatchQuery,
    BindingAnswer,
    BindingBody,
    BindingPage,
    BindingsQuery,
    CheckAnswer,
    CheckQuery,
    DocumentedBatch,
    ExplainAnswer,
    ExportQuery,
    HistoryAnswer,
    HistoryQuery,
)
from precall.api.schemas.calls import (
    CallAnswer,
    CallPage,
    CallsBody,
    CallsQuery,
    ReceiptAnswer,
    ReceiptsBody,
    ReportAnswer,
    ReportedAnswer,
    ReportQuery,
)
from precall.api.schemas.changes import ChangesAnswer, ChangesQuery, FilterQuery, StreamQuery
from precall.api.schemas.exposures import ExposurePage, ExposuresQuery
from precall.api.schemas.hints import HintsAnswer, HintsBody
from precall.api.schemas.operations import (
    BrakeAnswer,
    HealthAnswer,
    PausedAnswer,
    PoolBody,
    ReadyAnswer,
    ReadyQuery,
    ReloadAnswer,
)
from precall.api.schemas.overrides import OverrideBody, PinnedAnswer
from precall.api.schemas.routes import (
    LookupAnswer,
    LookupBody,
    NumberQuery,
    RouteAnswer,
    RoutePage,
    RouteQuery,
    RoutesQuery,
)
from precall.api.schemas.sources import ApplyBody, SourceAnswer
from precall.config.schema import Scope
from precall.engine.services import Services

Handle = Callable[[web.Request, Services, Client], Awaitable[web.StreamResponse]]
Answers = dict[int, type[BaseModel] | str | None]
"""By status: a model (JSON), a media type (text), or None (no body)."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `scope` None: open to anybody. `problems` are the 4xx and 5xx beside those that follow from the
    rest; its documentation is the handler's."""

    method: str
    path: str
    scope: Scope | None
    handle: Handle
    answers: Answers
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    problems: frozenset[int] = field(default_factory=frozenset)
    tagged: bool = False


def _some(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


ENDPOINTS: tuple[Operation, ...] = (
    # The hot path stands first: of the resources under one prefix the router tries them in order.
    Operation(
        "GET",
        "/v1/routes/{subs_id}",
        "routes:read",
        routes.route,
        {200: RouteAnswer},
        query=RouteQuery,
        problems=_some(404),
        tagged=True,
    ),
    # -- routes ---------------------------------------------------------------------------------------
    Operation("GET", "/v1/routes", "routes:read", routes.page, {200: RoutePage}, query=RoutesQuery),
    Operation(
        "GET",
        "/v1/routes/by-number",
        "routes:read",
        routes.by_number,
        {200: RouteAnswer},
        query=NumberQuery,
        problems=_some(404, 409),
        tagged=True,
    ),
    Operation(
        "GET", "/v1/routes/snapshot", "routes:read", changes.snapshot, {200: changes.LINES}, query=FilterQuery
    ),
    Operation(
        "GET",
        "/v1/routes/changes",
        "routes:read",
        changes.changes,
        {200: ChangesAnswer},
        query=ChangesQuery,
        problems=_some(410, 503),
    ),
    Operation(
        "GET",
        "/v1/routes/stream",
        "routes:read",
        changes.stream,
        {200: changes.EVENTS},
        query=StreamQuery,
        problems=_some(410, 503),
    ),
    Operation(
        "POST", "/v1/routes/lookup", "routes:read", routes.lookup, {200: LookupAnswer}, body=LookupBody
    ),
    Operation(
        "POST",
        "/v1/hints",
        "routes:read",
        hints.post,
        {200: HintsAnswer},
        body=HintsBody,
        problems=_some(429),
    ),
    # -- bindings -------------------------------------------------------------------------------------
    Operation("GET", "/v1/bindings", "routes:read", bindings.page, {200: BindingPage}, query=BindingsQuery),
    Operation(
        "GET",
        "/v1/bindings/export",
        "admin",
        bindings.export,
        {200: bindings.LINES},
        query=ExportQuery,
        problems=_some(503),
    ),
    Operation(
        "POST",
        "/v1/bindings/batch",
        "bindings:write",
        bindings.batch,
        {200: BatchAnswer},
        query=BatchQuery,
        body=DocumentedBatch,
        problems=_some(503),
    ),
    Operation(
        "GET",
        "/v1/bindings/{subs_id}",
        "routes:read",
        bindings.get,
        {200: BindingAnswer},
        problems=_some(404, 503),
    ),
    Operation(
        "PUT",
        "/v1/bindings/{subs_id}",
        "bindings:write",
        bindings.put,
        {200: BindingAnswer, 201: BindingAnswer},
        body=BindingBody,
        problems=_some(409, 503),
    ),
    Operation(
        "DELETE",
        "/v1/bindings/{subs_id}",
        "bindings:write",
        bindings.delete,
        {204: None},
        problems=_some(404, 409, 503),
    ),
    Operation(
        "GET",
        "/v1/bindings/{subs_id}/history",
        "routes:read",
        bindings.history,
        {200: HistoryAnswer},
        query=HistoryQuery,
        problems=_some(404, 503),
    ),
    Operation(
        "GET",
        "/v1/bindings/{subs_id}/explain",
        "routes:read",
        bindings.explain,
        {200: ExplainAnswer},
        problems=_some(404),
    ),
    Operation(
        "POST",
        "/v1/bindings/{subs_id}/check",
        "bindings:write",
        bindings.check,
        {200: CheckAnswer, 202: CheckAnswer},
        query=CheckQuery,
        problems=_some(404, 429),
    ),
    # -- calls ----------------------------------------------------------------------------------------
    Operation("GET", "/v1/calls", "routes:read", calls.page, {200: CallPage}, query=CallsQuery),
    Operation(
        "POST",
        "/v1/calls",
        "calls:write",
        calls.post,
        {200: ReportedAnswer},
        body=CallsBody,
        problems=_some(503),
    ),
    Operation(
        "GET",
        "/v1/calls/{call_id}",
        "routes:read",
        calls.get,
        {200: CallAnswer},
        problems=_some(404, 503),
    ),
    Operation(
        "POST",
        "/v1/receipts",
        "calls:write",
        calls.receipts,
        {200: ReceiptAnswer},
        body=ReceiptsBody,
        problems=_some(503),
    ),
    Operation(
        "POST",
        "/v1/receipts/{secret}",
        None,
        calls.pushed,
        {200: ReceiptAnswer},
        body=ReceiptsBody,
        problems=_some(404, 503),
    ),
    Operation("GET", "/v1/report", "routes:read", calls.report, {200: ReportAnswer}, query=ReportQuery),
    # -- orders ---------------------------------------------------------------------------------------
    Operation(
        "PUT",
        "/v1/overrides/{subs_id}",
        "admin",
        overrides.put,
        {200: PinnedAnswer},
        body=OverrideBody,
        problems=_some(404, 503),
    ),
    Operation(
        "DELETE",
        "/v1/overrides/{subs_id}",
        "admin",
        overrides.delete,
        {204: None},
        problems=_some(404, 503),
    ),
    Operation(
        "POST",
        "/v1/brake/engage",
        "admin",
        operations.engage,
        {200: BrakeAnswer},
        body=PoolBody,
        problems=_some(404, 503),
    ),
    Operation(
        "POST",
        "/v1/brake/release",
        "admin",
        operations.release,
        {200: BrakeAnswer},
        body=PoolBody,
        problems=_some(404, 503),
    ),
    Operation(
        "POST",
        "/v1/pause",
        "admin",
        operations.pause,
        {200: PausedAnswer},
        body=PoolBody,
        problems=_some(404, 503),
    ),
    Operation(
        "POST",
        "/v1/resume",
        "admin",
        operations.resume,
        {200: PausedAnswer},
        body=PoolBody,
        problems=_some(404, 503),
    ),
    Operation("GET", "/v1/source", "admin", sources.show, {200: SourceAnswer}, problems=_some(404)),
    Operation(
        "POST",
        "/v1/source/apply",
        "admin",
        sources.apply,
        {200: SourceAnswer},
        body=ApplyBody,
        problems=_some(404, 503),
    ),
    Operation(
        "GET",
        "/v1/exposures",
        "admin",
        exposures.page,
        {200: ExposurePage},
        query=ExposuresQuery,
        problems=_some(503),
    ),
    Operation("GET", "/v1/dials", "admin", dials.log, {200: dials.LINES}, problems=_some(503)),
    Operation("POST", "/-/reload", "admin", operations.reload, {200: ReloadAnswer}, problems=_some(422)),
    # -- the daemon -----------------------------------------------------------------------------------
    Operation("GET", "/metrics", "metrics", operations.metrics, {200: "text/plain"}),
    Operation("GET", "/healthz", None, operations.health, {200: HealthAnswer, 503: HealthAnswer}),
    Operation(
        "GET",
        "/readyz",
        None,
        operations.readiness,
        {200: ReadyAnswer, 503: ReadyAnswer},
        query=ReadyQuery,
    ),
    Operation("GET", "/openapi.json", None, operations.document, {200: "application/json"}),
)
