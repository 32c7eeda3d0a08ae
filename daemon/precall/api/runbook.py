"""The runbook as a page: `deploy/runbook.md` in HTML, without scripts, for browsers, phones and the links of alerts."""

import hashlib
import re
from base64 import b64encode
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from aiohttp import hdrs, web
from markdown_it import MarkdownIt
from markdown_it.token import Token as MarkdownToken

from precall.api.problems import HEADERS
from precall.config import packaged

_ELSEWHERE = re.compile(r"\[([^]]+)\]\((?!#|https?:)[^)]+\)")
"""A link to a file of the checkout, which this page has not beside it."""
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #8881; --link: light-dark(#00695c, #4db6ac); }
body { max-width: 46rem; margin: 0 auto; padding: 1rem; font: 1rem/1.55 system-ui, sans-serif; }
body { overflow-wrap: anywhere; }
h1, h2 { line-height: 1.25; }
h2 { margin-top: 2.5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h2:target, h2:has(+ p :target) { border-top: 3px solid var(--link); }
p :target { scroll-margin-top: 5rem; }
a { color: var(--link); }
code { font: .9em ui-monospace, monospace; background: var(--faint); padding: .1em .3em; border-radius: .25em; }
pre { background: var(--faint); padding: .75rem; border-radius: .25em; overflow-x: auto; }
pre code { background: none; padding: 0; }
nav ul { columns: 16rem; padding-left: 1.25rem; }
summary { cursor: pointer; }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>precall: runbook</title>
<style>{style}</style>
</head>
<body>
<nav><details><summary>Sections</summary><ul>{sections}</ul></details></nav>
<main>
{content}</main>
</body>
</html>
"""
_DIGEST = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{_DIGEST}'",
        *(f"{name} 'none'" for name in ("base-uri", "form-action", "frame-ancestors")),
    )
)
_HEADERS = HEADERS | {"Content-Security-Policy": _POLICY, hdrs.CONTENT_TYPE: "text/html; charset=utf-8"}


def text() -> str:
    """Return the runbook in Markdown."""
    return packaged.text("runbook.md", "deploy")


@dataclass(frozen=True, slots=True)
class RunbookText:
    """The runbook in HTML. `sections` are (anchor, title)."""

    sections: list[tuple[str, str]]
    content: str


def rendered(markdown: str) -> RunbookText:
    """Return the text in HTML. Each heading is an anchor, as on other sites of Markdown; HTML in it stays as it is."""
    parser = MarkdownIt("commonmark")
    tokens = parser.parse(_ELSEWHERE.sub(r"\1", markdown))
    sections = []
    for token, title in pairwise(tokens):
        if token.type == "heading_open":
            anchor = _anchor(title)
            token.attrSet("id", anchor)
            if token.tag == "h2":
                sections.append((anchor, title.content))
    return RunbookText(sections, parser.renderer.render(tokens, parser.options, {}))


def page(markdown: str) -> bytes:
    """Return the page of its own."""
    made = rendered(markdown)
    sections = "".join(f'<li><a href="#{anchor}">{escape(title)}</a></li>' for anchor, title in made.sections)
    return _PAGE.format(style=_STYLE, sections=sections, content=made.content).encode()


def response(body: bytes) -> web.Response:
    """Return the response with this page. It runs no script and loads nothing."""
    return web.Response(body=body, headers=_HEADERS)


def _anchor(title: MarkdownToken) -> str:
    return re.sub(r"[^\w\- ]", "", title.content.lower()).strip().replace(" ", "-")
