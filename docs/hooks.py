"""Hooks of mkdocs: files outside docs/ become pages of the site, and links between all of them are adjusted.

Links are written as they resolve in a checkout, relative to the file that holds them; tests/unit/test_docs.py checks
that. The site has another layout, so a link is rewritten if the site has its target, and becomes plain text otherwise.
"""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/runbook.md": "runbook.md",
}
"""Markdown files outside docs/, and the pages they become."""

PICTURES = {
    f"deploy/grafana/{name}.png": f"assets/{name}.png"
    for name in ("overview", "provider", "privacy", "daemon")
}

EXAMPLE = "config.example.toml"
"""Shown as part of a page, so links to it lead there."""

_HOME = {page: Path(path).parent for path, page in PAGES.items()}
_LINK = re.compile(r"(!?)\[([^][]*(?:\[[^][]*\][^][]*)*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is published from outside docs/."""
    for path, place in (PAGES | PICTURES).items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page, except in fenced code."""
    here = page.file.src_uri
    home = _HOME.get(here, Path("docs") / Path(here).parent)
    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(lambda link: _rewritten(link, home, here, files), part) for part in parts[::2]]
    return "".join(parts)


def _rewritten(link: re.Match[str], home: Path, here: str, files: Files) -> str:
    mark, text, target = link.groups()
    path, hash_, anchor = target.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return link[0]
    if os.path.normpath(home / path) == EXAMPLE:
        path, hash_, anchor = str(os.path.relpath("docs/configuration.md", home)), "#", "every-key"
    place = _place(os.path.normpath(home / path))
    if place is None or files.get_file_from_path(place) is None:
        return text
    return f"{mark}[{text}]({os.path.relpath(place, Path(here).parent)}{hash_}{anchor})"


def _place(path: str) -> str | None:
    """Where the site has this file of the checkout, if it does."""
    if path in PAGES | PICTURES:
        return (PAGES | PICTURES)[path]
    return str(Path(path).relative_to("docs")) if path.startswith("docs/") else None
