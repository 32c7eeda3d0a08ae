"""What is true of every binding at a given time: its numbers, its health, its end.

Belongs here: bindings and their evolution. Does not belong here: who may ask and how the answer looks.

Health is evolved only when somebody asks, so that idle bindings cost nothing. Everything follows from the seed, except
which temporary number a binding gets: that depends on the order of the questions, as with the real platform.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from precall.simulator.chance import waiting_time
from precall.simulator.faults import FaultPlan
from precall.simulator.population import TEMPORARY, A, B, Population, SimBinding, X
from precall.simulator.replies import Standing
from precall.simulator.scenario import Binding, FaultKind, Pool, Scenario
from precall.simulator.temporary import TemporaryNumbers

NATURAL: Final = "natural"  # a script's status: follow the hazards of the pool


@dataclass(frozen=True, slots=True)
class Script:
    """What a scenario or the admin endpoint dictates of a binding's answer."""

    status: object = NATURAL
    called_no: str | None = None
    gone: bool = False
    secret_status: int | None = None


@dataclass(slots=True)
class _Health:
    episode: int
    abnormal: bool
    until: float


@dataclass(frozen=True, slots=True)
class _PoolState:
    spec: Pool
    numbers: TemporaryNumbers


class World:
    """All bindings of one account. Times are Unix seconds; `speed` scenario seconds pass per second."""

    def __init__(self, scenario: Scenario, faults: FaultPlan, origin: float, speed: float) -> None:
        self._seed = scenario.seed
        self._faults = faults
        self._origin = origin
        self._speed = speed
        self._pools: dict[str, _PoolState] = {}
        self._population = Population(scenario.seed, scenario.pools, origin, speed)
        self._single: dict[str, SimBinding] = {}
        self._scripts: dict[str, Script] = {}
        self._on_x: dict[str, set[str]] = {}
        self._health: dict[str, _Health] = {}
        self._next_temporary = 0
        for pool in scenario.pools:
            self._open_pool(pool)
        self._next_number = len(self._population)
        for binding in scenario.bindings:
            self.add(binding)

    def __len__(self) -> int:
        return len(self._population) + sum(subs_id not in self._population for subs_id in self._single)

    def bindings(self) -> Iterator[SimBinding]:
        """Every binding, those generated first, in a stable order."""
        for generated in self._population:
            yield self._single.get(generated.subs_id, generated)
        for subs_id, binding in self._single.items():
            if subs_id not in self._population:
                yield binding

    def find(self, subs_id: str) -> SimBinding | None:
        """The binding as registered, None when it never existed."""
        return self._single.get(subs_id) or self._population.find(subs_id)

    def has_pool(self, pool_key: str) -> bool:
        return pool_key in self._pools

    def add(self, spec: Binding) -> SimBinding:
        """Bring in a scripted binding, or replace one of the same SubsId. Its pool is opened when it is new."""
        self._open_pool(Pool(pool_key=spec.pool_key, bindings=0, onset=0, lifetime=0))
        serial = self._next_number
        self._next_number += 1
        binding = SimBinding(
            spec.subs_id,
            spec.pool_key,
            self._population.number(X, serial) if spec.number_x is None else spec.number_x,
            self._population.number(A, serial) if spec.number_a is None else spec.number_a,
            self._population.number(B, serial) if spec.number_b is None else spec.number_b,
            spec.extension,
            spec.expires_at,
        )
        self._put(binding, Script(spec.status, spec.called_no, secret_status=spec.secret_status))
        return binding

    def change(self, subs_id: str, facts: Mapping[str, object], script: Mapping[str, object]) -> SimBinding:
        """Change registered facts and the script by field name. Raises KeyError for an unknown binding."""
        binding = self.find(subs_id)
        if binding is None:
            raise KeyError(subs_id)
        changed = replace(binding, **facts)  # type: ignore[arg-type]
        self._put(changed, replace(self._scripts.get(subs_id, Script()), **script))  # type: ignore[arg-type]
        return changed

    def answer(self, subs_id: str, pool_key: str, now: float) -> Standing | str:
        """What QueryCallStatus says: a standing, or the code of a business error. May lend a temporary number."""
        if pool_key not in self._pools:
            return "isv.POOLKEY_NOT_EXISTS"
        binding = self.find(subs_id)
        if binding is None or self._is_gone(binding, now):
            return "isv.SUBS_NOT_EXIST"
        if binding.pool_key != pool_key:
            return "isv.POOLKEY_NOT_EXISTS"
        if self._is_silent(binding, now):
            return self._claimed(binding, now)
        return self._standing(binding, now, lend=True)

    def subscription(self, subs_id: str, number_x: str, pool_key: str, now: float) -> SimBinding | str:
        """The binding QuerySubscriptionDetail asks about, or the code of a business error."""
        if pool_key not in self._pools:
            return "isv.POOLKEY_NOT_EXISTS"
        binding = self.find(subs_id)
        known = binding is not None and (binding.number_x, binding.pool_key) == (number_x, pool_key)
        if binding is None or not known or self._is_gone(binding, now):
            return "isv.SUBS_NOT_EXIST"
        return binding

    def in_effect(self, binding: SimBinding, now: float) -> bool:
        """Whether the binding has not ended, by its expiry or by its script."""
        truth = self.truth(binding, now)
        return isinstance(truth, Standing) and truth.status != 4

    def secret_status(self, number_x: str, pool_key: str, now: float) -> int | str:
        """What QuerySecretNoDetail says of a number X, or the code of a business error."""
        if pool_key not in self._pools:
            return "isv.POOLKEY_NOT_EXISTS"
        bindings = [binding for binding in self._bound_to(number_x) if binding.pool_key == pool_key]
        if not bindings:
            return "isv.NO_NOT_EXIST"
        told = [self._scripts.get(binding.subs_id, _UNSCRIPTED).secret_status for binding in bindings]
        if (scripted := next((status for status in told if status is not None), None)) is not None:
            return scripted
        standings = [self.truth(binding, now) for binding in bindings]
        statuses = {standing.status for standing in standings if isinstance(standing, Standing)} - {4}
        return 0 if not statuses else 3 if statuses & {2, 3} else 1

    def _bound_to(self, number_x: str) -> list[SimBinding]:
        ids = set(self._on_x.get(number_x, ()))
        generated = self._population.on_x(number_x)
        if generated is not None and generated.subs_id not in self._single:
            ids.add(generated.subs_id)
        return [binding for subs_id in sorted(ids) if (binding := self.find(subs_id))]

    def reaches(self, binding: SimBinding, number: str, now: float) -> bool:
        """Whether a call of one party of this binding to `number` gets through to the other one now: X while it works,
        the temporary number the binding holds now, a party's own number always."""
        number = _dialled(number)
        if number in (_dialled(binding.number_a), _dialled(binding.number_b)):
            return bool(number)
        if self._is_gone(binding, now):
            return False
        standing = self._standing(binding, now, lend=False)
        if standing.status == 1 and self._is_silent(binding, now):
            return False
        return standing.status in (1, 2) and bool(number) and number == _dialled(standing.called_no)

    def truth(self, binding: SimBinding, now: float) -> Standing | str:
        """What `answer` would say, without the side effect: a number not lent yet shows as ""."""
        if self._is_gone(binding, now):
            return "isv.SUBS_NOT_EXIST"
        return self._claimed(binding, now)

    def _claimed(self, binding: SimBinding, now: float) -> Standing:
        """What the provider says without lending: of an X that died silently, that it works."""
        standing = self._standing(binding, now, lend=False)
        if standing.status in (2, 3) and self._is_silent(binding, now):
            return Standing(1, binding.number_x, binding.extension)
        return standing

    def _standing(self, binding: SimBinding, now: float, *, lend: bool) -> Standing:
        script = self._scripts.get(binding.subs_id, _UNSCRIPTED)
        status = script.status
        expires_at = math.inf if binding.expires_at is None else binding.expires_at
        if status in _MEANINGFUL and now >= expires_at:
            status = 4
        elif status in (NATURAL, 1):
            until, allocates = self._trouble(binding, now, hazards=status == NATURAL)
            if until > now:
                number = (
                    self._temporary(binding, min(until, expires_at), now, lend=lend) if allocates else None
                )
                return self._second_choice(binding, number)
            status = 1
        elif status == 2 and script.called_no is None:
            return self._second_choice(binding, self._temporary(binding, expires_at, now, lend=lend))
        self._pools[binding.pool_key].numbers.give_back(binding.subs_id)
        called_no = script.called_no
        if called_no is None:
            called_no = "" if status == 3 else binding.number_x
        return Standing(status, called_no, "" if status in (3, 4) else binding.extension)

    def _second_choice(self, binding: SimBinding, number: str | None) -> Standing:
        """Status 2 with a temporary number, or Status 3 when there is none."""
        if number is None:
            self._pools[binding.pool_key].numbers.give_back(binding.subs_id)
            return Standing(3, "")
        return Standing(2, number, binding.extension)

    def _temporary(self, binding: SimBinding, until: float, now: float, *, lend: bool) -> str | None:
        """The binding's temporary number, None when the pool has none; "" when it would get one by asking."""
        numbers = self._pools[binding.pool_key].numbers
        if lend:
            return numbers.lend(binding.subs_id, until, now) or None
        return numbers.held_by(binding.subs_id, now) or ("" if numbers.has_free(now) else None)

    def _trouble(self, binding: SimBinding, now: float, *, hazards: bool) -> tuple[float, bool]:
        """Until when the binding is abnormal (`now` or earlier: it is not), and whether numbers are handed out."""
        until = self._natural_trouble(binding, now) if hazards else now
        allocates = True
        for planned in self._faults.striking(binding.subs_id, binding.pool_key, now):
            if planned.fault.kind is FaultKind.OUTAGE:
                until = max(until, planned.ends)
                allocates = allocates and planned.fault.status != 3
        return until, allocates

    def _natural_trouble(self, binding: SimBinding, now: float) -> float:
        """The pool's hazards: exponential times to trouble and to recovery, in turns."""
        spec = self._pools[binding.pool_key].spec
        if not spec.onset:
            return now
        health = self._health.get(binding.subs_id)
        if health is None:
            first = waiting_time(spec.onset / self._speed, self._seed, binding.subs_id, "episode", 0)
            health = self._health[binding.subs_id] = _Health(0, abnormal=False, until=self._origin + first)
        while now >= health.until:
            health.episode += 1
            health.abnormal = not health.abnormal
            mean = spec.recovery if health.abnormal else spec.onset
            health.until += waiting_time(
                mean / self._speed, self._seed, binding.subs_id, "episode", health.episode
            )
        return health.until if health.abnormal else now

    def _is_gone(self, binding: SimBinding, now: float) -> bool:
        script = self._scripts.get(binding.subs_id, _UNSCRIPTED)
        return script.gone or self._is_struck(FaultKind.GONE, binding, now)

    def _is_silent(self, binding: SimBinding, now: float) -> bool:
        return self._is_struck(FaultKind.SILENT, binding, now)

    def _is_struck(self, kind: FaultKind, binding: SimBinding, now: float) -> bool:
        return any(
            planned.fault.kind is kind
            for planned in self._faults.striking(binding.subs_id, binding.pool_key, now)
        )

    def _put(self, binding: SimBinding, script: Script) -> None:
        if former := self._single.get(binding.subs_id):
            self._on_x[former.number_x].discard(former.subs_id)
        self._on_x.setdefault(binding.number_x, set()).add(binding.subs_id)
        self._single[binding.subs_id] = binding
        self._scripts[binding.subs_id] = script
        self._pools[binding.pool_key].numbers.give_back(binding.subs_id)

    def _open_pool(self, pool: Pool) -> None:
        if pool.pool_key in self._pools:
            return
        first = self._next_temporary
        self._next_temporary += pool.temporary_numbers
        numbers = (
            self._population.number(TEMPORARY, serial) for serial in range(first, self._next_temporary)
        )
        self._pools[pool.pool_key] = _PoolState(
            pool, TemporaryNumbers(numbers, rotating=pool.temporary == "rotating")
        )


_UNSCRIPTED = Script()
_MEANINGFUL = (NATURAL, 1, 2, 3, 4)


def _dialled(number: str) -> str:
    """What the exchange makes of a number: its digits without the prefixes of the country and of the trunk."""
    digits = re.sub(r"[^0-9]", "", number)
    for prefix in ("0086", "86"):
        if digits.startswith(prefix) and len(digits) >= len(prefix) + 10:
            digits = digits.removeprefix(prefix)
            break
    return digits.removeprefix("0")
