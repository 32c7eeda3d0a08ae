"""Routes: what to dial now. `encode_route` makes a plain dict by hand, since every read of a route runs it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from precall.api.schemas.fields import (
    OPTIONAL,
    Body,
    Caller,
    Number,
    QueryModel,
    ResponseModel,
    RestoresPlus,
    Seconds,
    TableQuery,
    Timeout,
    moment,
    second,
)
from precall.core.model import Action, Flag, Reason, Route, State, Would
from precall.core.routing.good_until import good_until

MAX_LOOKUP = 1000


class RouteQuery(QueryModel):
    """How a route is read."""

    caller: Annotated[Caller | None, RestoresPlus] = None
    max_age: Annotated[
        Seconds | None, Field(description="Check the route first if it is older than this many seconds.")
    ] = None
    timeout: Annotated[Timeout, Field(description="How many seconds to wait for that check.")] = 0.3
    dial: Annotated[bool, Field(description="Whether this read is for a dial, and counts as one.")] = True
    format: Annotated[
        Literal["json", "text"], Field(description="`text` is `ACTION,NUMBER` or `ACTION,NUMBER,EXTENSION`.")
    ] = "json"


class NumberQuery(RouteQuery):
    """How a route is found by its number X."""

    x: Annotated[Number, RestoresPlus, Field(description="The number X, in any spelling.")]


class RoutesQuery(TableQuery):
    """Which routes are listed."""

    action: Annotated[Action | None, Field(description="Only routes with this action.")] = None
    state: Annotated[State | None, Field(description="Only routes in this state.")] = None
    pool_key: Annotated[str | None, Field(description="Only routes of this pool.")] = None
    stale: Annotated[bool | None, Field(description="Only routes that are stale, or that are not.")] = None


class LookupBody(Body):
    """The ids of the wanted routes, and the calling number."""

    subs_ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=MAX_LOOKUP)]
    caller: Caller = ""


class WouldAnswer(ResponseModel):
    """What precall would say if the pool were not only observed. It names no number."""

    action: Action
    reason: Reason


class RouteAnswer(ResponseModel):
    """What to dial for a binding now, and why.

    `age_ms` is the age of the latest check, -1 before the first one. `retry_after` is in seconds, 0 where asking again
    would not help. `index` is the index of the change that made this route. `would` is present only if the pool is
    observed (`policy.observe`).
    """

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
    good_until: str = Field(
        description="The moment from which the route must not be acted on without asking again. Keep it no longer, and"
        " drop it when it changes. It is no part of the ETag, and for `dial_real` the moment of the answer.",
        json_schema_extra={"format": "date-time"},
    )
    version: int
    index: int
    would: WouldAnswer = OPTIONAL


class RoutePage(ResponseModel):
    """One page of routes. `cursor` is that of the next page, "" at the end."""

    routes: list[RouteAnswer]
    cursor: str


class LookupAnswer(ResponseModel):
    """The routes of the known ids in the order of the request, and the unknown ids."""

    routes: list[RouteAnswer]
    unknown: list[str]


def encode_route(route: Route) -> dict[str, Any]:
    """Return a route as the JSON object that `RouteAnswer` describes."""
    age = route.age
    encoded = {
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
        "good_until": moment(good_until(route)),
        "version": route.version,
        "index": route.index,
    }
    if route.would is not None:
        encoded["would"] = encode_would(route.would)
    return encoded


def encode_would(would: Would) -> dict[str, Any]:
    """Return what an observed route would say as the JSON object that `WouldAnswer` describes."""
    return {"action": would.action, "reason": would.reason}


def route_text(route: Route) -> str:
    """Return a route as `ACTION,NUMBER`, followed by `,EXTENSION` if there is one."""
    line = f"{route.action},{route.number}"
    return f"{line},{route.extension}" if route.extension else line
