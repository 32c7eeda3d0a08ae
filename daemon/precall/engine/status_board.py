"""The state of the system: gathers the facts from the parts, and keeps what is wrong.

`core.status.judge` decides what is wrong. Nothing here looks at single bindings, so a look costs as much with a million
of them as with ten.
"""

from dataclasses import dataclass
from itertools import islice

from precall.clocks import Clocks
from precall.core.model import State
from precall.core.orders import OrderKind
from precall.core.role import Role
from precall.core.status.facts import (
    BrakeFacts,
    Examples,
    OrderFacts,
    PoolFacts,
    ProcessFacts,
    QueueFacts,
    SourceFacts,
    StatusFacts,
    StoreFacts,
)
from precall.core.status.finding import Finding, FindingCode
from precall.core.status.judge import findings
from precall.core.sync.plan import SyncOutcome
from precall.engine.call_poller import CallPoller
from precall.engine.checker import Checker
from precall.engine.order_notes import OrderNotes
from precall.engine.process_state import ProcessState
from precall.engine.promise_keeper import PromiseKeeper
from precall.engine.source_sync import SourceSync
from precall.table.table import Table
from precall.table.writer import Writer
from precall.telemetry.redaction import concealed

FRESH = 0.25
"""Seconds for which a look is good enough for the next one, however many ask."""
EXAMPLES = 3
BLIND_AFTER = 5.0
"""Seconds without what the leader stores after which a daemon on standby takes the database to be down."""


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """The facts at `at` (Unix seconds), and what is wrong by them, the critical findings first."""

    at: float
    facts: StatusFacts
    findings: tuple[Finding, ...]


class StatusBoard:
    """Knows what is wrong. `orders` remembers who gave the orders in force."""

    def __init__(
        self,
        checker: Checker,
        table: Table,
        writer: Writer,
        promise: PromiseKeeper,
        calls: CallPoller,
        source: SourceSync | None,
        process: ProcessState,
        clocks: Clocks,
    ) -> None:
        self.process = process
        self.orders = OrderNotes()
        self._checker, self._table, self._writer = checker, table, writer
        self._promise, self._calls, self._source, self._clocks = promise, calls, source, clocks
        self._latest: StatusSnapshot | None = None
        self._looked_at = 0.0

    def look(self) -> StatusSnapshot:
        """Return the state of the system now, or as it was less than a quarter of a second ago."""
        tick = self._clocks.tick()
        if self._latest is None or tick - self._looked_at >= FRESH:
            now, facts = self._clocks.now(), self._facts()
            found = tuple(findings(facts, now))
            self.process.known = {finding.key: finding.since for finding in found}
            self._latest, self._looked_at = StatusSnapshot(now, facts, found), tick
        return self._latest

    def has(self, code: FindingCode) -> bool:
        """Return whether there is a finding of this code."""
        return any(finding.code is code for finding in self.look().findings)

    def _facts(self) -> StatusFacts:
        tick, checker, table = self._clocks.tick(), self._checker, self._table
        unusable = tuple(sorted(islice(table.unusable, EXAMPLES)))
        return StatusFacts(
            role=Role.LEADING if checker.leads else Role.STANDBY,
            bindings=len(table) - table.count(State.EXPIRED),
            states={state: table.count(state) for state in State},
            provider=checker.queries.health.facts(tick, self._clocks.moment_of),
            store=self._of_store(),
            freshness=self._promise.facts(),
            pools=tuple(self._of_pool(pool_key) for pool_key in sorted(table.pools())),
            orders=tuple(self._in_force()),
            source=self._of_source(),
            queues=tuple(
                QueueFacts(kind, concealed(error))
                for kind, error in sorted(self.process.failing_queues().items())
            ),
            unusable=Examples(len(table.unusable), unusable),
            disagreeing=Examples(
                len(self._calls.disagreeing), tuple(sorted(islice(self._calls.disagreeing, EXAMPLES)))
            ),
            process=self._of_process(),
            known=self.process.known,
        )

    def _in_force(self) -> list[OrderFacts]:
        pools = {OrderKind.PAUSE: self._checker.plan.paused, OrderKind.BRAKE: self._checker.brake.orders}
        return [
            OrderFacts(kind, pool_key, self.orders.given_at(kind, pool_key))
            for kind in pools
            for pool_key in sorted(pools[kind])
        ]

    def _of_pool(self, pool_key: str) -> PoolFacts:
        brake, table, tick = self._checker.brake, self._table, self._clocks.tick()
        active = table.active(pool_key)
        engaged = brake.engaged_since(pool_key, active, tick)
        return PoolFacts(
            pool_key,
            active,
            {state: table.count(state, pool_key) for state in State if state is not State.EXPIRED},
            BrakeFacts(
                used=brake.used(pool_key),
                cap=brake.cap(active),
                held=self._checker.braking.held(pool_key),
                window=brake.window,
                engaged_since=None if engaged is None else self._clocks.moment_of(engaged),
                ordered=brake.halted(pool_key),
            ),
            paused=bool({"", pool_key} & self._checker.plan.paused),
            oldest=self._checker.plan.oldest.get(pool_key),
        )

    def _of_store(self) -> StoreFacts:
        writer = self._writer
        if self._checker.leads:
            if writer.saving:
                return StoreFacts(pending=writer.pending)
            down = self._clocks.moment_of(writer.down_since)
            return StoreFacts(down, concealed(writer.outage_cause), writer.pending)
        blind = self.process.blind
        if blind is None or self._clocks.tick() - blind[0] < BLIND_AFTER:
            return StoreFacts()
        return StoreFacts(self._clocks.moment_of(blind[0]), concealed(blind[1]))

    def _of_source(self) -> SourceFacts | None:
        if self._source is None:
            return None
        last = self._source.last
        return SourceFacts(
            error=concealed(last.error),
            guard=last.guard,
            withheld=last.counts[SyncOutcome.WITHHELD],
            synced_at=last.at or None,
            every=self._source.every,
        )

    def _of_process(self) -> ProcessFacts:
        process, refused, certificate = (
            self.process,
            self.process.refused_reload(),
            self.process.certificate(),
        )
        return ProcessFacts(
            lag=process.delay.worst(self._clocks.tick()),
            reload_failed_at=refused.at if refused else None,
            reload_mistakes=len(refused.mistakes) if refused else 0,
            reload_error=concealed(refused.mistakes[0]) if refused and refused.mistakes else "",
            certificate_file=certificate.file if certificate else "",
            certificate_ends=certificate.ends if certificate else None,
        )
