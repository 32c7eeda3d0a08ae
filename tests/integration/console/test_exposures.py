"""The page Exposures: who was given which number, filtered, paged and as a file, and never the number itself."""

import csv
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from precall.console.pages.exposures import lines
from tests.integration.console.visitors import Browser, bearing
from tests.support.api_daemon import A, B, Served, serving, token

ADMIN = ("routes:read", "routes:real", "bindings:write", "admin")
FORMULA = "=cmd|' /C calc'!A0"


@asynccontextmanager
async def exposed(
    folder: Path, count: int = 3, *, language: str = "en", reader: str = "dispatcher"
) -> AsyncIterator[tuple[Served, Browser]]:
    """A daemon where both numbers of some bindings were read, and the browser of an administrator."""
    secret, may_all = token("boss", *ADMIN)
    reads, may_read = token(reader, "routes:read", "routes:real")
    async with serving(folder, tokens=[may_all, may_read]) as served:
        served.session.headers["Authorization"] = f"Bearer {secret}"
        for number in range(1, count + 1):
            facts: dict[str, Any] = {"subs_id": str(number), "pool_key": "FC1" if number % 2 else "FC2"}
            if number == 3:
                facts["number_a"] = "13755555555"
            await served.register(**facts)
            status, body = await served.ask(
                "GET", f"/v1/bindings/{number}", headers={"Authorization": f"Bearer {reads}"}
            )
            assert (status, body["number_b"]) == (200, B)
        async with bearing(served, secret, language) as browser:
            yield served, browser


def ids(text: str) -> list[str]:
    return re.findall(r'<a href="/console/bindings/(\d+)">', text)


def hidden(text: str, button: str) -> dict[str, str]:
    """Return the hidden fields of the form with this button."""
    [form] = [one for one in re.findall(r"<form.*?</form>", text, re.DOTALL) if f"<button>{button}<" in one]
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))
    return {name: value for name, value in fields.items() if name != "csrf"}


@pytest.mark.parametrize(
    ("language", "words", "none"),
    [("en", "Download as CSV", "No real number was handed out"), ("zh", "下载 CSV", "没有给出过真实号码")],
)
async def test_exposures_are_listed_in_both_languages(
    tmp_path: Path, language: str, words: str, none: str
) -> None:
    async with exposed(tmp_path, language=language) as (_, browser):
        text = (await browser.get("/console/exposures")).text
        assert words in text
        assert f'<html lang="{language}">' in text
        assert ids(text) == ["3", "3", "2", "2", "1", "1"]
        assert "dispatcher" in text
        assert not {A, B} & set(re.findall(r"\d+", text))
        assert none in (await browser.get("/console/exposures?reader=nobody")).text


async def test_filters(tmp_path: Path) -> None:
    async with exposed(tmp_path) as (_, browser):
        for query, found in (
            ("pool_key=FC2&reader=&subs_id=&since=", ["2", "2"]),
            ("reader=dispatcher&subs_id=3", ["3", "3"]),
            ("since=2099-01-01T00:00", []),
            ("since=2001-01-01T00:00&pool_key=FC2", ["2", "2"]),
        ):
            assert ids((await browser.get(f"/console/exposures?{query}")).text) == found, query
        for query in ("since=yesterday", "cursor=x"):
            assert (await browser.get(f"/console/exposures?{query}")).status == 400


async def test_pages_lead_through_all_of_them(tmp_path: Path) -> None:
    async with exposed(tmp_path, 30) as (_, browser):
        first = (await browser.get("/console/exposures?reader=dispatcher")).text
        [after] = re.findall(r'<a rel="next" href="([^"]+)"', first)
        second = (await browser.get(after.replace("&amp;", "&"))).text
        assert ids(first) + ids(second) == [str(one) for one in range(30, 0, -1) for _ in "ab"]


async def test_a_number_is_found_by_a_form_and_not_repeated(tmp_path: Path) -> None:
    async with exposed(tmp_path, 60) as (_, browser):
        shown = await browser.fill_in(
            "/console/exposures", {"number": "137-5555-5555"}, form="/console/exposures"
        )
        assert (shown.status, ids(shown.text)) == (200, ["3"])
        assert "55555555" not in shown.text
        assert "137-5555" not in shown.text
        first = await browser.fill_in("/console/exposures", {"number": B}, form="/console/exposures")
        following = await browser.fill_in(
            "/console/exposures", hidden(first.text, "Next page"), form="/console/exposures"
        )
        assert ids(first.text) + ids(following.text) == [str(one) for one in range(60, 0, -1)]
        file = await browser.fill_in(
            "/console/exposures.csv", hidden(first.text, "Download as CSV"), form="/console/exposures"
        )
        assert len(file.text.splitlines()) == 61
        for text in (shown.text, first.text, following.text, file.text):
            assert not {A, B} & set(re.findall(r"\d+", text))


@pytest.mark.parametrize(
    ("fields", "status"), [({"number": "12"}, 422), ({"hashes": "x"}, 400), ({"hashes": "' or 1"}, 400)]
)
async def test_what_is_no_number_is_refused(tmp_path: Path, fields: dict[str, str], status: int) -> None:
    async with exposed(tmp_path, 1) as (_, browser):
        shown = await browser.fill_in("/console/exposures", fields, form="/console/exposures")
        assert shown.status == status
        assert ids(shown.text) == []


async def test_the_file_has_what_the_api_tells(tmp_path: Path) -> None:
    async with exposed(tmp_path) as (served, browser):
        file = await browser.get("/console/exposures.csv?pool_key=FC1")
        headers = file.headers
        assert headers["Content-Type"] == "text/csv; charset=utf-8"
        assert headers["Content-Disposition"] == 'attachment; filename="exposures.csv"'
        assert headers["X-Content-Type-Options"] == "nosniff"
        told = (await served.ask("GET", "/v1/exposures?pool_key=FC1"))[1]["exposures"]
        rows = list(csv.DictReader(io.StringIO(file.text)))
        assert rows == [{name: str(value) for name, value in one.items()} for one in told]
        assert len(rows) == 4


async def test_a_file_holds_no_formula(tmp_path: Path) -> None:
    async with exposed(tmp_path, 1, reader=FORMULA) as (_, browser):
        rows = list(csv.DictReader(io.StringIO((await browser.get("/console/exposures.csv")).text)))
        assert {row["reader"] for row in rows} == {f"'{FORMULA}"}
        text = (await browser.get("/console/exposures")).text
        assert "=cmd|&#39; /C calc&#39;!A0" in text


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_every_beginning_of_a_formula_is_defused(cell: str) -> None:
    [[read]] = csv.reader(io.StringIO(lines([[cell]]).decode(), newline=""))
    assert read == f"'{cell}"


def test_other_cells_stay_as_they_are() -> None:
    assert lines([["a,b", 'say "x"', 3, "名"]]).decode() == '"a,b","say ""x""",3,名\r\n'


@pytest.mark.parametrize(
    "scopes", [("routes:read",), ("routes:read", "routes:real", "bindings:write", "metrics")]
)
async def test_it_needs_admin(tmp_path: Path, scopes: tuple[str, ...]) -> None:
    secret, reads = token("reader", *scopes)
    async with serving(tmp_path, tokens=[reads]) as served, bearing(served, secret) as browser:
        for path in ("/console/exposures", "/console/exposures.csv"):
            assert (await browser.get(path)).status == 403
            assert (await browser.fill_in(path, {"number": B})).status == 403
