"""The report on calls as one page of HTML, for people who have no precall: bars are drawn in it, nothing is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from precall import __version__
from precall.cli.calls import SHARES, observed_lines
from precall.console.render import environment
from precall.core.calls.observed import Proportion
from precall.core.calls.statistics import ReportBy

BAR = 240
"""Width of the widest bar in units of the drawing."""
_NAMES = {ReportBy.POOL: "unknown pool", ReportBy.STATE: "unknown state", ReportBy.CAUSE: "unknown cause"}
"""What a group without a name is called."""
_TITLES = {
    ReportBy.HOUR: ("By hour", "the hour when the calls were placed (UTC); failed by the number's fault"),
    ReportBy.POOL: ("By pool", "failed by the number's fault"),
    ReportBy.STATE: ("By state of the route", "as it was when dialled; failed by the number's fault"),
    ReportBy.CAUSE: ("By cause", "why calls did not connect, of all that ended"),
}


@dataclass(frozen=True, slots=True)
class _Row:
    """A group of calls: its name, the counts, the shares in words, and its bar with the interval in units."""

    name: str
    meaning: str
    calls: int
    of: int
    share: str
    interval: str
    bar: float
    low: float
    high: float


def report_page(answers: Mapping[ReportBy, Mapping[str, Any]], pool_key: str | None) -> str:
    """Return the page. `answers` are those of `GET /v1/report`, one for each `by`.

    `pool_key` is the only pool that was asked for, if any.
    """
    first = answers[ReportBy.HOUR]
    sections = [
        (*_TITLES[by], _rows(answers[by]["groups"], _NAMES.get(by, ""))) for by in ReportBy if by in answers
    ]
    return (
        environment()
        .get_template("report_file.html")
        .render(
            total=first["total"],
            judged=_judged(first["total"]),
            since=_shown(first["since"]),
            until=_shown(first["until"]),
            pool_key=pool_key,
            sections=sections,
            observed=[line for pool in first["observed"] for line in observed_lines(pool)],
            bar=BAR,
            version=__version__,
        )
    )


def _judged(total: Mapping[str, Any]) -> str:
    ended = total["connected"] + total["failed"] + total["not_connected"]
    found = Proportion(total["failed"], ended)
    low, high = found.interval
    return (
        f"Of {ended} that ended, {found.part} failed for a reason that can be the fault of the number"
        f" ({found.share:.1%}, 95% interval {low:.1%} to {high:.1%})."
    )


def _rows(groups: Sequence[Mapping[str, Any]], unnamed: str) -> list[_Row]:
    # Small shares would all look alike on a scale from 0 to 100 %.
    scale = BAR / (max((one["high"] for one in groups if one["of"]), default=0.0) or 1.0)
    found = []
    for one in groups:
        share, low, high = (one[name] for name in SHARES)
        known = one["of"] > 0
        found.append(
            _Row(
                name=_shown(one["group"]) or unnamed,
                meaning=one.get("meaning", ""),
                calls=one["calls"],
                of=one["of"],
                share=f"{share:.1%}" if known else "-",
                interval=f"{low:.1%} to {high:.1%}" if known else "-",
                bar=round(share * scale, 1),
                low=round(low * scale, 1) if known else 0.0,
                high=round(high * scale, 1) if known else 0.0,
            )
        )
    return found


def _shown(text: str) -> str:
    """Return a moment without its fraction, and any other text as it is."""
    return f"{text[:10]} {text[11:16]} UTC" if text[10:11] == "T" and text.endswith("Z") else text
