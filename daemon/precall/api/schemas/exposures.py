"""Exposures."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from precall.api.schemas.fields import (
    Moment,
    NumberOrNone,
    PageQuery,
    ResponseModel,
    RestoresPlus,
    moment,
    seconds,
)


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
