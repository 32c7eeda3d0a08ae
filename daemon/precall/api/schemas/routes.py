"""Routes: how they are asked for, and how they are answered."""

from typing import Annotated, Any, Literal

from pydantic import Field

from precall.api.schemas.fields import (
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
from precall.core.model import Action, Flag, Reason, Route, State

MAX_LOOKUP = 1000


class RouteQuery(QueryModel):
    """How a route is read."""

    caller: Annotated[Caller | None, RestoresPlus] = None
    max_age: Seconds | None = None
    timeout: Timeout = 0.3
    dial: bool = True
    format: Literal["json", "text"] = "json"


class NumberQuery(RouteQuery):
    """How a route is found by its X."""

    x: Annotated[Number, RestoresPlus]


class RoutesQuery(TableQuery):
    """Which routes are listed."""

    action: Action | None = None
    state: State | None = None
    pool_key: str | None = None
    stale: bool | None = None


class LookupBody(Body):
    """Ids whose routes are wanted, and who is calling."""

    subs_ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=MAX_LOOKUP)]
    caller: Caller = ""


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


class LookupAnswer(ResponseModel):
    """The routes of the known ids, in the order asked, and the ids that are not known."""

    routes: list[RouteAnswer]
    unknown: list[str]


def encode_route(route: Route) -> dict[str, Any]:
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


def route_text(route: Route) -> str:
    """`ACTION,NUMBER`, and the extension behind when there is one."""
    line = f"{route.action},{route.number}"
    return f"{line},{route.extension}" if route.extension else line
