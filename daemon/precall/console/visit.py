"""What a page knows of the request it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from precall.api.access.authenticator import Client
from precall.console import words
from precall.console.mark import mark
from precall.console.recent import RecentAnswers
from precall.core.status.texts import Language, duration
from precall.engine.services import Services

_ONCE = ("lang", "done")
"""The parameters of a query that are said but once."""


@dataclass(frozen=True, slots=True)
class MenuItem:
    """An entry of the menu. `name` is the key of its title: `menu.NAME`. `here` is set for the page that is shown."""

    name: str
    path: str
    here: bool


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page, by a client that has been admitted.

    `loaded` is None until the daemon has loaded its parts; `waits_for` then says what it waits for, in a sentence.
    `csrf` belongs into each form. `menu` has the pages that this client may see. `signed_in` is set for a session,
    which can be left. `login` is set where tokens are configured. `recent` has answers of the database that
    visitors share.
    """

    request: web.Request
    client: Client
    language: Language
    csrf: str
    menu: Sequence[MenuItem]
    loaded: Services | None
    recent: RecentAnswers
    waits_for: str = ""
    signed_in: bool = False
    login: bool = False

    @property
    def services(self) -> Services:
        """The parts of the daemon. A page is asked only once they are loaded."""
        if self.loaded is None:
            raise AssertionError("no page is made before the daemon is loaded")
        return self.loaded

    @property
    def leads(self) -> bool:
        """Whether this daemon leads, so that orders can be given here."""
        return self.loaded is not None and self.loaded.role.leads

    @property
    def here(self) -> str:
        """The path and query of this page, without what is said but once: a choice of the language, an order given."""
        return str(self.request.rel_url.without_query_params(*_ONCE))

    @property
    def mark(self) -> str:
        """What this page shows, for the stream that tells of changes."""
        return mark(self.loaded)

    @property
    def kept_query(self) -> list[tuple[str, str]]:
        """The query of this page that a choice of the language keeps."""
        return [(name, value) for name, value in self.request.query.items() if name not in _ONCE]

    @property
    def done(self) -> str:
        """The key of the text about the order that has just been given here, "" for none."""
        key = f"done.{self.request.query.get('done', '')}"
        return key if key in words.TEXTS[self.language] else ""

    def may(self, scope: str) -> bool:
        """Whether the client has a scope."""
        return scope in self.client.scopes

    def span(self, seconds: float) -> str:
        """Return a duration in the language of the visitor."""
        return duration(max(0.0, seconds), self.language)

    def since(self, moment: str, now: float) -> str:
        """Return how long ago an RFC 3339 time was. `now` is in Unix seconds."""
        return self.span(now - datetime.fromisoformat(moment).timestamp())

    def t(self, key: str, **facts: object) -> str:
        """Return a text in the language of the visitor."""
        return words.text(self.language, key, **facts)
