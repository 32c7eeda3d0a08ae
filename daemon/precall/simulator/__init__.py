"""A faithful, scriptable stand-in for the provider, over HTTP.

It speaks QueryCallStatus, its two substitutes and QueryCallDetailByCallId as the provider's gateway does, signatures,
quotas and errors included. It imports no other module of precall, so that one mistake cannot pass on both sides.
"""

from precall.simulator.dispatcher import CallTally, Dispatcher, failed
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
    "Pool",
    "Replies",
    "Scenario",
    "ScenarioError",
    "SimBinding",
    "Simulator",
    "demo_scenario",
    "failed",
    "load_scenario",
    "serve",
]
