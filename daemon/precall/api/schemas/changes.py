"""The change feed."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from precall.api.schemas.fields import MAX_PAGE, Limit, QueryModel, ResponseModel, SubsId
from precall.api.schemas.routes import RouteAnswer
from precall.table.feed import FeedFilter

ListedPoolKey = Annotated[str, Field(pattern=r"^[!-+\--~]{1,64}$")]
"""Of several, joined by commas."""


def _split(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


class FilterQuery(QueryModel):
    """Which bindings are followed: ids and pools, each repeated or joined by commas; none is all."""

    subs_id: Annotated[list[SubsId], BeforeValidator(_split)] = Field([])
    pool_key: Annotated[list[ListedPoolKey], BeforeValidator(_split)] = Field([])

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


class ChangesAnswer(ResponseModel):
    """Changed routes in the order of their changes, and the index to go on from."""

    index: int
    changes: list[RouteAnswer]
