"""What is held about a person, known by a phone number."""

from typing import Annotated, Any

from pydantic import Field

from precall.api.schemas.fields import Body, Number, ResponseModel, Text
from precall.core.numbers import mask
from precall.engine.persons import PersonOutcome, PersonPlace, PersonRecord

SHOWN = 1000
"""Ids shown for one kind of record. The count is always whole."""


class PersonBody(Body):
    """The number of a person, in any spelling."""

    number: Number


class ErasureBody(PersonBody):
    """The number of a person, and the reason of the erasure for the log."""

    reason: Annotated[Text, Field(min_length=1)]


class PersonRecordAnswer(ResponseModel):
    """Records of one kind.

    `where` is the kind. `origin` is that of the bindings, "" where it does not matter. `count` counts all records,
    `subs_ids` are at most 1000 ids of their bindings. `outcome` is what an erasure does: `removed`, `blanked` (the
    number is), `unlinked` (calls lose the id of the binding), `kept` (the audit, which holds no number),
    `source_first` (erase it in the source, then again here), or `unreadable` (a sealed value that does not open).
    """

    where: PersonPlace
    origin: str
    count: int
    outcome: PersonOutcome
    subs_ids: list[str]


class PersonAnswer(ResponseModel):
    """What is held about a person. `number` is masked."""

    number: str
    records: list[PersonRecordAnswer]


class ErasedAnswer(PersonAnswer):
    """What was held about a person before the erasure.

    `complete` is false while records remain that have to be erased in the source first, or that do not open.
    """

    complete: bool


def encode_person(number: str, records: list[PersonRecord]) -> dict[str, Any]:
    """Return what is held about the person with this number as JSON."""
    return {"number": mask(number), "records": [_encode(record) for record in records]}


def _encode(record: PersonRecord) -> dict[str, Any]:
    return {
        "where": record.where,
        "origin": record.origin,
        "count": record.count,
        "outcome": record.outcome,
        "subs_ids": list(record.subs_ids[:SHOWN]),
    }
