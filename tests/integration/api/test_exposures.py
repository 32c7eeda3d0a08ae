"""The audit over HTTP: each real number handed out is recorded first, and can be found."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from precall.api.schemas.bindings import BindingAnswer
from precall.api.schemas.exposures import ExposurePage
from tests.support.api_daemon import A, B, Served, X, a_binding, scripted, serving, token
from tests.support.locked import locked
from tests.support.patience import BRIEF, until

EVERYONE = ("routes:read", "routes:real", "bindings:write")


def count(served: Served, pool: str = "FC1") -> float:
    """Return the value of the metric."""
    return served.daemon.metrics.registry.get_sample_value("precall_exposures_total", {"pool": pool}) or 0.0


async def listed(served: Served, query: str = "") -> list[dict[str, Any]]:
    status, page = await served.ask("GET", f"/v1/exposures{query}")
    assert status == 200, page
    assert ExposurePage.model_validate(page)
    return page["exposures"]  # type: ignore[no-any-return]


async def exported(served: Served, query: str = "") -> list[dict[str, Any]]:
    async with served.session.get(f"{served.url}/v1/bindings/export{query}") as response:
        assert response.status == 200
        return [orjson.loads(line) for line in (await response.read()).splitlines()]


async def test_routes_reads_and_exports_are_audited(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(3)) as served:
        await served.register()
        await served.checked("1")
        await served.ask("GET", f"/v1/routes/1?caller={A}")
        for _ in range(3):
            assert (await served.ask("GET", "/v1/bindings/1"))[1]["number_b"] == B
        async with served.session.head(f"{served.url}/v1/bindings/1") as response:
            assert response.status == 200
        assert [BindingAnswer.model_validate(one).number_a for one in await exported(served)] == [A]
        found = await listed(served)
        assert [(row["reason"], row["side"], row["count"], row["reader"]) for row in found] == [
            ("bindings_export", "b", 1, "local"),
            ("bindings_export", "a", 1, "local"),
            ("binding_read", "b", 3, "local"),
            ("binding_read", "a", 3, "local"),
            ("status_3", "b", 1, "local"),
        ]
        assert found[-1]["request_id"]
        assert all(row["first_at"].endswith("Z") for row in found)
        assert count(served) == 1 + 2 * 3 + 2
        assert A not in str(found)
        assert B not in str(found)


async def test_the_audit_is_filtered_by_pool_reader_binding_number_and_time(tmp_path: Path) -> None:
    may, entry = token("dispatcher", *EVERYONE)
    admin, other = token("auditor", "admin", "routes:real", "routes:read")
    async with serving(tmp_path, tokens=[entry, other]) as served:
        served.session.headers["Authorization"] = f"Bearer {may}"
        await served.register()
        await served.register(subs_id="2", pool_key="FC2", number_a="+86 139 0000 0001", number_b="")
        for subs_id in ("1", "2"):
            await served.ask("GET", f"/v1/bindings/{subs_id}")
        assert (await served.ask("GET", "/v1/exposures"))[0] == 403
        served.session.headers["Authorization"] = f"Bearer {admin}"
        await served.ask("GET", "/v1/bindings/2")

        def ids(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
            return [(row["subs_id"], row["side"], row["reader"]) for row in rows]

        first, second = ("1", "a", "dispatcher"), ("1", "b", "dispatcher")
        third, fourth = ("2", "a", "dispatcher"), ("2", "a", "auditor")
        assert ids(await listed(served)) == [fourth, third, second, first]
        assert ids(await listed(served, "?pool_key=FC2")) == [fourth, third]
        assert ids(await listed(served, "?reader=auditor")) == [fourth]
        assert ids(await listed(served, "?subs_id=1")) == [second, first]
        assert ids(await listed(served, f"?number={B}")) == [fourth, third, second]
        assert ids(await listed(served, "?number=%2B86-13900000001&reader=dispatcher")) == [third, second]
        assert ids(await listed(served, "?since=2999-01-01T00:00:00Z")) == []
        assert len(await listed(served, "?since=2020-01-01T00:00:00Z")) == 4
        # the number is found although no binding has it any more
        served.session.headers["Authorization"] = f"Bearer {may}"
        for subs_id in ("1", "2"):
            assert (await served.ask("DELETE", f"/v1/bindings/{subs_id}"))[0] == 204
        served.session.headers["Authorization"] = f"Bearer {admin}"
        assert ids(await listed(served, f"?number={A}")) == [first]

        _, page = await served.ask("GET", "/v1/exposures?limit=3")
        _, rest = await served.ask("GET", f"/v1/exposures?limit=3&cursor={page['cursor']}")
        assert (len(page["exposures"]), ids(rest["exposures"]), rest["cursor"]) == (3, [first], "")
        for query, code in (
            ("cursor=x", "invalid_cursor"),
            ("number=x", "invalid_parameter"),
            ("since=yesterday", "invalid_parameter"),
            ("by=me", "unknown_parameter"),
        ):
            status, problem = await served.ask("GET", f"/v1/exposures?{query}")
            assert (status, problem["code"]) == (400, code)


async def test_only_single_reads_and_exports_return_numbers(tmp_path: Path) -> None:
    may, entry = token("reader", *EVERYONE)
    admin, other = token("admin", "admin")
    async with serving(tmp_path, tokens=[entry, other]) as served:
        served.session.headers["Authorization"] = f"Bearer {may}"
        assert (await served.register())["number_a"] == "***01"
        [shown] = (await served.ask("GET", "/v1/bindings"))[1]["bindings"]
        assert (shown["number_x"], shown["number_a"], shown["number_b"]) == (X, "***01", "***01")
        assert (await served.ask("GET", "/v1/bindings/export"))[0] == 403
        assert await served.daemon.parts.store.exposures(limit=9) == []
        served.session.headers["Authorization"] = f"Bearer {admin}"
        assert [one["number_b"] for one in await exported(served)] == [B]


async def test_a_large_export_is_complete_filtered_and_audited(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        bindings = [
            a_binding(subs_id=str(place), pool_key=f"FC{place % 2}", labels={"city": f"c{place % 3}"})
            for place in range(1, 1202)
        ]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        async with served.session.head(f"{served.url}/v1/bindings/export") as response:
            assert response.status == 200
        assert await listed(served) == []
        found = await exported(served)
        assert {one["subs_id"] for one in found} == {str(place) for place in range(1, 1202)}
        assert count(served, "FC0") + count(served, "FC1") == 2 * 1201
        some = await exported(served, "?pool_key=FC1&label=city:c1")
        assert {one["subs_id"] for one in some} == {str(place) for place in range(1, 1202, 6)}
        assert len(await listed(served, "?subs_id=7&limit=9")) == 4
        assert len(await listed(served, "?subs_id=2&limit=9")) == 2


@pytest.mark.parametrize("path", ["/v1/bindings/1", "/v1/bindings/export"])
async def test_without_an_audit_no_number_is_returned(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path, store_timeout=BRIEF) as served:
        await served.register()
        async with locked(tmp_path / "precall.db"):
            for _ in range(2):  # the second time the database is known to be down
                status, problem = await served.ask("GET", path)
                assert (status, problem["code"]) == (503, "audit_unavailable")
                assert A not in str(problem)
        await until(lambda: served.daemon.parts.writer.saving)
        assert await listed(served) == []
        assert (await served.ask("GET", path))[0] == 200
        assert len(await listed(served)) == 2
