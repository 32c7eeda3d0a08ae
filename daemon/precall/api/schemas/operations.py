"""Operations."""

from typing import Annotated, Literal

from pydantic import Field

from precall.api.schemas.fields import Body, PoolKey, QueryModel, ResponseModel, Text


class PoolBody(Body):
    """A pool, or all ("")."""

    pool_key: PoolKey | Literal[""] = ""
    reason: Text = ""


class ReadyQuery(QueryModel):
    """Ready for what."""

    for_: Annotated[Literal["", "reads", "writes"], Field(alias="for")] = ""


class PausedAnswer(ResponseModel):
    """The pools whose background checks are paused ("" stands for all)."""

    paused: list[str]


class BrakeAnswer(ResponseModel):
    """Whether an operator has stopped the exposures of this pool ("": of all)."""

    pool_key: str
    halted: bool


class DifferenceAnswer(ResponseModel):
    """Another value of a key of the configuration, in words; of a secret they do not tell it."""

    key: str
    before: str
    after: str


class ReloadAnswer(ResponseModel):
    """What a reload took over, and what needs a restart and stays as it was."""

    changed: list[DifferenceAnswer]
    needs_restart: list[DifferenceAnswer]


class HealthAnswer(ResponseModel):
    """Whether the check loop ticks."""

    alive: bool
    tick_age: float


class ReadyAnswer(ResponseModel):
    """Whether reads are answered, and what is amiss beside that."""

    ready: bool
    degraded: list[str]
    bindings: int
    paused: list[str]
    version: str
