"""Every finding has its words, in both languages, and a remedy that a shell takes as it is."""

import shlex
from string import Formatter

import pytest

from precall.core.status.chinese import CHINESE
from precall.core.status.english import ENGLISH
from precall.core.status.finding import Finding, FindingCode, Severity
from precall.core.status.texts import COMMANDS, Language, describe, duration, singular

REPLY = {"error": "reset", "detail": "the connection was dropped before a reply", "request_id": "R-1"}
EVERY = [(code, language) for code in FindingCode for language in Language]


def finding(code: FindingCode, pool_key: str = "", **facts: str | float) -> Finding:
    return Finding(code, Severity.WARNING, 0.0, pool_key, facts)


def names(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


@pytest.mark.parametrize("code", FindingCode)
def test_both_languages_tell_the_same_facts(code: FindingCode) -> None:
    for english, chinese in zip(ENGLISH[code], CHINESE[code], strict=True):
        assert names(english) == names(chinese)


@pytest.mark.parametrize(("code", "language"), EVERY)
def test_a_finding_without_facts_is_told_nevertheless(code: FindingCode, language: Language) -> None:
    text = describe(finding(code), language)
    assert text.summary
    assert text.cause
    assert "{" not in f"{text.summary}{text.cause}{text.remedy}"


@pytest.mark.parametrize(("code", "language"), EVERY)
def test_a_remedy_is_one_command_and_a_comment(code: FindingCode, language: Language) -> None:
    remedy = describe(finding(code, "FC 1; rm -rf /"), language).remedy
    assert "\n" not in remedy
    words = shlex.split(remedy, comments=True)
    assert words[0] in {"precall", "top", "openssl"}
    if "{option}" in COMMANDS[code]:
        assert words[words.index("--pool-key") + 1] == "FC 1; rm -rf /"
    else:
        assert "rm" not in words


@pytest.mark.parametrize(("code", "language"), EVERY)
def test_summary_and_cause_are_one_sentence(code: FindingCode, language: Language) -> None:
    text = describe(finding(code, "FC1"), language)
    end = "." if language is Language.EN else "。"
    for sentence in (text.summary, text.cause):
        assert sentence.endswith(end)
        assert sentence.count(f"{end} ") == 0


def test_figures_are_in_units_people_read() -> None:
    facts = {"used": 12, "cap": 10, "held": 1234, "window": 600.0}
    text = describe(finding(FindingCode.BRAKE_ENGAGED, "FC1", **facts))
    assert text.summary == (
        "The exposure brake of pool FC1 holds calls: 12 bindings (cap 10) have turned to their real number"
        " within 10 min, and 1,234 wait."
    )
    assert text.remedy.startswith("precall brake release --pool-key FC1  # ")


def test_a_remedy_has_rates_that_people_can_read() -> None:
    stale = finding(FindingCode.DIALS_STALE, "", bindings=1_000_000, rate=31.88459347, dial_rate=1 / 3)
    assert describe(stale).remedy.startswith(
        "precall plan --bindings 1000000 --rate 31.9 --dials-per-second 0.333  # "
    )
    short = finding(FindingCode.BUDGET_SHORT, "", bindings=1000, rate_needed=1000 / 30, max_age=30.0)
    assert describe(short).remedy.startswith("precall plan --bindings 1000 --rate 33.4 --max-age 30s  # ")


def test_a_cause_quotes_the_provider() -> None:
    failing = finding(FindingCode.PROVIDER_FAILING, **REPLY, failures=10, checks=10)
    assert describe(failing).cause == (
        "The latest failure was reset: the connection was dropped before a reply (RequestId R-1)."
    )
    assert (
        describe(failing, Language.ZH).cause == "最近一次失败：reset：应答之前连接被断开（RequestId R-1）。"
    )


def test_a_code_that_has_no_chinese_is_told_alone() -> None:
    refused = finding(FindingCode.ACCOUNT_REFUSED, error="Forbidden.RAM", detail="grant it")
    assert describe(refused, Language.ZH).cause == "供应商的应答：Forbidden.RAM。"


def test_all_pools_are_named_as_such() -> None:
    paused = describe(finding(FindingCode.PAUSED))
    assert "all pools" in paused.summary
    assert paused.remedy.startswith("precall resume  # ")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
        (3e5, "3 d"),
    ],
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 bindings are held, because", "1 binding is held, because"),
        ("1 bindings (cap 20) have turned, and 1 wait.", "1 binding (cap 20) has turned, and 1 waits."),
        ("no longer has 1 live bindings;", "no longer has 1 live binding;"),
        ("and 1 rows wait.", "and 1 row waits."),
        ("Calls of 1 bindings fail", "Calls of 1 binding fail"),
        ("21 bindings are held, and 11 rows wait", "21 bindings are held, and 11 rows wait"),
        ("0.1 bindings, 2,001 bindings", "0.1 bindings, 2,001 bindings"),
    ],
)
def test_one_thing_is_told_in_the_singular(text: str, told: str) -> None:
    assert singular(text) == told
