"""What may be asked behind the question mark: parameters as strict pydantic models. Bodies are `bodies`' concern."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from precall.api.problems import Code, FieldErrors, mistakes
from precall.api.schemas.requests import (
    Caller,
    Moment,
    Number,
    NumberOrNone,
    SubsId,
    seconds,
)
from precall.core import rules
from precall.core.errors import Refusal
from precall.core.model import Action, State
from precall.table.feed import FeedFilter

MAX_PAGE = 1000

M = TypeVar("M", bound=BaseModel)

A_PLACE = r"([0-9]{1,18})\.([0-9]{1,18})"
"""In a history: a number of a run, and one of a change."""


class QueryModel(BaseModel):
    """The parameters behind the question mark: nothing unknown, nothing twice."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True)

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """None: a number may be among them."""
        return iter(())


ListedPoolKey = Annotated[str, Field(pattern=r"^[!-+\--~]{1,64}$")]
"""Of several, joined by commas."""


def _plus_restored(value: object) -> object:
    """A `+` that a URL has turned into a space, which no number or URI begins with otherwise."""
    if isinstance(value, str) and _PLUS_LOST.match(value):
        return f"+{value[1:]}"
    return value


_PLUS_LOST = re.compile(r" [0-9\uff10-\uff19(]")
RestoresPlus = BeforeValidator(_plus_restored)
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Timeout = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]


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


class PageQuery(QueryModel):
    """A page: `cursor` is "" at the start, else the one the page before ended with."""

    cursor: Annotated[str, Field(max_length=128)] = ""
    limit: Limit = 100


class TableQuery(PageQuery):
    """A page of the table, which is sorted by id."""

    cursor: Annotated[str, Field(json_schema_extra={"pattern": r"^[0-9]{0,32}$"})] = ""

    @property
    def after(self) -> str:
        """The id the page begins after, "" for none. Raises Refusal (400) for a cursor of something else."""
        if self.cursor and not rules.is_subs_id(self.cursor):
            raise Refusal(400, Code.INVALID_CURSOR, "is no cursor of this list", "cursor")
        return self.cursor


class HistoryQuery(PageQuery):
    """A page of a history."""

    cursor: Annotated[str, Field(json_schema_extra={"pattern": f"^$|^{A_PLACE}$"})] = ""


def _split(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


class FilterQuery(QueryModel):
    """Which bindings are followed: ids and pools, each repeated or joined by commas; none is all."""

    subs_id: Annotated[list[SubsId], BeforeValidator(_split)] = []
    pool_key: Annotated[list[ListedPoolKey], BeforeValidator(_split)] = []

    @property
    def filter(self) -> FeedFilter:
        """The same for the feed."""
        return FeedFilter(frozenset(self.subs_id), frozenset(self.pool_key))


Index = Annotated[int, Field(ge=0, lt=2**63)]


class StreamQuery(FilterQuery):
    """From which index on; from now when not told."""

    since: Index | None = None


class ChangesQuery(FilterQuery):
    """From which index on, how many seconds to wait for the first change, how many to tell at most."""

    since: Index
    wait: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = 55.0
    limit: Limit = MAX_PAGE


class RoutesQuery(TableQuery):
    """Which routes are listed."""

    action: Action | None = None
    state: State | None = None
    pool_key: str | None = None
    stale: bool | None = None


class ExportQuery(QueryModel):
    """Which bindings are meant."""

    pool_key: str | None = None
    label: Annotated[str, Field(pattern=r"^[^:]+:", description="key:value")] | None = None
    origin: str | None = None


class BindingsQuery(ExportQuery, TableQuery):
    """Which bindings are listed."""


class ExposuresQuery(PageQuery):
    """Which rows of the audit are listed: of a pool, a reader, a binding, a number, or that went on after a time."""

    pool_key: str = ""
    reader: str = ""
    subs_id: str = ""
    number: Annotated[NumberOrNone, RestoresPlus] = ""
    since: Moment | None = None
    cursor: Annotated[str, Field(json_schema_extra={"pattern": r"^[0-9]{0,18}$"})] = ""

    @property
    def started(self) -> float | None:
        """`since` as Unix seconds."""
        return seconds(self.since) if self.since else None


class BatchQuery(QueryModel):
    """Whether a batch stands or falls as one."""

    atomic: bool = False


class CheckQuery(QueryModel):
    """How long to wait for a check."""

    timeout: Timeout = 3.0


class ReadyQuery(QueryModel):
    """Ready for what."""

    for_: Annotated[Literal["", "reads", "writes"], Field(alias="for")] = ""


def asked(request: web.Request, model: type[M]) -> M:
    """The query as `model`. Raises Refusal (400)."""
    query = request.query
    lists = FilterQuery.model_fields if issubclass(model, FilterQuery) else ()
    given = {name: ",".join(query.getall(name)) for name in query}
    if any(name not in lists and len(query.getall(name)) > 1 for name in given):
        raise Refusal(400, Code.INVALID_PARAMETER, "a parameter is given twice")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise FieldErrors(400, mistakes(error, parameters=True)) from None
