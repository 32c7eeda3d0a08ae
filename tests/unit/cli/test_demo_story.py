"""The captions of the demonstration: what befell the provider, and what precall noticed, each once."""

from precall.cli.demo_story import Story
from precall.core.status.finding import FindingCode
from precall.simulator import DEMO_SPEED, demo_scenario
from precall.simulator.faults import FaultPlan, PlannedFault

START = 1_767_000_000.0


def planned() -> list[PlannedFault]:
    scenario = demo_scenario()
    plan = FaultPlan(scenario.seed, DEMO_SPEED)
    return [plan.add(fault, START) for fault in scenario.faults]


def told(story: Story, elapsed: float) -> list[str]:
    return [str(caption) for caption in story.due(START + elapsed, elapsed)]


def test_every_fault_of_the_demo_is_told_when_it_begins_and_when_it_ends() -> None:
    story, captions = Story(planned()), list[str]()
    for second in range(60):
        captions += told(story, float(second))
    assert captions == [
        "t+4 s: some X of pool FC100001 die, but the provider says that they work",
        "t+10 s: pool FC100003 runs out of temporary numbers",
        "t+26 s: pool FC100003 has working numbers again",
        "t+30 s: the provider throttles every check; precall waits as it is told",
        "t+34 s: the provider takes checks again",
        "t+42 s: the provider is out of reach; precall answers from its table",
        "t+50 s: the provider answers again",
    ]
    assert max(map(len, captions)) <= 80


def finding(code: FindingCode, pool_key: str = "") -> dict[str, str]:
    return {"code": code, "pool_key": pool_key}


def test_findings_are_told_once_and_again_when_they_end() -> None:
    story = Story([])
    brake = finding(FindingCode.BRAKE_ENGAGED, "FC100003")
    ignored = finding(FindingCode.POOL_IN_TROUBLE, "FC100003")
    [caption] = story.noticed([brake, ignored], 12.4)
    assert str(caption) == "t+12 s: the brake stops FC100003: no more real numbers, calls are held"
    assert caption.bad
    assert story.noticed([brake], 13.0) == []
    new, over = story.noticed([finding(FindingCode.CALLS_DISAGREE)], 14.0)
    assert str(new).startswith("t+14 s: calls fail where the provider sees no fault")
    assert (str(over), over.bad) == ("t+14 s: the brake of FC100003 is off again", False)
    assert max(len(str(one)) for one in (caption, new, over)) <= 80
