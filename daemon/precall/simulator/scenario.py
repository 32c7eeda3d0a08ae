"""What a scenario file may say: accounts, pools, bindings, faults and calls, validated strictly.

Belongs here: the TOML keys, their defaults, and the wording of mistakes. Does not belong here: anything that happens
over time (world.py, faults.py, exchange.py, calls.py).

Durations are `"250ms"`, `"30s"`, `"5m"`, `"4h"`, `"1d"` or plain seconds. They are scenario time: a simulator that
runs at speed 10 lets them pass ten times faster. Only `delay` of a slow fault and the quotas are real time.
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
DEMO_SPEED = 60.0
"""Minutes of the demonstration's scenario are seconds of its visitor."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class ScenarioError(Exception):
    """The scenario cannot be used. `mistakes` lists every one of them, each with its dotted key."""

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
    "QueryCallStatus", "QueryCallDetailByCallId", "QuerySubscriptionDetail", "QuerySecretNoDetail"
]


class Section(BaseModel):
    """One table of the file: immutable, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Account(Section):
    """The customer's account. `rate` (calls per second) limits QueryCallStatus, and each of its two substitutes by
    itself; 0 is no limit."""

    access_key_id: str = "demo"
    access_key_secret: str = "demo-secret"  # noqa: S105 - the documented default of a simulator
    security_token: str = ""
    rate: float = Field(0.0, ge=0)
    retry_after: int = Field(0, ge=0)  # milliseconds in x-acs-retry-after; 0 sends no such header
    throttle_code: str = "Throttling.User"  # isv.FLOW_LIMIT is the business flavour, with HTTP 200
    call_detail_rate_per_minute: float = Field(100.0, ge=0)


class Replies(Section):
    """The choices the provider's documents leave open."""

    business_http_errors: bool = False  # business codes with HTTP 400/500 instead of 200
    no_number: Literal["null", "missing", "empty"] = "null"  # how JSON says that there is no CalledNo
    query_date: Literal["day", "next_24h"] = "day"  # what QueryDate covers: product page or newer documents
    full_width_quotes: bool = False  # call details quoted as the product page prints them


class Pool(Section):
    """Generated bindings. A mean of `"0s"` means never: no trouble, no recovery, no expiry."""

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

    `status` 1-4 is what the provider answers now: its expiry still ends it, and an outage still strikes a normal one.
    `"natural"` follows the hazards of the pool; any other value is sent as it stands.
    Without `called_no` the provider answers as usual: X, or a number of the temporary pool. Numbers left out are
    made up. `secret_status` (0 unbound, 1 bound, 2 locked, 3 frozen) is what QuerySecretNoDetail says of X; left out,
    it follows: bound while X works, frozen while it does not, unbound when no binding on it is in effect.
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
    """What can go wrong. `gone`, `outage` and `silent` strike bindings, all others strike calls of the API.

    A binding that is struck by `silent` has an X that reaches nobody, while the provider goes on to say Status 1.
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
    """One fault from `at` on, `for` so long (`"0s"`: until the end), for a share of the calls or bindings."""

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
        strange = self.model_fields_set - _COMMON_FAULT_KEYS - _FAULT_KEYS.get(self.kind, set())
        if strange:
            raise ValueError(f"a fault of kind {self.kind} has no key {', '.join(sorted(strange))}")
        return self


class Call(Section):
    """What QueryCallDetailByCallId answers of one call.

    Nothing until `called_at` + `after`; then the `intermediate` states, evenly spread over the call, until
    `called_at` + `ends` (default: 10 s of ringing and the duration); then `state`. Without `called_at` the call is
    placed when the simulation starts.
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
    omit: tuple[str, ...] = ()  # fields of the detail that are left out


class Habits(Section):
    """What callees do when a call gets through, and how calls are placed. Shares of all calls that get through.

    `handset`: share of calls placed from a handset, told by a pushed receipt; the others go through the voice service
    and are told by QueryCallDetailByCallId, `detail_after` (scenario time) after they were placed.
    """

    busy: Share = 0.06
    no_answer: Share = 0.12
    powered_off: Share = 0.02
    talk: Duration = 45.0  # mean length of a call that is answered
    handset: Share = 0.5
    detail_after: Duration = 180.0

    @model_validator(mode="after")
    def _leave_some_to_answer(self) -> Self:
        if self.busy + self.no_answer + self.powered_off > 1:
            raise ValueError("busy, no_answer and powered_off are more than all calls")
        return self


class Receipts(Section):
    """Where SecretReport receipts of handset calls are pushed to; `url` "" pushes none.

    Batches go out `every` so often (real time), in any order; `duplicates` is the share of receipts sent twice.
    """

    url: str = ""
    every: Duration = 1.0
    duplicates: Share = 0.1


class Dispatching(Section):
    """A scripted dispatcher that asks a running precall at `url` for routes and dials them; `url` "" is none.

    `rate` is in calls per real second. `outcomes`: share of the calls through the voice service whose end the
    dispatcher reports itself when they have ended; the others it reports when it places them, for precall to find out.
    """

    url: str = ""
    token: str = ""
    rate: float = Field(2.0, gt=0, le=1000)
    outcomes: Share = 0.5


class Scenario(Section):
    """Everything a simulator needs to know; `Scenario()` is an account without bindings."""

    seed: int = 1
    delisted: tuple[ActionName, ...] = ()
    account: Account = Account()
    replies: Replies = Replies()
    pools: tuple[Pool, ...] = Field((), alias="pool")
    bindings: tuple[Binding, ...] = Field((), alias="binding")
    faults: tuple[Fault, ...] = Field((), alias="fault")
    calls: tuple[Call, ...] = Field((), alias="call")
    habits: Habits = Habits()
    receipts: Receipts = Receipts()
    dispatcher: Dispatching = Dispatching()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for what, names in (
            ("pool_key", [pool.pool_key for pool in self.pools]),
            ("subs_id", [binding.subs_id for binding in self.bindings]),
            ("call_id", [call.call_id for call in self.calls]),
        ):
            twice = (
                sorted({name for name in names if names.count(name) > 1})
                if len(set(names)) < len(names)
                else []
            )
            if twice:
                raise ValueError(f"{what} given twice: {', '.join(twice)}")
        return self


_Section = TypeVar("_Section", bound=Section)


def read_section(section: type[_Section], values: object) -> _Section:
    """Validate one table. Raises ScenarioError with every mistake at once."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ScenarioError(
            _mistake(section, item["loc"], item["type"], item["msg"]) for item in error.errors()
        ) from None


def load_scenario(source: str | Path) -> Scenario:
    """Read a scenario from a file (a Path, or a str without `=` and line breaks) or from TOML text.

    Raises ScenarioError: file unreadable, not TOML, or mistakes in keys and values.
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
    """About 320 bindings that, at `DEMO_SPEED`, show every route within 20 s: healthy, failing and recovering, without
    free temporary numbers, and short-lived ones; X's that die silently from 4 s on, an outage without temporary numbers
    from 6 s on, throttling at 25 s.
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
        ),
        faults=(
            Fault(kind=FaultKind.SILENT, at=240, pool_key="FC100001", share=0.03),
            Fault(kind=FaultKind.OUTAGE, at=360, for_=960, pool_key="FC100003", share=0.9, status=3),
            Fault(kind=FaultKind.THROTTLE, at=1500, for_=240, retry_after=500),
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
        "dispatcher": Dispatching,
    }
    if where:
        section = tables[str(where[0])]
    fields: dict[str, Any] = section.model_fields
    return [field.alias or name for name, field in fields.items()]
