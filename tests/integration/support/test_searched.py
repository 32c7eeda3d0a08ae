"""The search of what a daemon leaves finds a number and a secret wherever one is planted, and nothing else."""

import hashlib
import sqlite3
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.store.test_sealing import A, X, filled, opened, rows_with_numbers
from tests.support.postgres import sql
from tests.support.sealed import key_file
from tests.support.searched import Known, Search, assert_clean

SECRET, TOKEN = "4cc3ss+k3y/s3cr3t", "T0k3n-0f_th3-t3st" + "x" * 26


def configured(folder: Path, store: str) -> Path:
    file, digest = folder / "precall.toml", hashlib.sha256(TOKEN.encode()).hexdigest()
    file.write_text(
        f'[log]\nlevel = "debug"\n[provider]\naccess_key_secret = "{SECRET}"\n'
        f'[store]\nurl = "{store}"\nnumber_key_file = "{folder / "keys"}"\n'
        f'[[api.tokens]]\nname = "t"\nsha256 = "{digest}"\n'
    )
    return file


@pytest.fixture
async def left(tmp_path: Path, store_url: str) -> Path:
    """The configuration of a daemon that has sealed X and A, on either database."""
    async with opened(store_url, key_file(tmp_path)) as store:
        await filled(store, rows_with_numbers(3))
    return configured(tmp_path, store_url)


def found(search: Search, log: str = "route.changed index=218044471469") -> str:
    """Return the error of the search, or ""."""
    try:
        search.end(log)
    except AssertionError as error:
        return str(error)
    return ""


@contextmanager
def telling(answers: dict[str, tuple[int, str]]) -> Iterator[str]:
    """Return the URL of a server with these responses by path prefix; other paths are empty."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = next(
                (told for path, told in answers.items() if self.path.startswith(path)), (200, "-")
            )
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_request(self, code: object = "", size: object = "") -> None:
            """Not on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


ROUTES = '{"routes":[{"subs_id":"1","number":"' + X + '","index":7}]}'


@pytest.mark.parametrize(
    ("answers", "place"),
    [
        ({}, ""),
        ({"/v1/routes?": (200, ROUTES)}, ""),
        ({"/metrics": (200, f'routes{{pool="{X}"}} 1')}, "metrics and problems"),
        ({"/v1/routes/1380": (404, f"unknown {A}")}, "metrics and problems"),
        ({"/v1/routes/changes": (410, f"{X} is too old")}, "metrics and problems"),
        ({"/v1/routes?": (200, ROUTES.replace(X, A))}, "events"),
        ({"/v1/routes?": (200, ROUTES), "/v1/routes/changes?since=7&": (200, A)}, "events"),
        ({"/v1/routes?": (200, ROUTES), "/v1/bindings/1/history": (200, SECRET)}, "events"),
    ],
)
async def test_output_is_searched_for_numbers(
    left: Path, answers: dict[str, tuple[int, str]], place: str
) -> None:
    search = Search(left)
    with telling(answers) as url:
        search.take(url)
    told = found(search)
    assert (f"'{place}'" in told) if place else not told


async def test_a_log_is_searched(left: Path) -> None:
    assert found(Search(left)) == ""
    for planted in (X, A, "13700000000", SECRET, TOKEN):
        assert planted in found(Search(left), f"route.changed number={planted} version=2")


async def test_a_database_is_searched(left: Path, store_url: str) -> None:
    search = Search(left)
    assert found(search) == ""
    for text in (A, f"+86 {A[:3]} {A[3:7]} {A[7:]}", f"x{TOKEN}y", SECRET):
        sql(store_url, f"INSERT INTO number_reports VALUES ('{text}', 1.5, true, 1.5)")  # noqa: S608
        assert "'database'" in found(search), text
        # The pages of SQLite keep what was deleted.
        sql(store_url, "DELETE FROM number_reports")
        if store_url.startswith("sqlite"):
            sql(store_url, "VACUUM")
        assert found(search) == ""


async def test_the_log_of_a_database_is_searched_and_left_as_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/precall.db"
    async with opened(url, key_file(tmp_path)) as store:
        await filled(store, rows_with_numbers())
    search = Search(configured(tmp_path, url))
    with closing(sqlite3.connect(tmp_path / "precall.db", isolation_level=None)) as other:
        other.execute("INSERT INTO marks VALUES ('planted', ?)", [A])
        wal = (tmp_path / "precall.db-wal").read_bytes()
        assert A.encode() in wal
        assert A.encode() not in (tmp_path / "precall.db").read_bytes()
        assert A in found(search)
        assert (tmp_path / "precall.db-wal").read_bytes() == wal


def test_a_known_number_is_found_however_it_is_written() -> None:
    known = Known(frozenset({A}))
    for text in (
        A,
        f"+86{A}",
        f"0{A}",
        f"FC1170000000{A}139000",
        f"{A[:3]}-{A[3:7]}-{A[7:]}",
        f"{A[:3]} {A[3:]}",
        f"caller={A[:3]}%20{A[3:7]}%20{A[7:]}",
    ):
        assert known.within(text) == [A], text
    assert known.within(f"***{A[-2:]} {int(A) + 1} {A[:10]}") == []


def test_a_key_is_found_as_text_as_digits_and_as_it_is(tmp_path: Path) -> None:
    search = Search(
        configured(tmp_path, "sqlite:///" + str(tmp_path / "precall.db")), plain="has no database"
    )
    key_file(tmp_path, b"\xe7")
    key = (tmp_path / "keys").read_text().split()[-1]
    for form in (key, b64decode(key).hex(), b64decode(key).decode("latin-1")):
        assert "'log'" in found(search, form)


def test_a_search_requires_sealing_and_debug_logs(tmp_path: Path) -> None:
    config = tmp_path / "precall.toml"
    config.write_text('[log]\nlevel = "debug"\n[store]\nurl = "sqlite:///precall.db"\n')
    with pytest.raises(AssertionError, match="must seal its numbers, or say why"):
        Search(config)
    config.write_text('[store]\nurl = "sqlite:///precall.db"\nnumber_key_file = "keys"\n')
    with pytest.raises(AssertionError, match="must log everything"):
        Search(config)


async def test_request_ids_are_not_taken_for_numbers(left: Path) -> None:
    request = "0A1B2C3D-4E5F-6071-8293-A16197015785"
    search = Search(left)
    with telling({"/v1/routes?": (200, ROUTES), "/v1/bindings/1/history": (200, request)}) as url:
        search.take(url)
    assert found(search, f"check.refused request_id={request}") == ""
    assert_clean(request)


def test_problems_with_a_number_or_a_secret_are_reported() -> None:
    assert_clean('{"code":"unknown_binding","title":"no binding 404"}')
    for text in (f"no binding {A}", "demo-secret"):
        with pytest.raises(AssertionError):
            assert_clean(text)
