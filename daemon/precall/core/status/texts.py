"""The words for findings, in English and Chinese.

Facts get their unit by their name (see `_UNITS`). A fact that is missing is told as unknown, never an error: whoever
shows findings must be able to show all of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from shlex import quote

from precall.core.status.chinese import CHINESE, CHINESE_REPLIES
from precall.core.status.english import ENGLISH
from precall.core.status.finding import Finding, FindingCode


class Language(StrEnum):
    """A language of the texts."""

    EN = "en"
    ZH = "zh"


@dataclass(frozen=True, slots=True)
class FindingText:
    """A finding in words: `summary` and `cause` are one sentence each; `remedy` is one command, ready to paste."""

    summary: str
    cause: str
    remedy: str


COMMANDS: dict[FindingCode, str] = {
    FindingCode.PROVIDER_FAILING: "precall doctor",
    FindingCode.PROVIDER_OUT_OF_REACH: "precall doctor",
    FindingCode.ACCOUNT_REFUSED: "precall doctor",
    FindingCode.THROTTLED: "precall plan --bindings {bindings} --rate {rate}",
    FindingCode.BRAKE_ENGAGED: "precall brake release{option}",
    FindingCode.BRAKE_ORDERED: "precall brake release{option}",
    FindingCode.POOL_IN_TROUBLE: "precall report{option} --within 1h",
    FindingCode.PAUSED: "precall resume{option}",
    FindingCode.DATABASE_DOWN: "precall doctor",
    FindingCode.BUDGET_SHORT: "precall plan --bindings {bindings} --rate {rate_needed} --max-age {max_age}s",
    FindingCode.DIALS_STALE: "precall plan --bindings {bindings} --rate {rate} --dials-per-second {dial_rate}",
    FindingCode.ROUTES_OLD: "precall plan --bindings {bindings} --rate {rate}",
    FindingCode.LOOP_LATE: "top -b -n 1 | head -n 15",
    FindingCode.NOT_LEADING: "precall status --watch",
    FindingCode.SOURCE_FAILING: "precall source check",
    FindingCode.REMOVALS_REFUSED: "precall source check",
    FindingCode.QUEUE_FAILING: "precall config show",
    FindingCode.NUMBERS_UNUSABLE: "precall explain {first}",
    FindingCode.CALLS_DISAGREE: "precall calls list --subs-id {first}",
    FindingCode.CERTIFICATE_ENDING: "openssl x509 -noout -enddate -in {file}",
    FindingCode.RELOAD_FAILED: "precall config check",
}
"""The remedy of each finding, without its comment. `{option}` is the option that names the pool, if there is one."""

_DURATIONS = {"seconds", "window", "longest", "max_age", "oldest", "limit", "lag", "left"}
_SHARES = {"share", "temporary", "fallback", "blocked"}
_RATES = {"rate", "rate_configured", "rate_needed", "dial_rate"}
_UNITS = {
    Language.EN: (" d", " h", " min", " s", "/s"),
    Language.ZH: (" 天", " 小时", " 分钟", " 秒", " 次/秒"),
}
_UNKNOWN = {Language.EN: "unknown", Language.ZH: "未知"}
_POOL = {Language.EN: "pool {}", Language.ZH: "号码池 {}"}
_ALL_POOLS = {Language.EN: "all pools", Language.ZH: "所有号码池"}
_CHINESE_GAP = re.compile(r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])")
"""A space between two Chinese characters, where a word was filled in."""
_ONE = re.compile(
    r"(?<![\d.,])1( live)? (binding|row|check)s( \([^)]*\))?(?: (are|have|wait)\b)?|(?<![\d.,])1 wait\b"
)
"""One thing where an English text has the plural, with the verb that may follow it."""
_VERBS = {"are": " is", "have": " has", "wait": " waits", None: ""}
_WORDS = {Language.EN: ENGLISH, Language.ZH: CHINESE}


class _Words(dict[str, str]):
    """Words by the name of their fact. `missing` stands for any other name; without it, the name in capitals."""

    def __init__(self, words: Mapping[str, str], missing: str = "") -> None:
        super().__init__(words)
        self._missing = missing

    def __missing__(self, name: str) -> str:
        return self._missing or name.upper()


def describe(finding: Finding, language: Language = Language.EN) -> FindingText:
    """Return the finding in words."""
    summary, cause, comment = _WORDS[language][finding.code]
    words = _words(finding, language)
    summary, cause, comment = (
        _CHINESE_GAP.sub("", text.format_map(words)) for text in (summary, cause, comment)
    )
    if language is Language.EN:
        summary, cause, comment = singular(summary), singular(cause), singular(comment)
    return FindingText(summary, cause, f"{_command(finding)}  # {comment}")


def singular(text: str) -> str:
    """Return an English text with "1 binding is" in place of "1 bindings are", and the like for rows and checks."""

    def one(found: re.Match[str]) -> str:
        adjective, thing, aside, verb = found.groups()
        return f"1{adjective or ''} {thing}{aside or ''}{_VERBS[verb]}" if thing else "1 waits"

    return _ONE.sub(one, text)


def duration(seconds: float, language: Language = Language.EN) -> str:
    """Return a time span in the units people read: "45 s", "12 min", "2 h 5 min", "3 d"."""
    days, hours, minutes, second, _ = _UNITS[language]
    if seconds < 90:
        return f"{round(seconds)}{second}"
    whole = round(seconds / 60)
    if whole < 90:
        return f"{whole}{minutes}"
    if whole < 48 * 60:
        rest = f" {whole % 60}{minutes}" if whole % 60 else ""
        return f"{whole // 60}{hours}{rest}"
    return f"{round(whole / 1440)}{days}"


def _words(finding: Finding, language: Language) -> _Words:
    words = {name: _told(name, fact, language) for name, fact in finding.facts.items()}
    pool = _POOL[language].format(finding.pool_key) if finding.pool_key else _ALL_POOLS[language]
    return _Words(words | {"pool": pool, "reply": _reply(finding, language)}, _UNKNOWN[language])


def _told(name: str, fact: str | float, language: Language) -> str:
    if isinstance(fact, str):
        return fact
    if name in _DURATIONS:
        return duration(fact, language)
    if name in _SHARES:
        return f"{fact:.0%}"
    if name in _RATES:
        return f"{fact:,.0f}{_UNITS[language][-1]}" if fact >= 1000 else f"{fact:.3g}{_UNITS[language][-1]}"
    return f"{fact:,}"


def _reply(finding: Finding, language: Language) -> str:
    """Return what the provider said last, with the RequestId to quote to its support."""
    error, request_id = str(finding.facts.get("error", "")), str(finding.facts.get("request_id", ""))
    detail = str(finding.facts.get("detail", ""))
    english = language is Language.EN
    if not english:
        detail = CHINESE_REPLIES.get(error, "")
    told = (f"{error}: {detail}" if english else f"{error}：{detail}") if detail else error
    if not request_id:
        return told or _UNKNOWN[language]
    return f"{told} (RequestId {request_id})" if english else f"{told}（RequestId {request_id}）"


def _command(finding: Finding) -> str:
    plain = {
        name: quote(fact if isinstance(fact, str) else _plain(name, fact))
        for name, fact in finding.facts.items()
    }
    option = f" --pool-key {quote(finding.pool_key)}" if finding.pool_key else ""
    return COMMANDS[finding.code].format_map(_Words(plain | {"option": option}))


def _plain(name: str, fact: float) -> str:
    """Return a figure as an option takes it: a rate with three digits, and one that is needed rounded up."""
    if name == "rate_needed":
        return f"{ceil(fact * 10) / 10:.10g}"
    return f"{fact:.3g}" if name in _RATES and fact < 1000 else f"{fact:.10g}"
