"""The operations for operators: orders, the state of the system, source, audit, and the daemon itself."""

from precall.api.handlers import (
    dials,
    exposures,
    operations,
    orders,
    overrides,
    persons,
    sources,
    status,
)
from precall.api.operation import Operation
from precall.api.schemas.exposures import ExposurePage, ExposuresQuery
from precall.api.schemas.operations import (
    BrakeAnswer,
    HealthAnswer,
    PausedAnswer,
    PoolBody,
    ReadyAnswer,
    ReadyQuery,
    ReloadAnswer,
)
from precall.api.schemas.orders import OrderPage, OrdersQuery
from precall.api.schemas.overrides import OverrideBody, PinnedAnswer
from precall.api.schemas.persons import ErasedAnswer, ErasureBody, PersonAnswer, PersonBody
from precall.api.schemas.sources import ApplyBody, SourceAnswer
from precall.api.schemas.status import StatusAnswer

OPERATOR_ENDPOINTS: tuple[Operation, ...] = (
    # -- orders ---------------------------------------------------------------------------------------
    Operation(
        "GET",
        "/v1/orders",
        "admin",
        orders.page,
        "List overrides, pauses and brakes",
        {200: OrderPage},
        query=OrdersQuery,
        problems=(503,),
    ),
    Operation(
        "PUT",
        "/v1/overrides/{subs_id}",
        "admin",
        overrides.put,
        "Override the route of a binding",
        {200: PinnedAnswer},
        body=OverrideBody,
        problems=(404, 503),
    ),
    Operation(
        "DELETE",
        "/v1/overrides/{subs_id}",
        "admin",
        overrides.delete,
        "Remove the override of a binding",
        {204: None},
        problems=(404, 503),
    ),
    Operation(
        "POST",
        "/v1/brake/engage",
        "admin",
        operations.engage,
        "Stop handing out real numbers",
        {200: BrakeAnswer},
        body=PoolBody,
        problems=(404, 503),
    ),
    Operation(
        "POST",
        "/v1/brake/release",
        "admin",
        operations.release,
        "Allow real numbers again",
        {200: BrakeAnswer},
        body=PoolBody,
        problems=(404, 503),
    ),
    Operation(
        "POST",
        "/v1/pause",
        "admin",
        operations.pause,
        "Pause background checks",
        {200: PausedAnswer},
        body=PoolBody,
        problems=(404, 503),
    ),
    Operation(
        "POST",
        "/v1/resume",
        "admin",
        operations.resume,
        "Resume background checks",
        {200: PausedAnswer},
        body=PoolBody,
        problems=(404, 503),
    ),
    Operation(
        "GET", "/v1/status", "routes:read", status.show, "Get the state of the system", {200: StatusAnswer}
    ),
    Operation(
        "GET",
        "/v1/source",
        "admin",
        sources.show,
        "Get the result of the latest sync",
        {200: SourceAnswer},
        problems=(404,),
    ),
    Operation(
        "POST",
        "/v1/source/apply",
        "admin",
        sources.apply,
        "Sync with the source now",
        {200: SourceAnswer},
        body=ApplyBody,
        problems=(404, 503),
    ),
    Operation(
        "GET",
        "/v1/exposures",
        "admin",
        exposures.page,
        "List exposures of real numbers",
        {200: ExposurePage},
        query=ExposuresQuery,
        problems=(503,),
    ),
    Operation(
        "POST",
        "/v1/persons/find",
        "admin",
        persons.find,
        "Find what is held about a number",
        {200: PersonAnswer},
        body=PersonBody,
        problems=(503,),
    ),
    Operation(
        "POST",
        "/v1/persons/erase",
        "admin",
        persons.erase,
        "Erase what is held about a number",
        {200: ErasedAnswer},
        body=ErasureBody,
        problems=(503,),
    ),
    Operation(
        "GET", "/v1/dials", "admin", dials.log, "Download the dial log", {200: dials.LINES}, problems=(503,)
    ),
    Operation(
        "POST",
        "/-/reload",
        "admin",
        operations.reload,
        "Reload the configuration",
        {200: ReloadAnswer},
        problems=(422,),
    ),
    # -- the daemon -----------------------------------------------------------------------------------
    Operation("GET", "/metrics", "metrics", operations.metrics, "Get all metrics", {200: "text/plain"}),
    Operation(
        "GET",
        "/healthz",
        None,
        operations.health,
        "Check that the daemon is alive",
        {200: HealthAnswer, 503: HealthAnswer},
    ),
    Operation(
        "GET",
        "/readyz",
        None,
        operations.readiness,
        "Check that the daemon is ready",
        {200: ReadyAnswer, 503: ReadyAnswer},
        query=ReadyQuery,
    ),
    Operation(
        "GET", "/openapi.json", None, operations.document, "Get this document", {200: "application/json"}
    ),
    Operation(
        "GET", "/runbook", None, operations.explain_findings, "Get the runbook as a page", {200: "text/html"}
    ),
)
