"""The words for findings, in English and Chinese."""

from dataclasses import dataclass
from enum import StrEnum

from precall.core.status.finding import Finding


class Language(StrEnum):
    """A language of the texts."""

    EN = "en"
    ZH = "zh"


@dataclass(frozen=True, slots=True)
class FindingText:
    """A finding in words: `summary` and `cause` are one sentence each; `remedy` is one command, ready to paste."""

    summary: str
    cause: str
    remedy: str


def describe(finding: Finding, language: Language = Language.EN) -> FindingText:
    """Return the finding in words."""
    raise NotImplementedError(finding, language)
