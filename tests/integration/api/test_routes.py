"""Routes over HTTP."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from precall.api.schemas.routes import LookupAnswer, RouteAnswer, RoutePage
from precall.simulator import Fault
from tests.support.api_daemon import A, B, X, a_binding, scripted, serving, token
from tests.support.route_forms import route_forms

NORMAL, TEMPORARY, FALLBACK, EXPIRED, HELD = "1", "2", "3", "4", "5"
OTHER = "17000000009"


async def test_routes_of_each_state(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1, 2, 3, 4)) as served:
        for subs_id in (NORMAL, TEMPORARY, FALLBACK, EXPIRED):
            await served.register(subs_id=subs_id)
            await served.checked(subs_id)
        told = {}
        for subs_id in (NORMAL, TEMPORARY, FALLBACK, EXPIRED):
            status, route = await served.ask("GET", f"/v1/routes/{subs_id}?caller={A}")
            assert status == 200
            assert list(RouteAnswer.model_validate(route).model_dump(exclude_unset=True)) == list(route)
            told[subs_id] = route["action"], route["number"]
        temporary = told[TEMPORARY][1]
        assert temporary not in ("", X, A, B)
        assert told == {
            NORMAL: ("dial_x", X),
            TEMPORARY: ("dial_temp_x", temporary),
            FALLBACK: ("dial_real", B),
            EXPIRED: ("expired", ""),
        }
        # the direction, by parameter and by header
        _, route = await served.ask("GET", f"/v1/routes/{FALLBACK}", headers={"X-Precall-Caller": f"+86{B}"})
        assert route["number"] == A
        _, route = await served.ask("GET", f"/v1/routes/{FALLBACK}?caller=13000000000")
        assert (route["action"], route["reason"], route["retry_after"]) == ("hold", "unknown_caller", 60)
        # each real number that left is in the audit
        exposures = await served.daemon.parts.store.exposures(limit=10)
        assert sorted((row["subs_id"], row["side"], row["reader"]) for row in exposures) == [
            (FALLBACK, "a", "local"),
            (FALLBACK, "b", "local"),
        ]
        # lists never show one
        _, page = await served.ask("GET", "/v1/routes?action=dial_real")
        [listed] = RoutePage.model_validate(page).routes
        assert (listed.number, listed.flags) == ("", ["number_withheld"])


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_every_form_of_a_route_says_how_long_it_is_good(tmp_path: Path) -> None:
    """Real numbers for no time; `hold` and `expired` from the moment they are told."""
    ids = (NORMAL, TEMPORARY, FALLBACK, EXPIRED, HELD)
    async with serving(tmp_path, scripted(1, 2, 3, 4, 3), brake={"floor": 1, "share": 0.0}) as served:
        for subs_id in ids:
            await served.register(subs_id=subs_id)
            await served.checked(subs_id)
        before = time.time() - 0.001  # what is told is cut to the millisecond
        forms = await route_forms(served, ids, A)
        await served.register(subs_id=NORMAL, number_x=OTHER)
        _, by_number = await served.ask("GET", f"/v1/routes/by-number?x={OTHER}&caller={A}")
        forms["by-number"] = [by_number]
        after = time.time()
    for form, routes in forms.items():
        assert form == "by-number" or {route["subs_id"] for route in routes} == set(ids), form
        for route in routes:
            good = seconds_of(route["good_until"])
            match route["action"]:
                case "dial_x":
                    assert route["good_until"] == "2098-12-31T23:59:55.000Z", form
                case "dial_temp_x":
                    assert good == pytest.approx(seconds_of(route["checked_at"]) + 600.0, abs=0.002), form
                case action:
                    lasts = {"dial_real": 0.0, "hold": route["retry_after"], "expired": 86_400.0}[action]
                    assert before <= good - lasts <= after, form
                    assert action != "hold" or lasts == 60.0


async def test_the_end_of_an_override_bounds_the_route(tmp_path: Path) -> None:
    async with serving(tmp_path, rate=0.001) as served:
        await served.register()
        order = {"action": "dial_x", "reason": "tried by hand", "until": "2098-01-01T00:00:00Z"}
        status, pinned = await served.ask("PUT", "/v1/overrides/1", order)
        assert (status, pinned["route"]["good_until"]) == (200, "2098-01-01T00:00:00.000Z"), pinned


async def test_a_route_is_available_as_plain_text(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.register(extension="12")
        async with served.session.get(f"{served.url}/v1/routes/1?format=text") as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert await response.text() == f"dial_x,{X},12"


@pytest.mark.parametrize("form", ["json", "text"])
async def test_an_unchanged_route_is_answered_with_304(tmp_path: Path, form: str) -> None:
    async with serving(tmp_path, scripted(1), rate=0.001) as served:
        await served.register()
        url = f"{served.url}/v1/routes/1?format={form}"
        async with served.session.get(url) as response:
            tag = response.headers["ETag"]
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        for known in (tag, f'"other", W/{tag}', "*"):
            async with served.session.get(url, headers={"If-None-Match": known}) as response:
                assert response.status == 304
                assert response.headers["ETag"] == tag
                assert await response.read() == b""
        await served.register(number_x="17000000009")
        async with served.session.get(url, headers={"If-None-Match": tag}) as response:
            assert response.status == 200
            assert "17000000009" in await response.text()


async def test_only_reads_for_dialling_count_as_dials(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        await served.checked("1")

        def dials() -> float:
            value = served.daemon.metrics.registry.get_sample_value("precall_dial_age_seconds_count")
            assert value is not None
            return value

        url = f"{served.url}/v1/routes/1"
        async with served.session.get(url) as response:
            tag = response.headers["ETag"]
        assert dials() == 1
        await served.ask("GET", "/v1/routes/1?dial=0")
        async with served.session.head(url) as response:
            assert (response.status, await response.read()) == (200, b"")
        async with served.session.get(url, headers={"If-None-Match": tag}) as response:
            assert response.status == 304
        assert dials() == 1
        async with served.session.get(url, headers={"If-None-Match": '"old"'}) as response:
            assert response.status == 200
        assert dials() == 2
        reads = served.daemon.metrics.registry.get_sample_value(
            "precall_reads_total", {"format": "json", "stale": "false"}
        )
        assert reads == 5


async def test_max_age_checks_before_answering(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(2)) as served:
        await served.register()
        _, route = await served.ask("GET", "/v1/routes/1?max_age=0&timeout=5")
        assert (route["action"], route["status"]) == ("dial_temp_x", 2)
        asked = served.simulator.calls_received["QueryCallStatus"]
        _, again = await served.ask("GET", "/v1/routes/1?max_age=3600")
        assert again["checked_at"] == route["checked_at"]
        assert served.simulator.calls_received["QueryCallStatus"] == asked


async def test_a_route_just_checked_is_not_stale(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        learned = served.daemon.parts.checker.planner.learned
        for query in ("max_age=0", "max_age=0.001"):
            _, route = await served.ask("GET", f"/v1/routes/1?{query}&timeout=5")
            assert (route["status"], route["stale"]) == (1, False), query
        assert learned.unverified(abnormal=False) < 0.5, "what was checked counts as verified"
        _, text = await served.ask("GET", "/v1/routes/1?max_age=0&timeout=5&format=text")
        assert text == f"dial_x,{X}"
        served.simulator.service.faults.add(
            Fault.model_validate({"kind": "slow", "delay": "50ms", "for": "0s"}), 0.0
        )
        _, route = await served.ask("GET", "/v1/routes/1?max_age=0.01&timeout=5")
        assert not route["stale"], "however long the call took"


async def test_a_route_whose_check_failed_is_stale_and_unverified(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        await served.checked("1")
        served.simulator.service.faults.add(Fault.model_validate({"kind": "reset", "for": "0s"}), 0.0)
        before = served.daemon.parts.checker.planner.learned.unverified(abnormal=False)
        _, route = await served.ask("GET", "/v1/routes/1?max_age=0&timeout=5")
        assert (route["action"], route["stale"]) == ("dial_x", True)
        assert served.daemon.parts.checker.planner.learned.unverified(abnormal=False) > before
        _, route = await served.ask("GET", "/v1/routes/1?max_age=3600")
        assert not route["stale"], "young enough without"


async def test_a_route_is_found_by_its_x(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        c, d, lone = "13700000001", "13700000002", "17000000077"
        await served.register(subs_id="1")
        await served.register(subs_id="2", number_a=c, number_b=d)
        await served.register(subs_id="3", number_x=lone, number_b="")

        async def found(query: str) -> tuple[int, Any]:
            status, body = await served.ask("GET", f"/v1/routes/by-number?{query}")
            return status, body.get("subs_id") or body.get("subs_ids") or body["code"]

        assert await found(f"x={X}&caller={B}") == (200, "1")
        assert await found(f"x=%2B86{X}&caller={d}") == (200, "2")
        assert await found(f"x={X}") == (409, ["1", "2"])
        assert await found(f"x={X}&caller=13000000000") == (404, "unknown_binding")
        assert await found(f"x={lone}&caller=13000000000") == (200, "3")
        assert await found("x=17000000099") == (404, "unknown_binding")
        assert (await served.ask("GET", f"/v1/routes/by-number?x={lone}&format=text"))[1] == f"dial_x,{lone}"


async def test_a_plus_decoded_to_a_space_is_restored(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        abroad, caller = "+85291234567", "+85291234568"
        await served.register(subs_id="1", number_x=abroad, number_a=caller)
        for query in (f"x={abroad}", f"x={abroad}&caller={caller}", "x=%2B85291234567", "x=+852 9123-4567"):
            status, route = await served.ask("GET", f"/v1/routes/by-number?{query.replace(' ', '%20')}")
            assert (status, route["subs_id"]) == (200, "1"), query
        status, _ = await served.ask("GET", f"/v1/exposures?number={abroad}")
        assert status == 200


async def test_lookup_by_x_prefers_bindings_that_are_not_expired(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(4, 1)) as served:
        await served.register(subs_id="1")
        await served.checked("1")
        path = f"/v1/routes/by-number?x={X}&caller={A}"
        assert (await served.ask("GET", path))[1]["action"] == "expired"
        await served.register(subs_id="2")
        status, route = await served.ask("GET", path)
        assert (status, route["subs_id"]) == (200, "2")


async def test_lookup_returns_routes_in_order_and_unknown_ids(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1, 2, 3)) as served:
        for subs_id in ("1", "2", "3"):
            await served.register(subs_id=subs_id)
            await served.checked(subs_id)
        status, body = await served.ask(
            "POST", "/v1/routes/lookup", {"subs_ids": ["3", "9", "1", "x"] + ["2"] * 300, "caller": B}
        )
        assert status == 200
        answer = LookupAnswer.model_validate(body)
        assert [route.subs_id for route in answer.routes] == ["3", "1"] + ["2"] * 300
        assert answer.routes[0].number == A
        assert answer.unknown == ["9", "x"]
        assert (await served.ask("POST", "/v1/routes/lookup", {"subs_ids": []}))[1] == {
            "routes": [],
            "unknown": [],
        }


async def test_real_numbers_require_their_scope(tmp_path: Path) -> None:
    secret, plain = token("plain", "routes:read", "bindings:write")
    may, real = token("real", "routes:read", "routes:real")
    async with serving(tmp_path, scripted(3), tokens=[plain, real]) as served:
        served.session.headers["Authorization"] = f"Bearer {secret}"
        stored = await served.register()
        assert (stored["number_x"], stored["number_a"]) == (X, "***01")
        await served.checked("1")
        for method, path, body in (
            ("GET", f"/v1/routes/1?caller={A}", None),
            ("GET", "/v1/routes/1?format=text", None),
            ("GET", f"/v1/routes/by-number?x={X}&caller={A}", None),
            ("POST", "/v1/routes/lookup", {"subs_ids": ["1"], "caller": A}),
            ("GET", "/v1/routes", None),
            ("GET", "/v1/bindings/1", None),
            ("GET", "/v1/bindings", None),
            ("GET", "/v1/bindings/1/history", None),
            ("GET", "/v1/bindings/1/explain", None),
        ):
            status, answer = await served.ask(method, path, body)
            assert status == 200
            assert A not in str(answer), path
            assert B not in str(answer), path
        assert await served.daemon.parts.store.exposures(limit=1) == []
        served.session.headers["Authorization"] = f"Bearer {may}"
        _, route = await served.ask("GET", f"/v1/routes/1?caller={A}")
        assert route["number"] == B
        assert (await served.ask("GET", "/v1/bindings/1"))[1]["number_a"] == A
        assert (await served.daemon.parts.store.exposures(limit=9))[0]["reader"] == "real"
        assert (await served.ask("GET", "/v1/routes"))[1]["routes"][0]["number"] == ""


async def test_routes_are_listed_by_page_and_filter(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1, 2), rate=0.001) as served:
        many = [a_binding(subs_id=str(i), pool_key=f"FC{i % 2}") for i in range(100, 125)]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": many})
        seen: list[str] = []
        cursor = ""
        for _ in range(20):
            _, page = await served.ask("GET", f"/v1/routes?limit=4&pool_key=FC1&cursor={cursor}")
            seen += [route["subs_id"] for route in page["routes"]]
            assert len(page["routes"]) <= 4
            if not (cursor := page["cursor"]):
                break
        assert seen == [str(i) for i in range(101, 125, 2)]
        for query, count in (
            ("state=unverified", 25),
            ("state=normal", 0),
            ("action=dial_x", 25),
            ("action=hold", 0),
            ("stale=false", 25),
            ("stale=true", 0),
            ("pool_key=none", 0),
        ):
            _, page = await served.ask("GET", f"/v1/routes?limit=1000&{query}")
            assert (len(page["routes"]), page["cursor"]) == (count, ""), query


WRONG = [
    ("/v1/routes/1?caller=a%0Ab", 400, "invalid_caller", "caller"),
    (f"/v1/routes/1?caller={'1' * 257}", 400, "invalid_caller", "caller"),
    ("/v1/routes/by-number?x=17000000001-4321", 400, "invalid_parameter", "x"),
    ("/v1/routes/1?max_age=-1", 400, "invalid_parameter", "max_age"),
    ("/v1/routes/1?max_age=1&max_age=2", 400, "invalid_parameter", ""),
    ("/v1/routes/1?timeout=60", 400, "invalid_parameter", "timeout"),
    ("/v1/routes/1?format=rtjson", 400, "invalid_parameter", "format"),
    ("/v1/routes/1?foo=1", 400, "unknown_parameter", "foo"),
    ("/v1/routes/2", 404, "unknown_binding", ""),
    ("/v1/routes/%F0%9F%98%80", 404, "unknown_binding", ""),
    ("/v1/routes/by-number", 400, "missing_parameter", "x"),
    ("/v1/routes?limit=0", 400, "invalid_parameter", "limit"),
    ("/v1/routes?state=fine", 400, "invalid_parameter", "state"),
    ("/v1/nothing", 404, "not_found", ""),
    ("/v1/routes/1/", 404, "not_found", ""),
]


async def test_invalid_parameters_are_named(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.register()
        for path, status, code, field in WRONG:
            body, problem = await served.ask("GET", path)
            assert (body, problem["code"], problem.get("field", "")) == (status, code, field), path
            assert (problem["status"], problem["type"]) == (status, "about:blank")
