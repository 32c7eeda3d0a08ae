"""The state of the system in one answer."""

from aiohttp import hdrs, web

from precall.api.access.authenticator import Client
from precall.api.handlers.orders import shown
from precall.api.replies import reply
from precall.api.requests import preferred_language
from precall.api.schemas.fields import moment
from precall.api.schemas.status import encode_facts, encode_finding, encode_member
from precall.core.status.finding import verdict
from precall.engine.services import Services


async def show(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Return a verdict, what is wrong with its cause and remedy, and the facts behind it.

    Texts are English, or Chinese if `Accept-Language` prefers that. Orders say by whom and why only with scope `admin`.
    On standby the answer concerns this daemon, and what the leader has stored.
    """
    state, process = services.status.look(), services.status.process
    facts, language = state.facts, preferred_language(request)
    # A database that is away would be waited for.
    away = facts.store.down_since is not None
    orders = services.orders.known if away else await services.orders.in_force()
    late = {} if facts.process.lag is None else {"late": round(facts.process.lag, 3)}
    answer = reply(
        {
            "verdict": verdict(state.findings),
            "findings": [encode_finding(finding, language) for finding in state.findings],
            "daemon": {
                "version": services.version,
                "role": facts.role,
                "at": moment(state.at),
                "started_at": moment(process.started_at),
                "in_flight": services.checker.in_flight,
                **late,
            },
            **encode_facts(facts),
            "orders": shown(orders, client),
            "members": [encode_member(member) for member in services.members()],
        }
    )
    answer.headers[hdrs.VARY] = hdrs.ACCEPT_LANGUAGE
    answer.headers[hdrs.CONTENT_LANGUAGE] = language
    return answer
