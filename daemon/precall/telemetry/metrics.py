"""The one home of prometheus-client: every family precall exposes, in one registry of its own.

Base units, labels from closed sets, never an id or a number. Families whose value is a state of the daemon are
gauges with a function, asked at scrape time.
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
from precall.core.model import State
from precall.core.routing.state import CheckResult

# A second series beside each counter, for nothing: Prometheus finds resets by itself.
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
    """A histogram that is counted anew by each sweep of the table, not fed by events."""

    def __init__(self, name: str, text: str, buckets: tuple[float, ...]) -> None:
        self._name, self._text, self._buckets = name, text, buckets
        self._counts, self._sum = [0] * (len(buckets) + 1), 0.0
        self._counting, self._adding = list(self._counts), 0.0

    def tally(self, ages: Iterable[float]) -> None:
        """Count these too: some of those the sweep under way has found."""
        for age in ages:
            self._counting[bisect_left(self._buckets, age)] += 1
            self._adding += age

    def turn(self) -> None:
        """The sweep has come to its end: show what it found, in place of the one before."""
        self._counts, self._sum = self._counting, self._adding
        self._counting, self._adding = [0] * len(self._counts), 0.0

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What prometheus-client asks for at a scrape."""
        bounds = [*map(floatToGoString, self._buckets), "+Inf"]
        running = accumulate(self._counts)
        yield HistogramMetricFamily(
            self._name, self._text, buckets=list(zip(bounds, running, strict=True)), sum_value=self._sum
        )


class PoolCollector(Collector):
    """Verified routes by pool: counted at each scrape, so that a pool that is no more has no series."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self.count: Callable[[], Iterable[tuple[str, State, int]]] = tuple

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What prometheus-client asks for at a scrape."""
        family = GaugeMetricFamily(self._name, self._text, labels=("pool", "state"))
        for pool, state, count in self.count():
            family.add_metric((pool, state), count)
        yield family


class Metrics:
    """All families. Counters of a closed label set are created at zero, so that a rate over them is never absent."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace="precall", registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, namespace="precall", registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, namespace="precall", buckets=buckets, registry=registry)

        self.checks = counter("checks_total", "QueryCallStatus calls that ended, by result", "result")
        self.check_duration = histogram("check_duration_seconds", "Time of the provider call alone", _CALL)
        self.check_queue = histogram("check_queue_seconds", "Time a check waited in precall itself", _QUEUE)
        self.on_demand = counter(
            "on_demand_checks_total", "Checks a reader or operator waited for, by result", "result"
        )
        self.malformed = counter(
            "malformed_replies_total", "Replies that could not be understood, by code", "code"
        )
        self.throttled = counter("provider_throttled_total", "Calls the provider refused for their rate")
        self.rate_limit = gauge("provider_rate_limit", "Calls per second precall allows itself now")
        self.routes = gauge("routes", "Bindings by state", "state")
        self.unusable = gauge(
            "unusable_bindings", "Bindings held because a number of theirs may not be dialled"
        )
        self.route_changes = counter("route_changes_total", "Published changes of a row", "from", "to")
        self.max_age = gauge("max_age_seconds", "freshness.max_age: a normal route older than this is stale")
        self.oldest_age = gauge("oldest_route_age_seconds", "Age of the oldest check of an active binding")
        self.dial_age = histogram("dial_age_seconds", "Age of the route at the moment of a read", _AGE)
        self.reads = counter("reads_total", "Route reads answered", "format", "stale")
        self.stream_readers = gauge("stream_readers", "Open streams of route changes")
        self.connections = gauge("connections", "Open connections of the API")
        self.connections_cut = counter("connections_cut_total", "Connections cut off, by reason", "reason")
        self.requests_refused = counter(
            "requests_refused_total", "Requests not let in: who asks, how often, or no HTTP at all", "reason"
        )
        self.tls_reloads = counter(
            "tls_reloads_total", "Times changed TLS files were read, by result", "result"
        )
        self.exposures = counter("exposures_total", "Real numbers handed to a reader, by pool", "pool")
        self.exposure_brake = gauge(
            "exposure_brake", "1 while further exposures of the pool are refused", "pool"
        )
        self.temporary_changes = counter(
            "temporary_number_changes_total", "Times a binding was given another temporary number"
        )
        self.wrong_at_dial = gauge(
            "wrong_at_dial_estimate",
            'Estimated share of dials whose route is wrong at that moment, by pool ("": all)',
            "pool",
        )
        self.wrong_at_dial_measured = gauge(
            "wrong_at_dial_measured",
            'Share of ended calls that failed by the number dialled, by pool ("": all)',
            "pool",
        )
        self.call_details = counter(
            "call_details_total", "QueryCallDetailByCallId calls that ended, by result", "result"
        )
        self.receipts = counter(
            "receipts_total", "Elements of pushed receipts, by what became of them", "result"
        )
        self.receipts_refused = counter(
            "receipts_refused_total",
            "Elements of pushed receipts that make no sense, by what is wrong",
            "reason",
        )
        self.calls_waiting = gauge("calls_waiting", "Reported calls whose end is to be asked for")
        self.calls_due = gauge("calls_due", "Reported calls to be asked about by now: the backlog")
        self.calls_due_age = gauge("calls_due_age_seconds", "How long the first of the backlog has been due")
        self.calls_suspect = gauge("calls_suspect", "Bindings that failed calls make suspect")
        self.calls_api_disagrees = gauge(
            "calls_api_disagrees", "Suspect bindings of which the provider says that they are normal"
        )
        self.budget_short = gauge(
            "budget_short", "1 while the rate cannot hold freshness.max_age for so many bindings"
        )
        self.degraded = gauge("degraded", "1 while the provider is taken to be out of reach")
        self.circuit_open = gauge("provider_circuit_open", "1 while the account or the action is refused")
        self.leading = gauge("leading", "1 while this daemon checks and writes, 0 while it stands by")
        self.paused = gauge("paused", "Pools whose background checks are paused (all: 1)")
        self.scheduler_lag = gauge("scheduler_lag_seconds", "How late the newest tick of the check loop came")
        self.clock_steps = counter(
            "clock_steps_total", "Times the wall clock was set, by direction", "direction"
        )
        self.clock_behind = gauge(
            "clock_behind_seconds", "By how much the wall clock is behind the one that bindings expire by"
        )
        self.last_success = gauge("last_success_timestamp_seconds", "When the provider last answered a check")
        self.store_up = gauge("store_up", "1 while the database takes writes")
        self.store_pending = gauge("store_pending_rows", "Rows that wait for the database")
        self.store_write_seconds = histogram("store_write_seconds", "Time of one transaction", _WRITE)
        self.store_dropped = counter(
            "store_dropped_checks_total", "Unchanged checks never stored: database down"
        )
        self._of_jobs(gauge, counter)
        self.reload_ok = gauge(
            "config_last_reload_successful", "1 if the newest load of the configuration succeeded"
        )
        self.reload_at = gauge(
            "config_last_reload_success_timestamp_seconds", "When the configuration was last loaded"
        )
        gauge("build_info", "Always 1; the version is the label", "version").labels(__version__).set(1)
        self.ages = AgeCollector(
            "precall_route_age_seconds", "Ages of the routes of active bindings, by a sweep", _AGE
        )
        registry.register(self.ages)
        self.pool_routes = PoolCollector("precall_pool_routes", "Verified routes of active bindings, by pool")
        registry.register(self.pool_routes)
        ProcessCollector(registry=registry)
        self._pools: set[str] = set()
        self._begin_at_zero()

    def _of_jobs(self, gauge: Callable[..., Gauge], counter: Callable[..., Counter]) -> None:
        self.job_failures = counter(
            "job_failures_total", "Runs of a job that ended in an error; the log has more"
        )
        self.source_last_sync = gauge(
            "source_last_sync_timestamp_seconds", "When a sync with the source last came to its end"
        )
        self.source_age = gauge(
            "source_age_seconds", "Time since a sync with the source came to its end, or since the start"
        )
        self.source_every = gauge("source_every_seconds", "source.every; 0 where there is no source")
        self.source_syncs = counter(
            "source_syncs_total", "Syncs with the source that ended, by result", "result"
        )
        self.source_failing = gauge("source_failing", "1 while the newest sync with the source has failed")
        self.source_rows = gauge("source_rows", "Rows of the newest sync, by what became of them", "result")
        self.source_removals_refused = gauge(
            "source_removals_refused", "Live bindings whose removal the newest sync refused"
        )

    def _begin_at_zero(self) -> None:
        for result in CheckResult:
            self.checks.labels(result)
        for reason in ("slow_head", "slow_reader", "crowded"):
            self.connections_cut.labels(reason)
        for reason in ("no_token", "wrong_token", "scope", "foreign", "rate", "at_once", "malformed"):
            self.requests_refused.labels(reason)
        for direction in ("forward", "back"):
            self.clock_steps.labels(direction)
        for outcome in ("ok", "failed"):
            self.tls_reloads.labels(outcome)
            self.source_syncs.labels(outcome)

    def pool(self, pool_key: str) -> str:
        """The label of a pool: its key, or "other" once there are too many to tell apart."""
        if pool_key in self._pools:
            return pool_key
        if len(self._pools) >= MOST_POOLS:
            return OTHER
        self._pools.add(pool_key)
        return pool_key

    def keep_pools(self, pools: Sequence[str]) -> None:
        """Have series of these pools, from zero on, and of no other: those have no active binding left."""
        shown = (self.exposures, self.exposure_brake)
        for pool in self._pools.difference(pools):
            self._pools.remove(pool)
            for family in (*shown, self.wrong_at_dial, self.wrong_at_dial_measured):
                with suppress(KeyError):
                    family.remove(pool)
        for pool in map(self.pool, pools):
            for family in shown:
                family.labels(pool)

    def show_shares(self, family: Gauge, shares: Mapping[str, float]) -> None:
        """Set a gauge of pools ("": all of them), of which those that are no more have no series."""
        for pool, share in shares.items():
            if pool in ("", OTHER) or pool in self._pools:
                family.labels(pool).set(share)

    def show(self, family: Gauge, value: Callable[[], float]) -> None:
        """Ask `value` for this gauge at every scrape."""
        family.set_function(value)

    def show_states(self, count: Callable[[State], float]) -> None:
        """Ask `count` for every shown state at every scrape."""
        for state in State:
            self.routes.labels(state).set_function(partial(count, state))

    def show_pools(self, pools: Callable[[], Iterable[str]], count: Callable[[State, str], int]) -> None:
        """Ask for the verified routes of every pool at every scrape."""

        def counted() -> Iterator[tuple[str, State, int]]:
            found: Counts[tuple[str, State]] = Counts()
            for pool_key in pools():
                pool = self.pool(pool_key)
                for state in VERIFIED:
                    found[pool, state] += count(state, pool_key)
            return ((pool, state, number) for (pool, state), number in found.items())

        self.pool_routes.count = counted

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)
