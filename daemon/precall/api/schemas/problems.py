"""Problem documents (RFC 9457)."""

from pydantic import Field

from precall.api.problems import Code
from precall.api.schemas.bindings import BatchResult
from precall.api.schemas.fields import (
    ResponseModel,
)


class MistakeAnswer(ResponseModel):
    """One of several mistakes in a request."""

    field: str
    code: Code
    detail: str


class ProblemAnswer(ResponseModel):
    """What went wrong (RFC 9457).

    `errors` lists all mistakes where there are several. `subs_ids` lists the bindings of an ambiguous number, and
    `results` those of a refused batch.
    """

    type: str
    title: str
    status: int
    code: Code
    detail: str
    field: str = ""
    errors: list[MistakeAnswer] = Field([])
    subs_ids: list[str] = Field([])
    results: list[BatchResult] = Field([])
