"""The map of the code stays readable: rooms, sizes, and one name for one thing."""

import ast
import configparser
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ROOT / "daemon" / "precall"
FILES = sorted(CODE.rglob("*.py"))
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}

LOOSE = 3
LAYERS = 11

HOMONYMS = {
    # The simulator shares no code with the rest, and speaks of the same things.
    "Binding", "Call", "Dial", "Exchange", "Fault", "Habits", "Pool", "Report", "Section", "Standing", "World",
}  # fmt: skip


def named(file: Path) -> str:
    return file.relative_to(CODE).as_posix()


def classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node


def test_a_class_name_exists_once() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for file, tree in TREES.items():
        for found in classes(tree):
            places[found.name].append(named(file))
    doubled = {name: where for name, where in places.items() if len(where) > 1}
    strangers = {
        name: where
        for name, where in doubled.items()
        if name not in HOMONYMS or sum(not one.startswith("simulator/") for one in where) > 1
    }
    assert not strangers
    assert set(doubled) >= {name for name in HOMONYMS if name in doubled}


def test_few_modules_lie_outside_a_room() -> None:
    loose = [file.stem for file in CODE.glob("*.py") if not file.stem.startswith("__")]
    assert len(loose) <= LOOSE, loose


def test_there_are_few_layers() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    layers = contracts["importlinter:contract:layers"]["layers"].split("\n")
    assert 5 <= len([layer for layer in layers if layer.strip()]) <= LAYERS
