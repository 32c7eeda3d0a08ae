"""Hypothesis profiles: how many cases to try, without limits on their time.

`make check` tries a few of the cases (`--hypothesis-profile=quick`), `make test` more; both try the same every time, so
failures are reproducible. `make soak` (`--hypothesis-profile=soak`) tries many more, different ones each time, and
prints how to reproduce a failure.
"""

from hypothesis import HealthCheck, settings

QUICK = 15
# How long a case takes depends on the machine, not on the code.
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile(
    "suite", max_examples=50, deadline=None, suppress_health_check=SLOW, derandomize=True, database=None
)
settings.register_profile("quick", settings.get_profile("suite"), max_examples=QUICK)
settings.register_profile(
    "soak", max_examples=5000, deadline=None, suppress_health_check=SLOW, print_blob=True
)
settings.load_profile("suite")


def examples(few: int, many: int, *allowed: HealthCheck) -> settings:
    """Return settings for a property with costly or less useful cases: try `few`, or `many` in the soak."""
    cases = {"quick": min(few, QUICK), "soak": many}.get(settings.get_current_profile_name(), few)
    return settings(max_examples=cases, suppress_health_check=(*SLOW, *allowed))
