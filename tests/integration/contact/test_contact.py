"""Contacts with each kind of simulated provider: findings, calls made, and transcripts."""

import asyncio
import json
import re
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from precall.cli.contact import ContactOrder, ContactResult, examine, subjects_of
from precall.config.schema import Config
from precall.contact import PROBES, ContactVerdict
from precall.core.errors import ConfigError, OutOfReach
from precall.simulator import Scenario, ScenarioError, Simulator, load_recording, load_scenario

DATA = Path(__file__).parents[2] / "data" / "contact"
BINDINGS = DATA / "bindings.csv"
CONFIRMED, REFUTED, NOT_SEEN = ContactVerdict
CHARACTERS = ("classic", "delisted", "allocating")
Verdicts = dict[str, ContactVerdict]


@dataclass
class Outcome:
    """A contact and its cost, as the provider counts it."""

    result: ContactResult
    requests: int

    @property
    def verdicts(self) -> Verdicts:
        return {one.assumption.name: one.verdict for one in self.result.found}

    def found(self, name: str) -> str:
        return next(one.found for one in self.result.found if one.assumption.name == name)


def config(url: str, **provider: object) -> Config:
    given = {
        "endpoint": url,
        "call_detail_endpoint": url,
        "access_key_id": "demo",
        "access_key_secret": "demo-secret",
        "rate": 10,
        "timeout": "30s",
    }
    return Config(provider=given | provider)


async def contact(
    simulator: Simulator,
    *,
    calls: int = 30,
    bindings: Path = BINDINGS,
    transcript: Path | None = None,
    stop: Callable[[], asyncio.Event] = asyncio.Event,
    **provider: object,
) -> Outcome:
    async with simulator.running() as url:
        result = await examine(config(url, **provider), ContactOrder(bindings, calls, transcript, stop))
    return Outcome(result, sum(simulator.service.traffic.codes.values()))


def scene(name: str) -> Scenario:
    return load_scenario(DATA / f"{name}.toml")


def of(verdicts: Verdicts, verdict: ContactVerdict) -> set[str]:
    return {name for name, one in verdicts.items() if one is verdict}


@asynccontextmanager
async def recorded(folder: Path, character: str, calls: int = 60) -> AsyncIterator[tuple[Outcome, Path]]:
    file = folder / f"{character}.jsonl"
    yield await contact(Simulator(scene(character)), calls=calls, transcript=file), file


# -- three characters --------------------------------------------------------------------------------------


async def test_the_classic_provider_confirms_every_visible_assumption() -> None:
    outcome = await contact(Simulator(scene("classic")))
    assert of(outcome.verdicts, REFUTED) == set()
    assert of(outcome.verdicts, NOT_SEEN) == {"status_3", "throttling", "retry_after"}
    assert outcome.result.exit_code == 0
    assert outcome.requests == 30


async def test_a_delisted_action_is_refuted_and_its_dependents_not_seen() -> None:
    outcome = await contact(Simulator(scene("delisted")))
    assert of(outcome.verdicts, REFUTED) == {"served"}
    assert outcome.found("served") == "HTTP 404 InvalidAction.NotFound"
    assert of(outcome.verdicts, CONFIRMED) == {
        "substitutes", "acs3", "rpc", "json", "xml", "request_id", "clock", "latency", "unknown_action", "rate",
        "call_detail",
    }  # fmt: skip
    assert outcome.found("same_temporary") == "QueryCallStatus is not served"
    [served] = [one for one in outcome.result.found if one.verdict is REFUTED]
    assert 'provider.status_source = "subscription_detail"' in served.hint
    assert outcome.result.exit_code == 1


async def test_allocation_at_each_query_and_throttling_are_noticed() -> None:
    outcome = await contact(Simulator(scene("allocating")), calls=60)
    assert of(outcome.verdicts, REFUTED) == {"same_temporary"}
    assert outcome.found("same_temporary").startswith("3 numbers in 3 answers")
    assert of(outcome.verdicts, NOT_SEEN) == {"status_3", "call_no_a", "call_no_b"}
    assert outcome.found("throttling") == "HTTP 400 Throttling.User"
    assert outcome.found("retry_after") == "0.7 s"


async def test_a_rate_that_the_account_does_not_allow_is_never_confirmed() -> None:
    """The account allows 12 calls a second. Latency keeps the calls before the burst below the configured rate."""
    outcome = await contact(Simulator(scene("allocating")), calls=60, rate=40)
    assert outcome.verdicts["rate"] is REFUTED
    assert "within a second" in outcome.found("rate") or "throttled" in outcome.found("rate")
    assert outcome.requests == 60


@pytest.mark.parametrize(
    ("more", "refuted"),
    [
        ("[replies]\nbusiness_http_errors = true", {"business_http"}),
        ('[[fault]]\nkind = "error"\nsubs_id = "1000000768798834"\ncode = "isv.SUBS_NOT_EXIST"', {"expired"}),
        (
            '[[fault]]\nkind = "error"\ncode = "isv.SUBS_NOT_BELONG"\nsubs_id = "999999999999999999"',
            {"unknown_binding"},
        ),
        ('[[fault]]\nkind = "error"\npool_key = "FC999999999999"\ncode = "isv.SUBS_NOT_EXIST"', {"unknown_pool"}),
    ],
)  # fmt: skip
async def test_each_quirk_is_refuted_by_name(more: str, refuted: set[str]) -> None:
    text = (DATA / "classic.toml").read_text()
    outcome = await contact(Simulator(load_scenario(f"{text}\n{more}\n")), calls=16)
    assert of(outcome.verdicts, REFUTED) == refuted


async def test_probes_start_from_the_configured_signature_and_format() -> None:
    outcome = await contact(Simulator(scene("classic")), signature="rpc", format="xml", calls=20)
    assert of(outcome.verdicts, REFUTED) == set()
    assert {"acs3", "rpc", "json", "xml"} <= of(outcome.verdicts, CONFIRMED)


# -- the budget --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [1, 2, 3, 5, 9, 15, 16, 17])
@pytest.mark.parametrize("character", CHARACTERS)
async def test_the_budget_is_never_exceeded(character: str, calls: int) -> None:
    simulator = Simulator(scene(character))
    outcome = await contact(simulator, calls=calls, rate=1000)
    assert outcome.requests == len(outcome.result.record.calls) <= calls
    for name in of(outcome.verdicts, NOT_SEEN):
        assert outcome.found(name)


async def test_repeated_calls_count_too() -> None:
    simulator = Simulator(load_scenario('[[fault]]\nkind = "throttle"\nretry_after = 1\n'))
    outcome = await contact(simulator, calls=7, rate=1000)
    assert outcome.requests == 7
    assert outcome.verdicts["rate"] is REFUTED
    assert outcome.found("unbound") == "no calls left"


@pytest.mark.parametrize("character", ["classic", "delisted"])
async def test_no_probe_exceeds_its_stated_number_of_calls(character: str) -> None:
    outcome = await contact(Simulator(scene(character)), calls=200, rate=1000)
    for probe, (most, _) in PROBES.items():
        assert len(outcome.result.record.of(probe)) <= most


async def test_the_survey_asks_about_six_more_bindings_at_most(tmp_path: Path) -> None:
    many = Scenario(pools=load_scenario('[[pool]]\npool_key = "FC1"\nbindings = 40\nonset = "0s"').pools)
    simulator = Simulator(many)
    file = tmp_path / "many.jsonl"
    rows = [
        {"subs_id": b.subs_id, "pool_key": "FC1", "number_x": b.number_x, "number_a": b.number_a}
        for b in simulator.bindings()
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    outcome = await contact(simulator, bindings=file, calls=100, rate=1000)
    assert len(outcome.result.record.of("survey")) == 6
    assert outcome.found("same_temporary") == "no live binding that was asked about has Status 2 now"
    assert outcome.found("status_2") == "none of the live bindings with an answer (7 of 40) has Status 2 now"
    assert outcome.found("expired") == "no expired binding in the file"


# -- interrupted, refused, out of reach -------------------------------------------------------------------------


async def test_an_interrupt_gives_the_report_so_far(tmp_path: Path) -> None:
    simulator, stop = Simulator(scene("classic")), asyncio.Event()
    file = tmp_path / "contact.jsonl"

    async def interrupt() -> None:
        while len(simulator.received_at) < 3:
            await asyncio.sleep(0.01)
        stop.set()

    task = asyncio.create_task(interrupt())
    outcome = await contact(simulator, transcript=file, stop=lambda: stop)
    await task
    assert outcome.result.record.interrupted
    assert outcome.result.exit_code == 130
    assert outcome.verdicts["served"] is CONFIRMED
    assert outcome.found("unknown_action") == "interrupted"
    assert len(file.read_text().splitlines()) == 1 + outcome.requests < 30


async def test_a_refused_key_costs_two_calls() -> None:
    outcome = await contact(Simulator(scene("classic")), access_key_id="other")
    assert outcome.requests == 2
    assert outcome.result.exit_code == 4
    assert outcome.found("expired") == "the provider refuses the account or its key"


async def test_an_unreachable_provider_costs_no_calls() -> None:
    order = ContactOrder(BINDINGS, 30, None, asyncio.Event)
    with pytest.raises(OutOfReach, match=r"127\.0\.0\.1:9"):
        await examine(config("http://127.0.0.1:9"), order)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("subs_id,pool_key,number_x,number_a\n", "has no binding"),
        ("subs_id,pool\n", "line 1 must name the columns"),
        ("PK\x03\x04", "bindings.csv: it is a workbook"),
        ("subs_id,pool_key,number_x,number_a\n1,FC1,17000000001,\n", "line 2, number_a"),
        ("subs_id,pool_key,number_x,number_a,label.contact\n1,FC1,17000000001,13800000001,dead\n", "label.contact"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "bindings.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=told):
        subjects_of(file, 0.0)


# -- the transcript, and its replay ------------------------------------------------------------------------------


@pytest.mark.parametrize("character", CHARACTERS)
async def test_a_transcript_is_masked_and_private(tmp_path: Path, character: str) -> None:
    async with recorded(tmp_path, character) as (outcome, file):
        text = file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert len(text.splitlines()) == 1 + outcome.requests
        simulated = re.findall(r'"(\d{5,})"|number_\w = "(\d+)"', (DATA / f"{character}.toml").read_text())
        real = {one for found in simulated for one in found if one} | {"FC100001", "demo"}
        real |= {call.answer.called_no for call in outcome.result.record.calls if call.answer} - {""}
        assert len(real) > 10
        for one in real:
            assert one not in text


async def test_request_values_quoted_in_a_refusal_are_masked(tmp_path: Path) -> None:
    """The gateway quotes the string to sign: key, ids and numbers, escaped once more."""
    file = tmp_path / "contact.jsonl"
    outcome = await contact(Simulator(scene("classic")), transcript=file, access_key_secret="another")
    text = file.read_text()
    assert outcome.found("acs3").startswith("HTTP 400 SignatureDoesNotMatch")
    assert text.count("server string to sign is") == outcome.requests == 2
    for real in ("1000000768798832", "FC100001", "demo", "another"):
        assert real not in text


@pytest.mark.parametrize("character", CHARACTERS)
async def test_a_replayed_transcript_leads_to_the_same_verdicts(tmp_path: Path, character: str) -> None:
    said: list[str] = []
    async with recorded(tmp_path, character) as (first, file):
        recording = load_recording(file, said.append)
        bindings = tmp_path / "recorded.jsonl"
        bindings.write_text("".join(json.dumps(row) + "\n" for row in recording.registrations()))
        again = tmp_path / "again.jsonl"
        second = await contact(Simulator(recording=recording), calls=60, bindings=bindings, transcript=again)
        assert second.verdicts == first.verdicts
        assert second.requests == first.requests
        assert not said
        replies = [
            [json.loads(line).get("http_status") for line in one.read_text().splitlines()]
            for one in (file, again)
        ]
        assert replies[0] == replies[1]


@pytest.mark.parametrize(
    "fault",
    [
        'kind = "reset"\nsubs_id = "1000000768798835"',
        'kind = "html"\nsubs_id = "1000000768798834"',
        'kind = "empty"\npool_key = "FC999999999999"',
        'kind = "error"\naction = "QueryCallDetailByCallId"\ncode = "isp.RAM_PERMISSION_DENY"',
    ],
)
async def test_failures_are_replayed_as_well(tmp_path: Path, fault: str) -> None:
    text = (DATA / "classic.toml").read_text()
    file, bindings = tmp_path / "contact.jsonl", tmp_path / "recorded.jsonl"
    scenario = load_scenario(f"{text}\n[[fault]]\n{fault}\n")
    first = await contact(Simulator(scenario), calls=20, transcript=file)
    recording = load_recording(file, lambda _: None)
    bindings.write_text("".join(json.dumps(row) + "\n" for row in recording.registrations()))
    second = await contact(Simulator(recording=recording), calls=20, bindings=bindings)
    timed = ("latency", "rate")
    assert {
        one.assumption.name: one.found for one in second.result.found if one.assumption.name not in timed
    } == {one.assumption.name: one.found for one in first.result.found if one.assumption.name not in timed}


async def test_the_clock_of_the_account_is_replayed(tmp_path: Path) -> None:
    file, bindings = tmp_path / "contact.jsonl", tmp_path / "recorded.jsonl"
    ahead = Simulator(scene("classic"), clock=lambda: time.time() + 600)
    first = await contact(ahead, calls=3, transcript=file)
    assert first.verdicts["clock"] is REFUTED
    recording = load_recording(file, lambda _: None)
    bindings.write_text("".join(json.dumps(row) + "\n" for row in recording.registrations()))
    second = await contact(Simulator(recording=recording), calls=3, bindings=bindings)
    assert second.verdicts["clock"] is REFUTED
    assert second.found("clock").endswith("behind the provider")


async def test_gaps_of_a_transcript_are_guessed_and_reported(tmp_path: Path) -> None:
    said: list[str] = []
    async with recorded(tmp_path, "allocating") as (_, file):
        recording = load_recording(file, said.append)
        bindings = tmp_path / "recorded.jsonl"
        bindings.write_text("".join(json.dumps(row) + "\n" for row in recording.registrations()))
        outcome = await contact(Simulator(recording=recording), bindings=bindings, format="xml", calls=16)
        assert outcome.verdicts["served"] is CONFIRMED
        assert outcome.verdicts["xml"] is CONFIRMED
        assert outcome.verdicts["expired"] is CONFIRMED
        assert outcome.verdicts["unbound"] is CONFIRMED
        assert outcome.verdicts["same_temporary"] is REFUTED
        assert said
        assert all(line.startswith("not in the transcript: Query") for line in said)
        assert len(set(said)) == len(said)
        assert not any(re.search(r"\d{5}", line) for line in said)


async def test_a_delisted_action_stays_unknown_for_unrecorded_bindings(tmp_path: Path) -> None:
    async with recorded(tmp_path, "delisted", calls=4) as (_, file):
        recording = load_recording(file, lambda _: None)
        assert recording.scenario().delisted == ("QueryCallStatus",)
        assert recording.scenario().delisted_code == "InvalidAction.NotFound"
        outcome = await contact(Simulator(recording=recording), format="xml", calls=16)
        assert outcome.found("served") == "HTTP 404 InvalidAction.NotFound"


HEAD = '{"transcript": 1, "started_at": 0, "bindings": []}'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no call"),
        (HEAD, "holds no call"),
        ("subs_id,pool_key\n", "is no transcript of precall doctor --contact"),
        ('{"subs_id": "1"}', "is no transcript"),
        (f'{HEAD}\n{{"call": 1}}\nnonsense', r"line 2, at: Field required\nline 3: is not JSON"),
    ],
)
def test_a_file_that_is_not_a_transcript_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "contact.jsonl"
    file.write_text(text)
    with pytest.raises(ScenarioError, match=told):
        load_recording(file, lambda _: None)
