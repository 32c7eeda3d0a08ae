"""Dials of routes that a cache answered: of which bindings, and how many."""

from typing import Annotated

from pydantic import Field, RootModel

from precall.api.schemas.fields import Body, Moment, ResponseModel, seconds
from precall.api.schemas.routes import MAX_LOOKUP

MAX_DIALS = 100


class DialBody(Body):
    """Reads of one binding's route for a dial since the cache's previous report, and the time of the latest."""

    subs_id: Annotated[str, Field(max_length=64)]
    count: Annotated[
        int,
        Field(ge=1, le=MAX_DIALS, description="How often; for more, name the binding several times."),
    ] = 1
    last_at: Moment

    @property
    def moment(self) -> float:
        """`last_at` as Unix seconds."""
        return seconds(self.last_at)


class DialsBody(RootModel[Annotated[list[DialBody], Field(max_length=MAX_LOOKUP)]]):
    """A list of bindings that were dialled."""


class DialsAnswer(ResponseModel):
    """How many entries were accepted, and the ids of unknown or expired bindings."""

    taken: int
    unknown: list[str]
