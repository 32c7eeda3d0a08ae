"""Source."""

from precall.api.schemas.fields import Body, ResponseModel
from precall.core.sync.plan import SyncOutcome


class ApplyBody(Body):
    """A sync with the source. `force`: whatever it removes."""

    force: bool = False


class RefusedRowAnswer(ResponseModel):
    """A row of the source that is no binding, or not the source's to change."""

    subs_id: str
    column: str
    detail: str


class SourceAnswer(ResponseModel):
    """The latest sync that came to its end ("" for none yet), and why none has since.

    `rows` counts by what became of them; `removals_refused` says why removals are, "" when they are not; `refused`
    are the first twenty refused rows.
    """

    synced_at: str
    seconds: float
    rows: dict[SyncOutcome, int]
    removals_refused: str
    refused: list[RefusedRowAnswer]
    error: str
