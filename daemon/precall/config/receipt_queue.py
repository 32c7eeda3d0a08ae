"""The section `[receipts]`: the message queues that the provider puts its reports into."""

import re
from collections import Counter
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from precall.config import addresses
from precall.config.section import Section, a_list

EXCEPTIONS, CALLS = "SecretExceptionPhoneReport", "SecretReport"
"""The kinds of reports that precall reads from a queue. Each kind has a queue of its own."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}-([A-Za-z]+)", re.ASCII)


def message_type(queue: str) -> str:
    """Return the kind of reports in a queue, which is the end of its name; "" for no name of a queue."""
    found = _NAME.fullmatch(queue)
    return found[1] if found else ""


def _a_queue(value: str) -> str:
    kind = message_type(value)
    if not kind:
        raise ValueError(f'is not the name of a queue, such as "Alicom-Queue-1234567890123456-{EXCEPTIONS}"')
    if kind not in (EXCEPTIONS, CALLS):
        # The queue hands out each message once, so its other reader would never receive one that is read here.
        raise ValueError(f"{kind} means nothing to precall; it reads queues of {EXCEPTIONS} and {CALLS}")
    return value


def _all_different(value: list[str]) -> list[str]:
    kinds = Counter(map(message_type, value))
    if twice := [kind for kind, count in kinds.items() if count > 1]:
        raise ValueError(f"should have one queue of {', '.join(twice)}")
    return value


QueueNames = Annotated[
    list[Annotated[str, AfterValidator(_a_queue)]],
    BeforeValidator(a_list),
    AfterValidator(_all_different),
]
"""Names of queues, at most one for each kind of report."""
QueueAddress = Annotated[str, AfterValidator(addresses.endpoint)]


class ReceiptsConfig(Section):
    """The provider's message queues. Their endpoints are the same for all customers."""

    queue: QueueNames = Field(default_factory=list)
    queue_endpoint: QueueAddress = "https://1943695596114318.mns.cn-hangzhou.aliyuncs.com"
    token_endpoint: QueueAddress = "https://dybaseapi.aliyuncs.com"  # noqa: S105 - an address
