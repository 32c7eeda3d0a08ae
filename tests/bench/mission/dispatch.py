"""Dispatchers that place the calls of a world: by X alone, or by precall with more and more of what it offers."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import partial
from heapq import heappop, heappush
from math import ceil, inf
from random import Random
from typing import Any

from precall.core.calls.suspicion import CallVerdict
from precall.core.limits.quota import Bucket
from precall.core.model import Action, Answer, Binding, Failure, NonAnswer, Policy, Reply, Status
from precall.core.planning.promise import choose, longest_age
from precall.core.routing.state import CheckResult
from tests.bench.mission.account import MissionAccount, MissionSettings, answered, known_row
from tests.bench.mission.lending import WorldBinding
from tests.bench.mission.world import BEFORE, CallOutcome, MissionWorld, NumberNews, WantedCall

EPOCH = 1_790_000_000.0
"""Unix seconds at the start of a run."""
SWEEP = 30.0
"""Seconds between two sweeps of the table, in which ended bindings leave the plan."""
IDLE = 0.5
"""Seconds until the next look when nothing may be checked."""
SLOW_REPLY = 1.0
"""Seconds that a reply takes which comes too late for its reader."""

Event = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class MissionLevel:
    """What a dispatcher uses. Each level adds to the one before."""

    name: str
    asks: bool = True
    live: bool = False
    hints: bool = False
    reports: bool = False
    second: bool = False
    waits: bool = False
    """Whether a stale number is left for the second attempt."""


LEVELS = (
    MissionLevel("X alone", asks=False),
    MissionLevel("precall's routes"),
    MissionLevel("+ live checks", live=True),
    MissionLevel("+ hints", live=True, hints=True),
    MissionLevel("+ call reports and receipts", live=True, hints=True, reports=True),
    MissionLevel("+ a second attempt", live=True, hints=True, reports=True, second=True),
    MissionLevel(
        "+ which a stale number waits for", live=True, hints=True, reports=True, second=True, waits=True
    ),
)
TWICE = MissionLevel("X alone, dialled twice", asks=False, second=True)
"""For comparison: a second attempt without precall."""


@dataclass(slots=True)
class MissionTally:
    """What became of the calls: `failed` reached nobody, by cause; `strangers` somebody else, by number dialled.

    A call that was held back while its binding was in effect is among the failed. `spared` were not placed because
    their binding had ended. `ahead` is by how many calls the quota was ever exceeded: at most 0.
    """

    calls: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    strangers: Counter[str] = field(default_factory=Counter)
    spared: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    live_checks: int = 0
    ahead: float = -inf
    calls_of_pool: Counter[int] = field(default_factory=Counter)
    failed_of_pool: Counter[int] = field(default_factory=Counter)

    def plain(self) -> dict[str, Any]:
        """The counters as plain data."""
        counters = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: dict(count) if isinstance(count, Counter) else count for name, count in counters.items()
        }


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was dialled ("": nothing), what came of it, and why nothing was dialled. `hold` is in seconds."""

    number: str
    outcome: CallOutcome = CallOutcome.DEAD
    action: str = ""
    why: str = ""
    hold: float = 0.0
    state: str = ""


class MissionRun:
    """One level in one world. Methods named `_on_...` are events at a time `at`, in seconds from the start."""

    def __init__(self, world: MissionWorld, level: MissionLevel) -> None:
        given = world.given
        self.world, self.level, self.given = world, level, given
        self.tally = MissionTally()
        self._by_id = {each.subs_id: each for each in world.bindings}
        self._queue: list[tuple[float, int, Event]] = []
        self._serial = 0
        self._clock = 0.0
        self._throttle = Bucket(given.rate / 2, given.burst / 2, 0.0)
        policy = Policy()
        promise = choose("auto", None, longest_age(given.bindings, given.rate), policy.max_age)
        settings = MissionSettings(given.rate, given.burst, replace(policy, promise=promise), brake_floor=1)
        self.account = MissionAccount(settings, self._answer, EPOCH, world.seed)

    def run(self) -> MissionTally:
        """Place every call, with precall's checks in between."""
        if not self.level.asks:
            for call in self.world.calls:
                self._dial_x(call)
            return self.tally
        self._load()
        static = sorted(self._static(), key=lambda event: event[0])
        static.append((inf, lambda _at: None))
        for at, event in static:
            while self._queue and self._queue[0][0] <= min(at, self.given.end):
                when, _, dynamic = heappop(self._queue)
                self._background(when)
                dynamic(when)
            self._background(min(at, self.given.end))
            event(at)
        self._weigh_checks()
        return self.tally

    def _later(self, at: float, event: Event) -> None:
        self._serial += 1
        heappush(self._queue, (at, self._serial, event))

    # -- the provider ---------------------------------------------------------------------------------

    def _answer(self, binding: Binding, now: float) -> Reply:
        at = now - EPOCH
        if _within(self.world.api_outages, at):
            return NonAnswer(Failure.TRANSIENT, "timeout")
        if _within(self.world.throttles, at) and self._throttle.spend(at):
            return NonAnswer(Failure.THROTTLED, "Throttling.User")
        return _reply(*self.world.answer(self._by_id[binding.subs_id], at))

    # -- the table ------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Begin with bindings that were checked in the course of the last round."""
        draw, span = Random(f"{self.world.seed} load"), min(self.given.bindings / self.given.rate, BEFORE)
        for each in self.world.bindings:
            if each.created <= 0:
                at = -draw.random() * min(span, -each.created)
                status, known = self.world.answer(each, at)
                reply = _reply(status or Status.EXPIRED, known)
                self.account.restore(known_row(_wanted(each), reply, EPOCH + at, self.account.policy), EPOCH)

    def _static(self) -> Iterator[tuple[float, Event]]:
        end, skew = self.given.end, self.account.policy.skew
        for each in self.world.bindings:
            if each.created > 0:
                yield each.created, partial(self._on_register, each)
            lapsed = SWEEP * ceil((each.expires - skew) / SWEEP)
            if lapsed < end:
                yield lapsed, partial(self._on_lapse, each)
        for call in self.world.calls:
            yield call.at, partial(self._on_call, call)
            announced = call.at - 5 - 25 * call.chances[1]
            if self.level.hints and call.chances[0] < self.given.hinted and announced > call.binding.created:
                yield max(0.0, announced), partial(self._on_hint, call.binding, call.at)
        if self.level.hints:
            for hint in self.world.false_hints:
                yield hint.at, partial(self._on_hint, hint.binding, hint.dial_at)
        if self.level.reports:
            for news in self.world.news:
                yield news.at, partial(self._on_news, news)

    def _on_register(self, each: WorldBinding, at: float) -> None:
        self.account.register(_wanted(each), EPOCH + at)

    def _on_lapse(self, each: WorldBinding, at: float) -> None:
        self.account.lapse(each.subs_id, EPOCH + at)

    def _background(self, until: float) -> None:
        """Let the daemon check until then."""
        while True:
            at = self.account.background_at(EPOCH + self._clock) - EPOCH
            if at > until:
                self._clock = max(self._clock, min(until, at))
                return
            checked = self.account.tick(EPOCH + at)
            self._clock = at if checked else at + IDLE

    # -- the calls ------------------------------------------------------------------------------------

    def _on_call(self, call: WantedCall, at: float) -> None:
        if self.level.live:
            self._ask(call, 1, self.given.max_age, self.given.patience, at)
        else:
            self._read(call, 1, at, fresh=True, verified=False)

    def _on_second(self, call: WantedCall, at: float) -> None:
        self._ask(call, 2, 0.0, self.given.second_patience, at)

    def _ask(self, call: WantedCall, number: int, max_age: float, patience: float, at: float) -> None:
        """Ask for a route no older than `max_age`, as `Lookup.route` answers it."""
        subs_id, now = call.binding.subs_id, EPOCH + at
        fresh = not self.account.older(subs_id, max_age, now)
        if fresh or not self.account.wants_check(subs_id, now):
            self._read(call, number, at, fresh=fresh, verified=fresh)
        else:
            self._check(call, number, max_age, patience, at)

    def _check(self, call: WantedCall, number: int, max_age: float, patience: float, at: float) -> None:
        """A live check, once the quota has a token."""
        subs_id, now, fresh, doubted = call.binding.subs_id, EPOCH + at, False, False
        wait = self.account.afford(now, patience)
        if wait:
            self.account.waiting += 1
            left = patience - max(wait, 0.005)
            self._later(at + max(wait, 0.005), partial(self._on_token, call, number, max_age, left))
            return
        started = None if wait is None else self.account.start_on_demand(subs_id, now)
        if started is not None:
            asked, reply = started
            self.tally.live_checks += 1
            if call.chances[1 + number] < self.given.slow:
                self._later(
                    at + SLOW_REPLY, lambda then: self.account.deliver(asked, reply, EPOCH + then) and None
                )
            else:
                result = self.account.deliver(asked, reply, now)
                fresh, doubted = answered(result), result is CheckResult.GONE_UNCONFIRMED
        fresh = fresh or not self.account.older(subs_id, max_age, now)
        self._read(call, number, at, fresh=fresh, verified=fresh, doubted=doubted)

    def _on_token(self, call: WantedCall, number: int, max_age: float, left: float, at: float) -> None:
        self.account.waiting -= 1
        self._check(call, number, max_age, max(0.0, left), at)

    def _read(
        self, call: WantedCall, number: int, at: float, *, fresh: bool, verified: bool, doubted: bool = False
    ) -> None:
        """Dial what the route says."""
        each = call.binding
        route = self.account.read(
            each.subs_id,
            each.number_a,
            EPOCH + at,
            fresh=fresh,
            verified=verified,
            doubted=doubted and not fresh,
        )
        if route is None:
            raise AssertionError("every call is about a registered binding")
        # A number that could not be verified may belong to another pair by now: ask again rather than dial it. X is
        # dialled in the end, a temporary X never, since it is lent to the next pair far sooner.
        waits = route.action is Action.DIAL_TEMP_X or (self.level.waits and number == 1)
        refused = self.level.live and route.stale and waits
        if route.number and not refused:
            outcome = self.world.dial(each, route.number, at)
            why = "" if fresh and verified else "not verified"
            attempt = Attempt(route.number, outcome, route.action, why, state=route.state)
        else:
            number_dialled = "X" if route.action is Action.DIAL_X else "temporary X"
            why = f"{number_dialled} not verified" if refused else str(route.reason)
            attempt = Attempt("", action=route.action, why=why, hold=float(route.retry_after))
        if attempt.number and self.level.reports and call.chances[4] < self.given.reported:
            self._later(at + 5 + 55 * call.chances[5], partial(self._on_report, call, number, attempt, at))
        self._conclude(call, number, attempt, at)

    def _dial_x(self, call: WantedCall) -> None:
        """Dial X without asking, and again if that is what this level does."""
        at = call.at
        outcome = self.world.dial(call.binding, call.binding.number_x, at)
        if outcome is CallOutcome.DEAD and self.level.second:
            at += self.given.second_after
            outcome = self.world.dial(call.binding, call.binding.number_x, at)
        self._count(call, Attempt(call.binding.number_x, outcome, Action.DIAL_X, "not verified"), at)

    def _conclude(self, call: WantedCall, number: int, attempt: Attempt, at: float) -> None:
        """Try once more, or count."""
        missed = attempt.outcome is CallOutcome.DEAD and (attempt.number or at < call.binding.ended)
        again = at + max(self.given.second_after, attempt.hold)
        if missed and self.level.second and number == 1 and again < call.binding.expires:
            self._later(again, partial(self._on_second, call))
            return
        self._count(call, attempt, at)

    def _count(self, call: WantedCall, attempt: Attempt, at: float) -> None:
        if call.at < self.given.counted_from:
            return
        each, tally = call.binding, self.tally
        tally.calls += 1
        tally.calls_of_pool[each.pool] += 1
        tally.actions[attempt.action] += 1
        if attempt.outcome is CallOutcome.STRANGER:
            tally.strangers["X" if attempt.number == each.number_x else "temporary X"] += 1
        elif attempt.outcome is CallOutcome.DEAD:
            if not attempt.number and call.at >= each.ended:
                tally.spared += 1
            else:
                tally.failed[self._cause(each, attempt, at)] += 1
                tally.failed_of_pool[each.pool] += 1

    def _cause(self, each: WorldBinding, attempt: Attempt, at: float) -> str:
        if not attempt.number:
            return f"held back: {attempt.why}"
        if at >= each.ended:
            return "the binding had ended"
        if attempt.number == each.number_x and self.world.unnoticed(each, at):
            return "the provider did not know yet"
        return "route out of date" if attempt.why else "route out of date although verified"

    # -- hints and reports ----------------------------------------------------------------------------

    def _on_hint(self, each: WorldBinding, dial_at: float, at: float) -> None:
        self.account.hint(each.subs_id, EPOCH + dial_at, EPOCH + at)

    def _on_news(self, news: NumberNews, at: float) -> None:
        number_x = f"170{news.x:08d}"
        self.account.number_report(number_x, abnormal=news.abnormal, since=EPOCH + news.since, now=EPOCH + at)

    def _on_report(self, call: WantedCall, number: int, attempt: Attempt, placed: float, at: float) -> None:
        failed = attempt.outcome is CallOutcome.DEAD
        damning = failed and call.chances[6] < self.given.reclaimed
        failed = failed or call.chances[7] < self.given.false_reports
        call_id = f"{call.binding.subs_id} {call.at} {number}"
        verdict = CallVerdict(call_id, EPOCH + placed, failed, damning)
        self.account.report(call.binding.subs_id, verdict, attempt.state, EPOCH + at)

    # -- the quota ------------------------------------------------------------------------------------

    def _weigh_checks(self) -> None:
        """Count the checks, and by how many they were ever ahead of the quota."""
        spent, lead = self.account.spent, 0.0
        for count, at in enumerate(spent):
            lead = max(0.0, lead - self.given.rate * (at - spent[max(0, count - 1)])) + 1
            self.tally.ahead = max(self.tally.ahead, lead - self.given.burst)
        self.tally.checks = len(spent)


def _within(periods: list[tuple[float, float]], at: float) -> bool:
    found = bisect_right(periods, (at, inf)) - 1
    return found >= 0 and at < periods[found][1]


def _reply(status: int, number: str) -> Reply:
    return Answer(Status(status), number) if status else NonAnswer(Failure.GONE, "isv.SUBS_NOT_EXIST")


def _wanted(each: WorldBinding) -> Binding:
    return Binding(
        subs_id=each.subs_id,
        pool_key=each.pool_key,
        number_x=each.number_x,
        number_a=each.number_a,
        number_b=each.number_b,
        expires_at=EPOCH + each.expires,
        registered_at=EPOCH + each.created,
    )
