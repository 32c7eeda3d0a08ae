"""Asks the provider about bindings: one numbered call at a time, within the quota, and never while it is in doubt
whether calls are ours to make."""

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
    """One call to come. `row` is what is asked about, `seq` orders answers, `since` (tick) is when it was decided, and
    `chance`, in [0, 1), spreads what follows from the reply. `caller` is the calling number of a live check, if known.
    """

    row: Row
    seq: int
    since: Tick
    chance: float
    caller: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class QueryReply:
    """What came back: `asked_at` and `now` in Unix seconds, `tick` that of `now`; the call took `seconds`."""

    reply: Reply
    asked_at: float
    seconds: float
    now: float
    tick: Tick


class StatusQueries:
    """The way to QueryCallStatus, or to the questions that stand in for it. `seq` is the newest number ever used;
    `chance` gives a share of 1."""

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
        """Whether nothing puts in doubt that calls are ours to make."""
        return self.gate is None or self.gate.is_open()

    def number(self, row: Row, caller: str = "") -> StatusQuery:
        """The next call, about this row."""
        self._seq += 1
        return StatusQuery(row, self._seq, self._clocks.tick(), self._chance(), caller)

    async def ask(self, query: StatusQuery) -> QueryReply | None:
        """Make the call and learn from its reply. None if, before it was sent, the call was no longer ours to make:
        this process stood still, and another daemon may spend the quota by now."""
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
        """Whether the budget has one call more, for a repetition."""
        return self.may_call() and self.quota.spend(self._clocks.tick(), Priority.BACKGROUND)
