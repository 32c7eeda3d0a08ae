"""All metric families of precall, in a registry of their own. Only this module imports prometheus-client.

Values are in base units. Labels come from closed sets and never hold an id or a phone number. A gauge that shows a
state of the daemon calls a function at scrape time.
"""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from precall import __version__
from precall.core.model import Action, Promise, State
from precall.core.routing.state import CheckResult
from precall.core.status.finding import FindingCode

# Prometheus detects resets by itself, so a `_created` series beside each counter would serve no purpose.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = CONTENT_TYPE_LATEST

MOST_POOLS = 40
OTHER = "other"
VERIFIED = (State.NORMAL, State.TEMPORARY, State.FALLBACK)

_CALL = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_QUEUE = (0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0)
_AGE = (1.0, 5.0, 15.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)
_WRITE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class AgeCollector(Collector):
    """A histogram that each sweep of the table counts from scratch, rather than one fed by events."""

    def __init__(self, name: str, text: str, buckets: tuple[float, ...]) -> None:
        self._name, self._text, self._buckets = name, text, buckets
        self._counts, self._sum = [0] * (len(buckets) + 1), 0.0
        self._counting, self._adding = list(self._counts), 0.0

    def tally(self, ages: Iterable[float]) -> None:
        """Add some ages, in seconds, to the sweep in progress."""
        for age in ages:
            self._counting[bisect_left(self._buckets, age)] += 1
            self._adding += age

    def turn(self) -> None:
        """End the sweep in progress and show its counts in place of the previous ones."""
        self._counts, self._sum = self._counting, self._adding
        self._counting, self._adding = [0] * len(self._counts), 0.0

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the family; prometheus-client calls this at a scrape."""
        bounds = [*map(floatToGoString, self._buckets), "+Inf"]
        running = accumulate(self._counts)
        yield HistogramMetricFamily(
            self._name, self._text, buckets=list(zip(bounds, running, strict=True)), sum_value=self._sum
        )


class PoolCollector(Collector):
    """Verified routes by pool, counted at each scrape, so that a pool without bindings has no series."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self.count: Callable[[], Iterable[tuple[str, State, int]]] = tuple

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the family; prometheus-client calls this at a scrape."""
        family = GaugeMetricFamily(self._name, self._text, labels=("pool", "state"))
        for pool, state, count in self.count():
            family.add_metric((pool, state), count)
        yield family


class Metrics:
    """All metric families.

    Series of a closed label set are created at zero, so that a rate over them is never absent.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._pools: set[str] = set()
        self._of_checks()
        self._of_routes()
        self._of_the_api()
        self._of_real_numbers()
        self._of_calls()
        self._of_the_provider()
        self._of_the_store()
        self._of_the_source()
        self._of_the_process()
        self._begin_at_zero()

    def _of_checks(self) -> None:
        self.checks = self._counter("checks_total", "QueryCallStatus calls that ended, by result", "result")
        self.check_duration = self._histogram(
            "check_duration_seconds", "Duration of the provider call alone", _CALL
        )
        self.check_queue = self._histogram(
            "check_queue_seconds", "Time a check waited inside precall", _QUEUE
        )
        self.on_demand = self._counter(
            "on_demand_checks_total", "Checks that a client or an operator waited for, by result", "result"
        )
        self.malformed = self._counter(
            "malformed_replies_total", "Provider replies that could not be understood, by code", "code"
        )
        self.budget_short = self._gauge(
            "budget_short",
            "1 while freshness.max_age is promised for all routes, and the rate is too low for that",
        )
        self.paused = self._gauge("paused", "Pools whose background checks are paused (1 if all are)")
        self.scheduler_lag = self._gauge(
            "scheduler_lag_seconds", "Delay of the latest tick of the check loop"
        )
        self.last_success = self._gauge(
            "last_success_timestamp_seconds", "When the provider last answered a check"
        )

    def _of_routes(self) -> None:
        self.routes = self._gauge("routes", "Bindings by state", "state")
        self.unusable = self._gauge(
            "unusable_bindings", "Bindings on hold because one of their numbers must not be dialled"
        )
        self.route_changes = self._counter(
            "route_changes_total", "Published changes of a route", "from", "to"
        )
        self.max_age = self._gauge(
            "max_age_seconds", "freshness.max_age: the age up to which a normal route is young enough"
        )
        self.promise = self._gauge(
            "freshness_promise", "1 for the promise in force, 0 for the other: all, or dial", "promise"
        )
        self.age_limit = self._gauge(
            "route_age_limit_seconds", "Age that no active route should exceed, by the promise in force"
        )
        self.oldest_age = self._gauge(
            "oldest_route_age_seconds", "Age of the oldest check of an active binding"
        )
        self.dial_age = self._histogram("dial_age_seconds", "Age of a route when it was read", _AGE)
        self.temporary_changes = self._counter(
            "temporary_number_changes_total", "Times a binding was given another temporary number"
        )
        self.wrong_at_dial = self._gauge(
            "wrong_at_dial_estimate",
            'Estimated share of dials whose route is wrong at that moment, by pool ("": all)',
            "pool",
        )
        self.wrong_at_dial_measured = self._gauge(
            "wrong_at_dial_measured",
            'Share of ended calls that failed because of the number dialled, by pool ("": all)',
            "pool",
        )
        self.ages = AgeCollector(
            "precall_route_age_seconds", "Ages of the routes of active bindings, by a sweep", _AGE
        )
        self.registry.register(self.ages)
        self.pool_routes = PoolCollector("precall_pool_routes", "Verified routes of active bindings, by pool")
        self.registry.register(self.pool_routes)

    def _of_the_api(self) -> None:
        self.reads = self._counter("reads_total", "Route reads answered", "format", "stale")
        self.dials = self._counter(
            "dials_total",
            "Route reads for a dial; stale: no route as young as promised could be given",
            "stale",
        )
        self.unread_dials = self._counter(
            "unread_dials_total",
            "Dials of routes that were not read here: told by a reported call, or by a cache",
            "source",
        )
        self.observed_reads = self._counter(
            "observed_reads_total",
            "Route reads answered in pools that are only observed, by pool and by the action that would be taken",
            "pool",
            "would",
        )
        self.stream_readers = self._gauge("stream_readers", "Open streams of route changes")
        self.connections = self._gauge("connections", "Open connections of the API")
        self.connections_cut = self._counter(
            "connections_cut_total", "Connections cut off, by reason", "reason"
        )
        self.requests_refused = self._counter(
            "requests_refused_total",
            "Requests refused before they reached a handler: authentication, rate limit or malformed HTTP",
            "reason",
        )
        self.tls_reloads = self._counter(
            "tls_reloads_total", "Times changed TLS files were read, by result", "result"
        )

    def _of_real_numbers(self) -> None:
        self.exposures = self._counter("exposures_total", "Real numbers handed to a client, by pool", "pool")
        self.exposure_brake = self._gauge(
            "exposure_brake", "1 while further exposures of the pool are refused", "pool"
        )

    def _of_calls(self) -> None:
        self.call_details = self._counter(
            "call_details_total", "QueryCallDetailByCallId calls that ended, by result", "result"
        )
        self.receipts = self._counter(
            "receipts_total", "Receipts pushed or from a queue, by result", "result"
        )
        self.receipts_refused = self._counter(
            "receipts_refused_total", "Receipts pushed or from a queue that are invalid, by reason", "reason"
        )
        self.receipt_queue_messages = self._counter(
            "receipt_queue_messages_total",
            "Messages received from a queue of the provider; kept: not stored or not deleted, so they come again",
            "queue",
            "result",
        )
        self.receipt_queue_failing = self._gauge(
            "receipt_queue_failing", "1 while a queue of the provider cannot be read", "queue"
        )
        self.calls_waiting = self._gauge(
            "calls_waiting", "Reported calls that wait for the provider's result"
        )
        self.calls_due = self._gauge(
            "calls_due", "Reported calls due for a query of the provider: the backlog"
        )
        self.calls_due_age = self._gauge(
            "calls_due_age_seconds", "How long the first call of the backlog has been due"
        )
        self.calls_suspect = self._gauge("calls_suspect", "Bindings that are suspect because of failed calls")
        self.calls_api_disagrees = self._gauge(
            "calls_api_disagrees", "Suspect bindings that the provider reports as normal"
        )

    def _of_the_provider(self) -> None:
        self.throttled = self._counter(
            "provider_throttled_total", "Calls the provider refused because of their rate"
        )
        self.rate_limit = self._gauge(
            "provider_rate_limit", "Calls per second that precall allows itself now"
        )
        self.degraded = self._gauge("degraded", "1 while the provider is considered unreachable")
        self.circuit_open = self._gauge(
            "provider_circuit_open", "1 while the account or the action is refused"
        )

    def _of_the_store(self) -> None:
        self.store_up = self._gauge("store_up", "1 while the database accepts writes")
        self.store_pending = self._gauge("store_pending_rows", "Rows waiting for the database")
        self.store_write_seconds = self._histogram(
            "store_write_seconds", "Duration of one transaction", _WRITE
        )
        self.store_dropped = self._counter(
            "store_dropped_checks_total", "Unchanged checks never stored because the database was down"
        )

    def _of_the_source(self) -> None:
        self.source_last_sync = self._gauge(
            "source_last_sync_timestamp_seconds", "When a sync with the source last completed"
        )
        self.source_age = self._gauge(
            "source_age_seconds", "Time since a sync with the source last completed, or since the start"
        )
        self.source_every = self._gauge("source_every_seconds", "source.every; 0 without a source")
        self.source_syncs = self._counter(
            "source_syncs_total", "Syncs with the source that ended, by result", "result"
        )
        self.source_failing = self._gauge(
            "source_failing", "1 while the latest sync with the source has failed"
        )
        self.source_rows = self._gauge("source_rows", "Rows of the latest sync, by result", "result")
        self.source_removals_refused = self._gauge(
            "source_removals_refused", "Live bindings whose removal the latest sync refused"
        )

    def _of_the_process(self) -> None:
        self.finding = self._gauge(
            "finding", "1 while something is wrong, by code; see docs/status.md", "code"
        )
        self.leading = self._gauge("leading", "1 while this daemon checks and writes, 0 while it stands by")
        self.clock_steps = self._counter(
            "clock_steps_total", "Times the wall clock was set, by direction", "direction"
        )
        self.clock_behind = self._gauge(
            "clock_behind_seconds", "How far the wall clock is behind the clock that bindings expire by"
        )
        self.job_failures = self._counter(
            "job_failures_total", "Runs of a job that ended in an error; see the log"
        )
        self.reload_ok = self._gauge(
            "config_last_reload_successful", "1 if the latest load of the configuration succeeded"
        )
        self.reload_at = self._gauge(
            "config_last_reload_success_timestamp_seconds", "When the configuration was last loaded"
        )
        self.notifications = self._counter(
            "notifications_total",
            "Messages to targets of [notify], by result: sent, failed (all attempts), dropped (too many wait)",
            "result",
        )
        build = self._gauge("build_info", "Always 1; the version is the label", "version")
        build.labels(__version__).set(1)
        ProcessCollector(registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace="precall", registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace="precall", registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, namespace="precall", buckets=buckets, registry=self.registry)

    def _begin_at_zero(self) -> None:
        for result in CheckResult:
            self.checks.labels(result)
        for code in FindingCode:
            self.finding.labels(code)
        for reason in ("slow_head", "slow_reader", "crowded"):
            self.connections_cut.labels(reason)
        for reason in ("no_token", "wrong_token", "scope", "foreign", "rate", "at_once", "malformed"):
            self.requests_refused.labels(reason)
        for direction in ("forward", "back"):
            self.clock_steps.labels(direction)
        for promise in Promise:
            self.promise.labels(promise)
        for stale in ("true", "false"):
            self.dials.labels(stale)
        for outcome in ("sent", "failed", "dropped"):
            self.notifications.labels(outcome)
        for outcome in ("ok", "failed"):
            self.tls_reloads.labels(outcome)
            self.source_syncs.labels(outcome)

    def pool(self, pool_key: str) -> str:
        """Return the label of a pool: its key, or "other" once `MOST_POOLS` pools have a label."""
        if pool_key in self._pools:
            return pool_key
        if len(self._pools) >= MOST_POOLS:
            return OTHER
        self._pools.add(pool_key)
        return pool_key

    def keep_pools(self, pools: Sequence[str]) -> None:
        """Keep series for exactly these pools, created at zero; the others have no active binding left."""
        shown = (self.exposures, self.exposure_brake)
        for pool in self._pools.difference(pools):
            self._pools.remove(pool)
            for family in (*shown, self.wrong_at_dial, self.wrong_at_dial_measured):
                with suppress(KeyError):
                    family.remove(pool)
            for action in Action:
                with suppress(KeyError):
                    self.observed_reads.remove(pool, action)
        for pool in map(self.pool, pools):
            for family in shown:
                family.labels(pool)

    def show_shares(self, family: Gauge, shares: Mapping[str, float]) -> None:
        """Set a gauge by pool ("": all pools), skipping pools that no longer have series."""
        for pool, share in shares.items():
            if pool in ("", OTHER) or pool in self._pools:
                family.labels(pool).set(share)

    def totals(self, family: Counter, label: str) -> dict[str, float]:
        """Return the values of a counter by one of its labels, summed over the others."""
        found: Counts[str] = Counts()
        for metric in family.collect():
            for sample in metric.samples:
                found[sample.labels.get(label, "")] += sample.value  # type: ignore[assignment]
        return dict(found)

    def total(self, family: Counter) -> float:
        """Return the sum of a counter over all of its labels."""
        return sum(sample.value for metric in family.collect() for sample in metric.samples)

    def show(self, family: Gauge, value: Callable[[], float]) -> None:
        """Call `value` for this gauge at every scrape."""
        family.set_function(value)

    def show_promise(self, promise: Promise) -> None:
        """Set which freshness promise is in force."""
        for one in Promise:
            self.promise.labels(one).set(one is promise)

    def show_states(self, count: Callable[[State], float]) -> None:
        """Call `count` for every state at every scrape."""
        for state in State:
            self.routes.labels(state).set_function(partial(count, state))

    def show_findings(self, has: Callable[[FindingCode], bool]) -> None:
        """Call `has` for every code at every scrape."""
        for code in FindingCode:
            self.finding.labels(code).set_function(partial(has, code))

    def show_pools(self, pools: Callable[[], Iterable[str]], count: Callable[[State, str], int]) -> None:
        """Count the verified routes of every pool at every scrape."""

        def counted() -> Iterator[tuple[str, State, int]]:
            found: Counts[tuple[str, State]] = Counts()
            for pool_key in pools():
                pool = self.pool(pool_key)
                for state in VERIFIED:
                    found[pool, state] += count(state, pool_key)
            return ((pool, state, number) for (pool, state), number in found.items())

        self.pool_routes.count = counted

    def render(self) -> bytes:
        """Return all families in the text exposition format."""
        return generate_latest(self.registry)
