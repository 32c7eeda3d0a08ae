"""The true state of every binding over time: its numbers, health and expiry.

Health advances only when a binding is looked at, so idle bindings cost nothing. Everything follows from the seed
except which temporary number a binding gets: as on the real platform, that depends on the order of the queries.
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
from precall.simulator.replies import BindingStatus
from precall.simulator.scenario import Binding, FaultKind, Pool, Scenario
from precall.simulator.temporary import TemporaryNumbers

NATURAL: Final = "natural"  # as the status of a script: follow the failure rates of the pool


@dataclass(frozen=True, slots=True)
class Script:
    """Overrides of a binding's answer, from the scenario or the admin API."""

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
    """All bindings of one account. Times are Unix seconds; `speed` scenario seconds pass per real second."""

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
        """Yield every binding in a stable order, generated ones first."""
        for generated in self._population:
            yield self._single.get(generated.subs_id, generated)
        for subs_id, binding in self._single.items():
            if subs_id not in self._population:
                yield binding

    def find(self, subs_id: str) -> SimBinding | None:
        """Return the binding as registered, or None if it never existed."""
        return self._single.get(subs_id) or self._population.find(subs_id)

    def has_pool(self, pool_key: str) -> bool:
        return pool_key in self._pools

    def add(self, spec: Binding) -> SimBinding:
        """Add a scripted binding, or replace the one with the same SubsId. A new pool is opened for it if need be."""
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
        """Change fields of a binding and of its script, by name. Raises KeyError for an unknown binding."""
        binding = self.find(subs_id)
        if binding is None:
            raise KeyError(subs_id)
        changed = replace(binding, **facts)  # type: ignore[arg-type]
        self._put(changed, replace(self._scripts.get(subs_id, Script()), **script))  # type: ignore[arg-type]
        return changed

    def answer(self, subs_id: str, pool_key: str, now: float) -> BindingStatus | str:
        """Return QueryCallStatus's answer, or a business error code. May lend a temporary number."""
        if pool_key not in self._pools:
            return "isv.POOLKEY_NOT_EXISTS"
        binding = self.find(subs_id)
        if binding is None or self._is_gone(binding, now):
            return "isv.SUBS_NOT_EXIST"
        if binding.pool_key != pool_key:
            return "isv.POOLKEY_NOT_EXISTS"
        if self._is_silent(binding, now):
            return self._claimed(binding, now)
        return self._status(binding, now, lend=True)

    def subscription(self, subs_id: str, number_x: str, pool_key: str, now: float) -> SimBinding | str:
        """Return the binding that QuerySubscriptionDetail asks about, or a business error code."""
        if pool_key not in self._pools:
            return "isv.POOLKEY_NOT_EXISTS"
        binding = self.find(subs_id)
        known = binding is not None and (binding.number_x, binding.pool_key) == (number_x, pool_key)
        if binding is None or not known or self._is_gone(binding, now):
            return "isv.SUBS_NOT_EXIST"
        return binding

    def in_effect(self, binding: SimBinding, now: float) -> bool:
        """Return whether the binding has neither expired nor been ended by its script."""
        truth = self.truth(binding, now)
        return isinstance(truth, BindingStatus) and truth.status != 4

    def secret_status(self, number_x: str, pool_key: str, now: float) -> int | str:
        """Return QuerySecretNoDetail's answer for a number X, or a business error code."""
        if pool_key not in self._pools:
            return "isv.POOLKEY_NOT_EXISTS"
        bindings = [binding for binding in self._bound_to(number_x) if binding.pool_key == pool_key]
        if not bindings:
            return "isv.NO_NOT_EXIST"
        overrides = [self._scripts.get(binding.subs_id, _UNSCRIPTED).secret_status for binding in bindings]
        if (scripted := next((status for status in overrides if status is not None), None)) is not None:
            return scripted
        answers = [self.truth(binding, now) for binding in bindings]
        statuses = {answer.status for answer in answers if isinstance(answer, BindingStatus)} - {4}
        return 0 if not statuses else 3 if statuses & {2, 3} else 1

    def _bound_to(self, number_x: str) -> list[SimBinding]:
        ids = set(self._on_x.get(number_x, ()))
        generated = self._population.on_x(number_x)
        if generated is not None and generated.subs_id not in self._single:
            ids.add(generated.subs_id)
        return [binding for subs_id in sorted(ids) if (binding := self.find(subs_id))]

    def reaches(self, binding: SimBinding, number: str, now: float) -> bool:
        """Return whether a call from one party of this binding to `number` reaches the other party now.

        X does while it works, and so does the temporary number that the binding holds. A party's own number always
        does.
        """
        number = _dialled(number)
        if number in (_dialled(binding.number_a), _dialled(binding.number_b)):
            return bool(number)
        if self._is_gone(binding, now):
            return False
        answer = self._status(binding, now, lend=False)
        if answer.status == 1 and self._is_silent(binding, now):
            return False
        return answer.status in (1, 2) and bool(number) and number == _dialled(answer.called_no)

    def truth(self, binding: SimBinding, now: float) -> BindingStatus | str:
        """Return what `answer` would, without lending: a number that is not lent yet shows as ""."""
        if self._is_gone(binding, now):
            return "isv.SUBS_NOT_EXIST"
        return self._claimed(binding, now)

    def _claimed(self, binding: SimBinding, now: float) -> BindingStatus:
        """Return the provider's answer without lending. It reports an X that failed silently as working."""
        answer = self._status(binding, now, lend=False)
        if answer.status in (2, 3) and self._is_silent(binding, now):
            return BindingStatus(1, binding.number_x, binding.extension)
        return answer

    def _status(self, binding: SimBinding, now: float, *, lend: bool) -> BindingStatus:
        script = self._scripts.get(binding.subs_id, _UNSCRIPTED)
        status = script.status
        expires_at = math.inf if binding.expires_at is None else binding.expires_at
        if status in _SUBJECT_TO_EXPIRY and now >= expires_at:
            status = 4
        elif status in (NATURAL, 1):
            until, allocates = self._failure(binding, now, follow_rates=status == NATURAL)
            if until > now:
                number = (
                    self._temporary(binding, min(until, expires_at), now, lend=lend) if allocates else None
                )
                return self._abnormal(binding, number)
            status = 1
        elif status == 2 and script.called_no is None:
            return self._abnormal(binding, self._temporary(binding, expires_at, now, lend=lend))
        self._pools[binding.pool_key].numbers.give_back(binding.subs_id)
        called_no = script.called_no
        if called_no is None:
            called_no = "" if status == 3 else binding.number_x
        return BindingStatus(status, called_no, "" if status in (3, 4) else binding.extension)

    def _abnormal(self, binding: SimBinding, number: str | None) -> BindingStatus:
        """Return Status 2 with a temporary number, or Status 3 without one."""
        if number is None:
            self._pools[binding.pool_key].numbers.give_back(binding.subs_id)
            return BindingStatus(3, "")
        return BindingStatus(2, number, binding.extension)

    def _temporary(self, binding: SimBinding, until: float, now: float, *, lend: bool) -> str | None:
        """Return the binding's temporary number: None if the pool is empty, "" if one is free but not lent yet."""
        numbers = self._pools[binding.pool_key].numbers
        if lend:
            return numbers.lend(binding.subs_id, until, now) or None
        return numbers.held_by(binding.subs_id, now) or ("" if numbers.has_free(now) else None)

    def _failure(self, binding: SimBinding, now: float, *, follow_rates: bool) -> tuple[float, bool]:
        """Return until when the binding is abnormal, and whether it gets a temporary number.

        A time of `now` or earlier means that it is normal.
        """
        until = self._natural_failure(binding, now) if follow_rates else now
        allocates = True
        for planned in self._faults.striking(binding.subs_id, binding.pool_key, now):
            if planned.fault.kind is FaultKind.OUTAGE:
                until = max(until, planned.ends)
                allocates = allocates and planned.fault.status != 3
        return until, allocates

    def _natural_failure(self, binding: SimBinding, now: float) -> float:
        """Return until when the binding is abnormal by the pool's rates, which give exponential times."""
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
_SUBJECT_TO_EXPIRY = (NATURAL, 1, 2, 3, 4)


def _dialled(number: str) -> str:
    """Return the digits of a number without country and trunk prefixes, as the exchange dials it."""
    digits = re.sub(r"[^0-9]", "", number)
    for prefix in ("0086", "86"):
        if digits.startswith(prefix) and len(digits) >= len(prefix) + 10:
            digits = digits.removeprefix(prefix)
            break
    return digits.removeprefix("0")
