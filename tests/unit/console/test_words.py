"""Both languages say the same things, and every text that a page names exists."""

import re
import string
from pathlib import Path

import pytest

from precall.console import words
from precall.console.words import TEXTS
from precall.core.status.texts import Language

CONSOLE = Path(words.__file__).parents[1]
SOURCES = [*CONSOLE.rglob("*.py"), *CONSOLE.rglob("*.html")]


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_both_languages_have_the_same_keys() -> None:
    assert TEXTS[Language.EN].keys() == TEXTS[Language.ZH].keys()


@pytest.mark.parametrize("key", TEXTS[Language.EN])
def test_both_languages_have_the_same_placeholders(key: str) -> None:
    english, chinese = TEXTS[Language.EN][key], TEXTS[Language.ZH][key]
    assert english.strip()
    assert chinese.strip()
    assert placeholders(english) == placeholders(chinese)


def test_parts_do_not_overlap() -> None:
    parts = [module for name, module in vars(words).items() if hasattr(module, "EN") and name != "Language"]
    assert parts
    assert sum(len(part.EN) for part in parts) == len(TEXTS[Language.EN])


def test_every_text_that_is_named_exists() -> None:
    named, begun = set(), set()
    for file in SOURCES:
        text = file.read_text(encoding="utf-8")
        named |= set(re.findall(r"""\bt\(["']([\w.]+)["'][,)]""", text))
        begun |= set(re.findall(r"""\bt\(f?["']([\w.]+\.)(?:["'] ~|\{)""", text))
    assert len(named) > 10
    assert named <= TEXTS[Language.EN].keys()
    assert begun
    for beginning in begun:
        assert any(key.startswith(beginning) for key in TEXTS[Language.EN]), beginning
