"""Where each value of the configuration comes from, and what of a mistaken configuration can be used."""

import os
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from precall.config import text_file, variables
from precall.config.schema import Config, keys, load
from precall.config.section import Section
from precall.core.errors import ConfigError


def origins(path: str | Path | None) -> dict[str, str]:
    """Return for every key "file NAME", the name of a variable, or "default", for a configuration that loads."""
    in_file, by_variables = _in_file(path), _by_variables()
    named = {name.upper(): name for name in os.environ}
    found = {}
    for key in keys():
        section, _, name = key.partition(".")
        if name in by_variables.get(section, {}):
            whole = variables.name_of((section,))
            found[key] = named.get(variables.name_of((section, name)), named.get(whole, whole))
        else:
            found[key] = f"file {path}" if name in in_file.get(section, {}) else "default"
    return found


def load_parts(path: str | Path | None) -> tuple[Config, list[str]]:
    """Return the configuration and its mistakes. Each value that has one, and each it contradicts, is the default."""
    try:
        return load(path), []
    except ConfigError as error:
        mistakes = list(error.mistakes)
    in_file, by_variables = _in_file(path), _by_variables()
    sections: dict[str, Any] = {}
    for name, field in Config.model_fields.items():
        kind: Any = field.annotation
        sections[name] = _without_mistakes(kind, {**_table(in_file, name), **_table(by_variables, name)})
    return Config.model_construct(**sections), mistakes


def _without_mistakes(kind: type[Section], given: Mapping[str, Any]) -> Section:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        wrong = {item["loc"][0] for item in error.errors() if item["loc"]}
    with suppress(ValidationError):
        return kind.model_validate({key: value for key, value in given.items() if key not in wrong})
    return kind()


def _in_file(path: str | Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(text_file.read(path))
    except (OSError, tomllib.TOMLDecodeError, text_file.NotTextError):
        return {}


def _by_variables() -> dict[str, Any]:
    return variables.Variables(Config)()


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}
