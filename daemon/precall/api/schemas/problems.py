"""Problems."""

from pydantic import BaseModel

from precall.api.problems import Code
from precall.api.schemas.bindings import BatchResult
from precall.api.schemas.fields import (
    ResponseModel,
)


class MistakeAnswer(ResponseModel):
    """One of several mistakes."""

    field: str
    code: Code
    detail: str


class ProblemAnswer(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    code: Code
    detail: str
    field: str = ""
    errors: list[MistakeAnswer] = []
    subs_ids: list[str] = []
    results: list[BatchResult] = []
