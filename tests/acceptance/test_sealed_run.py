"""A daemon with all features on leaks no number and no secret in logs, metrics, events, errors or copies of the
database.
"""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_cli import Server, line, precall, serving, until
from tests.support.sealed import dumped

pytestmark = pytest.mark.slow

SECRET, STS = "4cc3ss-k3y-s3cr3t-0f-th3-t3st", "5ts-t0k3n+0f/th3=t3st"
NUMBERS = [f"{head}1234567{place}" for head in ("170", "171", "138", "139") for place in range(1, 5)]

SCENARIO = "".join(
    f"""
[[binding]]
subs_id = "300{place}"
pool_key = "FC9"
number_x = "1701234567{place}"
number_a = "1381234567{place}"
number_b = "1391234567{place}"
status = {place}
called_no = "{f"1711234567{place}" if place == 2 else ""}"
"""
    for place in (1, 2, 3, 4)
)


def ask(url: str, token: str, method: str, path: str, body: Any = None) -> tuple[int, str]:
    """(status, body)"""
    request = urllib.request.Request(
        f"{url}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=240) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def new_token(name: str, *scopes: str) -> tuple[str, str]:
    """(the token, its lines of configuration)"""
    asked = precall("token", "new", "--name", name, "--json", *(f"--scope={scope}" for scope in scopes))
    entry = json.loads(asked.stdout)
    token = entry.pop("token")
    return token, "[[api.tokens]]\n" + "\n".join(
        f"{key} = {json.dumps(value)}" for key, value in entry.items()
    )


WRONG: list[tuple[str, str, Any]] = [
    ("GET", f"/v1/routes/{NUMBERS[8]}", None),
    ("GET", f"/v1/routes/3003?caller={NUMBERS[8]}%0Ax", None),
    ("GET", f"/v1/routes/by-number?x={NUMBERS[0]}&y={NUMBERS[8]}", None),
    ("GET", f"/v1/routes/by-number?x={NUMBERS[12]}&caller={NUMBERS[9]}", None),
    ("PUT", "/v1/bindings/3009", {NUMBERS[8]: NUMBERS[12]}),
    ("PUT", "/v1/bindings/3009", {"pool_key": "FC9", "number_x": f"{NUMBERS[0]}!", "number_a": [NUMBERS[8]]}),
    ("PUT", f"/v1/overrides/{NUMBERS[8]}", {"action": "hold"}),
    ("PUT", "/v1/overrides/3001", {"action": "dial_x", "number": NUMBERS[8]}),
    ("POST", "/v1/pause", {"pool_key": NUMBERS[8]}),
    ("POST", "/v1/bindings/batch", {"bindings": [{"subs_id": "3009", "number_a": NUMBERS[8]}]}),
    ("GET", f"/v1/exposures?number={NUMBERS[8]}x", None),
    ("GET", f"/{NUMBERS[8]}", None),
]


def test_no_output_contains_a_number_or_a_secret(tmp_path: Path) -> None:
    scenario, bindings = tmp_path / "scenario.toml", tmp_path / "bindings.jsonl"
    scenario.write_text(
        f'[account]\naccess_key_id = "demo"\naccess_key_secret = "{SECRET}"\nsecurity_token = "{STS}"\n{SCENARIO}'
    )
    token, entry = new_token(
        "all", "routes:read", "routes:real", "bindings:write", "calls:write", "metrics", "admin"
    )
    keys, config = tmp_path / "keys", tmp_path / "precall.toml"
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", bindings)
    url = f"sqlite:///{tmp_path}/precall.db"
    with serving(tmp_path, *simulate) as simulator:
        config.write_text(
            f'[provider]\nendpoint = "{simulator.url("simulator")}"\naccess_key_id = "demo"\n'
            f'access_key_secret = "{SECRET}"\nsecurity_token = "{STS}"\nrate = 50\n'
            f'[store]\nurl = "{url}"\nnumber_key_file = "{keys}"\n[api]\nlisten = "127.0.0.1:0"\n{entry}\n'
            '[freshness]\nmin_interval = "100ms"\nabnormal_min_interval = "200ms"\nmax_age = "500ms"\n'
            '[log]\nlevel = "debug"\nformat = "json"\n'
        )
        made = precall("keys", "new", "--config", config)
        assert made.returncode == 0, made.stderr
        checked = precall("config", "check", "--config", config)
        assert (checked.returncode, SECRET in checked.stdout + checked.stderr) == (0, False)
        with serving(tmp_path, "run", "--config", config) as daemon:
            written = lived(daemon, token, bindings)
            assert daemon.stop() == 0
            written += daemon.said
    written += dumped(url)
    key = keys.read_text().split()[-1]
    assert [found for found in (*NUMBERS, SECRET, STS, token, key) if found in written] == []


def lived(daemon: Server, token: str, bindings: Path) -> str:
    """Everything that is done with a daemon; what it wrote for others to read."""
    url = daemon.url('"urls"')
    bodies = [json.loads(text) for text in bindings.read_text().splitlines()]
    for body in bodies:
        assert ask(url, token, "PUT", f"/v1/bindings/{body['subs_id']}", body)[0] == 201
    until(lambda: json.loads(ask(url, token, "GET", "/v1/routes/3003")[1])["status"] == 3)
    for caller in (NUMBERS[10], NUMBERS[14], ""):
        ask(url, token, "GET", f"/v1/routes/3003?caller={caller}")
    assert NUMBERS[10] in ask(url, token, "GET", "/v1/bindings/3003")[1]
    problems = ""
    for method, path, body in WRONG:
        status, answer = ask(url, token, method, path, body)
        assert 400 <= status < 500 or path.endswith("batch"), (path, status, answer)
        problems += answer
    exposures = json.loads(ask(url, token, "GET", "/v1/exposures")[1])["exposures"]
    assert {row["reason"] for row in exposures} == {"status_3", "binding_read"}
    return problems + ask(url, token, "GET", "/metrics")[1] + json.dumps(exposures)


def test_keys_are_created_rotated_and_then_required(tmp_path: Path) -> None:
    config, keys = tmp_path / "precall.toml", tmp_path / "keys"
    plain = (
        '[log]\nlevel = "debug"\n'
        f'[provider]\nendpoint = "http://127.0.0.1:1"\naccess_key_id = "a"\naccess_key_secret = "n0t-t0-b3-t0ld"\n'
        f'[store]\nurl = "sqlite:///{tmp_path}/precall.db"\n'
    )
    config.write_text(f'{plain}[api]\nlisten = "127.0.0.1:0"\n')
    assert "store.number_key_file: is not set" in line(precall("keys", "new", "--config", config), 3)
    with serving(tmp_path, "run", "--config", config, plain="its numbers are to be sealed later") as daemon:
        url = daemon.url("precall serves")
        given = ("--pool-key", "FC9", "--number-x", NUMBERS[0], "--number-a", NUMBERS[8], "--label", "who=me")
        assert precall("bindings", "add", "3001", *given, url=url).returncode == 0
        assert daemon.stop() == 0
    assert NUMBERS[8] in dumped(f"sqlite:///{tmp_path}/precall.db")

    config.write_text(f'{plain}number_key_file = "{keys}"\n[api]\nlisten = "127.0.0.1:0"\n')
    assert "create it with `precall keys new`" in line(precall("run", "--config", config), 3)
    made = precall("keys", "new", "--config", config)
    assert made.stdout.startswith("key ")
    assert f'number_key_file = "{keys}"' in made.stderr
    with serving(tmp_path, "run", "--config", config) as daemon:
        url = daemon.url("precall serves")
        sealed = precall("keys", "rotate", "--config", config)
        assert sealed.returncode == 0, sealed.stderr
        assert "2 were in plain" in sealed.stdout
        assert "destroy them" in sealed.stderr
        assert NUMBERS[8] not in dumped(f"sqlite:///{tmp_path}/precall.db")
        again = precall("keys", "rotate", "--config", config)
        first = made.stdout.split()[1]
        assert f"nothing needs {first} any more: remove that line from {keys}" in again.stdout
        assert "everything is sealed with the newest key: created key " in again.stderr
        keys.write_text(
            "".join(text for text in keys.read_text().splitlines(keepends=True) if first not in text)
        )
        shown = precall("bindings", "export", url=url)
        assert json.loads(shown.stdout)["number_a"] == NUMBERS[8]
        masked = precall("bindings", "export", "--masked", "--format", "csv", url=url)
        assert masked.stdout.splitlines()[1].startswith(f"3001,FC9,{NUMBERS[0]},***71,")
        audited = precall("exposures", "list", "--number", NUMBERS[8], "--json", url=url)
        [row] = json.loads(audited.stdout)["exposures"]
        assert (row["subs_id"], row["reason"], row["reader"]) == ("3001", "bindings_export", "local")
        table = precall("exposures", "list", "--limit", "1", url=url).stdout
        assert "bindings_export" in table
        assert daemon.stop() == 0
    config.write_text(f'{plain}[api]\nlisten = "127.0.0.1:0"\n')
    for command in (("run",), ("source", "check")):
        refused = precall(*command, "--config", config)
        if command == ("run",):
            assert "holds sealed numbers: set store.number_key_file" in line(refused, 3)
        assert NUMBERS[8] not in refused.stderr + refused.stdout
