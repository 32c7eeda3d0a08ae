"""Reads a message queue of the provider: receive, store, and only then delete.

Whatever happens in between, a message that was not deleted comes again, and storing it again changes nothing. While
the database takes no writes nothing is received, so that messages wait where they are safe. Memory holds one batch.

What makes no sense is counted, logged by its place, and deleted: the queue belongs to the provider and has no
dead-letter queue, so it would come again for days and hide behind it what makes sense. No trouble here touches checks.
"""

import asyncio
from collections.abc import Callable, Sequence

from precall.core.errors import StoreError
from precall.core.model import NonAnswer
from precall.engine.call_results import CallResults
from precall.engine.receipt_intake import parse_receipts, take_receipts
from precall.provider import MessageQueue, QueueMessage
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

PAUSE = 1.0
"""Seconds between attempts while nothing can be stored, or while the queue does not wait for messages by itself."""
DOUBLINGS = 5
"""How often the pause doubles while attempts fail."""
TROUBLE = 3
"""Failures in a row from which the queue counts as failing."""


class ReceiptQueueReader:
    """Reads one queue. `error` is why it cannot be read now, "" while it can."""

    def __init__(
        self,
        queue: MessageQueue,
        results: CallResults,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`clock` returns Unix seconds."""
        self.error = ""
        self._queue, self._results, self._metrics = queue, results, metrics
        self._clock, self._monotonic = clock, monotonic
        self._failures = 0
        metrics.receipt_queue_failing.labels(self.kind).set(0)

    @property
    def name(self) -> str:
        """The name of the queue."""
        return self._queue.name

    @property
    def kind(self) -> str:
        """The type of its messages, by the provider's name."""
        return self._queue.kind

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            while True:
                try:
                    pause = await self._turn()
                except Exception as error:  # a bug in what one message leads to must not end the daemon
                    log.error("receipt_queue.broken", queue=self.name, exc_info=error)
                    pause = self._failed(f"unexpected {type(error).__name__}; the log has more of it")
                await asyncio.sleep(pause)
        finally:
            await self._queue.close()

    async def _turn(self) -> float:
        """Receive, store and delete one batch. Return the seconds until the next one."""
        if not self._results.saving:
            return PAUSE
        began = self._monotonic()
        messages = await self._queue.receive()
        if isinstance(messages, NonAnswer):
            return self._failed(_said(messages))
        if not messages:
            self._works()
            return max(0.0, began + PAUSE - self._monotonic())
        try:
            await take_receipts(
                await _elements(messages), self._results, self._metrics, self._clock(), queue=self.name
            )
        except StoreError as error:
            log.warning("receipt_queue.not_stored", queue=self.name, error=str(error))
            self._count("kept", messages)
            return PAUSE
        undeleted = await self._queue.delete(messages)
        self._count("kept" if undeleted else "deleted", messages)
        if undeleted:
            return self._failed(_said(undeleted))
        self._works()
        return 0.0

    def _count(self, result: str, messages: Sequence[QueueMessage]) -> None:
        self._metrics.receipt_queue_messages.labels(self.kind, result).inc(len(messages))

    def _failed(self, why: str) -> float:
        """Take note of a failure. Return the seconds until the next attempt."""
        self._failures += 1
        if self._failures >= TROUBLE:
            if not self.error:
                log.error("receipt_queue.failed", queue=self.name, error=why)
            self.error = why
            self._metrics.receipt_queue_failing.labels(self.kind).set(1)
        return PAUSE * 2.0 ** min(self._failures - 1, DOUBLINGS)

    def _works(self) -> None:
        if self.error:
            log.warning("receipt_queue.back", queue=self.name)
        self.error, self._failures = "", 0
        self._metrics.receipt_queue_failing.labels(self.kind).set(0)


async def _elements(messages: Sequence[QueueMessage]) -> list[object]:
    """Return the receipts in these messages. One that is not JSON counts as one that makes no sense."""
    elements: list[object] = []
    for message in messages:
        try:
            data = await parse_receipts(message.content)
        except ValueError:
            data = None
        elements += data if isinstance(data, list) else [data]
    return elements


def _said(failure: NonAnswer) -> str:
    request = f" (RequestId {failure.request_id})" if failure.request_id else ""
    return f"{failure.code}: {failure.detail}{request}"
