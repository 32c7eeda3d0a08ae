"""What is written for users equals the code."""

import re
from pathlib import Path

from precall import __version__
from precall.api.endpoints import ENDPOINTS
from precall.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def families() -> set[str]:
    """Our own, by the names as they are scraped: counters with their suffix."""
    found = set()
    for family in Metrics().registry.collect():
        if not family.name.startswith("process_"):
            found.add(family.name + ("_total" if family.type == "counter" else ""))
    return found


def test_the_readme_lists_every_metric_and_no_other() -> None:
    section = README.partition("## Metrics")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(precall_[a-z_]+)", section, re.MULTILINE)) == families()


def test_every_metric_has_a_base_unit_and_a_help_text() -> None:
    for family in Metrics().registry.collect():
        assert family.documentation
        assert not re.search(r"_(ms|milliseconds|minutes|hours|percent)$", family.name), family.name


def test_every_path_the_readme_names_exists() -> None:
    known = {re.sub(r"\{[a-z_]+\}", "{}", endpoint.path) for endpoint in ENDPOINTS}
    named = re.findall(r"`(?:GET|POST|PUT|DELETE) (/[^`?\s]*)", README)
    assert named
    for path in named:
        assert re.sub(r"\{[a-z_]+\}", "{}", path) in known, path


def test_the_readme_shows_the_two_commands_and_the_changelog_the_version() -> None:
    assert "\nmake demo " in README
    assert "\nmake test " in README
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## Unreleased" in changelog or f"## {__version__}" in changelog
