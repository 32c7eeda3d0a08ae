"""docs/architecture.md is a true map: every room has a paragraph, and every path on it exists."""

import configparser
import re
from pathlib import Path

from precall.core.model import Action, State

ROOT = Path(__file__).parents[2]
CODE = ROOT / "daemon" / "precall"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_room_has_a_paragraph() -> None:
    rooms = {init.parent.name for init in CODE.glob("*/__init__.py")}
    headings = set(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE))
    assert rooms <= headings
    for subject in (CODE / "core").glob("*/__init__.py"):
        assert f"- `core/{subject.parent.name}/`:" in PAGE


def test_every_path_exists() -> None:
    named = set(re.findall(r"`([\w.-]+(?:/[\w.-]+)+/?|\w+\.(?:py|toml|csv))`", PAGE))
    assert len(named) > 40
    missing = {
        path
        for path in named
        if not ((ROOT / path).exists() or (CODE / path).exists() or list((CODE / "core").glob(f"*/{path}")))
    }
    assert not missing


def test_the_layers_are_those_that_are_enforced() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    enforced = [
        line.strip()
        for line in contracts["importlinter:contract:layers"]["layers"].split("\n")
        if line.strip()
    ]
    shown = PAGE.partition("```text\n")[2].partition("\n```")[0].split("\n")
    assert [sorted(line.split(" | ")) for line in shown] == [sorted(line.split(" | ")) for line in enforced]


def test_every_state_and_action_is_in_the_table() -> None:
    table = PAGE.partition("### The state of a binding")[2].partition("### The lead")[0]
    assert set(re.findall(r"`(\w+)`", table)) >= {*State, *Action}
