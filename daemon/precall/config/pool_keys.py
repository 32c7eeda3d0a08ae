"""Pools as a configuration names them: a list of pool keys, or `["*"]` for all pools."""

from collections import Counter
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from precall.core import rules
from precall.core.model import EVERY_POOL


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _a_pool_key(value: str) -> str:
    if not rules.is_pool_key(value):
        raise ValueError(f'a pool key {rules.NOT_A_POOL_KEY}; ["{EVERY_POOL}"] means all pools')
    return value


def _consistent(value: list[str]) -> list[str]:
    if EVERY_POOL in value and len(value) > 1:
        raise ValueError(f'"{EVERY_POOL}" means all pools, and should stand alone')
    if twice := [pool_key for pool_key, count in Counter(value).items() if count > 1]:
        raise ValueError(f"should name {', '.join(twice)} only once")
    return value


Pools = Annotated[
    list[Annotated[str, AfterValidator(_a_pool_key)]],
    BeforeValidator(_listed),
    AfterValidator(_consistent),
]
"""A list of pool keys. A pool need not exist yet."""
