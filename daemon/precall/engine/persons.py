"""Find and erase what is held about a person, known by a phone number.

Bindings of the API in which the person is a party are removed first, as `Registry.remove` does. Everything else
follows in slices that are each committed, so that checks and reads go on. An erasure that was interrupted is repeated
as a whole: it finds what is left, and a mark keeps the ids of removed bindings whose calls still name them.

Bindings of a source stay, since the next sync would bring them back. The exposure audit stays as evidence; it holds a
keyed hash in place of the number.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from precall.core.errors import Refusal
from precall.core.model import Row, WriteCause
from precall.core.persons import Person, is_mentioned, is_x, sides, unmentioned
from precall.engine.exposure_audit import ExposureAudit
from precall.store import HistoryTable, Store
from precall.table.table import Table
from precall.table.writer import Writer
from precall.table.writes import Amend, Amendment

SLICE = 250
"""Bindings per transaction."""
PAUSE = 0.005
"""Seconds between two slices of the history, which leave the database to other writers."""
ERASING = "erasing"
"""The mark that holds the ids of bindings whose erasure has begun and not ended, those of a source included."""

NOT_A_PERSON = (
    "is an X here, and party of no binding; an X is rented from a pool and is no person's number: give the number of A"
    " or B"
)


class PersonPlace(StrEnum):
    """Where something of a person is held."""

    BINDINGS = "bindings"
    MENTIONS = "mentions"
    RESULTS = "results"
    CHANGES = "changes"
    CALLS = "calls"
    ORDERS = "orders"
    EXPOSURES = "exposures"


class PersonOutcome(StrEnum):
    """What an erasure does to it."""

    REMOVED = "removed"
    BLANKED = "blanked"
    UNLINKED = "unlinked"
    KEPT = "kept"
    SOURCE_FIRST = "source_first"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """Records of one kind: where, how many, of which bindings, and what an erasure does to them.

    `origin` is that of the bindings: "api", "source", or "" where the kind does not depend on it.
    """

    where: PersonPlace
    origin: str
    count: int
    outcome: PersonOutcome
    subs_ids: Sequence[str] = ()


@dataclass(slots=True)
class _Survey:
    """The bindings in which the person is a party, or is mentioned, by their origin."""

    parties: dict[str, list[str]] = field(default_factory=dict)
    mentions: dict[str, list[str]] = field(default_factory=dict)
    is_x: bool = False


class Persons:
    """Finds and erases persons. `erase` runs once at a time."""

    def __init__(self, store: Store, table: Table, writer: Writer, audit: ExposureAudit) -> None:
        self._store, self._table, self._writer, self._audit = store, table, writer, audit
        self._one = asyncio.Lock()

    async def find(self, number: str) -> list[PersonRecord]:
        """Return what is held about the person with this valid number, and what an erasure would do to it.

        Raises Refusal if the number is only an X, and StoreUnavailable.
        """
        person = Person.of(number)
        return await self._records(person, await self._survey(person), set(), erase=False)

    async def parties(self, number: str, most: int) -> list[str]:
        """Return the ids of at most `most` bindings in which this valid number is a party, in order of id."""
        person, found = Person.of(number), list[str]()
        for rows in self._table.slices(SLICE):
            found += [row.binding.subs_id for row in rows if sides(row, person)]
            if len(found) >= most:
                break
            await asyncio.sleep(0)
        return found[:most]

    async def erase(self, number: str) -> list[PersonRecord]:
        """Erase what may be erased, and return what was held. Raises like `find`; then a repeat goes on."""
        person = Person.of(number)
        async with self._one:
            survey = await self._survey(person)
            ours = survey.parties.get("api", [])
            parties = (subs_id for ids in survey.parties.values() for subs_id in ids)
            begun = {*json.loads((await self._store.marks()).get(ERASING, "[]")), *parties}
            if begun:
                await self._store.mark({ERASING: json.dumps(sorted(begun))})
            await self._amend(WriteCause.REMOVED, ours, lambda row: _unless_party(row, person))
            mentions = survey.mentions.get("api", [])
            await self._amend(WriteCause.REGISTERED, mentions, lambda row: unmentioned(row, person))
            records = await self._records(person, survey, begun, erase=True)
            if begun:
                left = sorted(subs_id for subs_id in begun if self._table.get(subs_id) is not None)
                await self._store.mark({ERASING: json.dumps(left)})
            return records

    # -- the routing table ------------------------------------------------------------------------------

    async def _survey(self, person: Person) -> _Survey:
        survey = _Survey()
        for rows in self._table.slices(SLICE):
            for row in rows:
                binding = row.binding
                if sides(row, person):
                    survey.parties.setdefault(binding.origin, []).append(binding.subs_id)
                elif is_mentioned(row, person):
                    survey.mentions.setdefault(binding.origin, []).append(binding.subs_id)
                survey.is_x = survey.is_x or is_x(row, person)
            await asyncio.sleep(0)
        if survey.is_x and not survey.parties:
            raise Refusal(422, "not_a_person", NOT_A_PERSON, "number")
        return survey

    async def _amend(
        self, cause: WriteCause, subs_ids: Sequence[str], after: Callable[[Row], Row | None]
    ) -> None:
        """Replace the rows of these bindings by `after`, except those of a source, in slices."""

        def amend(row: Row | None, _index: int) -> Amendment[None]:
            foreign = row is None or row.binding.origin != "api"
            return Amendment(row if row is None or foreign else after(row), None)

        write: Amend[None] = amend
        for start in range(0, len(subs_ids), SLICE):
            part = subs_ids[start : start + SLICE]
            await asyncio.gather(*self._writer.submit_all([(subs_id, cause, write) for subs_id in part]))

    # -- the database -----------------------------------------------------------------------------------

    async def _records(
        self, person: Person, survey: _Survey, begun: set[str], *, erase: bool
    ) -> list[PersonRecord]:
        """Return the records of all kinds. With `erase`, blank those of the history, calls and orders."""
        records = [
            *_of_bindings(PersonPlace.BINDINGS, survey.parties, PersonOutcome.REMOVED),
            *_of_bindings(PersonPlace.MENTIONS, survey.mentions, PersonOutcome.BLANKED),
        ]
        exposed, exposed_ids = await self._store.persons.exposures(self._audit.hashes(person.number))
        known = {*begun, *exposed_ids}
        for where, table in (
            (PersonPlace.RESULTS, HistoryTable.RESULTS),
            (PersonPlace.CHANGES, HistoryTable.CHANGES),
        ):
            found = await self._history(person, where, table, erase=erase)
            known.update(subs_id for record in found for subs_id in record.subs_ids)
            records += found
        records += await self._calls(survey, known, erase=erase)
        if orders := await self._store.orders.mentions(person, erase=erase):
            records.append(PersonRecord(PersonPlace.ORDERS, "", orders, PersonOutcome.BLANKED))
        if exposed:
            records.append(PersonRecord(PersonPlace.EXPOSURES, "", exposed, PersonOutcome.KEPT, exposed_ids))
        return records

    async def _history(
        self, person: Person, where: PersonPlace, table: HistoryTable, *, erase: bool
    ) -> list[PersonRecord]:
        """Search one table of the history. Return at most two records: of what holds the number, and of what does not
        open."""
        count = unreadable = 0
        subs_ids: set[str] = set()
        last: int | None = 0
        while last is not None:
            found = await self._store.persons.history(table, person, last, erase=erase)
            count, unreadable, last = count + len(found.subs_ids), unreadable + found.unreadable, found.last
            subs_ids.update(found.subs_ids)
            await asyncio.sleep(PAUSE)
        records = [PersonRecord(where, "", count, PersonOutcome.BLANKED, sorted(subs_ids))] if count else []
        if unreadable:
            records.append(PersonRecord(where, "", unreadable, PersonOutcome.UNREADABLE))
        return records

    async def _calls(self, survey: _Survey, known: set[str], *, erase: bool) -> Iterable[PersonRecord]:
        """The calls of the person's bindings, and of those that are gone. A binding that is now of others keeps its
        calls."""
        ours = set() if erase else set(survey.parties.get("api", ()))
        ours |= {subs_id for subs_id in known if self._table.get(subs_id) is None}
        theirs = {
            subs_id for origin, ids in survey.parties.items() if origin != "api" for subs_id in ids
        } - ours
        counts = (
            ("", await self._store.persons.calls(ours, erase=erase), PersonOutcome.UNLINKED),
            ("source", await self._store.persons.calls(theirs, erase=False), PersonOutcome.SOURCE_FIRST),
        )
        return [
            PersonRecord(PersonPlace.CALLS, origin, count, outcome)
            for origin, count, outcome in counts
            if count
        ]


def _of_bindings(
    where: PersonPlace, by_origin: dict[str, list[str]], outcome: PersonOutcome
) -> Iterable[PersonRecord]:
    for origin, subs_ids in sorted(by_origin.items()):
        done = outcome if origin == "api" else PersonOutcome.SOURCE_FIRST
        yield PersonRecord(where, origin, len(subs_ids), done, subs_ids)


def _unless_party(row: Row, person: Person) -> Row | None:
    """The row, unless the person is still a party of it."""
    return None if sides(row, person) else row
