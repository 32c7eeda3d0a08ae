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

LOOSE = 3
LAYERS = 11
LINES_OF_A_FILE = 450
LINES_OF_A_FUNCTION = 60
LINES_OF_A_CHECK = 25
PARAMETERS = 8
PRIVATE_ACCESSES = 5

HOMONYMS = {"Binding", "Call", "Duration", "Reply", "Section", "Share"}
"""Names of the daemon that the simulator has, too. The two share no code, but describe the same things."""
SAME_THING = {"SubsId"}
"""Names defined twice in the daemon. `SubsId` types the same id as a parameter of the API and as one of the CLI."""
OF_THE_STANDARD_LIBRARY = {"_replace", "_exit", "_run_exitfuncs", "_shutdown"}


Trees = dict[Path, ast.Module]


@pytest.fixture(scope="module")
def trees() -> Trees:
    return {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


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


def aliases(tree: ast.Module) -> Iterator[str]:
    """Yield the names of module-level type aliases: `X = A | B`, `X = Callable[...]`, `X: TypeAlias = ...`."""
    for node in tree.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind) if "TypeAlias" in ast.unparse(kind):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.BinOp(op=ast.BitOr()) | ast.Subscript()):
                if re.fullmatch(r"_?[A-Z][a-z]\w*", name):
                    yield name


def lines(node: ast.stmt) -> int:
    assert node.end_lineno
    return node.end_lineno - node.lineno + 1


def test_type_names_are_unique(trees: Trees) -> None:
    """Classes and type aliases. The lists of exceptions must not contain names that have become unique."""
    places: dict[str, list[str]] = defaultdict(list)
    for file, tree in trees.items():
        for name in (*(node.name for node in classes(tree)), *aliases(tree)):
            places[name].append(named(file))
    repeated = {name: files for name, files in places.items() if len(files) > 1}
    assert repeated.keys() == HOMONYMS | SAME_THING
    for name in HOMONYMS:
        assert sum(not file.startswith("simulator/") for file in repeated[name]) == 1, name


def test_every_form_of_type_alias_is_recognised() -> None:
    source = (
        "Pair = int | str\nIds: TypeAlias = set\nWork = Callable[[int], str]\nSIZES = counts[0]\nrun = a[0]"
    )
    assert list(aliases(ast.parse(source))) == ["Pair", "Ids", "Work"]


def test_few_modules_lie_outside_a_room() -> None:
    loose = [file.stem for file in CODE.glob("*.py") if not file.stem.startswith("__")]
    assert len(loose) <= LOOSE, loose


def test_there_are_few_layers() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    layers = contracts["importlinter:contract:layers"]["layers"].split("\n")
    assert 5 <= len([layer for layer in layers if layer.strip()]) <= LAYERS


@pytest.mark.parametrize("file", FILES, ids=named)
def test_files_and_functions_are_short(file: Path, trees: Trees) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LINES_OF_A_FILE
    for function in functions(trees[file]):
        assert lines(function) <= LINES_OF_A_FUNCTION, function.name


def test_the_check_is_one_short_function(trees: Trees) -> None:
    [check] = [one for one in functions(trees[CODE / "engine" / "checker.py"]) if one.name == "_check"]
    assert lines(check) <= LINES_OF_A_CHECK


def test_constructors_are_small(trees: Trees) -> None:
    large = {}
    for file, tree in trees.items():
        for found in classes(tree):
            for method in found.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    taken = method.args
                    count = len(taken.posonlyargs) + len(taken.args) + len(taken.kwonlyargs) - 1
                    if count > PARAMETERS:
                        large[f"{named(file)}:{found.name}"] = count
    assert not large


def test_the_parts_of_the_api_are_not_reached_through_its_server(trees: Trees) -> None:
    for file, tree in trees.items():
        if named(file).startswith("api/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
                holder = node.value
                reached = holder.attr == "services" and re.search(r"server$", ast.unparse(holder.value))
                assert not reached, f"{named(file)}:{node.lineno}"


def test_tests_use_public_names() -> None:
    """`_name` of something that is neither `self` nor `cls`."""
    found = []
    for file in sorted((ROOT / "tests").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if not re.search(
            r"(?<!\bself)(?<!\bcls)\._[a-z]|import\b.*\b_[a-z]|^ +_[a-z]\w+,$", text, re.MULTILINE
        ):
            continue  # parsing takes a hundred times as long
        for node in ast.walk(ast.parse(text)):
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
