"""How many cases a property is tried with, and that no machine is too slow for it.

`make test` tries the same cases every time: a run that fails fails again. `make soak` (`--hypothesis-profile=soak`)
tries many more, and others each time; it prints what reproduces one that fails.
"""

from hypothesis import HealthCheck, settings

# How long a case takes is no property of the code.
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile(
    "suite", max_examples=50, deadline=None, suppress_health_check=SLOW, derandomize=True, database=None
)
settings.register_profile(
    "soak", max_examples=5000, deadline=None, suppress_health_check=SLOW, print_blob=True
)
settings.load_profile("suite")


def examples(few: int, many: int, *allowed: HealthCheck) -> settings:
    """For a property whose cases cost more, or prove less, than others: `few` of them, in the soak `many`."""
    soak = settings.get_current_profile_name() == "soak"
    return settings(max_examples=many if soak else few, suppress_health_check=(*SLOW, *allowed))
