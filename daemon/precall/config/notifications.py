"""The section `[notify]`: who is told of findings, and how often.

Each URL is an address of apprise, and a secret: it holds the token that permits to post there.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from precall.config import text_file
from precall.config.section import Duration, Section, a_list
from precall.core.errors import ConfigError
from precall.core.status.finding import Severity
from precall.core.status.texts import Language

_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s]+", re.IGNORECASE)
_WRONG = 'this is not the address of a target; write it as apprise does, such as "dingtalk://TOKEN" or "mailto://..."'
MINUTE = 60.0


def _a_target(value: SecretStr) -> SecretStr:
    """Check the form of an address. The error does not repeat it."""
    if not _URL.fullmatch(value.get_secret_value()):
        raise ValueError(_WRONG)
    return value


def _rare(value: float) -> float:
    if value < MINUTE:
        raise ValueError("should be at least a minute")
    return value


TargetUrl = Annotated[SecretStr, AfterValidator(_a_target)]


class NotifyConfig(Section):
    """Whom to notify, of what, and how often."""

    urls: Annotated[list[TargetUrl], BeforeValidator(a_list)] = Field(default_factory=list)
    urls_file: str = ""
    min_severity: Severity = Severity.WARNING
    repeat: Annotated[Duration, AfterValidator(_rare)] = 4 * 3600.0
    lang: Language = Language.EN

    @property
    def configured(self) -> bool:
        """Whether anybody is to be notified."""
        return bool(self.urls or self.urls_file)

    def addresses(self) -> list[tuple[str, str]]:
        """Return the place and the address of each target, those of `urls_file` last.

        The file has one address a line; empty lines and those that begin with `#` do not count. Raises ConfigError
        with every mistake.
        """
        found = [(f"notify.urls.{at}", url.get_secret_value()) for at, url in enumerate(self.urls)]
        mistakes = []
        for at, line in enumerate(self._lines(), 1):
            place = f"notify.urls_file: line {at}"
            if not line or line.startswith("#"):
                continue
            if _URL.fullmatch(line):
                found.append((place, line))
            else:
                mistakes.append(f"{place}: {_WRONG}")
        if mistakes:
            raise ConfigError(mistakes)
        return found

    def _lines(self) -> list[str]:
        if not self.urls_file:
            return []
        try:
            return [line.strip() for line in text_file.read(self.urls_file).splitlines()]
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError([f"notify.urls_file: {self.urls_file} cannot be read: {why}"]) from error
