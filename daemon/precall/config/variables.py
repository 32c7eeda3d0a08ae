"""The environment variables `PRECALL_SECTION__KEY`: which ones belong to precall, and how their values are read.

Those of precall have two underscores between section and key, and a mistyped one is a mistake. All other variables that
begin with `PRECALL_` belong to others. Kubernetes and Docker use such names for the addresses of a service called
`precall`, and images and scripts for anything.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

PREFIX = "PRECALL_"
DELIMITER = "__"

_SERVICE = re.compile(
    r"PRECALL_(?:.*[A-Z0-9])?_?(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_.*)?)"
)
_SERVICE_PORT = re.compile(r"(?:tcp|udp|sctp)://")
_OF_DOCKER = ("PRECALL_ENV_", "PRECALL_NAME")


class Variables(EnvSettingsSource):
    """Reads the variables. An empty one counts as unset, and a list is written as JSON or with commas."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Return the JSON of a value or, if it is not JSON, the text for the validator of its key."""
        try:
            found = super().decode_complex_value(field_name, field, value)
        except ValueError:
            found = value
        if isinstance(found, (list, dict)) or not _is_of_texts(field.annotation):
            return found
        return [part.strip() for part in str(value).strip().strip('"').split(",") if part.strip()]


def unknown(environment: Mapping[str, str], keys: Iterable[str], sections: Iterable[str]) -> list[str]:
    """Return the mistakes of variables that name no key, each with the nearest key. `keys` are dotted.

    They are mistakes just like unknown keys in the file.
    """
    known = _known(keys) | {PREFIX + name.upper(): name for name in sections}
    mistakes = []
    for name in sorted(environment):
        upper = name.upper()
        if not upper.startswith(PREFIX) or DELIMITER not in upper or upper in known:
            continue
        if _belongs_to_others(upper, environment[name]):
            continue
        close = difflib.get_close_matches(upper, known, n=1, cutoff=0.6)
        mistakes.append(f"{name}: unknown variable{f'; did you mean {close[0]}?' if close else ''}")
    return mistakes


def nearly(environment: Mapping[str, str], keys: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return remarks about variables that would name a key if they had two underscores, and so are not read.

    `others` are variables that commands read.
    """
    meant = {name.replace(DELIMITER, "_"): name for name in _known(keys)}
    return [
        f"{name}: is not read; did you mean {meant[upper]}?"
        for name in sorted(environment)
        if (upper := name.upper()) in meant and upper not in others
    ]


def name_of(place: tuple[int | str, ...]) -> str:
    """Return the variable for a path in the configuration."""
    return PREFIX + DELIMITER.join(str(part) for part in place).upper()


def _is_of_texts(annotation: Any) -> bool:
    """Whether this is a list of texts. A list of tables must be JSON."""
    member = get_args(annotation)[:1]
    return get_origin(annotation) is list and not (
        isinstance(member[0], type) and issubclass(member[0], BaseModel)
    )


def _known(keys: Iterable[str]) -> dict[str, str]:
    return {PREFIX + key.upper().replace(".", DELIMITER): key for key in keys}


def _belongs_to_others(name: str, value: str) -> bool:
    if name.startswith(_OF_DOCKER) or _SERVICE.fullmatch(name):
        return True
    return name.endswith("_PORT") and bool(_SERVICE_PORT.match(value))
