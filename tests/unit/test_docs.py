"""What is written for users is true of the code, and its links lead somewhere."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from precall import __version__
from precall.api.endpoints import ENDPOINTS
from precall.cli import app
from precall.config.schema import Config, keys
from precall.core.model import Action, Flag, Reason
from precall.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*DOCS.glob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    + [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
)
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
"""All that users read, by path."""

MANUAL = {path: text for path, text in TEXTS.items() if path != "CHANGELOG.md"}
"""The current documentation. The changelog also describes earlier versions."""

every_page = pytest.mark.parametrize("path", TEXTS)
every_manual_page = pytest.mark.parametrize("path", MANUAL)

BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language. One with a title is another kind of file in the same language."""
    return [content for name, title, content in BLOCK.findall(text) if name == language and not title]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return BLOCK.sub("", text)


def families() -> set[str]:
    """precall's own metrics, by the names as they are scraped: counters with their suffix."""
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for family in Metrics().registry.collect()
        if not family.name.startswith("process_")
    }


# -- the front door ------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= 12_000


def test_the_readme_shows_the_two_commands_and_the_changelog_the_version() -> None:
    assert "\nmake demo " in TEXTS["README.md"]
    assert "\nmake test " in TEXTS["README.md"]
    assert "## Unreleased" in TEXTS["CHANGELOG.md"] or f"## {__version__}" in TEXTS["CHANGELOG.md"]


def test_the_readme_leads_to_every_page() -> None:
    named = set(re.findall(r"\((docs/[a-z-]+\.md)\)", TEXTS["README.md"]))
    assert named == {path for path in TEXTS if path.startswith("docs/")}


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for path, text in TEXTS.items():
        named = set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE))
        assert named <= targets, path


# -- links -----------------------------------------------------------------------------------------------


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", prose(text)))


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@every_page
def test_every_relative_link_resolves(path: str) -> None:
    for link in links(TEXTS[path]):
        target, _, anchor = link.partition("#")
        if "://" in link:
            continue
        there = (ROOT / path).parent / target if target else ROOT / path
        assert there.exists(), link
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), link


@every_manual_page
def test_every_file_and_module_named_exists(path: str) -> None:
    for name in re.findall(r"`((?:daemon|deploy|docs|migrations|tests)/[\w./-]*[\w])`", prose(MANUAL[path])):
        assert (ROOT / name).exists(), name
    for module in re.findall(r"python -m (tests\.[a-z_.]+)", MANUAL[path]):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


# -- configuration -----------------------------------------------------------------------------------------


EVENTS = {
    event
    for file in (ROOT / "daemon").rglob("*.py")
    for event in re.findall(r'"([a-z_]+\.[a-z_]+)"', file.read_text(encoding="utf-8"))
}.difference(keys())
"""Log events, which look like keys: `source.failed`."""


def test_the_page_on_configuration_has_every_key() -> None:
    assert '\n--8<-- "config.example.toml"\n' in TEXTS["docs/configuration.md"]
    example = (ROOT / "config.example.toml").read_text(encoding="utf-8")
    section, named = "", []
    for line in example.splitlines():
        if header := re.match(r"\[([a-z]+)\]", line):
            section = header[1]
        elif key := re.match(r"#? ?([a-z_0-9]+) = ", line):
            named.append(f"{section}.{key[1]}")
    assert set(keys()) <= set(named)


@every_manual_page
def test_every_key_named_exists(path: str) -> None:
    known = {*keys(), *Config.model_fields}
    for code in CODE.findall(prose(MANUAL[path])):
        if not (name := re.match(r"\[?([a-z]+)\]?[. ]([a-z_0-9]+)(?= = |$)", code)):
            continue
        section, key = name.groups()
        if section in Config.model_fields and f"{section}.{key}" not in EVENTS:
            assert f"{section}.{key}" in known, code
    for variable in re.findall(r"PRECALL_([A-Z]+__[A-Z_0-9]+)", MANUAL[path]):
        if variable != "SECTION__KEY":
            assert variable.lower().replace("__", ".") in known, variable


@every_manual_page
def test_every_log_event_named_exists(path: str) -> None:
    groups = {event.partition(".")[0] for event in EVENTS}
    for code in CODE.findall(prose(MANUAL[path])):
        if re.fullmatch(r"[a-z]+\.[a-z_]+", code) and not code.endswith(
            (".toml", ".db", ".py", ".csv", ".service")
        ):
            assert code in {*EVENTS, *keys()} or code.partition(".")[0] not in groups, code


@every_manual_page
def test_every_piece_of_configuration_is_accepted(path: str) -> None:
    for content in blocks(MANUAL[path], "toml"):
        if "--8<--" in content:
            continue
        for section, values in tomllib.loads(content).items():
            assert {f"{section}.{key}" for key in values} <= set(keys()), content


# -- the HTTP interface --------------------------------------------------------------------------------------


def shape(path: str) -> str:
    """A path with its parameters left blank: `{subs_id}` or `SUBS_ID`."""
    return re.sub(r"\{[a-z_]+\}|\b[A-Z_]{2,}\b", "{}", path)


def test_every_endpoint_named_exists() -> None:
    known = {(endpoint.method, shape(endpoint.path)) for endpoint in ENDPOINTS}
    named = [
        (path, method, route)
        for path, text in MANUAL.items()
        for method, route in re.findall(r"`(GET|POST|PUT|DELETE) (/[^`?\s]*)", text)
    ]
    assert named
    for path, method, route in named:
        assert (method, shape(route)) in known, path


def test_every_path_named_exists() -> None:
    known = [
        re.compile(re.sub(r"\\\{[a-z_]+\\\}", "[^/]+", re.escape(endpoint.path))) for endpoint in ENDPOINTS
    ]
    for path, text in MANUAL.items():
        for route in re.findall(r"(?:`|127\.0\.0\.1:8080)(/(?:v1|-)/[^`'?\s]*|/[a-z]+z)", text):
            assert any(pattern.fullmatch(route) for pattern in known), f"{path}: {route}"


def test_every_action_reason_and_flag_is_explained() -> None:
    page = TEXTS["docs/asking.md"]
    for heading, values in (("## Reasons", Reason), ("## Flags", Flag)):
        table = page.partition(f"{heading}\n")[2].partition("\n## ")[0]
        first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
        named = [value for cell in first for value in CODE.findall(cell)]
        assert sorted(set(named) - {"reason"}) == sorted(values)
    for action in Action:
        assert f"| `{action}` |" in TEXTS["README.md"]


@every_manual_page
def test_every_piece_of_json_is_json(path: str) -> None:
    for content in blocks(MANUAL[path], "json"):
        json.loads(content)


# -- the command line ----------------------------------------------------------------------------------------


def shown(text: str) -> Iterator[str]:
    """The commands of precall in blocks of shell and in running text, without comments and what stands around them."""
    for content in blocks(text, "sh"):
        for line in content.replace("\\\n", " ").splitlines():
            if command := re.search(r"(?:^|[;&|] )\s*(?:sudo )?(?:\S*/)?precall (.*)", line):
                yield command[1]
    for code in CODE.findall(prose(text)):
        if code.startswith("precall "):
            yield code.removeprefix("precall ")


@cache
def mistake(line: str) -> str:
    """What is wrong with a command: a subcommand or an option that does not exist. "" if nothing is."""
    words = shlex.split(re.split(r"\s[>|;&]", line)[0], comments=True)
    # Every word is parsed before --help takes effect, which happens before missing arguments are noticed.
    done = CliRunner().invoke(app, [*words, "--help"])
    return "" if done.exit_code == 0 else done.output


@pytest.mark.parametrize(
    "line", ["rute 1", "bindings improt FILE", "run --confg precall.toml", "keys new --fil=x"]
)
def test_a_mistaken_command_is_noticed(line: str) -> None:
    assert "No such" in mistake(line)


@every_manual_page
def test_every_command_shown_exists(path: str) -> None:
    for line in sorted(set(shown(MANUAL[path]))):
        assert not mistake(line), f"precall {line}"


# -- metrics -------------------------------------------------------------------------------------------------


def test_the_page_of_metrics_is_what_the_code_makes(tmp_path: Path) -> None:
    made = tmp_path / "metrics.md"
    subprocess.run([sys.executable, DOCS / "metrics.py", made], check=True, timeout=60)
    assert made.read_text(encoding="utf-8") == TEXTS["docs/metrics.md"], "make docs"


def test_the_page_of_assumptions_is_up_to_date(tmp_path: Path) -> None:
    made = tmp_path / "provider.md"
    subprocess.run([sys.executable, DOCS / "assumptions.py", made], check=True, timeout=60)
    assert made.read_text(encoding="utf-8") == TEXTS["docs/provider.md"], "make docs"


def test_the_page_lists_every_metric_and_no_other() -> None:
    listed = re.findall(r"^\| `(precall_[a-z_]+)", TEXTS["docs/metrics.md"], re.MULTILINE)
    assert sorted(listed) == sorted(families())


def test_every_metric_has_a_base_unit_and_a_help_text() -> None:
    for family in Metrics().registry.collect():
        assert family.documentation
        assert not re.search(r"_(ms|milliseconds|minutes|hours|percent)$", family.name), family.name


@every_manual_page
def test_every_metric_named_exists(path: str) -> None:
    for name in re.findall(r"(?<![\w:.])precall_[a-z_]+(?![\w:.])", MANUAL[path]):
        assert re.sub(r"_(bucket|sum|count)$", "", name) in families() | {"precall_"}, name
