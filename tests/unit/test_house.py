"""The map of the code stays readable: rooms, sizes, and one name for one thing."""

import ast
import configparser
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ROOT / "daemon" / "precall"
FILES = sorted(CODE.rglob("*.py"))
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}

LOOSE = 3
LAYERS = 11
LINES_OF_A_FILE = 450
LINES_OF_A_FUNCTION = 60
LINES_OF_A_CHECK = 25
PARAMETERS = 8
PRIVATE_ACCESSES = 5

HOMONYMS = {"Binding", "Call", "Section"}
"""Of the simulator and of the rest: they share no code, and speak of the same things."""
OF_THE_STANDARD_LIBRARY = {"_replace", "_exit", "_run_exitfuncs", "_shutdown"}


def named(file: Path) -> str:
    return file.relative_to(CODE).as_posix()


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node


def lines(node: ast.stmt) -> int:
    assert node.end_lineno
    return node.end_lineno - node.lineno + 1


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
    assert set(doubled) == HOMONYMS


def test_few_modules_lie_outside_a_room() -> None:
    loose = [file.stem for file in CODE.glob("*.py") if not file.stem.startswith("__")]
    assert len(loose) <= LOOSE, loose


def test_there_are_few_layers() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    layers = contracts["importlinter:contract:layers"]["layers"].split("\n")
    assert 5 <= len([layer for layer in layers if layer.strip()]) <= LAYERS


@pytest.mark.parametrize("file", FILES, ids=named)
def test_a_file_tells_one_story(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LINES_OF_A_FILE
    for function in functions(TREES[file]):
        assert lines(function) <= LINES_OF_A_FUNCTION, function.name


def test_the_product_is_one_short_function() -> None:
    [check] = [one for one in functions(TREES[CODE / "engine" / "checker.py"]) if one.name == "_check"]
    assert lines(check) <= LINES_OF_A_CHECK


def test_constructors_are_small() -> None:
    large = {}
    for file, tree in TREES.items():
        for found in classes(tree):
            for method in found.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    taken = method.args
                    count = len(taken.posonlyargs) + len(taken.args) + len(taken.kwonlyargs) - 1
                    if count > PARAMETERS:
                        large[f"{named(file)}:{found.name}"] = count
    assert not large


def test_the_parts_of_the_api_are_not_reached_through_its_server() -> None:
    for file, tree in TREES.items():
        if named(file).startswith("api/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
                holder = node.value
                reached = holder.attr == "services" and re.search(r"server$", ast.unparse(holder.value))
                assert not reached, f"{named(file)}:{node.lineno}"


def test_tests_use_what_is_public() -> None:
    """`_name` of something that is neither `self` nor `cls`."""
    found = []
    for file in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("precall"):
                found += [
                    f"{file.relative_to(ROOT)}:{node.lineno} {one.name}"
                    for one in node.names
                    if one.name[0] == "_" and one.name[1] != "_"
                ]
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                if isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}:
                    continue
                if node.attr in OF_THE_STANDARD_LIBRARY:
                    continue
                found.append(f"{file.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}")
    assert len(found) <= PRIVATE_ACCESSES, "\n".join(found)
