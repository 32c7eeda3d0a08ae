"""The configuration: every mistake at once, the example equal to the code, no secret ever shown."""

import re
import tomllib
from pathlib import Path

import pytest

from precall.config.schema import Config, keys, load
from precall.core.errors import ConfigError

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"
BAD = sorted((Path(__file__).parents[2] / "data" / "bad_config").glob("*.toml"))


def flat(table: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in table.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def test_the_example_names_every_key_with_its_default(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    shown = flat(tomllib.loads(text))
    section, commented = "", set()
    for line in text.splitlines():
        if match := re.match(r"\[([a-z]+)\]$", line):
            section = match[1]
        elif match := re.match(r"# ([a-z_]+) = .*(?:default)", line):
            commented.add(f"{section}.{match[1]}")
    assert set(shown) | commented == set(keys())
    assert not set(shown) & commented
    assert load(EXAMPLE) == Config()


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_each_mistake_is_named_with_its_key(file: Path) -> None:
    expected = [line[2:] for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.mistakes == expected


def test_bad_configuration_files_exist_for_the_tests() -> None:
    assert len(BAD) >= 12


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[provider]\nrate = 5\ntimeout = "3s"\n')
    monkeypatch.setenv("PRECALL_PROVIDER__RATE", "50")
    monkeypatch.setenv("PRECALL_API__LISTEN", '["127.0.0.1:0", "[::1]:0"]')
    config = load(file)
    assert (config.provider.rate, config.provider.timeout) == (50.0, 3.0)
    assert config.api.listen == ["127.0.0.1:0", "[::1]:0"]


def test_unknown_variables_are_mistakes_except_those_of_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECALL_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PRECALL_PROVIDER__RAET", "50")
    with pytest.raises(ConfigError) as caught:
        load(None)
    assert caught.value.mistakes == [
        "PRECALL_PROVIDER__RAET: unknown variable; did you mean PRECALL_PROVIDER__RATE?"
    ]


def test_a_missing_or_malformed_file_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml")
    file = tmp_path / "c.toml"
    file.write_text("[provider\n")
    with pytest.raises(ConfigError, match=r"is not valid TOML: .*line 1"):
        load(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load(file)


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        '[provider]\naccess_key_id = "id"\naccess_key_secret = "hush-1"\nsecurity_token = "hush-2"\n'
    )
    config = load(file)
    assert "hush" not in repr(config) + str(config.provider) + config.model_dump_json()
    file.write_text('[provider]\naccess_key_secret = ["hush-1"]\nsecurity_token = 5\nrate = "hush-3"\n')
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert "hush" not in str(caught.value) + repr(caught.value)


def test_the_variable_for_observed_pools_accepts_plain_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[policy]\nobserve = "FC1"\n')
    assert load(file).policies().observe == {"FC1"}
    monkeypatch.setenv("PRECALL_POLICY__OBSERVE", "FC1, FC2")
    policy = load(file).policies()
    assert [policy.observes(pool_key) for pool_key in ("FC1", "FC2", "FC3")] == [True, True, False]
    monkeypatch.setenv("PRECALL_POLICY__OBSERVE", "*")
    assert load(file).policies().observes("any")
    monkeypatch.setenv("PRECALL_POLICY__OBSERVE", "*,FC1")
    with pytest.raises(ConfigError, match="should stand alone"):
        load(file)
