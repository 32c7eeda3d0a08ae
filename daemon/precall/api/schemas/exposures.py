"""The audit of real numbers that were handed out."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from precall.api.schemas.fields import (
    CURSOR,
    Moment,
    NumberOrNone,
    PageQuery,
    ResponseModel,
    RestoresPlus,
    moment,
    seconds,
)


class ExposuresQuery(PageQuery):
    """Which exposures are listed."""

    pool_key: Annotated[str, Field(description="Only of this pool.")] = ""
    reader: Annotated[str, Field(description="Only to the client with this token name.")] = ""
    subs_id: Annotated[str, Field(description="Only of this binding.")] = ""
    number: Annotated[NumberOrNone, RestoresPlus, Field(description="Only of this real number.")] = ""
    since: Annotated[
        Moment | None,
        Field(description="A time, RFC 3339 with a zone: leave out exposures that ended before it."),
    ] = None
    cursor: Annotated[str, Field(description=CURSOR, json_schema_extra={"pattern": r"^[0-9]{0,18}$"})] = ""

    @property
    def started(self) -> float | None:
        """`since` as Unix seconds, None for no limit."""
        return seconds(self.since) if self.since else None


class ExposureAnswer(ResponseModel):
    """Exposures of one real number to one client within a minute.

    `reader` is the name of the client's token. `reason` is the reason of the route, with the provider's RequestId, or
    `binding_read`, or `bindings_export`.
    """

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
    """One page of exposures, newest first. `cursor` is that of the next page, "" at the end."""

    exposures: list[ExposureAnswer]
    cursor: str


def encode_exposure(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of the audit as JSON."""
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
