"""Registrations, overrides, and reads of bindings over HTTP."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from precall.api.schemas.bindings import BatchAnswer, BindingAnswer, CheckAnswer, ExplainAnswer, HistoryAnswer
from precall.api.schemas.overrides import PinnedAnswer
from precall.core.errors import Refusal
from tests.support.api_daemon import FUTURE, A, B, Served, X, a_binding, scripted, serving
from tests.support.builders import binding

PAST = "2001-01-01T00:00:00Z"


async def test_a_binding_can_be_put_read_and_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.daemon.parts.checker.plan.pause("")  # a check would change the route, and so its version
        body = a_binding(labels={"city": "Hangzhou"}, extension="7")
        shown = body | {"number_a": "***01", "number_b": "***01"}
        assert await served.ask("PUT", "/v1/bindings/1", body) == (201, shown)
        assert BindingAnswer.model_validate(body)
        assert await served.ask("GET", "/v1/bindings/1") == (200, body)
        version = (await served.ask("GET", "/v1/routes/1"))[1]["version"]
        # equal content changes nothing, whether or not it names the id
        del body["subs_id"]
        assert (await served.ask("PUT", "/v1/bindings/1", body))[0] == 200
        assert (await served.ask("GET", "/v1/routes/1"))[1]["version"] == version
        body["number_x"] = "170 0000 0009"
        assert (await served.ask("PUT", "/v1/bindings/1", body))[1]["number_x"] == "17000000009"
        assert (await served.ask("GET", "/v1/routes/1"))[1]["number"] == "17000000009"
        assert await served.stored() == 1
        assert await served.ask("DELETE", "/v1/bindings/1") == (204, "")
        assert (await served.ask("DELETE", "/v1/bindings/1"))[0] == 404
        assert (await served.ask("GET", "/v1/bindings/1"))[0] == 404
        assert (await served.ask("GET", "/v1/routes/1"))[0] == 404
        assert await served.stored() == 0


async def test_an_acknowledged_binding_is_stored(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.register(subs_id="1")
        await served.register(subs_id="2", number_b="", expires_at="")
    async with serving(tmp_path) as served:
        assert (await served.ask("GET", "/v1/bindings/1"))[1] == {
            **a_binding(),
            "extension": "",
            "labels": {},
        }
        assert (await served.ask("GET", "/v1/bindings/2"))[1]["expires_at"] == ""


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in a_binding().items() if key != name}


BAD_BINDINGS: list[tuple[str, Any, int, str, str]] = [
    ("a word for a number", a_binding(number_a="call me"), 422, "invalid_field", "number_a"),
    ("letters in a number", a_binding(number_x="1700000000O"), 422, "invalid_field", "number_x"),
    ("a number as a number", a_binding(number_a=13800000001), 422, "invalid_field", "number_a"),
    ("a masked number", a_binding(number_a="***01"), 422, "masked_number", "number_a"),
    ("null for a number", a_binding(number_x=None), 422, "invalid_field", "number_x"),
    ("an unknown field", a_binding(number_c="1"), 422, "unknown_field", "number_c"),
    ("no X", without("number_x"), 422, "missing_field", "number_x"),
    ("no A", without("number_a"), 422, "missing_field", "number_a"),
    ("no pool", without("pool_key"), 422, "missing_field", "pool_key"),
    ("in the past", a_binding(expires_at=PAST), 422, "expires_in_the_past", "expires_at"),
    ("no zone", a_binding(expires_at="2099-01-01T00:00:00"), 422, "invalid_field", "expires_at"),
    ("no time", a_binding(expires_at="tomorrow"), 422, "invalid_field", "expires_at"),
    ("another id", a_binding(subs_id="2"), 400, "id_mismatch", "subs_id"),
    ("a list", [a_binding()], 422, "invalid_field", ""),
    ("labels that are none", a_binding(labels=["a"]), 422, "invalid_field", "labels"),
]


async def test_an_invalid_binding_is_refused_naming_its_field(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for name, body, status, code, field in BAD_BINDINGS:
            answer, problem = await served.ask("PUT", "/v1/bindings/1", body)
            assert (answer, problem["code"], problem.get("field", "")) == (status, code, field), name
            assert "1380000" not in str(problem), name
        answer, problem = await served.ask("PUT", "/v1/bindings/abc", without("subs_id"))
        assert (answer, problem["field"]) == (400, "subs_id")
        assert await served.stored() == 0
        assert len(served.daemon.parts.table) == 0


async def test_a_batch_reports_each_result_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.register(subs_id="5")
        items = [
            a_binding(subs_id="1"),
            a_binding(subs_id="2", number_a="x"),
            a_binding(subs_id="3", expires_at=PAST),
            a_binding(subs_id="5"),
            a_binding(subs_id="1", labels={"n": "2"}),
            {"nonsense": True},
        ]
        status, body = await served.ask("POST", "/v1/bindings/batch", {"bindings": items})
        assert status == 200
        results = BatchAnswer.model_validate(body).results
        assert [(one.subs_id, one.result) for one in results] == [
            ("1", "created"),
            ("2", "refused"),
            ("3", "refused"),
            ("5", "unchanged"),
            ("1", "updated"),
            ("", "refused"),
        ]
        assert results[1].error.startswith("bindings[1].number_a: should be a phone number")
        assert results[2].error == "bindings[2].expires_at: this time has passed"
        assert results[5].error.startswith("bindings[5].")
        assert await served.stored() == 2
        assert (await served.ask("GET", "/v1/bindings/1"))[1]["labels"] == {"n": "2"}


async def test_an_atomic_batch_is_stored_completely_or_not_at_all(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        good = [a_binding(subs_id=str(i)) for i in range(1, 40)]
        path = "/v1/bindings/batch?atomic=true"
        for wrong in ({"number_a": "x"}, {"expires_at": PAST}):
            bad = [*good[:17], a_binding(subs_id="18", **wrong), *good[18:]]
            status, problem = await served.ask("POST", path, {"bindings": bad})
            assert (status, problem["code"]) == (422, "batch_refused")
            assert problem["field"] == f"bindings[17].{next(iter(wrong))}"
            assert [one["result"] for one in problem["results"]].count("not_stored") == 38
            assert problem["results"][17]["result"] == "refused"
            assert await served.stored() == 0
        status, body = await served.ask("POST", path, {"bindings": good})
        assert {one["result"] for one in body["results"]} == {"created"}
        status, body = await served.ask("POST", path, {"bindings": good})
        assert {one["result"] for one in body["results"]} == {"unchanged"}
        assert await served.stored() == 39


async def test_an_atomic_batch_that_is_overtaken_stores_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, rate=0.001) as served:
        registry = served.daemon.parts.registry
        mine = [binding(subs_id=subs_id, expires_at=None, origin="api") for subs_id in ("1", "2")]
        theirs = [replace(mine[1], origin="source")]
        # Both look at a table without the binding; the writer takes the source's first.
        first, second = await asyncio.gather(
            registry.register(theirs, atomic=False), registry.register(mine, atomic=True)
        )
        assert first == ["created"]
        assert second[0] == "created"
        assert isinstance(second[1], Refusal)
        assert second[1].code == "foreign_origin"
        assert [row.binding.subs_id for row in served.daemon.parts.table.rows()] == ["2"]


async def test_a_batch_is_limited_to_5000_bindings(tmp_path: Path) -> None:
    async with serving(tmp_path, rate=0.001) as served:
        items = [a_binding(subs_id=str(i)) for i in range(5001)]
        status, problem = await served.ask("POST", "/v1/bindings/batch", {"bindings": items})
        assert (status, problem["field"]) == (422, "bindings")
        assert await served.stored() == 0
        status, _ = await served.ask("POST", "/v1/bindings/batch", {"bindings": items[:5000]})
        assert (status, await served.stored()) == (200, 5000)
        assert (await served.ask("POST", "/v1/bindings/batch", {"bindings": []}))[1] == {"results": []}


async def test_bindings_are_listed_by_page_and_filter(tmp_path: Path) -> None:
    async with serving(tmp_path, rate=0.001) as served:
        items = [
            a_binding(subs_id=str(i), pool_key=f"FC{i % 3}", labels={"url": f"a:{i % 2}"})
            for i in range(100, 130)
        ]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": items})

        async def ids(query: str) -> list[str]:
            found: list[str] = []
            cursor = ""
            while True:
                _, page = await served.ask("GET", f"/v1/bindings?limit=7&cursor={cursor}&{query}")
                found += [one["subs_id"] for one in page["bindings"]]
                if not (cursor := page["cursor"]):
                    return found

        assert await ids("") == [str(i) for i in range(100, 130)]
        assert await ids("pool_key=FC1") == [str(i) for i in range(100, 130) if i % 3 == 1]
        assert await ids("label=url:a:1") == [str(i) for i in range(101, 130, 2)]
        assert await ids("label=url=a:1") == [str(i) for i in range(101, 130, 2)]
        assert await ids("label=url:a") == await ids("label=url=a") == []
        assert await ids("origin=api&pool_key=FC9") == []
        assert (await served.ask("GET", "/v1/bindings?label=url"))[1]["field"] == "label"


async def test_history_is_paged_newest_first(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        for status in (1, 2, 3, 1):
            await _answer_with(served, status)
            await served.checked("1")
        status, body = await served.ask("GET", "/v1/bindings/1/history")
        history = HistoryAnswer.model_validate(body)
        assert (status, history.cursor) == (200, "")
        assert [run.status for run in history.results] == [1, 3, 2, 1]
        assert [change.to_state for change in history.changes] == [
            "normal",
            "fallback",
            "temporary",
            "normal",
            "unverified",
        ]
        assert all(run.request_id for run in history.results)
        assert history.changes[1].action == "dial_real"
        assert (history.changes[1].number, history.changes[1].flags) == ("", ["number_withheld"])
        assert history.changes[0].request_id == history.results[0].request_id
        # the same by pages of two
        runs: list[Any] = []
        changes: list[Any] = []
        cursor = ""
        for _ in range(9):
            _, page = await served.ask("GET", f"/v1/bindings/1/history?limit=2&cursor={cursor}")
            runs, changes = runs + page["results"], changes + page["changes"]
            if not (cursor := page["cursor"]):
                break
        assert (runs, changes) == (body["results"], body["changes"])
        assert (await served.ask("GET", "/v1/bindings/1/history?cursor=x"))[1]["code"] == "invalid_cursor"
        assert (await served.ask("GET", "/v1/bindings/2/history"))[0] == 404


async def test_explain_returns_route_state_override_and_plan(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        await served.checked("1")
        await served.ask("PUT", "/v1/overrides/1", {"action": "hold", "reason": "test"})
        status, body = await served.ask("GET", "/v1/bindings/1/explain")
        answer = ExplainAnswer.model_validate(body)
        assert status == 200
        assert (answer.route.action, answer.route.reason) == ("hold", "override")
        assert answer.observed["state"] == "normal"
        assert answer.observed["number"] == "***01"
        assert answer.override is not None
        assert answer.override.reason == "test"
        assert answer.plan is not None
        assert answer.plan["why"]
        assert body["sentences"][0] == "Dispatchers are told not to dial, and to ask again in 1 min."
        assert "An operator has overridden the route." in body["sentences"]
        assert (await served.ask("GET", "/v1/bindings/2/explain"))[0] == 404


async def test_check_returns_the_result_of_a_live_check(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(2)) as served:
        await served.register(subs_id="1")
        await served.register(subs_id="9", pool_key="FC2")
        status, body = await served.ask("POST", "/v1/bindings/1/check?timeout=5")
        answer = CheckAnswer.model_validate(body)
        assert (status, answer.outcome, answer.result) == (200, "answered", "status_2")
        assert answer.route.action == "dial_temp_x"
        # the provider does not know this binding: queried, but not answered yet
        status, body = await served.ask("POST", "/v1/bindings/9/check")
        assert (status, body["outcome"]) == (200, "failed")
        assert body["route"]["action"] == "dial_x"
        assert (await served.ask("POST", "/v1/bindings/2/check"))[0] == 404
        assert (await served.ask("POST", "/v1/bindings/1/check?timeout=0"))[1]["field"] == "timeout"


async def test_a_slow_check_continues_after_its_request_timed_out(tmp_path: Path) -> None:
    slow = scripted(1, fault=[{"kind": "slow", "delay": "0.5s"}])
    async with serving(tmp_path, slow) as served:
        await served.register()
        status, body = await served.ask("POST", "/v1/bindings/1/check?timeout=0.1")
        answer = CheckAnswer.model_validate(body)
        assert (status, answer.outcome, answer.route.reason) == (202, "late", "unverified")


async def test_a_spent_budget_is_answered_with_retry_after(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1), rate=0.01) as served:
        await served.register()
        statuses = []
        for _ in range(3):
            async with served.session.post(f"{served.url}/v1/bindings/1/check?timeout=0.05") as response:
                statuses.append(response.status)
                if response.status == 429:
                    assert int(response.headers["Retry-After"]) >= 1
                    assert (await response.json(content_type=None))["code"] == "budget_spent"
        assert 429 in statuses


async def test_an_override_is_set_shown_and_lifted(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        await served.checked("1")
        order = {"action": "hold", "until": FUTURE, "reason": "number is being ported"}
        status, body = await served.ask("PUT", "/v1/overrides/1", order)
        answer = PinnedAnswer.model_validate(body)
        assert (status, answer.route.action, answer.override.until) == (200, "hold", FUTURE)
        assert (answer.override.created_by, answer.override.reason) == ("local", order["reason"])
        _, route = await served.ask("GET", "/v1/routes/1")
        assert (route["action"], route["reason"], route["flags"]) == ("hold", "override", ["overridden"])
        assert await served.ask("DELETE", "/v1/overrides/1") == (204, "")
        assert (await served.ask("DELETE", "/v1/overrides/1"))[1]["code"] == "unknown_override"
        assert (await served.ask("GET", "/v1/routes/1"))[1]["number"] == X
        for bad, status, code, field in (
            ({"action": "dial_real"}, 422, "invalid_field", "action"),
            ({"action": "dial_x", "number": A}, 422, "foreign_number", "number"),
            ({"action": "dial_x", "number": B}, 422, "foreign_number", "number"),
            ({"action": "dial_temp_x"}, 422, "foreign_number", "action"),
            ({"action": "hold", "until": PAST}, 422, "in_the_past", "until"),
            ({"action": "hold", "for": "1h"}, 422, "unknown_field", "for"),
            ({}, 422, "missing_field", "action"),
        ):
            found, problem = await served.ask("PUT", "/v1/overrides/1", bad)
            assert (found, problem["code"], problem["field"]) == (status, code, field)
        assert (await served.ask("PUT", "/v1/overrides/2", {"action": "hold"}))[1][
            "code"
        ] == "unknown_binding"
        assert (await served.ask("DELETE", "/v1/overrides/2"))[1]["code"] == "unknown_binding"
        assert (await served.ask("GET", "/v1/routes/1"))[1]["action"] == "dial_x"


async def _answer_with(served: Served, status: int) -> None:
    provider = served.daemon.config.provider.endpoint
    url = f"{provider}/_admin/bindings/1"
    async with served.session.patch(url, json={"status": status}) as response:
        assert response.status == 200
