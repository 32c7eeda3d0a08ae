"""Every key reloads or needs a restart; what a change amounts to, and what of it can be in force."""

import re
from pathlib import Path

import pytest

from precall.config.schema import Config, keys
from precall.config.settings import KEYS, Effect, Settings, compare, reconcile
from precall.core.errors import ConfigError
from precall.core.model import Promise

ROOT = Path(__file__).parents[3]


def config(**sections: object) -> Config:
    return Config(**sections)  # type: ignore[arg-type]


def test_every_key_reloads_or_needs_a_restart() -> None:
    assert sorted(KEYS) == sorted(keys())


def test_the_example_says_which_keys_need_a_restart() -> None:
    text = (ROOT / "config.example.toml").read_text(encoding="utf-8")
    section, told = "", set()
    for line in text.splitlines():
        if match := re.match(r"\[([a-z]+)\] ", f"{line} "):
            section = match[1]
        elif match := re.match(r"#? ?([a-z_]+) = .*# \*", line):
            told.add(f"{section}.{match[1]}")
    assert told == {key for key, effect in KEYS.items() if effect is Effect.RESTART}


def test_the_page_on_operations_says_the_same() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("## Reload\n")[2].partition("\n## ")[0]
    told, sections = set(), []
    for row in re.findall(r"^\| (`.*) \|$", section, re.MULTILINE):
        cells = row.split(" | ")
        names, at_once, later = (re.findall(r"`([a-z_]+)`", cell) for cell in cells)
        sections += names
        for name in names:
            others = {key for key in KEYS if key.startswith(f"{name}.")} - {
                f"{name}.{key}" for key in at_once
            }
            told |= others if cells[2] == "all else" else {f"{name}.{key}" for key in later}
    assert sorted(sections) == sorted(Config.model_fields)
    assert told == {key for key, effect in KEYS.items() if effect is Effect.RESTART}


def test_differences_are_reported_in_file_order() -> None:
    before = config(provider={"rate": 5}, store={"url": "postgresql://u:hush@a/p"})
    after = config(
        provider={"rate": 7.5, "burst": 3}, store={"url": "postgresql://u:hush@b/p"}, log={"level": "debug"}
    )
    result = compare(before, after)
    assert [str(one) for one in result.changed] == [
        "provider.rate: 5 -> 7.5",
        "provider.burst: (default) -> 3",
        'log.level: "info" -> "debug"',
    ]
    assert [str(one) for one in result.needs_restart] == ["store.url: (hidden) -> (hidden); needs a restart"]
    assert compare(after, after) == compare(before, before)


def test_a_reload_keeps_values_that_need_a_restart() -> None:
    before = config(store={"history": "runs", "retention": "1d"}, policy={"skew": "1s"})
    after = config(store={"history": "every", "retention": "2d"}, policy={"skew": "2s"})
    merged = reconcile(before, after)
    assert (merged.store.history, merged.store.retention, merged.policy.skew) == ("runs", 2 * 86_400.0, 2.0)
    assert compare(merged, after).changed == ()
    assert reconcile(after, after) == after


def test_tokens_cannot_be_removed_while_listening_beyond_loopback() -> None:
    entry = {"name": "t", "scopes": ["admin"], "sha256": "0" * 64}
    wide = {"listen": "0.0.0.0:1", "tokens": [entry], "tls_cert_file": "c", "tls_key_file": "k"}
    with pytest.raises(ConfigError, match="cannot be applied without a restart"):
        reconcile(config(api=wide), config(api={"listen": "127.0.0.1:1"}))
    assert reconcile(config(), config(api={"tokens": [entry]})).api.tokens


def test_the_policy_goes_with_the_configuration() -> None:
    settings = Settings(config())
    settings.take(config(policy={"skew": "9s"}, freshness={"max_age": "7s"}))
    assert (settings.policy.skew, settings.policy.max_age) == (9.0, 7.0)


def test_the_promise_in_force_survives_a_configuration_change() -> None:
    settings = Settings(config())
    assert (settings.promise, settings.policy.promise) == (None, Promise.ALL)
    settings.keep(Promise.DIAL)
    settings.take(config(policy={"skew": "9s"}))
    assert (settings.promise, settings.policy.promise, settings.policy.skew) == (
        Promise.DIAL,
        Promise.DIAL,
        9.0,
    )
