"""What may be said of calls, and what is told of them: bodies, queries and answers."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

import orjson
from pydantic import BeforeValidator, Field, RootModel, model_validator

from precall.api.schemas.queries import PageQuery, QueryModel
from precall.api.schemas.requests import Body, Moment, SubsId, seconds
from precall.api.schemas.responses import ResponseModel, moment
from precall.core.calls.call import Call, CallResult, CallSource, first_try, with_outcome
from precall.core.calls.causes import AT_FAULT, meaning
from precall.core.calls.statistics import CallCounts
from precall.core.model import State
from precall.store import PollBacklog

MAX_CALLS = 1000
A_CALL = r"([0-9]{1,12}(?:\.[0-9]{1,9})?)~([!-~]{1,128})"
"""In a list of calls: when one was placed, and its id."""
AHEAD = 300.0
"""Seconds by which a dispatcher's clock may be ahead of ours."""


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


CallId = Annotated[str, Field(pattern=r"^[!-~]{1,128}$", examples=["116012854210^102314050"])]
ProdId = Annotated[int, BeforeValidator(_whole), Field(ge=0, lt=2**63, examples=[11000000300006])]


class CallBody(Body):
    """A placed call. `prod_id`: of the voice product that placed it, by which the provider is asked how it ended; or
    `outcome`: how the dispatcher saw it end; or both."""

    call_id: CallId
    called_at: Moment
    subs_id: SubsId
    prod_id: ProdId = 0
    outcome: Literal["connected", "failed", "busy", "no_answer"] | None = None

    @model_validator(mode="after")
    def _can_be_known(self) -> "CallBody":
        if not self.prod_id and self.outcome is None:
            raise ValueError(
                "needs prod_id where no outcome is told: without it the provider cannot be asked"
            )
        return self

    def call(self, now: float) -> Call:
        """The call as the core has it."""
        called_at = seconds(self.called_at)
        told = Call(
            call_id=self.call_id,
            called_at=called_at,
            reported_at=now,
            subs_id=self.subs_id,
            prod_id=self.prod_id,
            next_at=first_try(called_at, now) if self.prod_id else None,
        )
        return told if self.outcome is None else with_outcome(told, self.outcome)


class CallsBody(RootModel[CallBody | Annotated[list[CallBody], Field(max_length=MAX_CALLS)]]):
    """A placed call, or a list of them."""


class ReceiptsBody(RootModel[list[dict[str, Any]]]):
    """What the provider pushes: SecretReport and SecretExceptionPhoneReport."""


class CallsQuery(PageQuery):
    """Which calls are listed."""

    cursor: Annotated[str, Field(json_schema_extra={"pattern": f"^$|^{A_CALL}$"})] = ""
    result: CallResult | None = None
    subs_id: SubsId | None = None


class ReportQuery(QueryModel):
    """How many seconds to look back."""

    since: Annotated[float, Field(gt=0, le=366 * 86_400, allow_inf_nan=False)] = 86_400.0


class CallAnswer(ResponseModel):
    """A call and how it ended. `duration` is in seconds, -1 when not told; `next_at` is when the provider is asked
    about it, "" for not any more."""

    call_id: str
    subs_id: str
    pool_key: str
    prod_id: int
    called_at: str
    reported_at: str
    route_state: State | Literal[""]
    result: CallResult
    source: CallSource
    state: str
    meaning: str
    duration: float
    next_at: str
    detail: dict[str, Any]


class BacklogAnswer(ResponseModel):
    """Calls whose end is to be asked for, those of them that are due, and for how long the first of these is."""

    waiting: int
    due: int
    age_seconds: float


class CallPage(ResponseModel):
    """Some calls, the latest placed first, the cursor of the next page ("": the end), and what waits."""

    calls: list[CallAnswer]
    cursor: str
    backlog: BacklogAnswer


class ReportedCall(ResponseModel):
    """What became of one report; `known`: it said nothing new."""

    call_id: str
    result: Literal["stored", "known", "refused"]
    error: str


class ReportedAnswer(ResponseModel):
    """What became of each, in order."""

    results: list[ReportedCall]


class ReceiptAnswer(ResponseModel):
    """The acknowledgement the provider expects."""

    code: Literal[0]
    msg: str


class CauseAnswer(ResponseModel):
    """Calls that did not connect, by cause."""

    state: str
    meaning: str
    at_fault: bool
    calls: int


class TallyAnswer(ResponseModel):
    """Calls by how they ended. `wrong`: the share that failed by what can be the number's fault, of those whose end is
    known."""

    placed: int
    connected: int
    failed: int
    not_connected: int
    unverified: int
    pending: int
    wrong: float


class PoolTallyAnswer(TallyAnswer):
    """The same of one pool, on routes that were in one state when they were dialled ("": not known)."""

    pool_key: str
    route_state: State | Literal[""]


class ReportAnswer(ResponseModel):
    """How the calls of a time ended."""

    since: str
    until: str
    total: TallyAnswer
    by_route: list[PoolTallyAnswer]
    causes: list[CauseAnswer]


def encode_call(call: Call) -> dict[str, Any]:
    """A call as it is told."""
    return {
        "call_id": call.call_id,
        "subs_id": call.subs_id,
        "pool_key": call.pool_key,
        "prod_id": call.prod_id,
        "called_at": moment(call.called_at),
        "reported_at": moment(call.reported_at),
        "route_state": call.route_state,
        "result": call.result,
        "source": call.source,
        "state": call.state,
        "meaning": meaning(call.state) if call.state else "",
        "duration": -1 if call.duration is None else call.duration,
        "next_at": "" if call.next_at is None else moment(call.next_at),
        "detail": orjson.loads(call.detail),
    }


def encode_backlog(backlog: PollBacklog, now: float) -> dict[str, Any]:
    """What waits."""
    age = 0.0 if backlog.due_since is None else max(0.0, now - backlog.due_since)
    return {"waiting": backlog.waiting, "due": backlog.due, "age_seconds": round(age, 3)}


def encode_tally(tally: CallCounts) -> dict[str, Any]:
    """Counts, and the share of wrong routes."""
    return {**asdict(tally), "wrong": round(tally.wrong, 6)}


def encode_cause(state: str, calls: int) -> dict[str, Any]:
    """How many calls did not connect by one cause."""
    return {"state": state, "meaning": meaning(state), "at_fault": state in AT_FAULT, "calls": calls}
