"""The first page: the state of the system, from the same source as `/v1/status`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from precall.api.handlers.orders import shown
from precall.api.schemas.calls import encode_tally
from precall.api.schemas.fields import moment
from precall.api.schemas.status import encode_facts, encode_finding, encode_member
from precall.console.render import render
from precall.console.visit import Visit
from precall.core.calls.statistics import report
from precall.core.errors import StoreUnavailable
from precall.core.status.facts import StatusFacts
from precall.core.status.finding import verdict
from precall.table.feed import FeedFilter

HOUR = 3600.0
MEASURED_EVERY = 10.0
"""Seconds between two counts of the calls of the last hour, however many look."""
CHANGES = 12
"""How many of the latest changes are shown."""
TLS_SOON = 14 * 86_400.0
"""Seconds before its end from which a certificate is shown as a warning."""


@dataclass(frozen=True, slots=True)
class Light:
    """One entry of the status strip. `tone` is "good", "warning" or "critical", "" for what is neither."""

    name: str
    text: str
    tone: str = "good"


async def show(visit: Visit) -> web.StreamResponse:
    """Show the verdict, what is wrong, and the facts behind it."""
    services = visit.services
    state = services.status.look()
    facts = encode_facts(state.facts)
    # A database that is away would be waited for.
    away = state.facts.store.down_since is not None
    orders = await _orders(visit, away=away)
    return render(
        visit,
        "now.html",
        verdict=verdict(state.findings),
        findings=[_finding(encode_finding(one, visit.language), orders) for one in state.findings],
        at=moment(state.at),
        now=state.at,
        version=services.version,
        lights=_strip(visit, facts, state.facts, state.at),
        facts=facts,
        held=sum(pool["brake"]["held"] for pool in facts["pools"]),
        in_flight=services.checker.in_flight,
        calls=None if away else await _calls(visit),
        changes=_changes(visit),
        orders=orders,
        members=[encode_member(member) for member in services.members()],
        paused="" in services.checker.plan.paused,
        braked=services.checker.brake.halted(""),
    )


def _finding(finding: dict[str, Any], orders: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a finding with the order behind it, None where it has none."""
    kind = {"paused": "pause", "brake_ordered": "brake"}.get(finding["code"])
    behind = (
        one
        for one in orders
        if (one["kind"], one.get("pool_key")) == (kind, finding["pool_key"]) and one["by"]
    )
    return finding | {"order": next(behind, None)}


async def _orders(visit: Visit, *, away: bool) -> list[dict[str, Any]]:
    """Return the orders in force, as far as this client may see them."""
    orders = visit.services.orders
    known = orders.known if away else await orders.in_force()
    return shown(known, visit.client)


async def _calls(visit: Visit) -> dict[str, Any] | None:
    """Return how the reported calls of the last hour ended, None while the database does not tell."""
    services = visit.services

    async def measured() -> dict[str, Any]:
        counts = await services.store.calls.counts(services.clock() - HOUR)
        return encode_tally(report(counts).total)

    try:
        return await visit.recent.get("calls", MEASURED_EVERY, measured)
    except StoreUnavailable:
        return None


def _changes(visit: Visit) -> list[dict[str, Any]]:
    """Return the latest changes of routes, newest first. No number is among them."""
    return [
        {
            "at": moment(entry.at),
            "subs_id": entry.subs_id,
            "pool_key": entry.pool_key,
            "action": entry.route.action,
            "state": entry.route.state,
            "reason": entry.route.reason,
        }
        for entry in visit.services.feed.latest(FeedFilter(), CHANGES)
    ]


def _strip(visit: Visit, facts: Mapping[str, Any], known: StatusFacts, now: float) -> list[Light]:
    """Return the status strip: everything that routes depend on, each with what is to be said of it."""
    return [
        _provider(visit, facts["provider"]),
        _account(visit, facts["provider"], now),
        _database(visit, facts["store"], now),
        _leader(visit, now),
        _brake(visit, facts["pools"]),
        _pauses(visit),
        _budget(visit, facts["table"], short=known.freshness.short),
        _source(visit, facts["source"], now),
        _tls(visit, known.process.certificate_ends, now),
    ]


def _provider(visit: Visit, provider: Mapping[str, Any]) -> Light:
    if provider["degraded_since"]:
        return Light("provider", visit.t("strip.out_of_reach"), "critical")
    if provider["failing"]:
        return Light("provider", visit.t("strip.failing"), "critical")
    return Light("provider", visit.t("strip.answers" if provider["last_answer"] else "strip.unasked"))


def _account(visit: Visit, provider: Mapping[str, Any], now: float) -> Light:
    if since := provider["refused_since"]:
        return Light("account", visit.t("strip.refused", span=visit.since(since, now)), "critical")
    if since := provider["throttled_since"]:
        return Light("account", visit.t("strip.throttled", span=visit.since(since, now)), "warning")
    return Light("account", visit.t("strip.accepted"))


def _database(visit: Visit, store: Mapping[str, Any], now: float) -> Light:
    if since := store["down_since"]:
        told = visit.t("strip.down", span=visit.since(since, now), pending=f"{store['pending']:,}")
        return Light("database", told, "critical")
    return Light("database", visit.t("strip.stores"))


def _leader(visit: Visit, now: float) -> Light:
    if not visit.leads:
        return Light("leader", visit.t("strip.other"), "warning")
    started = moment(visit.services.status.process.started_at)
    return Light("leader", visit.t("strip.this", span=visit.since(started, now)))


def _brake(visit: Visit, pools: Sequence[Mapping[str, Any]]) -> Light:
    ordered = [pool for pool in pools if pool["brake"]["ordered"]]
    engaged = [pool for pool in pools if pool["brake"]["engaged_since"]]
    if engaged:
        names = ", ".join(
            f"{pool['pool_key']} {pool['brake']['used']}/{pool['brake']['cap']}" for pool in engaged
        )
        return Light("brake", visit.t("strip.engaged", pools=names), "critical")
    if ordered:
        names = ", ".join(pool["pool_key"] for pool in ordered)
        return Light("brake", visit.t("strip.ordered", pools=names), "warning")
    return Light("brake", visit.t("strip.open"))


def _pauses(visit: Visit) -> Light:
    paused = sorted(visit.services.checker.plan.paused)
    if not paused:
        return Light("pauses", visit.t("strip.none"))
    names = ", ".join(pool_key or visit.t("all_pools") for pool_key in paused)
    return Light("pauses", visit.t("strip.paused", pools=names), "warning")


def _budget(visit: Visit, table: Mapping[str, Any], *, short: bool) -> Light:
    oldest, limit = visit.span(table["oldest_age"]), visit.span(table["age_limit"])
    tone = "warning" if short or "stale_share" in table else "good"
    return Light("budget", visit.t("strip.oldest", oldest=oldest, limit=limit), tone)


def _source(visit: Visit, source: Mapping[str, Any], now: float) -> Light:
    if not source["configured"]:
        return Light("source", visit.t("strip.unconfigured"), "")
    if source["error"]:
        return Light("source", visit.t("strip.source_fails"), "warning")
    if source["removals_refused"]:
        return Light("source", visit.t("strip.removals_refused"), "warning")
    if not source["synced_at"]:
        return Light("source", visit.t("strip.unsynced"), "")
    return Light("source", visit.t("strip.synced", span=visit.since(source["synced_at"], now)))


def _tls(visit: Visit, ends: float | None, now: float) -> Light:
    if ends is None:
        return Light("tls", visit.t("strip.unconfigured"), "")
    if ends <= now:
        return Light("tls", visit.t("strip.ended", span=visit.span(now - ends)), "critical")
    tone = "warning" if ends - now < TLS_SOON else "good"
    return Light("tls", visit.t("strip.ends", span=visit.span(ends - now)), tone)
