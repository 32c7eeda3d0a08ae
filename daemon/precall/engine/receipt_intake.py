"""Receipts of the provider, pushed or from a queue: read, stored, and only then acknowledged."""

import asyncio
import codecs
from collections import Counter
from collections.abc import Sequence

import orjson

from precall.core.calls.call import Call, NumberReport
from precall.core.duplicate_keys import may_repeat, parsed
from precall.engine.call_results import CallResults
from precall.provider import BadReceipt, read_receipt
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

_SLICE = 250
_SHOWN = 20


async def parse_receipts(raw: bytes | bytearray) -> object:
    """Return the value of a JSON text, with a `Contradiction` for each object that has a key twice.

    Raises ValueError.
    """
    raw = raw.removeprefix(codecs.BOM_UTF8)
    data = orjson.loads(raw)
    return await asyncio.to_thread(parsed, raw.decode()) if may_repeat(raw, data) else data


async def take_receipts(
    elements: Sequence[object], results: CallResults, metrics: Metrics, now: float, **origin: str
) -> None:
    """Store what receipts mean. Those that make no sense are counted, and logged by their place and with `origin`.

    `now` is in Unix seconds. Raises StoreUnavailable if not all of them were stored; taking all again is safe.
    """
    calls, numbers = list[Call](), list[NumberReport]()
    places, counts, refused = list[str](), Counter[str](), Counter[str]()
    for place, element in enumerate(elements):
        try:
            match read_receipt(element, now):
                case Call() as call:
                    calls.append(call)
                case NumberReport() as number:
                    numbers.append(number)
                case ignored:
                    counts[ignored] += 1
        except BadReceipt as error:
            refused[error.reason] += 1
            places.append(f"[{place}].{error.field}" if error.field else f"[{place}]")
        if place % _SLICE == _SLICE - 1:
            await asyncio.sleep(0)
    if calls:
        await results.file(calls)
    if numbers:
        await results.report_numbers(numbers)
    counts["stored"] += len(calls) + len(numbers)
    counts["refused"] += len(places)
    for result, count in counts.items():
        metrics.receipts.labels(result).inc(count)
    for reason, count in refused.items():
        metrics.receipts_refused.labels(reason).inc(count)
    if places:
        log.warning(
            "receipts.not_understood",
            elements=len(places),
            among=len(elements),
            places=places[:_SHOWN],
            **origin,
        )
