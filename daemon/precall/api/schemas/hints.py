"""Hints: which bindings will be dialled, and when."""

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
    """A list of hints."""


class HintsAnswer(ResponseModel):
    """How many hints were accepted, and the ids of unknown or expired bindings."""

    taken: int
    unknown: list[str]
