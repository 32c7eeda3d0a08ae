"""Changes of routes: what part of the feed is wanted, and one answer of a long poll."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from precall.api.schemas.fields import MAX_PAGE, Limit, QueryModel, ResponseModel, SubsId
from precall.api.schemas.routes import RouteAnswer
from precall.table.feed import FeedFilter

ListedPoolKey = Annotated[str, Field(pattern=r"^[!-+\--~]{1,64}$")]
"""A pool key without a comma, since several are joined by commas."""


def _split(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


class FilterQuery(QueryModel):
    """Which bindings are followed."""

    subs_id: Annotated[list[SubsId], BeforeValidator(_split)] = Field(
        [], description="Only these bindings; repeat the parameter or join the ids by commas."
    )
    pool_key: Annotated[list[ListedPoolKey], BeforeValidator(_split)] = Field(
        [], description="Only these pools; repeat the parameter or join the keys by commas."
    )

    @property
    def filter(self) -> FeedFilter:
        """The filter in the terms of the feed."""
        return FeedFilter(frozenset(self.subs_id), frozenset(self.pool_key))


Index = Annotated[int, Field(ge=0, lt=2**63)]


class StreamQuery(FilterQuery):
    """Where a stream of changes begins."""

    since: Annotated[
        Index | None,
        Field(
            description="The index of the last change already known; without it, only new changes are sent."
        ),
    ] = None


class ChangesQuery(FilterQuery):
    """Which changes are wanted, and how long to wait for them."""

    since: Annotated[Index, Field(description="The index of the last change already known.")]
    wait: Annotated[
        float,
        Field(
            ge=0, le=600, allow_inf_nan=False, description="How many seconds to wait for the first change."
        ),
    ] = 55.0
    limit: Annotated[Limit, Field(description="How many changes the answer may have.")] = MAX_PAGE


class ChangesAnswer(ResponseModel):
    """Changed routes in the order of their changes, and the index to continue from."""

    index: int
    changes: list[RouteAnswer]
