"""The texts of the console, in English and Chinese.

Each module has the texts of one part, `EN` and `ZH`, with the same keys. A text may have placeholders, as in `{pool}`.
"""

from collections.abc import Mapping

from precall.console.words import bindings, charts, common, exposures, lists, now, pools, shell
from precall.core.status.texts import Language

_PARTS = (shell, common, lists, now, charts, pools, bindings, exposures)

TEXTS: Mapping[Language, Mapping[str, str]] = {
    Language.EN: {key: text for part in _PARTS for key, text in part.EN.items()},
    Language.ZH: {key: text for part in _PARTS for key, text in part.ZH.items()},
}
"""All texts by language and key."""


def text(language: Language, key: str, **facts: object) -> str:
    """Return a text with its placeholders filled. Raises KeyError for an unknown key or a missing fact."""
    return TEXTS[language][key].format_map(facts)
