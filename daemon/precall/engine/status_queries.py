"""Queries the provider about bindings.

Each query has a sequence number. None is sent while another daemon may be the leader and spend the same quota.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from precall.clocks import Clocks
from precall.core.ages import Tick
from precall.core.limits.quota import Priority, Quota
from precall.core.model import NonAnswer, Reply, Row
from precall.engine.call_gate import CallGate
from precall.engine.provider_health import ProviderHealth
from precall.provider import Provider
from precall.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class StatusQuery:
    """A query that was decided but not sent yet.

    `row` is the binding to query, `seq` orders the replies, and `since` is the tick of the decision. `chance`, in
    [0, 1), randomizes the delays that follow from the reply. `caller` is the calling number of a live check, if known.
    """

    row: Row
    seq: int
    since: Tick
    chance: float
    caller: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class QueryReply:
    """A reply, with the times (Unix seconds) at which the query was sent (`asked_at`) and the reply arrived (`now`).

    `tick` is that of `now`. The call took `seconds`.
    """

    reply: Reply
    asked_at: float
    seconds: float
    now: float
    tick: Tick


class StatusQueries:
    """Sends queries with QueryCallStatus, or with its substitute actions.

    `seq` is the highest sequence number used so far, also by earlier daemons. `chance` returns a number in [0, 1).
    """

    def __init__(
        self,
        provider: Provider,
        quota: Quota,
        metrics: Metrics,
        clocks: Clocks,
        seq: int,
        chance: Callable[[], float],
    ) -> None:
        self.quota = quota
        self.health = ProviderHealth(quota, metrics, clocks.tick, provider.questions)
        self.gate: CallGate | None = None
        self._provider, self._metrics, self._clocks = provider, metrics, clocks
        self._seq, self._chance = seq, chance

    def may_call(self) -> bool:
        """Return whether this daemon is surely the one that may call the provider."""
        return self.gate is None or self.gate.is_open()

    def next_query(self, row: Row, caller: str = "") -> StatusQuery:
        """Return a query about this row, with the next sequence number."""
        self._seq += 1
        return StatusQuery(row, self._seq, self._clocks.tick(), self._chance(), caller)

    async def ask(self, query: StatusQuery) -> QueryReply | None:
        """Send the query, and let the reply update the provider's health.

        Returns None if the query was not sent: the process was suspended since, and another daemon may have taken over.
        """
        if not self.may_call():
            return None
        asked_at = self._clocks.now()
        self._metrics.check_queue.observe(self._clocks.tick() - query.since)
        asked = await self._provider.query_binding(
            query.row.binding, caller=query.caller, again=self._may_repeat
        )
        now, tick = self._clocks.now(), self._clocks.tick()
        self.health.learn(asked.reply, asked.seconds, tick)
        if not isinstance(asked.reply, NonAnswer):
            self._metrics.last_success.set(now)
        return QueryReply(asked.reply, asked_at, asked.seconds, now, tick)

    def _may_repeat(self) -> bool:
        """Spend one more call, to repeat a query. Return whether the quota had one."""
        return self.may_call() and self.quota.spend(self._clocks.tick(), Priority.BACKGROUND)
