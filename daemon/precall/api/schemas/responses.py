"""What leaves: values of the core as JSON, and the pydantic models that describe it in the OpenAPI document.

The encoders make plain dicts by hand, since one of them is the hot path; tests hold them against the models.
Numbers are strings, "" for none and never null; times are RFC 3339 in UTC.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Literal

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field

from precall.api.problems import HEADERS, Code
from precall.core.model import Action, Binding, Flag, Override, Reason, Route, Row, State
from precall.core.numbers import mask
from precall.core.rounding import micro
from precall.core.routing.registration import RegistrationOutcome, pinned_number
from precall.core.routing.route import usable
from precall.core.sync.plan import SyncOutcome


def reply(data: Any, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(
        status=status, body=orjson.dumps(data), headers=HEADERS, content_type="application/json"
    )


def told(route: Route, form: Literal["json", "text"]) -> web.Response:
    """One route, with the tag of what it says: everything but its age."""
    if form == "text":
        body = text(route).encode()
        tag = blake2b(body, digest_size=9).hexdigest()
        kind = "text/plain; charset=utf-8"
    else:
        data = encode(route)
        age, data["age_ms"] = data["age_ms"], 0
        tag = blake2b(orjson.dumps(data), digest_size=9).hexdigest()
        data["age_ms"] = age
        body = orjson.dumps(data)
        kind = "application/json; charset=utf-8"
    return web.Response(body=body, headers={**HEADERS, hdrs.CONTENT_TYPE: kind, hdrs.ETAG: f'"{tag}"'})


def unchanged(response: web.Response) -> web.Response:
    """The 304 that stands for this answer."""
    return web.Response(status=304, headers={**HEADERS, hdrs.ETAG: response.headers[hdrs.ETAG]})


def encode(route: Route) -> dict[str, Any]:
    """A route as it is promised, key by key."""
    age = route.age
    return {
        "subs_id": route.subs_id,
        "action": route.action,
        "number": route.number,
        "extension": route.extension,
        "state": route.state,
        "reason": route.reason,
        "status": route.status,
        "checked_at": moment(route.checked_at),
        "age_ms": -1 if age is None else int(age * 1000),
        "stale": route.stale,
        "retry_after": route.retry_after,
        "flags": route.flags,
        "expires_at": second(route.expires_at),
        "version": route.version,
        "index": route.index,
    }


def text(route: Route) -> str:
    """`ACTION,NUMBER`, and the extension behind when there is one."""
    line = f"{route.action},{route.number}"
    return f"{line},{route.extension}" if route.extension else line


def encode_binding(binding: Binding, *, real: bool) -> dict[str, Any]:
    """A binding as it was registered; A and B masked unless the reader may see real numbers."""
    return {
        "subs_id": binding.subs_id,
        "pool_key": binding.pool_key,
        "number_x": binding.number_x,
        "number_a": binding.number_a if real else mask(binding.number_a),
        "number_b": binding.number_b if real else mask(binding.number_b),
        "extension": binding.extension,
        "expires_at": second(binding.expires_at),
        "labels": dict(binding.labels),
    }


def encode_override(row: Row, override: Override) -> dict[str, Any]:
    """The pin of this row. Its number is X or a temporary one as it stands now, never a real one."""
    return {
        "action": override.action,
        "number": pinned_number(row) if usable(row, pinned_number(row)) else "",
        "until": second(override.until),
        "reason": override.reason,
        "created_at": moment(override.created_at),
        "created_by": override.created_by,
    }


def encode_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run of equal replies. The number told is masked: it may be a real one."""
    return {
        "result": run["result"],
        "status": run["status"],
        "number": mask(run["number"]),
        "extension": run["extension"],
        "code": run["code"],
        "request_id": run["request_id"],
        "count": run["count"],
        "first_at": moment(run["first_at"]),
        "last_at": moment(run["last_at"]),
        "seconds": micro(run["seconds"]),
        "generation": run["generation"],
    }


def encode_change(change: Mapping[str, Any]) -> dict[str, Any]:
    """A change of the route, as readers without a caller were told of it."""
    return {
        "index": change["index"],
        "version": change["version"],
        "at": moment(change["at"]),
        "cause": change["cause"],
        "from_state": change["from_state"],
        "to_state": change["to_state"],
        "action": change["action"],
        "number": change["number"],
        "extension": change["extension"],
        "reason": change["reason"],
        "status": change["status"],
        "flags": [flag for flag in change["flags"].split(",") if flag],
        "request_id": change["request_id"],
        "expires_at": second(change["expires_at"]),
        "generation": change["generation"],
    }


def encode_exposure(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the audit."""
    return {
        "subs_id": row["subs_id"],
        "generation": row["generation"],
        "pool_key": row["pool_key"],
        "reader": row["reader"],
        "side": row["side"],
        "reason": row["reason"],
        "request_id": row["request_id"],
        "first_at": moment(row["first_at"]),
        "last_at": moment(row["last_at"]),
        "count": row["count"],
    }


def moment(at: float) -> str:
    """A time to the millisecond; "" for 0, which is never."""
    return f"{datetime.fromtimestamp(at, UTC).isoformat(timespec='milliseconds')[:23]}Z" if at else ""


def second(at: float | None) -> str:
    """A time to the second; "" for none."""
    return "" if at is None else f"{datetime.fromtimestamp(int(at), UTC).isoformat()[:19]}Z"


class ResponseModel(BaseModel):
    """What a 2xx body looks like. Members may be added."""

    model_config = ConfigDict(extra="forbid")


class RouteAnswer(ResponseModel):
    """What a dispatcher must do now."""

    subs_id: str
    action: Action
    number: str
    extension: str
    state: State
    reason: Reason
    status: int = Field(ge=0, le=4)
    checked_at: str
    age_ms: int = Field(ge=-1)
    stale: bool
    retry_after: int = Field(ge=0)
    flags: list[Flag]
    expires_at: str
    version: int
    index: int


class RoutePage(ResponseModel):
    """Some routes, and the cursor of the next page ("": the end)."""

    routes: list[RouteAnswer]
    cursor: str


class ChangesAnswer(ResponseModel):
    """Changed routes in the order of their changes, and the index to go on from."""

    index: int
    changes: list[RouteAnswer]


class LookupAnswer(ResponseModel):
    """The routes of the known ids, in the order asked, and the ids that are not known."""

    routes: list[RouteAnswer]
    unknown: list[str]


class HintsAnswer(ResponseModel):
    """How many hints were taken, and the ids that are not known or have expired."""

    taken: int
    unknown: list[str]


class BindingAnswer(ResponseModel):
    """A binding as it was registered."""

    subs_id: str
    pool_key: str
    number_x: str
    number_a: str
    number_b: str
    extension: str
    expires_at: str
    labels: dict[str, str]


class BindingPage(ResponseModel):
    """Some bindings, and the cursor of the next page ("": the end)."""

    bindings: list[BindingAnswer]
    cursor: str


class BatchResult(ResponseModel):
    """What became of one binding; `not_stored`: nothing, because another of an atomic batch was refused."""

    subs_id: str
    result: RegistrationOutcome | Literal["refused", "not_stored"]
    error: str


class BatchAnswer(ResponseModel):
    """What became of each, in order."""

    results: list[BatchResult]


class RunAnswer(ResponseModel):
    """Equal replies of the provider in a row."""

    result: str
    status: int
    number: str
    extension: str
    code: str
    request_id: str
    count: int
    first_at: str
    last_at: str
    seconds: float
    generation: int


class ChangeAnswer(ResponseModel):
    """One change of a route."""

    index: int
    version: int
    at: str
    cause: str
    from_state: str
    to_state: str
    action: Action
    number: str
    extension: str
    reason: Reason
    status: int
    flags: list[Flag]
    request_id: str
    expires_at: str
    generation: int


class HistoryAnswer(ResponseModel):
    """Runs and changes of one binding, newest first."""

    results: list[RunAnswer]
    changes: list[ChangeAnswer]
    cursor: str


class CheckAnswer(ResponseModel):
    """How a check ended, and the route as it stands now."""

    outcome: Literal["answered", "failed", "late"]
    result: str
    route: RouteAnswer


class OverrideAnswer(ResponseModel):
    """A pin."""

    action: Action
    number: str
    until: str
    reason: str
    created_at: str
    created_by: str


class PinnedAnswer(ResponseModel):
    """The pin as stored, and the route it makes."""

    override: OverrideAnswer
    route: RouteAnswer


class ExplainAnswer(ResponseModel):
    """Why a binding has its route: what is observed, ordered and planned, and the latest replies.

    `results` is null when the database cannot be read.
    """

    route: RouteAnswer
    observed: dict[str, Any]
    override: OverrideAnswer | None
    plan: dict[str, Any] | None
    results: list[RunAnswer] | None


class ExposureAnswer(ResponseModel):
    """Real numbers handed to one reader, within a minute: how often, of which side of which binding, and why. A route
    says why by its own reason and the provider's RequestId; else it is binding_read or bindings_export."""

    subs_id: str
    generation: int
    pool_key: str
    reader: str
    side: Literal["a", "b"]
    reason: str
    request_id: str
    first_at: str
    last_at: str
    count: int


class ExposurePage(ResponseModel):
    """Some rows of the audit, newest first, and the cursor of the next page ("": the end)."""

    exposures: list[ExposureAnswer]
    cursor: str


class PausedAnswer(ResponseModel):
    """The pools whose background checks are paused ("" stands for all)."""

    paused: list[str]


class BrakeAnswer(ResponseModel):
    """Whether an operator has stopped the exposures of this pool ("": of all)."""

    pool_key: str
    halted: bool


class RefusedRowAnswer(ResponseModel):
    """A row of the source that is no binding, or not the source's to change."""

    subs_id: str
    column: str
    detail: str


class SourceAnswer(ResponseModel):
    """The latest sync that came to its end ("" for none yet), and why none has since.

    `rows` counts by what became of them; `removals_refused` says why removals are, "" when they are not; `refused`
    are the first twenty refused rows.
    """

    synced_at: str
    seconds: float
    rows: dict[SyncOutcome, int]
    removals_refused: str
    refused: list[RefusedRowAnswer]
    error: str


class DifferenceAnswer(ResponseModel):
    """Another value of a key of the configuration, in words; of a secret they do not tell it."""

    key: str
    before: str
    after: str


class ReloadAnswer(ResponseModel):
    """What a reload took over, and what needs a restart and stays as it was."""

    changed: list[DifferenceAnswer]
    needs_restart: list[DifferenceAnswer]


class HealthAnswer(ResponseModel):
    """Whether the check loop ticks."""

    alive: bool
    tick_age: float


class ReadyAnswer(ResponseModel):
    """Whether reads are answered, and what is amiss beside that."""

    ready: bool
    degraded: list[str]
    bindings: int
    paused: list[str]
    version: str


class MistakeAnswer(ResponseModel):
    """One of several mistakes."""

    field: str
    code: Code
    detail: str


class ProblemAnswer(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    code: Code
    detail: str
    field: str = ""
    errors: list[MistakeAnswer] = []
    subs_ids: list[str] = []
    results: list[BatchResult] = []
