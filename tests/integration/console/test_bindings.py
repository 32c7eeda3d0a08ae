"""The pages Bindings and one binding: found, explained, checked and overridden, and no party's number anywhere."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from precall.core.calls.call import Call
from tests.integration.console.visitors import Browser, bearing
from tests.support.api_daemon import A, B, Served, X, a_binding, scripted, serving, token

LONG = "12345678901234567890123456789012"
ADMIN = ("routes:read", "routes:real", "bindings:write", "calls:write", "admin")


@asynccontextmanager
async def visiting(
    folder: Path, *statuses: int, scopes: tuple[str, ...] = ADMIN, language: str = "en", **more: Any
) -> AsyncIterator[tuple[Served, Browser]]:
    """A daemon with a binding for each status, asked by an administrator, and a browser with these scopes."""
    boss, may_all = token("boss", *ADMIN)
    secret, may_some = token("visitor", *scopes)
    async with serving(folder, scripted(*statuses), tokens=[may_all, may_some], **more) as served:
        served.session.headers["Authorization"] = f"Bearer {boss}"
        for number, _ in enumerate(statuses, 1):
            await served.register(subs_id=str(number))
        async with bearing(served, secret, language) as browser:
            yield served, browser


def ids(text: str) -> list[str]:
    return re.findall(r'<a href="/console/bindings/(\d+)">', text)


async def fill(served: Served, count: int, **facts: Any) -> None:
    """Register bindings with ids from 1000 on."""
    bindings = [a_binding(subs_id=str(1000 + number), **facts) for number in range(count)]
    for start in range(0, count, 5000):
        status, _ = await served.ask(
            "POST", "/v1/bindings/batch", {"bindings": bindings[start : start + 5000]}
        )
        assert status == 200


@pytest.mark.parametrize(("language", "words"), [("en", "There are no bindings yet."), ("zh", "尚无绑定。")])
async def test_without_bindings_it_says_what_to_do(tmp_path: Path, language: str, words: str) -> None:
    async with visiting(tmp_path, language=language) as (_, browser):
        shown = await browser.get("/console/bindings")
        assert shown.status == 200
        assert words in shown.text


async def test_filters_and_pages(tmp_path: Path) -> None:
    async with visiting(tmp_path, 1, 2, 3) as (served, browser):
        await fill(served, 60, pool_key="OTHER")
        for subs_id in ("1", "2", "3"):
            await served.checked(subs_id)
        first = (await browser.get("/console/bindings")).text
        [after] = re.findall(r'<a rel="next" href="([^"]+)"', first)
        second = (await browser.get(after)).text
        assert sorted(ids(first) + ids(second)) == sorted(
            ["1", "2", "3", *(str(1000 + n) for n in range(60))]
        )
        assert 'rel="next"' not in second
        for query, found in (
            ("action=dial_temp_x&state=&pool_key=&stale=", ["2"]),
            ("state=normal", ["1"]),
            ("pool_key=FC1&state=fallback", ["3"]),
            ("pool_key=none", []),
            ("stale=false&pool_key=FC1&lang=en", ["1", "2", "3"]),
        ):
            text = (await browser.get(f"/console/bindings?{query}")).text
            assert ids(text) == found, query
        assert "No binding matches." in (await browser.get("/console/bindings?pool_key=none")).text
        assert (await browser.get("/console/bindings?action=nothing")).status == 400
        assert (await browser.get("/console/bindings?cursor=x")).status == 400


@pytest.mark.parametrize("typed", [A, "+86 138-0000-0001", B])
async def test_a_party_is_found_by_its_number_and_the_number_is_not_repeated(
    tmp_path: Path, typed: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with visiting(tmp_path, 1, 1) as (served, browser):
        await served.register(subs_id="7", number_a="13700000007", number_b="13700000008")
        with caplog.at_level("INFO"):
            shown = await browser.fill_in("/console/bindings", {"text": typed})
        assert (shown.status, ids(shown.text)) == (200, ["1", "2"])
        assert "Found: 2" in shown.text
        assert typed not in shown.text
        said = [str(record.msg) for record in caplog.records if "person.searched" in str(record.msg)]
        assert len(said) == 1
        assert not {A, B, typed} & set(re.findall(r"\d+", said[0]))


async def test_a_party_is_not_found_without_admin(tmp_path: Path) -> None:
    async with visiting(tmp_path, 1, scopes=("routes:read",)) as (_, browser):
        shown = await browser.fill_in("/console/bindings", {"text": A})
        assert (shown.status, ids(shown.text)) == (404, [])
        assert "needs the scope admin" in shown.text


async def test_an_id_leads_to_its_binding_and_an_x_to_all_of_its_bindings(tmp_path: Path) -> None:
    async with visiting(tmp_path, 1, 1, scopes=("routes:read",)) as (served, browser):
        await served.register(subs_id="9", number_x="17000000077")
        assert (await browser.fill_in("/console/bindings", {"text": " 2 "})).location == "/console/bindings/2"
        assert ids((await browser.fill_in("/console/bindings", {"text": X})).text) == ["1", "2"]
        for typed, status in (("4444444", 404), ("not a number", 404), ("", 404), ("1" * 64, 404)):
            assert (await browser.fill_in("/console/bindings", {"text": typed})).status == status, typed


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (
            "en",
            ("Dispatchers are told to dial the temporary X", "Next check", "Timeline", "Override the route"),
        ),
        ("zh", ("调度方被告知拨打临时 X", "下次检查", "时间线", "人工指定路由")),
    ],
)
async def test_a_binding_is_explained_in_both_languages(
    tmp_path: Path, language: str, words: tuple[str, ...]
) -> None:
    async with visiting(tmp_path, 2, language=language) as (served, browser):
        await served.checked("1")
        dials = served.daemon.parts.metrics.render().count(b"precall_exposures_total{")
        shown = await browser.get("/console/bindings/1")
        assert shown.status == 200
        for one in words:
            assert one in shown.text
        for number in (A, B):
            assert number not in shown.text
        assert "***01" in shown.text
        assert served.daemon.parts.metrics.render().count(b"precall_exposures_total{") == dials


async def test_a_real_number_is_neither_shown_nor_audited(tmp_path: Path) -> None:
    async with visiting(tmp_path, 3, policy={"confirm_real": 1}) as (served, browser):
        assert (await served.checked("1"))["action"] == "dial_real"
        text = (await browser.get("/console/bindings/1")).text
        assert "dial the callee&#39;s real number" in text
        assert not {A, B} & set(re.findall(r"\d+", text))
        assert (await served.ask("GET", "/v1/exposures"))[1]["exposures"] == []


async def test_the_timeline_merges_all_records_newest_first(tmp_path: Path) -> None:
    async with visiting(tmp_path, 3, policy={"confirm_real": 1}) as (served, browser):
        await served.checked("1")
        real = await served.ask("GET", f"/v1/routes/1?caller={A}")
        assert real[1]["number"] == B
        await served.ask("PUT", "/v1/overrides/1", {"action": "hold", "reason": f"<u>{B}</u>"})
        body = {
            "call_id": "call^1",
            "called_at": "2020-01-01T00:00:00Z",
            "subs_id": "1",
            "outcome": "failed",
        }
        assert (await served.ask("POST", "/v1/calls", body))[1]["results"][0]["result"] == "stored"
        text = (await browser.get("/console/bindings/1")).text
        kinds = re.findall(r'<li class="at-(\w+)"><span class="kind">', text)
        assert kinds[-1] == "call"
        assert set(kinds) == {"answer", "change", "call", "exposure", "order"}
        assert kinds.index("order") < kinds.index("exposure") < kinds.index("answer")
        assert "&lt;u&gt;***&lt;/u&gt;" in text
        assert "Number of party B given to boss" in text
        assert not {A, B} & set(re.findall(r"\d+", text))
    async with visiting(tmp_path, scopes=("routes:read",)) as (_, browser):
        text = (await browser.get("/console/bindings/1")).text
        kinds = set(re.findall(r'<li class="at-(\w+)"><span class="kind">', text))
        assert kinds == {"answer", "change", "call", "order"}
        assert "***&lt;/u&gt;" not in text
        assert "boss" not in text


async def test_the_pages_of_a_timeline_leave_nothing_out_and_repeat_nothing(tmp_path: Path) -> None:
    async with visiting(tmp_path, 1) as (served, browser):
        for number in range(25):
            status, _ = await served.ask(
                "PUT", "/v1/overrides/1", {"action": "hold", "reason": f"reason {number}."}
            )
            assert status == 200
        calls = [Call(f"call-{number}", 1e9 + number, 1e9 + number, "1", prod_id=0) for number in range(20)]
        await served.daemon.parts.call_results.file(calls, placed=True)
        path, entries, pages = "/console/bindings/1", list[str](), 0
        while path:
            text = (await browser.get(path)).text
            entries += re.findall(r"<li class=\"at-\w+\"><span class=\"kind\">.*?</li>", text, re.DOTALL)
            found = re.findall(r'<a rel="next" href="([^"]+)"', text)
            path, pages = found[0] if found else "", pages + 1
        assert pages >= 3
        reasons = re.findall(r"reason (\d+)\.", "".join(entries))
        assert [int(one) for one in reasons] == list(range(24, -1, -1))
        assert re.findall(r"call-(\d+)", "".join(entries)) == [str(one) for one in range(19, -1, -1)]
        assert sum('class="at-change"' in entry for entry in entries) >= 26
        assert (await browser.get("/console/bindings/1?cursor=1.2")).status == 400


@pytest.mark.parametrize(
    ("language", "words"), [("en", "The provider has answered."), ("zh", "供应商已答复。")]
)
async def test_a_check_can_be_asked_for(tmp_path: Path, language: str, words: str) -> None:
    scopes = ("routes:read", "bindings:write")
    async with visiting(tmp_path, 2, scopes=scopes, language=language) as (_, browser):
        done = await browser.fill_in("/console/bindings/1/check", {}, form="/console/bindings/1")
        assert (done.status, done.location) == (303, "/console/bindings/1?done=answered")
        text = (await browser.get(done.location)).text
        assert words in text
        assert 'class="badge dial_temp_x"' in text
        assert (await browser.get("/console/bindings/1?done=<b>")).text.count("<b>") == text.count("<b>")


async def test_a_check_beyond_the_budget_says_so(tmp_path: Path) -> None:
    async with visiting(tmp_path, 1, rate=0.05) as (_, browser):
        for _ in range(20):
            done = await browser.fill_in("/console/bindings/1/check", {}, form="/console/bindings/1")
            if done.status != 303:
                break
        assert done.status == 429
        assert "The budget of provider calls is spent" in done.text
        assert int(done.headers["Retry-After"]) >= 1


async def test_an_override_is_given_and_removed_with_its_number_masked(tmp_path: Path) -> None:
    async with visiting(tmp_path, 1) as (served, browser):
        fields = {
            "action": "dial_x",
            "number": "170 0000 0001",
            "until": "2098-01-02T03:04",
            "reason": f"for {A}",
        }
        done = await browser.fill_in("/console/bindings/1/override", fields, form="/console/bindings/1")
        assert (done.status, done.location) == (303, "/console/bindings/1?done=overridden")
        override = (await served.ask("GET", "/v1/bindings/1/explain"))[1]["override"]
        assert (override["action"], override["created_by"]) == ("dial_x", "visitor")
        assert override["until"] == "2098-01-02T03:04:00Z"
        text = (await browser.get(done.location)).text
        assert "<b>dial X</b> ***01" in text
        assert "for ***" in text
        done = await browser.fill_in("/console/bindings/1/lift", {}, form="/console/bindings/1")
        assert done.location == "/console/bindings/1?done=lifted"
        assert (await served.ask("GET", "/v1/bindings/1/explain"))[1]["override"] is None
        assert (
            await browser.fill_in("/console/bindings/1/lift", {}, form="/console/bindings/1")
        ).status == 404


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"reason": " "}, 422, "A reason is needed."),
        ({"action": "dial_x", "number": B}, 422, "An override may only say hold"),
        ({"action": "dial_temp_x"}, 422, "An override may only say hold"),
        ({"number": "12"}, 422, "The form has a mistake."),
        ({"action": "dial_real"}, 422, "The form has a mistake."),
        ({"until": "2001-01-01T00:00"}, 422, "This time has passed."),
        ({"until": "soon"}, 422, "The form has a mistake."),
        ({"reason": "x" * 257}, 422, "The form has a mistake."),
    ],
)
async def test_a_refused_override_orders_nothing_and_repeats_no_number(
    tmp_path: Path, fields: dict[str, str], status: int, words: str
) -> None:
    async with visiting(tmp_path, 1) as (served, browser):
        given = {"action": "hold", "reason": "a <reason>"} | fields
        shown = await browser.fill_in("/console/bindings/1/override", given, form="/console/bindings/1")
        assert shown.status == status
        assert words in shown.text
        assert '<details id="override" open>' in shown.text
        assert 'hx-get="/console/bindings/1"' in shown.text
        assert (await browser.get("/console/bindings/1/override")).location == "/console/bindings/1"
        assert B not in shown.text
        if given["reason"] == "a <reason>":
            assert 'value="a &lt;reason&gt;"' in shown.text
        assert (await served.ask("GET", "/v1/bindings/1/explain"))[1]["override"] is None


@pytest.mark.parametrize(
    "scopes", [("routes:read",), ("routes:read", "bindings:write"), ("routes:read", "routes:real")]
)
async def test_without_the_scope_nothing_is_offered_and_nothing_ordered(
    tmp_path: Path, scopes: tuple[str, ...]
) -> None:
    async with visiting(tmp_path, 1, scopes=scopes) as (served, browser):
        text = (await browser.get("/console/bindings/1")).text
        assert ("/check" in text) == ("bindings:write" in scopes)
        assert "/override" not in text
        assert "/console/exposures" not in text
        given = {"action": "hold", "reason": "no"}
        for order in ("override", "lift"):
            shown = await browser.fill_in(f"/console/bindings/1/{order}", given)
            assert shown.status == 403
        assert (await served.ask("GET", "/v1/bindings/1/explain"))[1]["override"] is None
        for number in (A, B):
            assert number not in text


async def test_a_form_of_another_site_orders_nothing(tmp_path: Path) -> None:
    async with visiting(tmp_path, 1) as (served, browser):
        given = {"action": "hold", "reason": "no"}
        for order in ("override", "check", "lift"):
            path = f"{browser.url}/console/bindings/1/{order}"
            for headers in ({"Origin": browser.url}, {"Origin": "https://evil.example"}, {}):
                async with browser.session.post(path, data=given, headers=headers) as response:
                    assert response.status == 403
        assert (await served.ask("GET", "/v1/bindings/1/explain"))[1]["override"] is None


async def test_labels_are_escaped_and_long_ids_shown(tmp_path: Path) -> None:
    async with visiting(tmp_path) as (served, browser):
        script = "<script>alert(1)</script>"
        await served.register(subs_id=LONG, labels={"<b>key": script, "note": "'\"><img src=x>"})
        text = (await browser.get(f"/console/bindings/{LONG}")).text
        assert f"Binding {LONG}" in text
        assert "&lt;b&gt;key: &lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert script not in text
        assert "<img" not in text
        assert ids((await browser.get("/console/bindings")).text) == [LONG]


async def test_on_standby_bindings_are_found_and_orders_refused(tmp_path: Path) -> None:
    async with visiting(tmp_path, 1) as (served, browser):
        before = await browser.get("/console/bindings/1")
        served.daemon.parts.store.role.fence()
        assert ids((await browser.fill_in("/console/bindings", {"text": A})).text) == ["1"]
        shown = await browser.get("/console/bindings/1")
        assert "Dispatchers are told to dial X" in shown.text
        for order in ("check", "override", "lift"):
            assert f'action="/console/bindings/1/{order}"' not in shown.text
            fields = {"action": "hold", "reason": "x"}
            answer = await browser.submit(before, f"/console/bindings/1/{order}", **fields)
            assert answer.status == 503
            assert "Another daemon leads" in answer.text


@pytest.mark.parametrize("path", ["2", "x", "1/none", "9" * 40])
async def test_an_unknown_binding_is_not_found(tmp_path: Path, path: str) -> None:
    async with visiting(tmp_path, 1) as (_, browser):
        assert (await browser.get(f"/console/bindings/{path}")).status == 404


async def test_only_what_follows_by_itself_is_asked_for_again(tmp_path: Path) -> None:
    async with visiting(tmp_path, 1) as (_, browser):
        live = await browser.get("/console/bindings/1", **{"HX-Request": "true", "HX-Target": "binding-now"})
        assert 'id="binding-now"' in live.text
        assert "<html" not in live.text
        assert '<li class="at-change">' not in live.text


@pytest.mark.slow(10)
async def test_ten_thousand_bindings_are_listed_searched_and_filtered(tmp_path: Path) -> None:
    async with visiting(tmp_path, 1) as (served, browser):
        await fill(served, 10_000, pool_key="BIG")
        await served.register(subs_id="99999", number_a="13711111111", pool_key="BIG")
        assert ids((await browser.fill_in("/console/bindings", {"text": "13711111111"})).text) == ["99999"]
        shown = await browser.fill_in("/console/bindings", {"text": A})
        assert len(ids(shown.text)) == 200
        assert "At least 200 were found" in shown.text
        assert len(ids((await browser.get("/console/bindings?pool_key=BIG")).text)) == 50
        assert ids((await browser.get("/console/bindings?action=hold")).text) == []
        assert "10,001" in (await browser.get("/console/pools")).text
