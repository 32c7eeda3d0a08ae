"""Hints."""

from typing import Annotated

from pydantic import Field, RootModel

from precall.api.schemas.fields import Body, Moment, ResponseModel, seconds
from precall.api.schemas.routes import MAX_LOOKUP


class HintBody(Body):
    """A binding that will be dialled, and when."""

    subs_id: Annotated[str, Field(max_length=64)]
    dial_at: Moment

    @property
    def moment(self) -> float:
        """`dial_at` as Unix seconds."""
        return seconds(self.dial_at)


class HintsBody(RootModel[Annotated[list[HintBody], Field(max_length=MAX_LOOKUP)]]):
    """Hints, as a list."""


class HintsAnswer(ResponseModel):
    """How many hints were taken, and the ids that are not known or have expired."""

    taken: int
    unknown: list[str]
