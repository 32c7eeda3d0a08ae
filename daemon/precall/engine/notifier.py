"""Notifies people of findings. `observe` decides what is told; each target is served by a task and threads of its own.

Delivery never holds up the loop, nor one target another: a target that hangs costs one thread, and messages that do not
fit into its queue.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from precall.concurrency import cancel_and_wait, guarded
from precall.config.settings import Settings
from precall.core.status.finding import Finding
from precall.core.status.messages import Announcer, Describe, Message
from precall.core.status.texts import describe
from precall.engine.notify_targets import NotifyTarget
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

QUEUE = 100
"""Messages that wait for one target. Beyond it, the oldest is dropped."""
LIMIT = 30.0
"""Seconds that a target may take for one message."""
PAUSES = (5.0, 60.0)
"""Seconds before each further attempt to deliver a message."""
FAREWELL = 2.0
"""Seconds that a daemon which stops gives to messages under way."""
LATE = "no answer in time"


class Notifier:
    """Tells the targets of `[notify]` what appears, lasts and ends.

    `observe` may be called at any time; it does nothing unless the notifier is started and `leads`.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        targets: Sequence[NotifyTarget],
        *,
        host: str,
        words: Describe = describe,
        limit: float = LIMIT,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        """`host` names this daemon in messages. `limit` and `pauses` are in seconds."""
        self._settings, self._metrics = settings, metrics
        self._targets, self._host, self._words = targets, host, words
        self._limit, self._pauses = limit, pauses
        self._announcer = Announcer(host, words)
        self._outboxes: list[_Outbox] = []
        self._leads: Callable[[], bool] = lambda: False
        self._broken: Callable[[BaseException], None] | None = None

    def start(self, leads: Callable[[], bool], broken: Callable[[BaseException], None]) -> None:
        """Begin to deliver. `broken` is called with the error that ends a background task."""
        self._leads, self._broken = leads, broken
        self._open()

    async def close(self) -> None:
        """Give messages under way a moment, and end."""
        self._broken = None
        outboxes, self._outboxes = self._outboxes, []
        await asyncio.gather(*(outbox.close(FAREWELL) for outbox in outboxes))

    def observe(self, findings: Sequence[Finding], now: float) -> None:
        """Take all findings of this moment, and queue the message that is due. `now` is in Unix seconds.

        Call it every second or so, also while nothing changes.
        """
        if self._broken is None or not self._targets or not self._leads():
            return
        config = self._settings.config.notify
        message = self._announcer.observe(
            findings, now, min_severity=config.min_severity, repeat=config.repeat, language=config.lang
        )
        if message is not None:
            for outbox in self._outboxes:
                outbox.put(message)

    async def replace(self, targets: Sequence[NotifyTarget]) -> None:
        """Deliver to these targets from now on. What waits for one that is left out is given a moment."""
        if not targets:
            self._announcer = Announcer(self._host, self._words)
        before, self._targets = self._outboxes, targets
        self._open()
        await asyncio.gather(*(one.close(FAREWELL) for one in before if one not in self._outboxes))

    def _open(self) -> None:
        """Have an outbox for each target, the one there was if there was one."""
        broken = self._broken
        if broken is not None:
            before = self._outboxes
            self._outboxes = [
                next((one for one in before if one.target.same_as(target)), None)
                or _Outbox(target, self._metrics, self._limit, self._pauses, broken)
                for target in self._targets
            ]


class _Outbox:
    """The messages for one target, delivered one after another."""

    def __init__(
        self,
        target: NotifyTarget,
        metrics: Metrics,
        limit: float,
        pauses: Sequence[float],
        broken: Callable[[BaseException], None],
    ) -> None:
        self.target, self._metrics, self._limit, self._pauses = target, metrics, limit, pauses
        self._queue: asyncio.Queue[Message] = asyncio.Queue(QUEUE)
        self._delivery = TargetDelivery(target)
        self._task = guarded(self._run(), f"notifications to {target.name}", broken)

    def put(self, message: Message) -> None:
        """Queue a message; the oldest makes room where there is none."""
        if self._queue.full():
            self._lose(self._queue.get_nowait(), "the queue is full", "dropped")
            self._queue.task_done()
        self._queue.put_nowait(message)

    async def close(self, patience: float) -> None:
        """End after what is queued, at the latest in `patience` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._queue.join()
        await cancel_and_wait(self._task)

    async def _run(self) -> None:
        while True:
            message = await self._queue.get()
            await self._deliver(message)
            self._queue.task_done()

    async def _deliver(self, message: Message) -> None:
        for pause in (*self._pauses, None):
            why = await self._delivery.send(message, self._limit)
            if not why:
                self._metrics.notifications.labels("sent").inc()
                log.info("notify.sent", target=self.target.name, findings=list(message.codes))
                return
            if pause is None:
                self._lose(message, why, "failed")
                return
            log.warning("notify.failed", target=self.target.name, why=why, again_in=pause)
            await asyncio.sleep(pause)

    def _lose(self, message: Message, why: str, result: str) -> None:
        self._metrics.notifications.labels(result).inc()
        log.error("notify.lost", target=self.target.name, why=why, findings=list(message.codes))


class TargetDelivery:
    """Sends messages to one target, each in a thread. While one hangs, no other is started."""

    def __init__(self, target: NotifyTarget) -> None:
        self._target = target
        self._under_way = False

    async def send(self, message: Message, limit: float = LIMIT) -> str:
        """Send a message, and return "" or why it was not delivered within `limit` seconds."""
        if self._under_way:
            return LATE
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[str] = loop.create_future()

        def settle(why: str) -> None:
            self._under_way = False
            if not answered.done():
                answered.set_result(why)

        def work() -> None:
            why = self._target.send(message)
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, why)

        # A daemon's: it ends with the process, even while it hangs.
        self._under_way = True
        threading.Thread(target=work, name="notification", daemon=True).start()
        try:
            async with asyncio.timeout(limit):
                return await answered
        except TimeoutError:
            return LATE
