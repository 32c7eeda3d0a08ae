"""When to check a binding again after a reply, as far as that is not left to the planner."""

from dataclasses import dataclass

from precall.core.model import NonAnswer, Reply
from precall.core.planning.entries import CheckKind
from precall.core.routing.state import Step, is_gone


@dataclass(frozen=True, slots=True)
class NextCheck:
    """What a reply means for the plan of a binding.

    `settled`: the provider answered, so the planner may choose the time. `at_rest`: only the scheduled check, if any.
    `after` is the delay (s) of a scheduled check of this `kind`. Without a `kind`, and where the reply was no answer,
    it is the delay after which the planner may choose a time.
    """

    settled: bool
    at_rest: bool = False
    after: float | None = None
    kind: CheckKind | None = None


def next_check(step: Step, reply: Reply) -> NextCheck:
    """What a step means for the plan, given the provider's `retry_after` if the reply carries one."""
    if step.answered or step.at_rest:
        kind = CheckKind.GONE if is_gone(step.state) else CheckKind.CONFIRM
        return NextCheck(
            settled=True, at_rest=step.at_rest, after=step.again, kind=None if step.again is None else kind
        )
    after = step.again or 0.0
    if isinstance(reply, NonAnswer) and reply.retry_after:
        after = max(after, reply.retry_after)
    return NextCheck(settled=False, after=after, kind=CheckKind.CONFIRM if step.state.gone_at else None)
