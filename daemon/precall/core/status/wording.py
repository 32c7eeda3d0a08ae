"""The words around findings in messages, in English and Chinese."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from precall.core.status.finding import Severity
from precall.core.status.texts import Language


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a language. `turns` are by what became of a finding."""

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
    ),
}


def moment(at: float) -> str:
    """Return Unix seconds as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(int(at), UTC).isoformat().replace("+00:00", "Z")
