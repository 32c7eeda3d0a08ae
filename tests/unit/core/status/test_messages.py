"""What findings make known: one message when one appears, one when it ends, few in a storm, never a number."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.status.finding import Finding, FindingCode, Severity
from precall.core.status.messages import (
    HIDDEN,
    MOST,
    NAMED,
    TOGETHER,
    WINDOW,
    Announcer,
    Message,
    without_numbers,
)
from precall.core.status.texts import Language
from precall.core.status.wording import WORDS
from tests.support.findings import finding, plain_words

REPEAT = 3600.0
CODES = list(FindingCode)


class Watch:
    """An announcer, and a clock that its observations move."""

    def __init__(
        self, *, min_severity: Severity = Severity.WARNING, language: Language = Language.EN
    ) -> None:
        self.announcer, self.now = Announcer("hill", plain_words), 1000.0
        self.min_severity, self.language = min_severity, language

    def see(self, *findings: Finding, for_: float = 10.0) -> list[Message]:
        """Observe these findings every second for so long; the messages."""
        told = []
        for _ in range(round(for_)):
            message = self.announcer.observe(
                findings,
                self.now,
                min_severity=self.min_severity,
                repeat=REPEAT,
                language=self.language,
            )
            told += [message] if message else []
            self.now += 1.0
        return told


def test_a_finding_is_told_once_with_its_cause_and_remedy() -> None:
    [message] = Watch().see(finding(share=3), for_=600)
    assert message.title == "[CRITICAL] precall hill: brake_engaged en FC1"
    assert message.text == (
        "cause of brake_engaged share=3\nRemedy: precall fix --pool-key FC1\n"
        "Since 1970-01-01T00:16:40Z. More: /runbook#brake_engaged"
    )
    assert (message.severity, message.codes) == (Severity.CRITICAL, ("brake_engaged",))


def test_its_end_says_how_long_it_lasted() -> None:
    watch = Watch()
    watch.see(finding(), for_=185)
    [message] = watch.see()
    assert message.title == "[over] precall hill: over after 3 min: brake_engaged en FC1"
    assert message.text == "From 1970-01-01T00:16:40Z to 1970-01-01T00:19:45Z."
    assert message.severity is None
    assert not watch.see(for_=REPEAT * 2)


def test_one_that_lasts_is_told_again_after_the_period() -> None:
    watch = Watch()
    assert len(watch.see(finding(), for_=REPEAT)) == 1
    [again] = watch.see(finding(), for_=REPEAT)
    assert again.title.startswith("[CRITICAL] precall hill: still: ")


def test_findings_within_two_seconds_make_one_message() -> None:
    watch = Watch()
    watch.see(finding(pool_key="FC1"), for_=1)
    [message] = watch.see(finding(pool_key="FC1"), finding(pool_key="FC2", severity=Severity.WARNING))
    assert message.title == "[CRITICAL] precall hill: 2 new"
    assert "brake_engaged en FC1\n" in message.text
    assert "brake_engaged en FC2\n" in message.text


def test_one_that_is_gone_within_two_seconds_is_not_told() -> None:
    watch = Watch()
    watch.see(finding(), for_=1)
    assert not watch.see(for_=600)


def test_one_that_is_back_within_two_seconds_is_not_over() -> None:
    watch = Watch()
    watch.see(finding())
    watch.see(for_=1)
    assert not watch.see(finding(), for_=600)


def test_a_storm_is_one_summary_with_count_names_and_the_worst_in_full() -> None:
    findings = [finding(pool_key=f"FC{at}", severity=Severity.WARNING) for at in range(40)]
    worst = finding(FindingCode.ACCOUNT_REFUSED, "", request_id="A-1")
    [message] = Watch().see(*findings, worst, for_=600)
    assert message.title == "[CRITICAL] precall hill: 41 new"
    lines = message.text.splitlines()
    assert lines[0] == "- new: account_refused"
    assert lines[1] == "- new: brake_engaged FC0"
    assert lines[NAMED] == f"- and {41 - NAMED} more"
    assert "cause of account_refused request_id=A-1" in lines


def test_a_new_kind_of_critical_finding_does_not_wait_for_the_end_of_a_storm() -> None:
    watch = Watch()
    storm = [finding(pool_key=f"FC{at}", severity=Severity.WARNING) for at in range(10)]
    watch.see(*storm, for_=5)
    [message] = watch.see(*storm, finding(FindingCode.ACCOUNT_REFUSED, ""), for_=5)
    assert "account_refused" in message.title
    assert not watch.see(*storm, finding(FindingCode.ACCOUNT_REFUSED, ""), finding(pool_key="FC99"), for_=5)


def test_what_comes_and_goes_in_the_quiet_after_a_storm_is_told() -> None:
    watch = Watch()
    storm = [finding(pool_key=f"FC{at}", severity=Severity.WARNING) for at in range(10)]
    watch.see(*storm, for_=5)
    assert not watch.see(*storm, finding(FindingCode.THROTTLED, "", severity=Severity.WARNING), for_=5)
    [message] = watch.see(*storm, for_=120)
    assert "over after" in message.title
    assert "throttled" in message.title


def test_a_storm_that_comes_piece_by_piece_names_all_of_it() -> None:
    watch, present, told = Watch(), [], []
    for at in range(10):
        present.append(finding(pool_key=f"FC{at}"))
        told += watch.see(*present, for_=3)
    told += watch.see(*present, for_=120)
    assert [message.title.rpartition(": ")[2] for message in told[:MOST]] == [
        f"brake_engaged en FC{at}" for at in range(MOST)
    ]
    summary, rest = told[MOST:]
    assert summary.title.endswith(": 4 new")
    assert all(f"brake_engaged FC{at}" in summary.text for at in range(4))
    assert rest.title.endswith(": 6 new")


def test_one_that_grows_worse_is_told_again() -> None:
    watch = Watch()
    watch.see(finding(severity=Severity.WARNING))
    [message] = watch.see(finding(severity=Severity.CRITICAL))
    assert message.severity is Severity.CRITICAL
    assert not watch.see(finding(severity=Severity.WARNING))


def test_warnings_are_left_out_where_only_critical_ones_count() -> None:
    watch = Watch(min_severity=Severity.CRITICAL)
    assert not watch.see(finding(severity=Severity.WARNING))
    assert len(watch.see(finding(severity=Severity.CRITICAL))) == 1
    assert not watch.see(finding(severity=Severity.WARNING))
    [over] = watch.see()
    assert over.severity is None


@pytest.mark.parametrize("moved", [-600.0, -86_400.0, 86_400.0])
def test_a_clock_that_is_set_keeps_no_message_back(moved: float) -> None:
    watch = Watch()
    watch.see(finding(), for_=1)
    watch.now += moved
    assert len(watch.see(finding(), for_=5)) == 1


def test_messages_speak_chinese() -> None:
    watch = Watch(language=Language.ZH)
    [message] = watch.see(finding())
    assert message.title == "[严重] precall hill: brake_engaged zh FC1"
    assert "处理：precall fix --pool-key FC1" in message.text
    [over] = watch.see()
    assert over.title == "[已结束] precall hill: 已结束，持续 10 秒：brake_engaged zh FC1"


@pytest.mark.parametrize("language", Language)
def test_every_turn_and_severity_has_its_words(language: Language) -> None:
    words = WORDS[language]
    assert words.language is language
    assert words.turns.keys() == {"appeared", "lasts", "over"}
    assert words.severities.keys() == set(Severity)


# -- numbers ---------------------------------------------------------------------------------------------


def test_runs_of_seven_digits_are_masked_but_not_the_ids() -> None:
    long = finding(pool_key="FC100000012345678", request_id="8906582E-12345678", reason="13800000000 called")
    [message] = Watch().see(long)
    assert "13800000000" not in message.title + message.text
    assert "reason=*** called" in message.text
    assert "precall fix --pool-key FC100000012345678" in message.text
    assert "8906582E-12345678" in message.text


@pytest.mark.parametrize(
    ("found", "remedy"),
    [
        (
            finding(FindingCode.BUDGET_SHORT, "", bindings=1_000_000, rate_needed=4000.0, max_age=300.0),
            "1000000",
        ),
        (finding(FindingCode.CALLS_DISAGREE, "", first="1000000768798832"), "1000000768798832"),
        (finding(FindingCode.BRAKE_ENGAGED, "1000000768"), "1000000768"),
    ],
)
def test_a_remedy_can_be_pasted(found: Finding, remedy: str) -> None:
    announcer = Announcer("hill")
    announcer.observe([found], 1000.0)
    message = announcer.observe([found], 1000.0 + TOGETHER)
    assert message is not None
    [line] = [line for line in message.text.splitlines() if line.startswith("Remedy: ")]
    assert remedy in line
    assert HIDDEN not in line


@given(st.text("0123456789٣ FC-", max_size=40))
def test_no_run_of_seven_digits_is_left_in_a_text(text: str) -> None:
    shown = str(without_numbers(finding(error=text)).facts["error"])
    run = 0
    for character in shown:
        run = run + 1 if character.isdecimal() else 0
        assert run < 7


# -- over time -------------------------------------------------------------------------------------------

KINDS = CODES[:4]
KEYS = st.tuples(st.sampled_from(KINDS), st.sampled_from(["", "FC1", "FC2"]))
STEPS = st.lists(
    st.tuples(st.floats(0.1, 40.0), st.dictionaries(KEYS, st.sampled_from(list(Severity)), max_size=8)),
    max_size=30,
)


def seen(
    steps: Iterable[tuple[float, dict[tuple[FindingCode, str], Severity]]],
) -> list[tuple[float, Message]]:
    """Observe these findings, each set for so many seconds, and nothing for two windows; when each message came."""
    announcer, now, told = Announcer("hill", plain_words), 1000.0, []
    for pause, present in [*steps, *[(1.0, {})] * round(2 * WINDOW)]:
        now += pause
        findings = [Finding(code, severity, now, pool) for (code, pool), severity in present.items()]
        if message := announcer.observe(findings, now, repeat=REPEAT):
            told.append((now, message))
    return told


@given(STEPS)
def test_a_minute_has_few_messages(
    steps: list[tuple[float, dict[tuple[FindingCode, str], Severity]]],
) -> None:
    told = [at for at, _ in seen(steps)]
    for at in told:
        # Each kind of critical finding may break the quiet once.
        assert sum(at <= other < at + WINDOW for other in told) <= MOST + 1 + len(KINDS)


@given(STEPS)
def test_whatever_was_told_is_told_to_be_over(
    steps: list[tuple[float, dict[tuple[FindingCode, str], Severity]]],
) -> None:
    """At the end nothing is wrong: the last message that names a finding says so."""
    told = seen(steps)
    for code in CODES:
        naming = [message for _, message in told if code in message.codes]
        if naming:
            assert "over" in naming[-1].title


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_nothing_waits_longer_than_a_window(pauses: list[float]) -> None:
    announcer, now, told = Announcer("hill", plain_words), 1000.0, set()
    present: list[Finding] = []
    for at, pause in enumerate(pauses):
        present.append(finding(pool_key=f"FC{at:02}", since=now))
        now += pause
        message = announcer.observe(present, now)
        told |= named(message, present)
    for _ in range(round(WINDOW + TOGETHER) + 1):
        now += 1.0
        told |= named(announcer.observe(present, now), present)
    assert told == {one.pool_key for one in present}


def named(message: Message | None, findings: list[Finding]) -> set[str]:
    whole = f"{message.title} {message.text}" if message else ""
    return {one.pool_key for one in findings if one.pool_key in whole}
