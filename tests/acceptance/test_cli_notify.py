"""`precall notify test` reaches every target of a configuration, and names those that it does not reach."""

import json
from pathlib import Path

import pytest
from tests.acceptance.test_cli import line, precall
from tests.support.webhook import webhook


def configured(folder: Path, *urls: str, more: str = "") -> Path:
    file = folder / "precall.toml"
    file.write_text(f"[notify]\nurls = {json.dumps(urls)}\n{more}\n")
    return file


def test_a_test_message_goes_to_every_target_without_a_daemon(tmp_path: Path) -> None:
    with webhook() as one, webhook() as other:
        (tmp_path / "urls").write_text(f"{other.url}\n")
        file = configured(tmp_path, one.url, more=f'lang = "zh"\nurls_file = "{tmp_path}/urls"')
        done = precall("notify", "test", "--config", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "notify.urls.0 (JSON): sent",
        "notify.urls_file: line 1 (JSON): sent",
    ]
    assert [post["message"] for post in one.posts + other.posts] == ["测试消息：发现问题时将在此通知。"] * 2


def test_a_target_that_fails_is_named_without_its_address(tmp_path: Path) -> None:
    with webhook() as broken, webhook() as well:
        broken.status = 500
        file = configured(tmp_path, broken.url, well.url)
        done = precall("notify", "test", "--config", file)
        as_json = precall("notify", "test", "--config", file, "--json")
    assert line(done, 4) == "precall: not delivered: notify.urls.0 (JSON)"
    assert done.stdout.splitlines() == ["notify.urls.0 (JSON): HTTP 500", "notify.urls.1 (JSON): sent"]
    assert len(well.posts) == 2
    assert as_json.returncode == 4
    assert json.loads(as_json.stdout)["targets"][0] == {"target": "notify.urls.0 (JSON)", "error": "HTTP 500"}
    for said in (done.stdout, done.stderr, as_json.stdout, as_json.stderr):
        assert "hush-hush" not in said
        assert "very-secret-path" not in said


def test_a_configuration_without_targets_says_what_to_set(tmp_path: Path) -> None:
    assert "notify.urls: is empty" in line(precall("notify", "test", "--config", configured(tmp_path)), 3)


@pytest.mark.parametrize("command", [("notify", "test"), ("config", "check"), ("run",)])
def test_an_address_that_apprise_does_not_take_is_named_by_its_place(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = precall(*command, "--config", configured(tmp_path, "json://127.0.0.1", "nope://hush-hush"))
    assert done.returncode in (1, 3)
    assert 'notify.urls.1: apprise does not take "nope://..."' in done.stdout + done.stderr
    assert "hush" not in done.stdout + done.stderr
