"""The file of number keys: format, permissions and location."""

import os
from pathlib import Path

import pytest

from precall.config.schema import StoreConfig
from precall.core.errors import ConfigError
from precall.store import Cipher, cipher, key_file

ONE, TWO = b"1" * cipher.LENGTH, b"2" * cipher.LENGTH


def test_keys_are_added_and_the_newest_seals(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first = cipher.add(file, ONE)
    assert file.stat().st_mode & 0o777 == 0o600
    sealed = Cipher.of(file).seal("bindings.number_a 1", "13800000001")
    second = cipher.add(file, TWO)
    keys = Cipher.of(file)
    assert (keys.names, keys.newest) == ((first, second), second)
    assert keys.open("bindings.number_a 1", sealed) == "13800000001"
    assert cipher.key_of(keys.seal("bindings.number_a 1", "13800000001")) == second
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_adding_a_key_keeps_the_permissions(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    cipher.add(file, ONE)
    file.chmod(0o400)
    cipher.add(file, TWO)
    assert file.stat().st_mode & 0o777 == 0o400
    assert len(Cipher.of(file).names) == 2


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o601, 0o666])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "keys"
    cipher.add(file, ONE)
    file.chmod(mode)
    with pytest.raises(
        ConfigError, match=rf"number_key_file: .*keys is open .* \(mode {mode:04o}\): chmod 600"
    ):
        Cipher.of(file)


def test_a_group_may_read_it_where_root_owns_it(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    cipher.add(file, ONE)
    file.chmod(0o440)
    if os.geteuid():
        with pytest.raises(ConfigError, match="is open to other users"):
            Cipher.of(file)
    else:
        assert Cipher.of(file)
        os.chown(file, 65534, 65534)
        with pytest.raises(ConfigError, match="is open to other users"):
            Cipher.of(file)


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (b"", "holds no key: make one with `precall keys new`"),
        (b"# a remark\n\n", "holds no key"),
        (b"\xff\xfe", "is not a file made by `precall keys new`"),
        (b"0badc0de notbase64!\n", "line 1: is not a key"),
        (b"# a remark\n0badc0de\n", "line 2: is not a key"),
        (
            b"0badc0de MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE=\n",
            "line 1: is not a key .*, or was altered",
        ),
        (b"0badc0de MTEx\n", "line 1: is not a key"),
    ],
)
def test_each_mistake_in_the_file_is_named(tmp_path: Path, content: bytes, mistake: str) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=f"store.number_key_file: .*keys.*{mistake}") as caught:
        Cipher.of(file)
    assert "MTEx" not in str(caught.value)


def test_an_unwritable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"number_key_file: .* cannot be written: No such file"):
        key_file.write(tmp_path / "none" / "keys", [])


def test_a_bare_name_may_be_a_credential_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert StoreConfig().key_file is None
    assert StoreConfig(number_key_file="/etc/keys").key_file == Path("/etc/keys")
    assert StoreConfig(number_key_file="keys").key_file == Path("keys")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert StoreConfig(number_key_file="keys").key_file == Path("keys")
    cipher.add(tmp_path / "keys", ONE)
    assert StoreConfig(number_key_file="keys").key_file == tmp_path / "keys"
    assert StoreConfig(number_key_file="a/keys").key_file == Path("a/keys")


def test_equal_values_have_equal_ciphertexts_in_one_location_only(tmp_path: Path) -> None:
    keys = Cipher([cipher.NumberKey(ONE)])
    one = keys.seal("bindings.number_a 1", "13800000001")
    assert one == Cipher([cipher.NumberKey(ONE)]).seal("bindings.number_a 1", "13800000001")
    others = [
        keys.seal("bindings.number_a 2", "13800000001"),
        keys.seal("bindings.number_b 1", "13800000001"),
        keys.seal("bindings.number_a 1", "13800000002"),
        Cipher([cipher.NumberKey(TWO)]).seal("bindings.number_a 1", "13800000001"),
    ]
    assert len({value.rpartition("~")[2][:16] for value in (one, *others)}) == 5
    assert all(cipher.is_sealed(value) for value in (one, *others))


def test_nothing_is_sealed_without_a_key_and_nothing_sealed_is_opened() -> None:
    sealed = Cipher([cipher.NumberKey(ONE)]).seal("bindings.number_a 1", "13800000001")
    assert Cipher().seal("bindings.number_a 1", "13800000001") == "13800000001"
    assert not Cipher()
    assert "138" not in repr(Cipher()) + repr(cipher.NumberKey(ONE)) + repr(Cipher([cipher.NumberKey(ONE)]))
    assert "111" not in repr(cipher.NumberKey(ONE))
    with pytest.raises(
        Exception, match=r"bindings.number_a of 1 is sealed with key [0-9a-f]{8}, which is not"
    ):
        Cipher().open("bindings.number_a 1", sealed)
