"""The scenario file: its TOML keys, their defaults and strict validation.

What happens over time is in world.py, faults.py, exchange.py and calls.py.

Durations are `"250ms"`, `"30s"`, `"5m"`, `"4h"`, `"1d"` or plain seconds. They are scenario time: at speed 10 they
pass ten times as fast. Only `delay` of a slow fault, `every` of receipts and the rates and quotas are real time.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

QUERY_CALL_STATUS = "QueryCallStatus"
QUERY_CALL_DETAIL = "QueryCallDetailByCallId"
QUERY_SUBSCRIPTION_DETAIL = "QuerySubscriptionDetail"
QUERY_NUMBER_DETAIL = "QuerySecretNoDetail"
QUERY_QUEUE_TOKEN = "QueryTokenForMnsQueue"  # noqa: S105 - the name of an action
DEMO_SPEED = 60.0
"""A minute of the demo scenario passes in a second."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class ScenarioError(Exception):
    """The scenario is invalid. `mistakes` lists every mistake with its dotted key."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


def _seconds(value: object) -> object:
    if isinstance(value, str):
        matched = _DURATION.fullmatch(value.strip())
        if matched is None:
            raise ValueError('a duration is written like "250ms", "30s", "5m", "4h" or "1d"')
        return float(matched[1]) * _UNITS[matched[2]]
    return value


def _instant(value: object) -> object:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("a time is written like 2030-01-01T00:00:00Z") from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a time needs a zone, such as Z or +08:00")
        return value.timestamp()
    return value


Duration = Annotated[float, BeforeValidator(_seconds), Field(strict=True, ge=0, allow_inf_nan=False)]
Instant = Annotated[float, BeforeValidator(_instant), Field(strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
ActionName = Literal[
    "QueryCallStatus",
    "QueryCallDetailByCallId",
    "QuerySubscriptionDetail",
    "QuerySecretNoDetail",
    "QueryTokenForMnsQueue",
]


class Section(BaseModel):
    """A table of the file. It is immutable, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Account(Section):
    """The customer's account.

    `rate` is a limit in calls per second that applies separately to QueryCallStatus and each of its two substitutes;
    0 is unlimited.
    """

    access_key_id: str = "demo"
    access_key_secret: str = "demo-secret"  # noqa: S105 - the documented default of a simulator
    security_token: str = ""
    rate: float = Field(0.0, ge=0)
    retry_after: int = Field(0, ge=0)  # milliseconds in x-acs-retry-after; 0 sends no such header
    throttle_code: str = "Throttling.User"  # isv.FLOW_LIMIT is the business variant, with HTTP 200
    call_detail_rate_per_minute: float = Field(100.0, ge=0)


class Replies(Section):
    """Details that the provider's documents leave open."""

    business_http_errors: bool = False  # business codes with HTTP 400/500 instead of 200
    no_number: Literal["null", "missing", "empty"] = "null"  # how JSON represents a missing CalledNo
    query_date: Literal["day", "next_24h"] = (
        "day"  # what QueryDate covers: as on the product page, or as in newer documents
    )
    full_width_quotes: bool = False  # quotes in call details as the product page prints them


class Pool(Section):
    """A pool of generated bindings.

    `onset`, `recovery` and `lifetime` are mean times; `"0s"` means never.
    """

    pool_key: str = Field(min_length=1)
    bindings: int = Field(300, ge=0, le=10_000_000)
    temporary_numbers: int = Field(20, ge=0, le=1_000_000)
    temporary: Literal["sticky", "rotating"] = "sticky"
    onset: Duration = 3600.0
    recovery: Duration = 900.0
    lifetime: Duration = 14400.0
    without_b: Share = 0.0  # share of AXN-like bindings, which have no party B
    extension_digits: int = Field(0, ge=0, le=4)


class Binding(Section):
    """One scripted binding.

    `status` 1-4 is the provider's answer; expiry still ends the binding, and an outage still hits a normal one.
    `"natural"` follows the failure rates of the pool. Any other value is sent unchanged.

    Without `called_no` the answer has the usual number: X, or one of the temporary pool. Numbers that are left out
    are generated. `secret_status` (0 unbound, 1 bound, 2 locked, 3 frozen) is QuerySecretNoDetail's answer for X. By
    default X is bound while it works, frozen while it does not, and unbound once none of its bindings is in effect.
    """

    subs_id: str = Field(min_length=1)
    pool_key: str = Field(min_length=1)
    number_x: str | None = None
    number_a: str | None = None
    number_b: str | None = None
    extension: str = ""
    expires_at: Instant | None = None
    status: int | str | None = 1
    called_no: str | None = None
    secret_status: int | None = None


class FaultKind(StrEnum):
    """Kinds of faults. `gone`, `outage` and `silent` hit bindings; all others hit API calls.

    Under `silent` the X of a binding no longer reaches anybody, while the provider still answers Status 1.
    """

    THROTTLE = "throttle"
    ERROR = "error"
    HANG = "hang"
    SLOW = "slow"
    RESET = "reset"
    HTML = "html"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    GARBAGE = "garbage"
    GONE = "gone"
    OUTAGE = "outage"
    SILENT = "silent"


_COMMON_FAULT_KEYS = {"kind", "at", "for_", "share", "pool_key", "subs_id", "action"}
_FAULT_KEYS: dict[FaultKind, set[str]] = {
    FaultKind.THROTTLE: {"code", "retry_after"},
    FaultKind.ERROR: {"code", "http_status", "message", "format"},
    FaultKind.SLOW: {"delay"},
    FaultKind.OUTAGE: {"status"},
}


class Fault(Section):
    """A fault that starts at `at`, lasts `for` (`"0s"`: forever) and hits a `share` of the API calls or bindings."""

    kind: FaultKind
    at: Duration = 0.0
    for_: Duration = Field(0.0, alias="for")
    share: Share = 1.0
    pool_key: str = ""
    subs_id: str = ""
    action: ActionName | Literal[""] = ""
    code: str = ""
    http_status: int | None = Field(None, ge=200, le=599)
    message: str = ""
    format: Literal["", "json", "xml"] = ""
    retry_after: int = Field(0, ge=0)  # milliseconds
    delay: Duration = 3.0  # real seconds
    status: Literal[2, 3] = 2

    @model_validator(mode="after")
    def _keys_fit_kind(self) -> Self:
        unknown = self.model_fields_set - _COMMON_FAULT_KEYS - _FAULT_KEYS.get(self.kind, set())
        if unknown:
            raise ValueError(f"a fault of kind {self.kind} has no key {', '.join(sorted(unknown))}")
        return self


class Call(Section):
    """One call, and what QueryCallDetailByCallId answers for it.

    The answer is empty until `called_at` + `after`. Then it has the `intermediate` states, spread evenly over the
    call, and from `called_at` + `ends` on the final `state`. `ends` defaults to 10 s of ringing plus the duration.
    Without `called_at` the call is placed when the simulation starts.
    """

    call_id: str = Field(min_length=1)
    prod_id: int = 11000000300006
    called_at: Instant | None = None
    state: str = "200000"
    state_desc: str | None = None
    duration: int = Field(0, ge=0)
    after: Duration = 180.0
    ends: Duration | None = None
    intermediate: tuple[str, ...] = ("200101", "200201", "200102", "200103")
    caller: str = "13800000000"
    callee: str = "17000000000"
    omit: tuple[str, ...] = ()  # fields to leave out of the detail


class Habits(Section):
    """How callees react to calls that reach them, as shares of those calls, and how calls are placed.

    `handset` is the share of calls placed from a handset, which are reported by a pushed receipt. The others go
    through the voice service; QueryCallDetailByCallId has them `detail_after` (scenario time) after they were placed.
    """

    busy: Share = 0.06
    no_answer: Share = 0.12
    powered_off: Share = 0.02
    talk: Duration = 45.0  # mean length of an answered call
    handset: Share = 0.5
    detail_after: Duration = 180.0

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.busy + self.no_answer + self.powered_off > 1:
            raise ValueError("busy, no_answer and powered_off add up to more than 1")
        return self


class Receipts(Section):
    """Where to push the SecretReport receipts of handset calls; an empty `url` disables them.

    A batch is pushed `every` so often (real time), in any order. `duplicates` is the share of receipts sent twice.
    """

    url: str = ""
    every: Duration = 1.0
    duplicates: Share = 0.1


class Queues(Section):
    """The customer's message queues, by name: one for each kind of report, which is the end of its name.

    Every X that becomes abnormal, or normal again, makes a message in the queue of SecretExceptionPhoneReport; for that
    all bindings are looked at `every` so often. A queue of SecretReport gets the receipts that have no `url` to be
    pushed to. A message that is not deleted comes again after `visibility`, and `duplicates` is the share of messages
    sent twice. All of this is real time.
    """

    names: tuple[str, ...] = ()
    every: Duration = 1.0
    visibility: Duration = 30.0
    duplicates: Share = 0.0
    token_lifetime: Duration = 3600.0


class Dispatching(Section):
    """A scripted dispatcher that dials the routes of the precall at `url`; an empty `url` disables it.

    `rate` is calls per real second. `outcomes` is the share of voice service calls that the dispatcher reports with
    their outcome, once they end. It reports the others as it places them, and precall looks up how they ended.
    """

    url: str = ""
    token: str = ""
    rate: float = Field(2.0, gt=0, le=1000)
    outcomes: Share = 0.5


class Scenario(Section):
    """The whole scenario. `Scenario()` is an account without bindings."""

    seed: int = 1
    delisted: tuple[ActionName, ...] = ()
    delisted_code: str = "InvalidApi.NotFound"  # InvalidAction.NotFound is the newer name
    account: Account = Account()
    replies: Replies = Replies()
    pools: tuple[Pool, ...] = Field((), alias="pool")
    bindings: tuple[Binding, ...] = Field((), alias="binding")
    faults: tuple[Fault, ...] = Field((), alias="fault")
    calls: tuple[Call, ...] = Field((), alias="call")
    habits: Habits = Habits()
    receipts: Receipts = Receipts()
    queues: Queues = Queues()
    dispatcher: Dispatching = Dispatching()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for what, names in (
            ("pool_key", [pool.pool_key for pool in self.pools]),
            ("subs_id", [binding.subs_id for binding in self.bindings]),
            ("call_id", [call.call_id for call in self.calls]),
        ):
            repeated = (
                sorted({name for name in names if names.count(name) > 1})
                if len(set(names)) < len(names)
                else []
            )
            if repeated:
                raise ValueError(f"{what} given twice: {', '.join(repeated)}")
        return self


_Section = TypeVar("_Section", bound=Section)


def read_section(section: type[_Section], values: object) -> _Section:
    """Validate a table. Raises ScenarioError, which lists every mistake."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ScenarioError(
            _mistake(section, item["loc"], item["type"], item["msg"]) for item in error.errors()
        ) from None


def load_scenario(source: str | Path) -> Scenario:
    """Read a scenario from TOML text or from a file: a Path, or a str without `=` and line breaks.

    Raises ScenarioError if the file cannot be read, is not TOML, or has mistakes in keys or values.
    """
    if isinstance(source, Path) or (source and not re.search(r"[=\n]", source)):
        try:
            source = Path(source).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ScenarioError([f"scenario cannot be read: {error}"]) from None
    try:
        values = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError([f"scenario is not TOML: {error}"]) from None
    return read_section(Scenario, values)


def demo_scenario() -> Scenario:
    """Return the scenario of the demo: about 380 bindings that, at `DEMO_SPEED`, show every route within 20 s.

    Its pools are healthy, failing and recovering, short of temporary numbers, and short-lived. The demo only observes
    the last one, which fails often. Some X numbers fail silently from 4 s on. An outage without temporary numbers
    lasts from 10 s to 26 s, throttling from 30 s to 34 s, and no call gets through from 42 s to 50 s.
    """
    return Scenario(
        seed=20170525,
        account=Account(call_detail_rate_per_minute=DEMO_SPEED * 100),
        pools=(
            Pool(pool_key="FC100001", bindings=120, onset=0, lifetime=0),
            Pool(
                pool_key="FC100002", bindings=100, temporary_numbers=40, onset=5400, recovery=1500, lifetime=0
            ),
            Pool(
                pool_key="FC100003", bindings=60, temporary_numbers=2, onset=3600, recovery=1800, lifetime=0
            ),
            Pool(
                pool_key="FC100004",
                bindings=40,
                temporary_numbers=5,
                temporary="rotating",
                onset=3600,
                recovery=1200,
                lifetime=1800,
                without_b=0.25,
                extension_digits=3,
            ),
            Pool(
                pool_key="FC100005", bindings=60, temporary_numbers=20, onset=1800, recovery=1500, lifetime=0
            ),
        ),
        faults=(
            Fault(kind=FaultKind.SILENT, at=240, pool_key="FC100001", share=0.03),
            Fault(kind=FaultKind.OUTAGE, at=600, for_=960, pool_key="FC100003", share=0.9, status=3),
            Fault(kind=FaultKind.THROTTLE, at=1800, for_=240, retry_after=500),
            Fault(kind=FaultKind.RESET, at=2520, for_=480),
        ),
        calls=(
            Call(call_id="116012854210^102314050001", after=300, duration=31),
            Call(call_id="116012854210^102314050002", after=300, state="200005"),
        ),
        receipts=Receipts(every=0.5),
        dispatcher=Dispatching(outcomes=1.0),
    )


def _mistake(section: type[Section], where: tuple[int | str, ...], kind: str, message: str) -> str:
    key = _dotted(where)
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(where[-1]), _known_keys(section, where[:-1]), n=1)
        return f"{key}: unknown key" + (f", did you mean {near[0]}?" if near else "")
    message = message.removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _dotted(where: tuple[int | str, ...]) -> str:
    key = ""
    for part in where:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    return key


def _known_keys(section: type[Section], where: tuple[int | str, ...]) -> list[str]:
    tables: dict[str, type[Section]] = {
        "account": Account,
        "replies": Replies,
        "pool": Pool,
        "binding": Binding,
        "fault": Fault,
        "call": Call,
        "habits": Habits,
        "receipts": Receipts,
        "queues": Queues,
        "dispatcher": Dispatching,
    }
    if where:
        section = tables[str(where[0])]
    fields: dict[str, Any] = section.model_fields
    return [field.alias or name for name, field in fields.items()]
