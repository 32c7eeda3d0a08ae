"""Tune the garbage collector, so that a large table does not stall readers."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

MANY = 20_000
"""Objects left unfrozen before a full collection, which then takes 10 to 20 ms."""


@contextmanager
def without_collections() -> Iterator[None]:
    """Suspend collections while many long-lived objects are made, then freeze them.

    A full collection over a million objects stalls readers for 0.3 s. Frozen objects are skipped by later ones.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


async def collect_young() -> None:
    """Collect the youngest generation; freeze the rest once more than MANY objects have survived.

    Left alone, the young generation grows to a hundred thousand objects, and its collection takes 0.1 s. Garbage is
    collected before the freeze. What is frozen takes part in no cycle later, so its last reference frees it.
    """
    gc.collect(0)
    if gc.isenabled() and len(gc.get_objects()) > MANY:
        gc.collect()
        gc.freeze()
