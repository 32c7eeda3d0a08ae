"""`precall init`: what it writes is complete, accepted, and never written over."""

import hashlib
import os
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from precall.cli import app
from precall.cli.init import SetupFiles, unit_text
from precall.config.schema import SCOPES, load
from precall.core.errors import ConfigError, OutputError
from precall.store import Cipher

NAMES = ["admin.token", "number-keys", "precall.service", "precall.toml"]


def init(folder: Path) -> Result:
    return CliRunner().invoke(app, ["init", str(folder)])


def test_an_empty_directory_gets_a_configuration_that_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "a b%c"
    done = init(folder)
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in folder.iterdir()) == NAMES
    config = load(folder / "precall.toml")
    assert config.store.url == f"sqlite:///{folder}/precall.db"
    assert config.store.key_file == folder / "number-keys"
    assert Cipher.of(config.store.key_file).names
    [token] = config.api.tokens
    secret = (folder / "admin.token").read_text()
    assert token.sha256 == hashlib.sha256(secret.strip().encode()).hexdigest()
    assert (token.name, token.scopes) == ("admin", list(SCOPES))
    for name in ("admin.token", "number-keys"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert secret.strip() not in done.output + (folder / "precall.toml").read_text()
    for step in ("PRECALL_PROVIDER__ACCESS_KEY_ID", "config check", "doctor", "run --config"):
        assert step in done.stdout


def test_a_second_time_changes_nothing_and_says_so(tmp_path: Path) -> None:
    init(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    done = init(tmp_path)
    assert done.exit_code == 0
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert [line.split() for line in done.stdout.splitlines()[:4]] == [
        ["left", "alone", str(tmp_path / name)] for name in ("number-keys", "admin.token", *NAMES[2:])
    ]
    assert "does not admit" not in done.stdout


def test_a_token_that_the_configuration_does_not_admit_is_told_with_its_entry(tmp_path: Path) -> None:
    init(tmp_path)
    (tmp_path / "admin.token").unlink()
    done = init(tmp_path)
    secret = (tmp_path / "admin.token").read_text().strip()
    assert f"{tmp_path / 'precall.toml'} does not admit" in done.stdout
    assert hashlib.sha256(secret.encode()).hexdigest() in done.stdout
    assert secret not in done.stdout


def test_an_earlier_token_is_admitted_by_a_new_configuration(tmp_path: Path) -> None:
    (tmp_path / "admin.token").write_text("mine\n")
    assert init(tmp_path).exit_code == 0
    [token] = load(tmp_path / "precall.toml").api.tokens
    assert token.sha256 == hashlib.sha256(b"mine").hexdigest()


def test_no_key_is_made_beside_a_database_that_an_earlier_one_may_have_sealed(tmp_path: Path) -> None:
    (tmp_path / "precall.db").touch()
    done = init(tmp_path)
    assert "not made" in done.stdout
    assert not (tmp_path / "number-keys").exists()


@pytest.mark.parametrize("name", ["what?", "two\nlines"])
def test_a_name_that_no_url_of_a_database_can_carry_is_refused(tmp_path: Path, name: str) -> None:
    assert init(tmp_path / name).exit_code == 2
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_or_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert init(tmp_path / "file").exit_code == 2
    assert isinstance(init(tmp_path / "file" / "below").exception, OutputError)
    (tmp_path / "admin.token").write_bytes(b"\xff")
    assert isinstance(init(tmp_path).exception, ConfigError)


def test_nothing_of_the_original_unit_is_left_that_is_not_there(tmp_path: Path) -> None:
    text = unit_text(SetupFiles(tmp_path), ["/usr/bin/precall"], "someone")
    assert f"ExecStart=/usr/bin/precall run --config {tmp_path}/precall.toml\n" in text
    assert f"WorkingDirectory={tmp_path}\n" in text
    assert f"ReadWritePaths={tmp_path}\n" in text
    for other in ("/opt/", "/etc/", "/var/lib", "DynamicUser", "LoadCredential", "StateDirectory"):
        assert other not in text


@pytest.mark.needs("systemd")
@pytest.mark.parametrize("name", ["plain", 'a "b" $c\\d%e'])
def test_systemd_accepts_the_unit(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    init(folder)
    command = ["systemd-analyze", "verify", folder / "precall.service"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert (found.returncode, found.stderr) == (0, "")
