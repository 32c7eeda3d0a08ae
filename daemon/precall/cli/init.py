"""A first configuration with an admin token, a number key and a systemd unit: init."""

import json
import os
import pwd
import re
import secrets
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from precall import private_files
from precall.cli.target import bare_token
from precall.cli.tokens import NewToken
from precall.config import packaged, text_file
from precall.config.schema import SCOPES
from precall.core.errors import ConfigError

app = typer.Typer()

READABLE = 0o644
CONFIG = """\
# precall, as `precall init` begins it. `precall config example` shows every key with its default.

[provider]
# The access key comes by the variables PRECALL_PROVIDER__ACCESS_KEY_ID and PRECALL_PROVIDER__ACCESS_KEY_SECRET, or
# stands here as access_key_id and access_key_secret_file. Without any, the provider's default credential chain is used.
rate = 20                       # checks per second that this account may spend

[store]
url = {database}
number_key_file = {keys}

[api]
listen = ["127.0.0.1:8080"]     # other addresses also need tls_cert_file and tls_key_file

# The token in {token}. `precall token new` makes others, with fewer scopes.
{entry}
"""
UNIT_HEADING = """\
# precall, as `precall init` wrote it for {config}
#   systemctl enable --now {unit}
#   after a change of the configuration: systemctl reload precall; of the variables: systemctl restart precall
"""
NEXT_STEPS = """
Next:
  1. Give the provider's access key by variables. The service reads them from this file:
       (umask 077; ${{EDITOR:-vi}} {variables})
         PRECALL_PROVIDER__ACCESS_KEY_ID=...
         PRECALL_PROVIDER__ACCESS_KEY_SECRET=...
       set -a; . {variables}; set +a
  2. precall config check --config {config}
  3. precall doctor --config {config}
  4. precall run --config {config}
     or, as root, the service: systemctl enable --now {unit}

Commands that ask the daemon need the token: export PRECALL_TOKEN_FILE={token}
Keep a copy of {keys} apart from the database: without it the numbers in there are lost."""


class SetupFiles:
    """The files of one directory, each of which is written unless it exists."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config, self.unit = folder / "precall.toml", folder / "precall.service"
        self.token, self.keys = folder / "admin.token", folder / "number-keys"
        self.database, self.variables = folder / "precall.db", folder / "precall.env"

    def write(self) -> None:
        """Write what is missing, and say so. The configuration comes last, since it names the others."""
        self._write_keys()
        token = self._admin_token()
        _write(self.unit, unit_text(self, program(), _user()), READABLE)
        content = CONFIG.format(
            database=json.dumps(f"sqlite:///{self.database}", ensure_ascii=False),
            keys=json.dumps(str(self.keys), ensure_ascii=False),
            token=self.token,
            entry=token.table,
        )
        if _write(self.config, content, READABLE):
            return
        if str(token.entry["sha256"]) not in text_file.read(self.config):
            typer.echo(f"\n{self.config} does not admit {self.token} yet; to admit it, add:\n\n{token.table}")

    @property
    def shown(self) -> dict[str, str]:
        """Return the names of the files as a shell takes them."""
        return {name: shlex.quote(str(file)) for name, file in vars(self).items()}

    def _write_keys(self) -> None:
        from precall.store import cipher  # noqa: PLC0415 - slow

        if self.keys.exists():
            _tell("left alone", self.keys)
        elif self.database.exists():
            _tell("not made", self.keys, f"{self.database} may be sealed with an earlier one")
        else:
            cipher.add(self.keys, secrets.token_bytes(cipher.LENGTH))
            _tell("written", self.keys)

    def _admin_token(self) -> NewToken:
        token = NewToken("admin", list(SCOPES))
        if _write(self.token, f"{token.secret}\n", private_files.OWNER_ONLY):
            return token
        return NewToken("admin", list(SCOPES), bare_token(text_file.read(self.token)))


@app.command("init", rich_help_panel="The daemon itself")
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made if it does not exist.")] = Path(),
) -> None:
    """Write a first configuration, and say what to do next.

    Writes precall.toml, an admin token, a number key and a systemd unit to DIR. Files that exist are left alone.
    """
    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        raise typer.BadParameter(f"{folder} is not a directory")
    if re.search(r"[\x00-\x1f\x7f?]", str(folder)):
        raise typer.BadParameter(f"{str(folder)!r}: a database cannot be in a directory of that name")
    files = SetupFiles(folder)
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        files.write()
    except text_file.NotTextError as error:
        raise ConfigError([f"{folder}: {error}"]) from None
    except OSError as error:
        raise private_files.unwritten(error.filename or folder, error) from None
    typer.echo(NEXT_STEPS.format(**files.shown))


def program() -> list[str]:
    """Return the command that starts this program, for use anywhere."""
    installed = Path(sys.executable).with_name("precall")
    return [str(installed)] if installed.is_file() else [sys.executable, "-m", "precall"]


def _user() -> str:
    """Return the name of this user or, without one, the number. systemd takes both."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def unit_text(files: SetupFiles, command: list[str], user: str) -> str:
    """Return the unit of `deploy/`, for a daemon that runs as `user` with these files."""
    lines = {
        "ExecStart": " ".join(map(_argument, [*command, "run", "--config", str(files.config)])),
        "WorkingDirectory": _path(files.folder),
        # The user owns the files here. A user made for each start, as in the original, could not read them.
        "DynamicUser": None,
        "StateDirectory": None,
        "LoadCredential": None,
        # The program may lie in a home directory, and so may these files.
        "ProtectHome": "read-only",
    }
    own = (
        f"User={user}",
        f"ReadWritePaths={_argument(str(files.folder))}",
        "# PRECALL_PROVIDER__ACCESS_KEY_ID and PRECALL_PROVIDER__ACCESS_KEY_SECRET, one NAME=value a line",
        f"EnvironmentFile=-{_path(files.variables)}",
    )
    _, section, rest = packaged.text("precall.service", "deploy/systemd").partition("[Unit]")
    made = [_replaced(line, lines) for line in (section + rest).splitlines()]
    service = made.index("[Service]") + 1
    made[service:service] = own
    return UNIT_HEADING.format(**files.shown) + "\n".join(line for line in made if line is not None) + "\n"


def _replaced(line: str, values: Mapping[str, str | None]) -> str | None:
    name, equals, _ = line.partition("=")
    if line.startswith("# provider."):
        return None
    if not equals or name not in values:
        return line
    value = values[name]
    return None if value is None else f"{name}={value}"


def _path(path: Path) -> str:
    """Return a path as the whole value of a setting: `%` begins a specifier."""
    return str(path).replace("%", "%%")


def _argument(text: str) -> str:
    """Return one word of a setting that is split into words."""
    text = text.replace("%", "%%")
    if re.fullmatch(r"[\w%+,./:=@-]+", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'


def _write(file: Path, content: str, mode: int) -> bool:
    """Make a file, unless the path exists. Returns whether it did. Raises OSError."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        _tell("left alone", file)
        return False
    try:
        with open(descriptor, "w", encoding="utf-8") as out:  # noqa: PTH123 - a descriptor
            out.write(content)
    except OSError:
        file.unlink()
        raise
    _tell("written", file)
    return True


def _tell(what: str, file: Path, why: str = "") -> None:
    typer.echo(f"{what:10}  {file}{f': {why}' if why else ''}")
