"""A scriptable simulator of the provider's HTTP API.

It implements QueryCallStatus, its two substitutes and QueryCallDetailByCallId, with signatures, quotas and errors.
It imports nothing else from precall, so a misreading of the protocol cannot hide on both sides.
"""

from precall.simulator.dispatcher import CallTally, Dispatcher, failed
from precall.simulator.faults import PlannedFault
from precall.simulator.like import Recording, load_recording
from precall.simulator.population import SimBinding
from precall.simulator.scenario import (
    DEMO_SPEED,
    Account,
    Binding,
    Call,
    Fault,
    FaultKind,
    Pool,
    Replies,
    Scenario,
    ScenarioError,
    demo_scenario,
    load_scenario,
)
from precall.simulator.server import Simulator, serve

__all__ = [
    "DEMO_SPEED",
    "Account",
    "Binding",
    "Call",
    "CallTally",
    "Dispatcher",
    "Fault",
    "FaultKind",
    "PlannedFault",
    "Pool",
    "Recording",
    "Replies",
    "Scenario",
    "ScenarioError",
    "SimBinding",
    "Simulator",
    "demo_scenario",
    "failed",
    "load_recording",
    "load_scenario",
    "serve",
]
