"""Handler of hints about upcoming dials."""

from aiohttp import hdrs, web

from precall.api.access.authenticator import Client
from precall.api.problems import Code, problem
from precall.api.replies import reply
from precall.api.requests import read_body
from precall.api.schemas.hints import HintsBody
from precall.engine.on_demand import HintOutcome
from precall.engine.services import Services


async def post(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Say when bindings will be dialled, so that they are checked just before.

    A hint for an unknown or expired binding is ignored, and its id is returned.
    """
    taken, unknown = 0, []
    for hint in (await read_body(request, HintsBody)).root:
        match services.on_demand.hint(hint.subs_id, hint.moment):
            case HintOutcome.TAKEN:
                taken += 1
            case HintOutcome.UNKNOWN:
                unknown.append(hint.subs_id)
            case HintOutcome.FULL:
                detail = f"too many hints are waiting; {taken} of these were accepted"
                return problem(429, Code.TOO_MANY_HINTS, detail, headers={hdrs.RETRY_AFTER: "10"})
    return reply({"taken": taken, "unknown": unknown})
