"""The documentation builds as a site that loads nothing from other hosts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.test_cli import PROJECT

LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\s\">]+)|<link\b[^>]*\bhref=\"?([^\s\">]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=PROJECT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    pages = {page.stem for page in (PROJECT / "docs").glob("*.md")}
    assert pages | {"index", "security", "contributing", "changelog", "runbook"} <= {
        page.stem for page in site.glob("*.html")
    }


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = [script or link for script, link in LOADED.findall(text)]
        assert loaded
        for address in loaded:
            assert not re.match(r"(?:https?:)?//", address), f"{page.name}: {address}"


def test_every_resource_and_link_is_part_of_the_site(site: Path) -> None:
    for page in site.glob("[!4]*.html"):
        text = page.read_text(encoding="utf-8")
        for address in re.findall(r"\b(?:src|href)=\"?([^\s\">#?]+)", text):
            if not re.match(r"[a-z]+:", address):
                assert (page.parent / address).exists(), f"{page.name}: {address}"


def test_links_to_files_outside_docs_lead_to_their_pages(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    for page in ("install", "security", "contributing", "changelog", "runbook", "configuration"):
        assert re.search(rf"href=\"?{page}\.html\b", text), page
    assert 'src="assets/overview.png"' in (site / "deploy.html").read_text(encoding="utf-8")


def test_the_key_reference_is_the_example_file(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "configuration.html").read_text(encoding="utf-8"))
    for line in ("[freshness]", "call_detail_rate_per_minute", "receipts_secret_sha256"):
        assert line in text
