"""The console joins the HTTP server: its routes, who is admitted, and what is answered to whom."""

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from precall.api.access import connections
from precall.api.access.authenticator import ANYBODY, Client, digest_of
from precall.api.problems import Code, TooMany, drain, problem_of
from precall.api.requests import preferred_language
from precall.api.server import Server
from precall.config.schema import Scope
from precall.console import assets, live
from precall.console.forms import FORM_COOKIE, FormSeal, local_path, read_form
from precall.console.menu import PAGES
from precall.console.page import ConsolePage
from precall.console.pages import sign_in
from precall.console.recent import RecentAnswers
from precall.console.render import FRAGMENT, redirect, render
from precall.console.sessions import LONGEST, Sessions
from precall.console.visit import MenuItem, Visit
from precall.console.words import TEXTS
from precall.core.errors import Refusal
from precall.core.status.texts import Language

SESSION_COOKIE = "precall_session"
LANGUAGE_COOKIE = "precall_lang"
PATH = "/console"

_YEAR = 365 * 86_400
_MADE = web.RequestKey("made", str)
"""The form cookie that was made while a request was handled."""

_FORM_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sends a request: a client, and the id of its session ("" without one)."""

    client: Client
    session_id: str = ""


_ADMITTED = web.RequestKey("admitted", Visitor)
"""Who sent a request, once this is known. An error page does not ask, and count, again."""

_STRANGER = Visitor(ANYBODY)


class Console:
    """The console of a daemon. `secret` returns N random bytes in hex."""

    def __init__(self, server: Server, secret: Callable[[int], str]) -> None:
        self._server, self._secret = server, secret
        self._clock = server.crowd.clock
        self._seal = FormSeal(secret(32))
        self._recent = RecentAnswers(self._clock)
        self.sessions = Sessions(self._clock, secret)

    def mount(self, app: web.Application) -> None:
        """Add the routes of the console."""
        for root in ("/", PATH):
            app.router.add_get(root, _to_first_page)
        app.router.add_get(f"{PATH}/static/{{name:.+}}", assets.serve)
        app.router.add_get(f"{PATH}/login", self._answering(self._login_page))
        app.router.add_post(f"{PATH}/login", self._answering(self._login))
        app.router.add_post(f"{PATH}/logout", self._answering(self._logout))
        app.router.add_get(f"{PATH}/live", self._answering(self._live))
        for page in PAGES:
            add = app.router.add_get if page.method == "GET" else app.router.add_post
            add(page.path, self._answering(partial(self._page, page)))
        app.router.add_get(f"{PATH}/{{rest:.*}}", self._answering(self._missing))

    # -- pages -----------------------------------------------------------------------------------------

    async def _page(self, page: ConsolePage, request: web.Request) -> web.StreamResponse:
        with self._admitted(request, page.scope) as visitor:
            if visitor is None:
                return self._to_login(request)
            visit = self._visit(request, visitor, page)
            if visit.loaded is None and not page.resting:
                answer = render(visit, "starting.html", status=503)
                answer.headers[hdrs.RETRY_AFTER] = "1"
                return answer
            if page.method != "GET" and not page.asks and not visit.leads:
                raise Refusal(503, Code.STANDBY, "another precall leads on this database")
            return await page.show(visit)

    async def _missing(self, request: web.Request) -> web.StreamResponse:
        with self._admitted(request, None):
            raise web.HTTPNotFound

    async def _live(self, request: web.Request) -> web.StreamResponse:
        with self._admitted(request, "routes:read", waits=True) as visitor:
            if visitor is None:
                raise Refusal(401, Code.UNAUTHORIZED, "this needs a login")
            return await live.follow(request, self._server, partial(self._lasts, visitor), self._clock)

    def _lasts(self, visitor: Visitor) -> bool:
        """Whether a visitor's session still lasts. Other visitors were admitted for the whole request."""
        return not visitor.session_id or self._holder(visitor.session_id) is not None

    # -- who is there ------------------------------------------------------------------------------------

    @contextmanager
    def _admitted(
        self, request: web.Request, scope: Scope | None, *, waits: bool = False
    ) -> Iterator[Visitor | None]:
        """Admit a visitor, within the limits of its token. Yields None for one who must log in. Raises Refusal."""
        gate = self._server.gate
        visitor = self._who(request, scope)
        if visitor is None:
            connections.of(request).begin(known=False)
            yield None
            return
        request[_ADMITTED] = visitor
        if scope is not None:
            gate.permit(visitor.client, scope)
        connections.of(request).begin(known=visitor.client is not ANYBODY)
        allowance = visitor.client.allowance
        if allowance is None:
            yield visitor
            return
        gate.enter(allowance, waits=waits)
        try:
            yield visitor
        finally:
            allowance.leave(waits=waits)

    def _who(self, request: web.Request, scope: Scope | None) -> Visitor | None:
        """Return the visitor. An open page has one in any case."""
        try:
            found = self._known(request)
        except Refusal:
            if scope is not None:
                raise
            found = None
        return _STRANGER if found is None and scope is None else found

    def _known(self, request: web.Request) -> Visitor | None:
        gate = self._server.gate
        if not gate.asks_for_tokens:
            return Visitor(gate.local(request, followed=True))
        if header := request.headers.get(hdrs.AUTHORIZATION, ""):
            return Visitor(gate.named(header, request.remote or ""))
        session_id = request.cookies.get(SESSION_COOKIE, "")
        client = self._holder(session_id)
        return Visitor(client, session_id) if client is not None else None

    def _holder(self, session_id: str) -> Client | None:
        """Return the client of a session, None if it is over or its token is gone."""
        session = self.sessions.find(session_id) if session_id else None
        if session is None:
            return None
        client = self._server.gate.holder(session.token)
        if client is None:
            self.sessions.end(session_id)
        return client

    def _visit(self, request: web.Request, visitor: Visitor, page: ConsolePage | None = None) -> Visit:
        gate, client = self._server.gate, visitor.client
        loaded = self._server.services
        return Visit(
            request,
            client,
            _language(request),
            self._seal.token(self._form_id(request, visitor)),
            [
                MenuItem(one.name, one.path, here=one is page)
                for one in PAGES
                if one.listed and (one.scope is None or one.scope in client.scopes)
            ],
            loaded,
            self._recent,
            waits_for="" if loaded else self._server.waits_for,
            signed_in=bool(visitor.session_id),
            login=gate.asks_for_tokens,
        )

    def _form_id(self, request: web.Request, visitor: Visitor) -> str:
        """Return the value of the cookie that the forms of this visitor belong to. One is made if there is none."""
        if visitor.session_id:
            return visitor.session_id
        given = request.cookies.get(FORM_COOKIE, "")
        if not _FORM_ID.fullmatch(given):
            given = request[_MADE] = self._secret(16)
        return given

    # -- login -------------------------------------------------------------------------------------------

    def _to_login(self, request: web.Request) -> web.Response:
        where = f"{PATH}/login?next={quote(local_path(request.path_qs), safe='')}"
        if FRAGMENT not in request.headers:
            return redirect(where)
        answer = redirect(where)
        answer.set_status(401)
        del answer.headers[hdrs.LOCATION]
        answer.headers["HX-Redirect"] = where
        return answer

    async def _login_page(self, request: web.Request) -> web.StreamResponse:
        to = local_path(request.query.get("next", ""))
        with self._admitted(request, None) as visitor:
            if not self._server.gate.asks_for_tokens or (visitor and visitor.session_id):
                return redirect(to)
            return sign_in.form(self._visit(request, visitor or _STRANGER), to)

    async def _login(self, request: web.Request) -> web.StreamResponse:
        connections.of(request).begin(known=False)
        gate = self._server.gate
        visitor = _STRANGER
        visit = self._visit(request, visitor)
        fields = await read_form(request, visit.csrf)
        to, digest = local_path(fields.get("next", "")), digest_of(fields.get("token", ""))
        if not gate.asks_for_tokens:
            return redirect(to)
        try:
            gate.recognized(digest, request.remote or "")
        except TooMany as error:
            answer = sign_in.form(visit, to, error="login.throttled", status=429)
            answer.headers[hdrs.RETRY_AFTER] = str(max(1, round(error.wait)))
            return answer
        except Refusal:
            return sign_in.form(visit, to, error="login.wrong", status=401)
        self.sessions.end(request.cookies.get(SESSION_COOKIE, ""))
        answer = redirect(to)
        _give(request, answer, SESSION_COOKIE, self.sessions.begin(digest), LONGEST)
        return answer

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        with self._admitted(request, None) as visitor:
            known = visitor or _STRANGER
            await read_form(request, self._visit(request, known).csrf)
            self.sessions.end(known.session_id)
            answer = redirect(f"{PATH}/login")
            answer.del_cookie(SESSION_COOKIE, path=PATH)
            return answer

    # -- answers -----------------------------------------------------------------------------------------

    def _answering(self, handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
        """Return the handler with errors as pages, and with the cookies of the visitor."""

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                response = await handle(request)
            except Exception as error:  # noqa: BLE001  the text of an unknown error must not reach the visitor
                response = self._failed(request, error)
                if response.status != 408:
                    await drain(request)
            if not response.prepared:
                if _MADE in request:
                    _give(request, response, FORM_COOKIE, request[_MADE], _YEAR)
                if (chosen := request.query.get("lang")) in set(Language):
                    _give(request, response, LANGUAGE_COOKIE, str(chosen), _YEAR)
            return response

        return answer

    def _failed(self, request: web.Request, error: Exception) -> web.Response:
        """Return the page for an error, with the status and the headers that the API has for it."""
        told = problem_of(request, error)
        facts = orjson.loads(told.body) if isinstance(told.body, bytes) else {}
        visit = self._visit(request, request.get(_ADMITTED, _STRANGER))
        key = f"problem.{facts['code']}"
        detail = visit.t(key) if key in TEXTS[visit.language] else facts["detail"]
        answer = render(visit, "problem.html", status=told.status, detail=detail, code=facts["code"])
        for name in (hdrs.RETRY_AFTER, hdrs.ALLOW, hdrs.WWW_AUTHENTICATE):
            if name in told.headers:
                answer.headers[name] = told.headers[name]
        return answer


def mount(app: web.Application, server: Server, secret: Callable[[int], str]) -> None:
    """Add the console of a daemon to an application. `secret` returns N random bytes in hex."""
    Console(server, secret).mount(app)


async def _to_first_page(_request: web.Request) -> web.Response:
    return redirect(f"{PATH}/")


def _language(request: web.Request) -> Language:
    """Return the language: the one chosen now, or earlier, or the one that the browser prefers."""
    for given in (request.query.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if given in set(Language):
            return Language(given)
    return preferred_language(request)


def _give(request: web.Request, response: web.StreamResponse, name: str, value: str, seconds: float) -> None:
    """Set a cookie that scripts cannot read, and which other sites' forms and scripts are not sent with."""
    encrypted = request.secure or request.headers.get("X-Forwarded-Proto", "") == "https"
    response.set_cookie(
        name, value, max_age=int(seconds), path=PATH, httponly=True, samesite="Lax", secure=encrypted
    )
