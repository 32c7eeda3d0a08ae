"""What is told of findings: one message when one appears, one when it ends, a reminder now and then, few in a storm.

What happens within `TOGETHER` seconds makes one message. Once more than `MOST` findings have come or gone within
`WINDOW` seconds, one summary of them is told at once, and whatever follows waits for the end of the next window; only a
critical finding of a kind that was not told of late is told at once.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf

from precall.core.status.finding import Finding, FindingCode, Severity
from precall.core.status.texts import FindingText, Language, describe, duration
from precall.core.status.wording import WORDS, Words, moment

TOGETHER = 2.0
WINDOW = 60.0
MOST = 3
NAMED = 20
"""How many findings a summary names; of the others it gives the count."""
HIDDEN = "***"
_LONG_DIGITS = re.compile(r"\d{7,}")
_IDS = {"request_id", "first", "examples"}
"""Facts that are ids of requests and bindings."""

Describe = Callable[[Finding, Language], FindingText]
FindingKey = tuple[FindingCode, str]


class Turn(StrEnum):
    """What has become of a finding."""

    APPEARED = "appeared"
    LASTS = "lasts"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: a title of one line, and a text. `severity` is that of the worst finding that lasts, if any."""

    title: str
    text: str
    severity: Severity | None
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _News:
    """A turn of a finding, and when it was noticed, in Unix seconds."""

    turn: Turn
    finding: Finding
    at: float


@dataclass(slots=True)
class _Known:
    """A finding that was told, or is about to be. `told` is the severity that was told last, None if none was."""

    finding: Finding
    told: Severity | None
    told_at: float


class Announcer:
    """Turns the findings at each moment into messages. Times are in Unix seconds.

    When the clock is set, what waits is told at once. `words` puts a finding into words.
    """

    def __init__(self, host: str, words: Describe = describe) -> None:
        """`host` names the sender in the titles."""
        self._host, self._describe = host, words
        self._known: dict[FindingKey, _Known] = {}
        self._waiting: dict[FindingKey, _News] = {}
        self._waiting_since = 0.0
        self._recent: deque[_News] = deque()
        self._quiet_since: float | None = None
        self._told_codes: dict[FindingCode, float] = {}

    def observe(
        self,
        findings: Iterable[Finding],
        now: float,
        *,
        min_severity: Severity = Severity.WARNING,
        repeat: float = 4 * 3600.0,
        language: Language = Language.EN,
    ) -> Message | None:
        """Take all findings of this moment, and return the message that is due, if one is.

        Call it every second or so: what waits is told by a later call. A finding below `min_severity` is not told,
        unless it was worse before. One that lasts is told again after `repeat` seconds.
        """
        present = {finding.key: finding for finding in findings}
        waited = bool(self._waiting)
        for key, finding in present.items():
            self._see(key, finding, now, min_severity, repeat)
        for key in [key for key in self._known if key not in present]:
            self._miss(key, now)
        if self._waiting and not waited:
            self._waiting_since = now
        return self._told(now, language) if self._due(now) else None

    # -- what happens ------------------------------------------------------------------------------------

    def _see(
        self, key: FindingKey, finding: Finding, now: float, min_severity: Severity, repeat: float
    ) -> None:
        known = self._known.get(key)
        if known is None:
            if min_severity is Severity.CRITICAL and finding.severity is not Severity.CRITICAL:
                return
            self._known[key] = _Known(finding, None, now)
            self._waiting[key] = _News(Turn.APPEARED, finding, now)
            return
        known.finding = finding
        waiting = self._waiting.get(key)
        if waiting is not None and waiting.turn is Turn.OVER:
            del self._waiting[key]  # it is not over
        elif waiting is not None:
            self._waiting[key] = _News(waiting.turn, finding, waiting.at)
        elif known.told is Severity.WARNING and finding.severity is Severity.CRITICAL:
            self._waiting[key] = _News(Turn.APPEARED, finding, now)
        elif abs(now - known.told_at) >= repeat:
            self._waiting[key] = _News(Turn.LASTS, finding, now)

    def _miss(self, key: FindingKey, now: float) -> None:
        known, waiting = self._known[key], self._waiting.get(key)
        if known.told is None and abs(now - known.told_at) < TOGETHER:  # nobody needs to hear of it
            del self._known[key]
            self._waiting.pop(key, None)
        elif waiting is None or waiting.turn is not Turn.OVER:
            self._waiting[key] = _News(Turn.OVER, known.finding, now)

    def _due(self, now: float) -> bool:
        if not self._waiting or abs(now - self._waiting_since) < TOGETHER:
            return False
        if not self._is_quiet(now):
            return True
        # A critical finding of a kind that was not told of late does not wait for the end of the quiet.
        return any(
            news.turn is Turn.APPEARED
            and news.finding.severity is Severity.CRITICAL
            and abs(now - self._told_codes.get(news.finding.code, -inf)) >= WINDOW
            for news in self._waiting.values()
        )

    def _is_quiet(self, now: float) -> bool:
        """Whether the time after a summary lasts."""
        return self._quiet_since is not None and abs(now - self._quiet_since) < WINDOW

    # -- what is told ------------------------------------------------------------------------------------

    def _told(self, now: float, language: Language) -> Message:
        news = sorted(self._waiting.values(), key=_weight)
        self._told_codes |= {one.finding.code: now for one in news}
        self._waiting.clear()
        for one in news:
            if one.turn is Turn.OVER:
                del self._known[one.finding.key]
            else:
                known = self._known[one.finding.key]
                known.told, known.told_at = one.finding.severity, now
        while self._recent and abs(now - self._recent[0].at) >= WINDOW:
            self._recent.popleft()
        if not self._is_quiet(now):
            self._quiet_since = None
        words = WORDS[language]
        if len(self._recent) + len(news) <= MOST:
            self._recent.extend(_News(one.turn, one.finding, now) for one in news)
            return self._single(news[0], words) if len(news) == 1 else self._several(news, words)
        # Of one that appeared and is over by now, only the end is news.
        latest = {one.finding.key: one for one in (*self._recent, *news)}
        told = sorted(latest.values(), key=_weight)
        self._recent.clear()
        self._quiet_since = now
        return self._summary(told, words)

    def _single(self, news: _News, words: Words) -> Message:
        headline, text = self._worded(news, words)
        return self._message(headline, text, [news], words)

    def _several(self, news: list[_News], words: Words) -> Message:
        texts = ["\n".join(self._worded(one, words)) for one in news]
        return self._message(_counted(news, words), "\n\n".join(texts), news, words)

    def _summary(self, news: list[_News], words: Words) -> Message:
        """Return the count and the names of all that happened, and the worst in full."""
        headline, text = self._worded(news[0], words)
        lines = [f"- {words.turns[one.turn]}: {_name(one.finding)}" for one in news[:NAMED]]
        if len(news) > NAMED:
            lines.append(words.more.format(count=len(news) - NAMED))
        return self._message(_counted(news, words), "\n".join([*lines, "", headline, text]), news, words)

    def _message(self, headline: str, text: str, news: list[_News], words: Words) -> Message:
        severities = {one.finding.severity for one in news if one.turn is not Turn.OVER}
        worst = next((one for one in Severity if one in severities), None)
        label = words.severities[worst] if worst else words.turns[Turn.OVER]
        title = f"[{label}] precall {self._host}: {headline}"
        return Message(title, text, worst, tuple(dict.fromkeys(one.finding.code.value for one in news)))

    def _worded(self, news: _News, words: Words) -> tuple[str, str]:
        """Return one line, and the lines below it."""
        finding = news.finding
        said = self._describe(without_numbers(finding), words.language)
        if news.turn is Turn.OVER:
            lasted = duration(max(0.0, news.at - finding.since), words.language)
            headline = words.over.format(period=lasted, summary=said.summary)
            text = words.lasted.format(since=moment(finding.since), until=moment(news.at))
        else:
            headline = words.lasts.format(summary=said.summary) if news.turn is Turn.LASTS else said.summary
            since = words.since.format(moment=moment(finding.since), runbook=f"/runbook#{finding.code}")
            remedy = words.remedy.format(remedy=said.remedy) if said.remedy else ""
            text = "\n".join(filter(None, (said.cause, remedy, since)))
        return headline, text


def trial(host: str, language: Language) -> Message:
    """Return a message that says nothing but that it arrived."""
    return Message(f"precall {host}", WORDS[language].test, None, ())


def without_numbers(finding: Finding) -> Finding:
    """Return the finding with every run of seven or more digits in its free texts masked.

    Counts, pool keys, and the ids of requests and bindings stay, or remedies could not be pasted.
    """
    facts = {
        name: _LONG_DIGITS.sub(HIDDEN, fact) if isinstance(fact, str) and name not in _IDS else fact
        for name, fact in finding.facts.items()
    }
    return replace(finding, facts=facts)


def _weight(news: _News) -> tuple[bool, bool]:
    """Order what lasts before what is over, and the critical first."""
    return news.turn is Turn.OVER, news.finding.severity is not Severity.CRITICAL


def _counted(news: list[_News], words: Words) -> str:
    counts = {turn: sum(one.turn is turn for one in news) for turn in Turn}
    return ", ".join(f"{count} {words.turns[turn]}" for turn, count in counts.items() if count)


def _name(finding: Finding) -> str:
    return f"{finding.code} {finding.pool_key}".rstrip()
