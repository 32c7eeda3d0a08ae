"""Calls: reported, pushed, listed and summed up."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

import orjson
from pydantic import BeforeValidator, Field, RootModel, WithJsonSchema, model_validator

from precall.api.schemas.fields import (
    CURSOR,
    OPTIONAL,
    Body,
    Moment,
    PageQuery,
    QueryModel,
    ResponseModel,
    SubsId,
    moment,
    seconds,
)
from precall.core.calls.call import Call, CallResult, CallSource, first_try, with_outcome
from precall.core.calls.causes import AT_FAULT, NO_DETAIL, meaning
from precall.core.calls.observed import ObservedCalls, ObservedExample, Proportion
from precall.core.calls.products import LARGEST, PRODUCTS, product_name, product_number
from precall.core.calls.statistics import CallCounts, CallGroup, ReportBy
from precall.core.model import Action, Reason, State
from precall.store import PollBacklog

MAX_CALLS = 1000
A_CALL = r"([0-9]{1,12}(?:\.[0-9]{1,9})?)~([!-~]{1,128})"
"""The cursor of a list of calls: when a call was placed, and its id."""
AHEAD = 300.0
"""Seconds that the clock of a dispatcher may be ahead."""


def _product(value: object) -> object:
    return product_number(value) if isinstance(value, str) else value


Period = Annotated[float, Field(gt=0, le=366 * 86_400, allow_inf_nan=False)]
CallId = Annotated[str, Field(pattern=r"^[!-~]{1,128}$", examples=["116012854210^102314050"])]
ProdId = Annotated[
    int,
    BeforeValidator(_product),
    Field(ge=0, le=LARGEST),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": LARGEST},
                {"type": "string", "enum": list(PRODUCTS)},
                {"type": "string", "pattern": "^[0-9]{1,18}$"},
            ],
            "examples": [11000000300006, "voice-notification"],
        }
    ),
]


class CallBody(Body):
    """A placed call, with `prod_id`, `outcome` or both.

    `prod_id` is the voice product that placed the call, as its number or name; with it the provider is asked how the
    call ended. `outcome` is how the dispatcher saw it end. The provider says nothing of calls of its voice robot, so
    report those with `outcome` alone.
    """

    call_id: CallId
    called_at: Moment
    subs_id: SubsId
    prod_id: ProdId = 0
    outcome: Literal["connected", "failed", "busy", "no_answer"] | None = None

    @model_validator(mode="after")
    def _can_be_known(self) -> "CallBody":
        if not self.prod_id and self.outcome is None:
            raise ValueError("needs prod_id or outcome: without prod_id the provider cannot be asked")
        return self

    def call(self, now: float) -> Call:
        """Return the call in the terms of the core. `now` is in Unix seconds."""
        called_at = seconds(self.called_at)
        call = Call(
            call_id=self.call_id,
            called_at=called_at,
            reported_at=now,
            subs_id=self.subs_id,
            prod_id=self.prod_id,
            next_at=first_try(called_at, now) if self.prod_id else None,
        )
        return call if self.outcome is None else with_outcome(call, self.outcome)


class CallsBody(RootModel[CallBody | Annotated[list[CallBody], Field(max_length=MAX_CALLS)]]):
    """A placed call, or a list of calls."""


class ReceiptsBody(RootModel[list[dict[str, Any]]]):
    """Receipts as the provider pushes them: SecretReport and SecretExceptionPhoneReport."""


class CallsQuery(PageQuery):
    """Which calls are listed."""

    cursor: Annotated[str, Field(description=CURSOR, json_schema_extra={"pattern": f"^$|^{A_CALL}$"})] = ""
    result: Annotated[CallResult | None, Field(description="Only calls with this result.")] = None
    subs_id: Annotated[SubsId | None, Field(description="Only calls of this binding.")] = None


class ReportQuery(QueryModel):
    """How far the report looks back, and at which calls."""

    within: Annotated[Period, Field(description="How many seconds to look back.")] = 86_400.0
    since: Annotated[
        Period | None,
        Field(
            description="The earlier name of `within`. It overrides `within`.",
            json_schema_extra={"deprecated": True},
        ),
    ] = None
    pool_key: Annotated[str | None, Field(description="Only calls of this pool.")] = None
    by: Annotated[
        ReportBy | None,
        Field(
            description="Also put the calls together in `groups`: by the hour when they were placed (UTC), by pool, by"
            " the state of the route when dialled, or by the cause of their end."
        ),
    ] = None

    @property
    def seconds(self) -> float:
        """How many seconds to look back."""
        return self.within if self.since is None else self.since


class CallAnswer(ResponseModel):
    """A call and how it ended.

    `product` is the name of `prod_id`, "" if it has none. `route_action` is what precall decided when the call was
    placed, "" if unknown; in an observed pool, what it would have said. `duration` is in seconds, -1 if unknown.
    `next_at` is when the provider will be asked about the call, "" if it will not be.
    """

    call_id: str
    subs_id: str
    pool_key: str
    prod_id: int
    product: str
    called_at: str
    reported_at: str
    route_state: State | Literal[""]
    route_action: Action | Literal[""]
    result: CallResult
    source: CallSource
    state: str
    meaning: str
    duration: float
    next_at: str
    detail: dict[str, Any]


class BacklogAnswer(ResponseModel):
    """Calls that wait for the provider's result: all, those due now, and for how long the first has been due."""

    waiting: int
    due: int
    age_seconds: float


class CallPage(ResponseModel):
    """One page of calls, the latest first. `cursor` is that of the next page, "" at the end."""

    calls: list[CallAnswer]
    cursor: str
    backlog: BacklogAnswer


class ReportedCall(ResponseModel):
    """The result of one report. `known` means that it held nothing new."""

    call_id: str
    result: Literal["stored", "known", "refused"]
    error: str


class ReportedAnswer(ResponseModel):
    """The results of the reports, in the order of the request."""

    results: list[ReportedCall]


class ReceiptAnswer(ResponseModel):
    """The acknowledgement that the provider expects."""

    code: Literal[0]
    msg: str


class CauseAnswer(ResponseModel):
    """Calls that did not connect, by cause."""

    state: str
    meaning: str
    at_fault: bool
    calls: int


class TallyAnswer(ResponseModel):
    """Calls by how they ended.

    `wrong` is the share of ended calls that failed for a reason that can be the fault of the number dialled.
    """

    placed: int
    connected: int
    failed: int
    not_connected: int
    unverified: int
    pending: int
    wrong: float


class PoolTallyAnswer(TallyAnswer):
    """Calls of one pool by the state of the route when it was dialled, "" if unknown."""

    pool_key: str
    route_state: State | Literal[""]


class ProportionAnswer(ResponseModel):
    """`calls` of `of` calls that precall would have sent another way or held back, and how many by which action.

    The true share lies between `low` and `high` with 95 % confidence (Wilson score interval).
    """

    calls: int
    of: int
    share: float
    low: float
    high: float
    dial_temp_x: int
    dial_real: int
    hold: int
    expired: int


class ObservedExampleAnswer(ResponseModel):
    """A call that precall would have sent another way, with its route of that moment.

    `request_id` is that of the provider's answer behind the route.
    """

    call_id: str
    subs_id: str
    called_at: str
    result: CallResult
    action: Action
    reason: Reason
    request_id: str


class ObservedPoolAnswer(ResponseModel):
    """Ended calls of a pool, placed while it was only observed, by what precall's route of that moment said.

    `avoided` are failed calls, `changed` connected ones. `not_connected` calls ended for a reason that no number is to
    blame for. Calls without a route on record are `unknown`, and counted nowhere else.
    """

    pool_key: str
    calls: int
    unknown: int
    not_connected: int
    avoided: ProportionAnswer
    changed: ProportionAnswer
    examples: list[ObservedExampleAnswer]


class CallGroupAnswer(ResponseModel):
    """Calls that have an hour, a pool, a state or a cause in common: `placed` of them.

    Of `of` ended ones, `calls` failed for a reason that can be the fault of the number. In a group by cause, `calls`
    are those with this cause, and `of` all ended calls. The true share lies between `low` and `high` with 95 %
    confidence (Wilson score interval). An hour is named by its start; the name of an unknown pool or state is "".
    `meaning` and `at_fault` (whether it can be the number's fault) are there for a cause only.
    """

    group: str
    placed: int
    calls: int
    of: int
    share: float
    low: float
    high: float
    meaning: str = OPTIONAL
    at_fault: bool = OPTIONAL


class ReportAnswer(ResponseModel):
    """How the calls of a period ended.

    `observed` has the pools that were only observed in it, `groups` what the query put together by `by`.
    """

    since: str
    until: str
    total: TallyAnswer
    by_route: list[PoolTallyAnswer]
    causes: list[CauseAnswer]
    observed: list[ObservedPoolAnswer]
    groups: list[CallGroupAnswer] = OPTIONAL


def encode_call(call: Call) -> dict[str, Any]:
    """Return a call as JSON."""
    return {
        "call_id": call.call_id,
        "subs_id": call.subs_id,
        "pool_key": call.pool_key,
        "prod_id": call.prod_id,
        "product": product_name(call.prod_id),
        "called_at": moment(call.called_at),
        "reported_at": moment(call.reported_at),
        "route_state": call.route_state,
        "route_action": call.route_action,
        "result": call.result,
        "source": call.source,
        "state": call.state,
        "meaning": _meaning(call),
        "duration": -1 if call.duration is None else call.duration,
        "next_at": "" if call.next_at is None else moment(call.next_at),
        "detail": orjson.loads(call.detail),
    }


def _meaning(call: Call) -> str:
    if call.result is CallResult.UNVERIFIED and not call.state:
        return f"the provider has no detail of this call: {NO_DETAIL}"
    return meaning(call.state) if call.state else ""


def encode_backlog(backlog: PollBacklog, now: float) -> dict[str, Any]:
    """Return the backlog of the call poller as JSON. `now` is in Unix seconds."""
    age = 0.0 if backlog.due_since is None else max(0.0, now - backlog.due_since)
    return {"waiting": backlog.waiting, "due": backlog.due, "age_seconds": round(age, 3)}


def encode_tally(tally: CallCounts) -> dict[str, Any]:
    """Return counts and the share of wrong routes as JSON."""
    return {**asdict(tally), "wrong": round(tally.wrong, 6)}


def encode_cause(state: str, calls: int) -> dict[str, Any]:
    """Return how many calls did not connect for one cause as JSON."""
    return {"state": state, "meaning": meaning(state), "at_fault": state in AT_FAULT, "calls": calls}


def encode_observed(pool_key: str, found: ObservedCalls) -> dict[str, Any]:
    """Return what precall would have done for the calls of an observed pool as JSON."""
    return {
        "pool_key": pool_key,
        "calls": found.calls,
        "unknown": found.unknown,
        "not_connected": found.not_connected,
        "avoided": _proportion(found.avoided, found.failed),
        "changed": _proportion(found.changed, found.connected),
        "examples": [_example(one) for one in found.examples],
    }


def encode_group(found: CallGroup, by: ReportBy) -> dict[str, Any]:
    """Return a group of calls as JSON."""
    shown = {"group": found.name, "placed": found.placed, **_share(found.found)}
    if by is ReportBy.CAUSE:
        shown |= {"meaning": meaning(found.name), "at_fault": found.name in AT_FAULT}
    return shown


def _proportion(proportion: Proportion, actions: Mapping[str, int]) -> dict[str, Any]:
    by_action = {str(action): actions.get(action, 0) for action in Action if action is not Action.DIAL_X}
    return {**_share(proportion), **by_action}


def _share(proportion: Proportion) -> dict[str, Any]:
    low, high = proportion.interval
    return {
        "calls": proportion.part,
        "of": proportion.whole,
        "share": round(proportion.share, 6),
        "low": round(low, 6),
        "high": round(high, 6),
    }


def _example(example: ObservedExample) -> dict[str, Any]:
    shown = asdict(example) | {"called_at": moment(example.called_at)}
    del shown["pool_key"]
    return shown
