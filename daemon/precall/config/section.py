"""What every section of the configuration is made of."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from precall.config.durations import seconds

Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0)]


class Section(BaseModel):
    """A section of the configuration. Unknown keys are mistakes, and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def a_list(value: object) -> object:
    """Return a text as the only member of a list, and anything else as it is."""
    return [value] if isinstance(value, str) else value
