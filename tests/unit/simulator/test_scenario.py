from pathlib import Path

import pytest

from precall.simulator import (
    FaultKind,
    Scenario,
    ScenarioError,
    demo_scenario,
    load_scenario,
)

PROMISED = """
seed = 1
[account]
access_key_id = "demo"
access_key_secret = "demo-secret"
rate = 0
[[pool]]
pool_key = "FC1"
bindings = 300
temporary_numbers = 20
temporary = "sticky"
onset = "1h"
recovery = "15m"
lifetime = "4h"
[[binding]]
subs_id = "1000000000000000001"
pool_key = "FC1"
number_x = "17000000001"
number_a = "13800000001"
number_b = "13900000001"
expires_at = "2030-01-01T00:00:00Z"
status = 2
called_no = "17100000001"
extension = ""
[[fault]]
kind = "hang"
at = "30s"
for = "20s"
share = 1.0
pool_key = ""
[[call]]
call_id = "116012854210^102314050"
prod_id = 11000000300006
called_at = "2026-01-02T03:04:05+08:00"
state = "200000"
duration = 31
after = "180s"
"""


def test_the_promised_keys_are_read() -> None:
    scenario = load_scenario(PROMISED)
    assert (scenario.seed, scenario.account.access_key_secret, scenario.account.rate) == (1, "demo-secret", 0)
    pool, binding, fault, call = (
        scenario.pools[0],
        scenario.bindings[0],
        scenario.faults[0],
        scenario.calls[0],
    )
    assert (pool.onset, pool.recovery, pool.lifetime) == (3600, 900, 14400)
    assert (binding.expires_at, binding.status, binding.called_no) == (1893456000, 2, "17100000001")
    assert (fault.kind, fault.at, fault.for_) == (FaultKind.HANG, 30, 20)
    assert (call.called_at, call.after, call.duration) == (1767294245, 180, 31)


def test_the_promised_values_of_account_and_pool_are_the_defaults() -> None:
    promised = load_scenario(PROMISED)
    scenario = load_scenario('[[pool]]\npool_key = "FC1"')
    assert (scenario.seed, scenario.account, scenario.pools) == (
        promised.seed,
        promised.account,
        promised.pools,
    )


def test_text_path_and_file_name_are_all_sources(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(PROMISED, encoding="utf-8")
    assert load_scenario(file) == load_scenario(str(file)) == load_scenario(PROMISED)
    assert load_scenario("") == Scenario()


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('[[pool]]\npool_key = "P"\nonste = "1h"', "pool[0].onste: unknown key, did you mean onset?"),
        ("[acount]\nrate = 1", "acount: unknown key, did you mean account?"),
        ("[account]\nquota = 1", "account.quota: unknown key"),
        ('[[fault]]\nkind = "hang"\nfro = "1s"', "fault[0].fro: unknown key, did you mean for?"),
        ('[[pool]]\npool_key = "P"\nonset = "soon"', 'pool[0].onset: a duration is written like "250ms"'),
        ('[[pool]]\npool_key = "P"\nonset = true', "pool[0].onset: "),
        ('[[fault]]\nkind = "explode"', "fault[0].kind: Input should be 'throttle', 'error', 'hang'"),
        ('[[fault]]\nkind = "hang"\nshare = 1.5', "fault[0].share: "),
        ('[[fault]]\nkind = "hang"\ncode = "x"', "fault[0]: a fault of kind hang has no key code"),
        ('[[binding]]\nsubs_id = 12\npool_key = "P"', "binding[0].subs_id: Input should be a valid string"),
        (
            '[[binding]]\nsubs_id = "1"\npool_key = "P"\nexpires_at = 2030-01-01T00:00:00',
            "binding[0].expires_at: a time needs a zone",
        ),
        (
            '[[binding]]\nsubs_id = "1"\npool_key = "P"\nexpires_at = "tomorrow"',
            "binding[0].expires_at: a time is written like 2030-01-01T00:00:00Z",
        ),
        ('[[pool]]\npool_key = "P"\n[[pool]]\npool_key = "P"', "pool_key given twice: P"),
        ("seed = ", "scenario is not TOML"),
        ("/no/such/scenario.toml", "scenario cannot be read"),
    ],
)
def test_a_mistake_names_its_key(text: str, mistake: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(text)
    assert str(caught.value).startswith(mistake)


def test_all_mistakes_come_at_once() -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario('sed = 1\n[account]\nrate = -1\n[[pool]]\npool_key = ""')
    assert sorted(mistake.partition(":")[0] for mistake in caught.value.mistakes) == [
        "account.rate",
        "pool[0].pool_key",
        "sed",
    ]


def test_a_scenario_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Scenario().seed = 2


def test_the_demo_is_about_three_hundred_bindings() -> None:
    assert 250 <= sum(pool.bindings for pool in demo_scenario().pools) <= 400
