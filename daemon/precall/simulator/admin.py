"""The admin API under `/_admin/`: inspect and change the simulation while it runs.

It takes and returns JSON; a bad request is answered 422 with every mistake listed. There is no access control, since
the simulator is meant for loopback.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from pydantic import Field

from precall.simulator.exchange import VOICE_SERVICE
from precall.simulator.gateway import ACTIONS
from precall.simulator.population import SimBinding
from precall.simulator.replies import BindingStatus
from precall.simulator.scenario import (
    Account,
    Binding,
    Call,
    Duration,
    Fault,
    FaultKind,
    Instant,
    ScenarioError,
    Section,
    Share,
    read_section,
)
from precall.simulator.service import Service
from precall.simulator.world import NATURAL

_ARRIVALS_SHOWN = 1000
_ROWS_PER_CHUNK = 1000
_FACTS = ("extension", "expires_at")
_SCRIPT = ("status", "called_no", "gone", "secret_status")


class BindingChange(Section):
    """A PATCH of a binding; keys that are left out change nothing.

    A `status` without `called_no` resets the number to the usual one for that status. A null `status` is sent to the
    daemon as null. `natural` drops the script, so the binding follows the failure rates of its pool again.
    """

    status: int | float | str | None = None
    called_no: str | None = None
    extension: str = ""
    expires_at: Instant | None = None
    gone: bool = False
    secret_status: int | None = None
    natural: bool = False


class ActionChange(Section):
    """Enable or delist an action; `code` is the error code of calls to a delisted action."""

    enabled: bool
    code: str = "InvalidApi.NotFound"


class Dial(Section):
    """A call from `caller` (default: A) to `number` (default: X), from a handset or through the voice service."""

    subs_id: str
    caller: str = ""
    number: str = ""
    handset: bool = False


class PoolOutage(Section):
    """An outage of a pool that starts now."""

    for_: Duration = Field(60.0, alias="for")
    share: Share = 1.0
    status: int = Field(2, ge=2, le=3)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(service: Service, clock: Callable[[], float]) -> list[web.RouteDef]:
    """Every admin route."""
    handlers = _AdminHandlers(service, clock)
    return [
        web.get("/_admin/bindings", handlers.list_bindings),
        web.post("/_admin/bindings", _guard(handlers.add_bindings)),
        web.get("/_admin/bindings/{subs_id}", handlers.show_binding),
        web.patch("/_admin/bindings/{subs_id}", _guard(handlers.change_binding)),
        web.put("/_admin/bindings/{subs_id}", _guard(handlers.change_binding)),
        web.get("/_admin/stats", _guard(handlers.show_stats)),
        web.get("/_admin/faults", handlers.list_faults),
        web.post("/_admin/faults", _guard(handlers.add_faults)),
        web.delete("/_admin/faults", handlers.clear_faults),
        web.put("/_admin/account", _guard(handlers.change_account)),
        web.post("/_admin/actions/{action}", _guard(handlers.change_action)),
        web.post("/_admin/calls", _guard(handlers.add_calls)),
        web.post("/_admin/dials", _guard(handlers.dial)),
        web.post("/_admin/pools/{pool_key}/outage", _guard(handlers.break_pool)),
    ]


class _AdminHandlers:
    def __init__(self, service: Service, clock: Callable[[], float]) -> None:
        self._service = service
        self._clock = clock

    async def list_bindings(self, request: web.Request) -> web.StreamResponse:
        """Stream NDJSON: one binding per line, with its true state now."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        lines: list[bytes] = []
        for binding in self._service.world.bindings():
            lines.append(json.dumps(self._row(binding)).encode())
            if len(lines) >= _ROWS_PER_CHUNK:
                await response.write(b"\n".join((*lines, b"")))
                lines.clear()
        if lines:
            await response.write(b"\n".join((*lines, b"")))
        return response

    async def show_binding(self, request: web.Request) -> web.Response:
        binding = self._service.world.find(request.match_info["subs_id"])
        return _not_found("binding") if binding is None else web.json_response(self._row(binding))

    async def add_bindings(self, request: web.Request) -> web.Response:
        specs = [read_section(Binding, values) for values in await _tables(request)]
        added = [self._service.world.add(spec) for spec in specs]
        return web.json_response({"bindings": [self._row(binding) for binding in added]}, status=201)

    async def change_binding(self, request: web.Request) -> web.Response:
        change = read_section(BindingChange, await _json(request))
        given = change.model_fields_set
        facts = {name: getattr(change, name) for name in _FACTS if name in given}
        script: dict[str, object] = {"called_no": None} if "status" in given else {}
        if change.natural:
            script = {"status": NATURAL, "called_no": None, "gone": False, "secret_status": None}
        script |= {name: getattr(change, name) for name in _SCRIPT if name in given}
        try:
            changed = self._service.world.change(request.match_info["subs_id"], facts, script)
        except KeyError:
            return _not_found("binding")
        return web.json_response(self._row(changed))

    async def show_stats(self, request: web.Request) -> web.Response:
        traffic = self._service.traffic
        limit = request.query.get("arrivals", str(_ARRIVALS_SHOWN))
        if not (limit.isascii() and limit.isdecimal()):
            raise ScenarioError(["arrivals: not a number"])
        shown = int(limit)
        return web.json_response(
            {
                "calls": traffic.calls_received,
                "codes": traffic.codes,
                "faults": traffic.faults,
                "peak_per_second": traffic.peak_per_second,
                "arrivals": list(traffic.received_at)[-shown:] if shown else [],
                "bindings": len(self._service.world),
                "dispatcher": self._service.tally.shown(),
            }
        )

    async def list_faults(self, _request: web.Request) -> web.Response:
        now = self._clock()
        planned = self._service.faults.planned()
        return web.json_response(
            {
                "faults": [
                    item.fault.model_dump(by_alias=True, exclude_defaults=True)
                    | {"active": item.starts <= now < item.ends}
                    for item in planned
                ]
            }
        )

    async def add_faults(self, request: web.Request) -> web.Response:
        faults = [read_section(Fault, values) for values in await _tables(request)]
        now = self._clock()
        for fault in faults:
            self._service.faults.add(fault, now)
        return web.json_response({"added": len(faults)}, status=201)

    async def clear_faults(self, _request: web.Request) -> web.Response:
        self._service.faults.clear()
        return web.json_response({})

    async def change_account(self, request: web.Request) -> web.Response:
        values = await _json(request)
        account = read_section(Account, self._service.gateway.account.model_dump() | values)
        self._service.change_account(account)
        return web.json_response({})

    async def change_action(self, request: web.Request) -> web.Response:
        action, change = request.match_info["action"], read_section(ActionChange, await _json(request))
        if action not in ACTIONS:
            return _not_found("action")
        if change.enabled:
            self._service.gateway.delisted.pop(action, None)
        else:
            self._service.gateway.delisted[action] = change.code
        return web.json_response({})

    async def add_calls(self, request: web.Request) -> web.Response:
        calls = [read_section(Call, values) for values in await _tables(request)]
        now = self._clock()
        for call in calls:
            self._service.calls.add(call, now)
        return web.json_response({"added": len(calls)}, status=201)

    async def dial(self, request: web.Request) -> web.Response:
        """Place a call now; its call detail or receipt becomes available later."""
        dial = read_section(Dial, await _json(request))
        binding = self._service.world.find(dial.subs_id)
        if binding is None:
            return _not_found("binding")
        call = self._service.exchange.place(
            binding,
            dial.caller or binding.number_a,
            dial.number or binding.number_x,
            self._clock(),
            handset=dial.handset,
        )
        placed = {
            "call_id": call.call_id,
            "prod_id": VOICE_SERVICE,
            "called_at": _rfc3339(call.called_at),
            "ending": call.ending,
            "state": call.state,
            "duration": call.duration,
        }
        return web.json_response(placed, status=201)

    async def break_pool(self, request: web.Request) -> web.Response:
        pool_key, outage = request.match_info["pool_key"], read_section(PoolOutage, await _json(request))
        if not self._service.world.has_pool(pool_key):
            return _not_found("pool")
        fault = read_section(
            Fault,
            {"kind": FaultKind.OUTAGE, "pool_key": pool_key, **outage.model_dump(by_alias=True)},
        )
        self._service.faults.add(fault, self._clock())
        return web.json_response({}, status=201)

    def _row(self, binding: SimBinding) -> dict[str, Any]:
        truth = self._service.world.truth(binding, self._clock())
        state = (
            {"status": truth.status, "called_no": truth.called_no, "code": "OK"}
            if isinstance(truth, BindingStatus)
            else {"status": 0, "called_no": "", "code": truth}
        )
        row: dict[str, Any] = {
            "subs_id": binding.subs_id,
            "pool_key": binding.pool_key,
            "number_x": binding.number_x,
            "number_a": binding.number_a,
            "number_b": binding.number_b,
            "extension": binding.extension,
        }
        if binding.expires_at is not None:
            row["expires_at"] = _rfc3339(binding.expires_at)
        return row | {"truth": state}


def _rfc3339(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat().replace("+00:00", "Z")


def _guard(handler: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ScenarioError as error:
            return web.json_response({"mistakes": error.mistakes}, status=422)

    return guarded


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        values = json.loads(await request.read() or b"{}")
    except ValueError as error:
        raise ScenarioError([f"body is not JSON: {error}"]) from None
    if not isinstance(values, dict):
        raise ScenarioError(["body is not a JSON object"])
    return values


async def _tables(request: web.Request) -> list[Any]:
    """The request body as a list; a single object becomes a list of one."""
    try:
        values = json.loads(await request.read())
    except ValueError as error:
        raise ScenarioError([f"body is not JSON: {error}"]) from None
    return values if isinstance(values, list) else [values]


def _not_found(what: str) -> web.Response:
    return web.json_response({"mistakes": [f"no such {what}"]}, status=404)
