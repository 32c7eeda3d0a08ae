"""The sync with the customer's own database."""

from precall.api.schemas.fields import Body, ResponseModel
from precall.core.sync.plan import SyncOutcome


class ApplyBody(Body):
    """How to sync. `force` applies removals, however many there are."""

    force: bool = False


class RefusedRowAnswer(ResponseModel):
    """A row of the source that is invalid, or that belongs to a binding of another origin."""

    subs_id: str
    column: str
    detail: str


class SourceAnswer(ResponseModel):
    """The latest completed sync, and the error of the one after it, if that failed.

    `synced_at` is "" before the first sync. `compared_at` is when all rows were last compared. If the query contains
    `:since`, a later sync may have read changes only; it updates only the counts `added` and `updated`. `rows` counts
    the rows by result.
    `removals_refused` says why removals were refused, "" if they were not. `refused` lists the first twenty refused
    rows.
    """

    synced_at: str
    compared_at: str
    seconds: float
    rows: dict[SyncOutcome, int]
    removals_refused: str
    refused: list[RefusedRowAnswer]
    error: str
