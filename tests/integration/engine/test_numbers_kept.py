"""Numbers over the whole of a daemon: spellings, callers, 700 numbers, and what an earlier version stored."""

import time
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from precall.core.model import Row, State
from precall.store import Store
from tests.integration.store.test_store import a_change, a_row
from tests.support.api_daemon import FUTURE, A, B, Served, X, a_binding, scripted, serving
from tests.support.postgres import sql

LANDLINE = "0571-88888888"
X_700 = "700123456789012"
SPELLINGS = [
    "057188888888",
    "%2B8657188888888",
    "+8657188888888",
    "8657188888888",
    "008657188888888",
    "57188888888",
]


async def route(served: Served, path: str, **headers: str) -> tuple[str, str, str]:
    _, body = await served.ask("GET", f"/v1/routes/{path}", headers=headers)
    return body["action"], body["number"], body["reason"]


async def test_a_caller_is_recognised_in_every_spelling(tmp_path: Path) -> None:
    scenario = scripted(3, 3)
    async with serving(tmp_path, scenario) as served:
        await served.register(number_x=X_700, number_a=LANDLINE)
        await served.checked("1")
        for caller in SPELLINGS:
            assert await route(served, f"1?caller={caller}") == ("dial_real", B, "status_3"), caller
            for x in (X_700, f"+86{X_700}", f"%2B86{X_700}", f"86{X_700}", "700%201234%205678%209012"):
                assert (await route(served, f"by-number?x={x}&caller={caller}"))[1] == B
        assert (await route(served, f"1?caller=sip:+86{B}@host;user=phone"))[1] == "057188888888"
        version = (await served.ask("GET", "/v1/routes/1"))[1]["version"]
        await served.register(number_x=f"+86 {X_700}", number_a="+86 571 8888 8888")
        assert (await served.ask("GET", "/v1/routes/1"))[1]["state"] == "fallback", "no other generation"
        assert (await served.ask("GET", "/v1/routes/1"))[1]["version"] == version + 1


@pytest.mark.parametrize(
    "caller", ["", "anonymous", "sip:alice@host", "88888888", "***01", "057188888888x801"]
)
async def test_an_unknown_caller_gets_x_and_never_a_real_number(tmp_path: Path, caller: str) -> None:
    async with serving(tmp_path, scripted(3, 1, 3)) as served:
        for subs_id, facts in (
            ("1", {}),
            ("2", {"number_x": X_700}),
            ("3", {"number_b": "", "number_x": "95013"}),
        ):
            await served.register(subs_id=subs_id, number_a=LANDLINE, **facts)
            await served.checked(subs_id)
        assert await route(served, f"1?caller={caller}") == ("hold", "", "unknown_caller")
        assert (await route(served, f"2?caller={caller}"))[0] == "dial_x"
        assert await route(served, f"3?caller={caller}") == ("hold", "", "unknown_caller")
        assert (await route(served, f"by-number?x={X}&caller={caller}"))[2] == "unknown_caller"
        told = {"subs_ids": ["1"], "caller": caller}
        _, body = await served.ask("POST", "/v1/routes/lookup", told)
        assert body["routes"][0]["action"] == ("hold" if caller else "dial_real"), 'in a body "" is none'
        header = {"X-Precall-Caller": caller}
        assert (await route(served, "1", **header))[0] == ("hold" if caller else "dial_real")


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"number_x": A}, "number_x"),
        ({"number_x": f"0086{B}"}, "number_x"),
        ({"number_a": LANDLINE, "number_x": "+86 571 8888 8888"}, "number_x"),
        ({"number_a": f"{LANDLINE}-801"}, "number_a"),
        ({"number_x": f"{X}-4321"}, "number_x"),
        ({"number_b": f"{B} ext. 8"}, "number_b"),
    ],
)
async def test_registrations_with_joined_extensions_or_x_as_a_party_are_refused(
    tmp_path: Path, facts: dict[str, str], field: str
) -> None:
    async with serving(tmp_path) as served:
        status, problem = await served.ask("PUT", "/v1/bindings/1", a_binding(**facts))
        assert (status, problem["field"], problem["code"]) == (422, field, "invalid_field")
        _, batch = await served.ask("POST", "/v1/bindings/batch", {"bindings": [a_binding(**facts)]})
        assert batch["results"][0]["result"] == "refused"
        assert len(served.daemon.parts.table) == 0


# -- what an earlier version stored ----------------------------------------------------------------------


def kept(subs_id: str, number: str = "", temporary: str = "", **facts: Any) -> Row:
    """A row as earlier versions could store it."""
    place = int(subs_id)
    row = a_row(subs_id, index=place, state=State.TEMPORARY if temporary else State.NORMAL, status=1)
    binding = replace(row.binding, **{"expires_at": 4e9, "number_x": X, "number_a": A, "number_b": B} | facts)
    now = time.time()
    seen = {"number": number or temporary, "temp_number": temporary, "temp_at": now, "checked_at": now}
    return replace(row, binding=binding, state=replace(row.state, **seen))


def all_kept() -> list[Row]:
    """Rows that were checked just now."""
    return [
        kept("1", number_b="057188888888801"),
        kept("2", number_x=f"{X}4321"),
        kept("3", number_x=f"86{A}"),
        kept("4", temporary="8657188888888", number_b="057188888888"),
        kept("5", number=f"0086{A}"),
        kept("6"),
    ]


async def test_numbers_accepted_by_earlier_versions_are_held_if_now_invalid(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/precall.db"
    store = await Store.open(url, auto_migrate=True)
    await store.commit([a_change(row) for row in all_kept()])
    await store.close()
    for _ in range(2):
        async with serving(tmp_path, {"pool": []}) as served:
            told = {one: await route(served, one) for one in "123456"}
            for one in "123":
                assert told[one] == ("hold", "", "unusable_number")
            assert told["4"][:2] == ("hold", "")
            assert told["5"][:2] == ("dial_x", X)
            assert told["6"][:2] == ("dial_x", X)
            assert served.daemon.parts.table.unusable == {"1", "2", "3"}
            assert served.daemon.metrics.registry.get_sample_value("precall_unusable_bindings") == 3.0
            [line] = await served.shows("numbers_unusable")
            assert line.startswith("numbers_unusable: 3 bindings")
        view = {one: (action, number) for one, action, number, *_ in sql(url, "SELECT * FROM routing_table")}
        assert view == {one: told[one][:2] for one in "123456"}
    async with serving(tmp_path, {"pool": []}) as served:
        for one in "123":
            await served.register(subs_id=one, expires_at=FUTURE)
            assert (await route(served, one))[:2] == ("dial_x", X)
        assert served.daemon.parts.table.unusable == set()
        await served.shows()


async def test_the_audit_finds_numbers_hashed_by_earlier_versions(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.register(number_a=LANDLINE)
        await served.ask("GET", "/v1/bindings/1")
        audit = served.daemon.parts.audit
        key = bytes.fromhex(await served.daemon.parts.store.secret("number_hash_key", ""))
        for form in ("057188888888", "57188888888", "+8657188888888", "8657188888888", "008657188888888"):
            digest = blake2b(form.encode(), digest_size=16, key=key).hexdigest()
            assert digest in audit.hashes(LANDLINE)
        for spelling in SPELLINGS:
            _, page = await served.ask("GET", f"/v1/exposures?number={spelling}")
            assert [row["side"] for row in page["exposures"]] == ["a"]
