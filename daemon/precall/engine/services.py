"""The parts of a running daemon, as the composition root hands them to the HTTP handlers."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from precall.config.settings import ReloadReport, Settings
from precall.core.role import CurrentRole, Member
from precall.engine.call_poller import CallPoller
from precall.engine.call_results import CallResults
from precall.engine.checker import Checker
from precall.engine.exposure_audit import ExposureAudit
from precall.engine.lookup import Lookup
from precall.engine.on_demand import OnDemandChecks
from precall.engine.orders import OperatorOrders
from precall.engine.persons import Persons
from precall.engine.promise_keeper import PromiseKeeper
from precall.engine.recorder import Recorder
from precall.engine.registry import Registry
from precall.engine.source_sync import SourceSync
from precall.engine.status_board import StatusBoard
from precall.store import Store
from precall.table.feed import Feed
from precall.table.table import Table
from precall.table.writer import Writer
from precall.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Services:
    """A loaded daemon.

    `clock` returns Unix seconds, `monotonic` seconds since an arbitrary moment, `chance` a number in [0, 1). `members`
    returns the daemons on this database, this one included, as they were seen some seconds ago.
    On standby, reads are answered from what the leader has stored.
    """

    settings: Settings
    table: Table
    feed: Feed
    writer: Writer
    lookup: Lookup
    audit: ExposureAudit
    registry: Registry
    orders: OperatorOrders
    members: Callable[[], Sequence[Member]]
    persons: Persons
    source: SourceSync | None
    checker: Checker
    on_demand: OnDemandChecks
    promise: PromiseKeeper
    call_results: CallResults
    calls: CallPoller
    status: StatusBoard
    recorder: Recorder
    store: Store
    metrics: Metrics
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    chance: Callable[[], float]
    version: str

    @property
    def reload(self) -> Callable[[], Awaitable[ReloadReport]]:
        """Read the configuration again, and put it in force."""
        return self.status.process.reload

    @property
    def role(self) -> CurrentRole:
        """The role these parts were made for."""
        return self.store.role
