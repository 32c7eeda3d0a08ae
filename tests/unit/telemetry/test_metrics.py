"""What is scraped: how many series, and that those of a pool go with the pool."""

import pytest

from precall.core.model import State
from precall.table.table import Table
from precall.telemetry.metrics import MOST_POOLS, Metrics
from tests.support import builders


def series(metrics: Metrics) -> list[str]:
    return [line.rpartition(" ")[0] for line in metrics.render().decode().splitlines() if line[0] != "#"]


def tabled(*pools: str) -> Table:
    """A table with one verified binding in each of these pools."""
    table = Table()
    for place, pool in enumerate(pools):
        table.publish(
            str(place), builders.row(builders.observed(State.FALLBACK), subs_id=str(place), pool_key=pool)
        )
    return table


def shown(table: Table) -> Metrics:
    metrics = Metrics()
    metrics.show_states(table.count)
    metrics.show_pools(table.pools, table.count)
    return metrics


@pytest.mark.slow(seconds=1)
def test_100_000_bindings_with_every_label_at_once_are_fewer_than_500_series() -> None:
    table, pools = Table(), [f"FC{number}" for number in range(3 * MOST_POOLS)]
    states = [state for state in State if state is not State.BLOCKED]
    table.load(
        (f"{n:07}", pools[n % len(pools)], f"170{n:08}", states[n % len(states)], n % 7 == 0, b"", True)
        for n in range(100_000)
    )
    metrics = shown(table)
    metrics.keep_pools(table.pools())
    for state in State:
        for other in State:
            metrics.route_changes.labels(state, other).inc()
    for number in range(40):
        metrics.on_demand.labels(str(number)).inc()
    assert len(table) == 100_000
    assert len(series(metrics)) < 500


def test_routes_are_counted_by_pool_and_beyond_the_cap_together() -> None:
    metrics = shown(tabled("FC1", "FC1", *(f"other{number}" for number in range(MOST_POOLS + 9))))
    rendered = metrics.render().decode()
    assert 'precall_pool_routes{pool="FC1",state="fallback"} 2.0' in rendered
    assert 'precall_pool_routes{pool="FC1",state="normal"} 0.0' in rendered
    assert 'precall_pool_routes{pool="other",state="fallback"} 10.0' in rendered


def test_the_series_of_a_removed_pool_vanish() -> None:
    table = tabled("FC1", "FC2")
    metrics = shown(table)
    for pool in ("FC1", "FC2"):
        metrics.exposures.labels(metrics.pool(pool)).inc()
    metrics.exposure_brake.labels(metrics.pool("FC1")).set(0)
    table.publish("0", None)
    metrics.keep_pools(table.pools())
    assert not [name for name in series(metrics) if "FC1" in name]
    assert [name for name in series(metrics) if "FC2" in name]


def test_a_pool_has_its_series_before_its_first_exposure() -> None:
    metrics = Metrics()
    metrics.keep_pools(["FC1"])
    assert {'precall_exposures_total{pool="FC1"}', 'precall_exposure_brake{pool="FC1"}'} <= {*series(metrics)}
