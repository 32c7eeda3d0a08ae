"""The words around findings in messages, in English and Chinese."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from precall.core.status.finding import Severity
from precall.core.status.texts import Language


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a language. `turns` are by what became of a finding, `periods` by the unit: s, min, h, d."""

    language: Language
    severities: Mapping[Severity, str]
    turns: Mapping[str, str]
    over: str
    lasts: str
    remedy: str
    since: str
    lasted: str
    more: str
    test: str
    periods: Mapping[str, str]


WORDS: Mapping[Language, Words] = {
    Language.EN: Words(
        language=Language.EN,
        severities={Severity.CRITICAL: "CRITICAL", Severity.WARNING: "WARNING"},
        turns={"appeared": "new", "lasts": "still there", "over": "over"},
        over="over after {period}: {summary}",
        lasts="still: {summary}",
        remedy="Remedy: {remedy}",
        since="Since {moment}. More: {runbook}",
        lasted="From {since} to {until}.",
        more="- and {count} more",
        test="A test message: findings will be told here.",
        periods={"s": "{count} s", "min": "{count} min", "h": "{count} h", "d": "{count} d"},
    ),
    Language.ZH: Words(
        language=Language.ZH,
        severities={Severity.CRITICAL: "严重", Severity.WARNING: "警告"},
        turns={"appeared": "新出现", "lasts": "仍在持续", "over": "已结束"},
        over="已结束，持续 {period}：{summary}",
        lasts="仍在持续：{summary}",
        remedy="处理：{remedy}",
        since="自 {moment} 起。详见 {runbook}",
        lasted="自 {since} 至 {until}。",
        more="- 另有 {count} 项",
        test="测试消息：发现问题时将在此通知。",
        periods={"s": "{count} 秒", "min": "{count} 分钟", "h": "{count} 小时", "d": "{count} 天"},
    ),
}


def period(seconds: float, words: Words) -> str:
    """Return a length of time in one unit, such as "3 min", rounded down."""
    whole = max(0, int(seconds))
    for unit, size, limit in (("s", 1, 60), ("min", 60, 90 * 60), ("h", 3600, 48 * 3600)):
        if whole < limit:
            return words.periods[unit].format(count=whole // size)
    return words.periods["d"].format(count=whole // 86_400)


def moment(at: float) -> str:
    """Return Unix seconds as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(int(at), UTC).isoformat().replace("+00:00", "Z")
