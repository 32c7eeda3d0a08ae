"""Read what a list shows from the query or a form. A field that is left empty filters nothing."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from precall.api.problems import FieldErrors, mistakes
from precall.console.visit import Visit

M = TypeVar("M", bound=BaseModel)

_ZONELESS = 16
"""Characters of a time as the fields of a form give it, "2026-01-02T03:04". Forms ask for UTC."""


def wanted(visit: Visit, model: type[M], **fixed: object) -> M:
    """Return the query of a page as `model`, with `fixed` values. Raises Refusal (400)."""
    query = {name: value for name, value in visit.request.query.items() if name != "lang"}
    return validated(query, model, **fixed)


def validated(given: Mapping[str, str], model: type[M], **fixed: object) -> M:
    """Return the fields of a form as `model`, with `fixed` values. Raises Refusal (400)."""
    try:
        return model.model_validate({name: value for name, value in given.items() if value} | fixed)
    except ValidationError as error:
        raise FieldErrors(400, mistakes(error, parameters=True)) from None


def in_utc(time: str) -> str:
    """Return the time of a field in RFC 3339. One with a zone stays as it is, and so does none."""
    return f"{time}Z" if len(time) >= _ZONELESS and time[_ZONELESS:].strip(":0123456789.") == "" else time
