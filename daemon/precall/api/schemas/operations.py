"""Operations of the daemon: brake, pause, reload, health and readiness."""

from typing import Annotated, Literal

from pydantic import Field

from precall.api.schemas.fields import Body, PoolKey, QueryModel, ResponseModel, Text
from precall.core.model import Promise
from precall.core.status.finding import FindingCode


class PoolBody(Body):
    """A pool, or "" for all pools, and the reason of the operation for the log."""

    pool_key: PoolKey | Literal[""] = ""
    reason: Text = ""


class ReadyQuery(QueryModel):
    """What the daemon should be ready for."""

    for_: Annotated[
        Literal["", "reads", "writes"],
        Field(alias="for", description="`writes` also asks whether registrations can be stored."),
    ] = ""


class PausedAnswer(ResponseModel):
    """The pools whose background checks are paused; "" stands for all pools."""

    paused: list[str]


class BrakeAnswer(ResponseModel):
    """Whether an operator has engaged the exposure brake of a pool; "" stands for all pools."""

    pool_key: str
    halted: bool


class DifferenceAnswer(ResponseModel):
    """A changed key of the configuration. The value of a secret is not shown."""

    key: str
    before: str
    after: str


class ReloadAnswer(ResponseModel):
    """Which changes a reload has applied, and which ones need a restart."""

    changed: list[DifferenceAnswer]
    needs_restart: list[DifferenceAnswer]


class HealthAnswer(ResponseModel):
    """Whether the check loop ticks, and seconds since its latest tick."""

    alive: bool
    tick_age: float


class ReadyAnswer(ResponseModel):
    """Whether requests are answered, and what is wrong nevertheless.

    `findings` are the codes of what is wrong, `degraded` has a line `CODE: summary` for each finding.
    `promise` says which routes `freshness.max_age` holds for: all, or those that are dialled.
    """

    ready: bool
    degraded: list[str]
    findings: list[FindingCode]
    bindings: int
    paused: list[str]
    promise: Promise
    version: str
