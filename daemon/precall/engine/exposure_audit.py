"""The audit: each real number is written down before it is handed out, or is not handed out.

What is written stands in `core.model.Exposure`; whether a number may leave at all is decided elsewhere.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

from precall.core.errors import StoreUnavailable
from precall.core.model import Exposure, Row
from precall.core.numbers import canonical, earlier_forms
from precall.store import Store
from precall.table.writer import Writer
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

READ, EXPORTED = "binding_read", "bindings_export"
"""Why a number was handed out that no route said to dial."""

FOLD = 60.0
"""Seconds within which repeated exposures to one reader are counted in one row."""


class ExposureAudit:
    """Writes exposures down. `secret` is what numbers are hashed with."""

    def __init__(
        self, store: Store, ledger: Writer, metrics: Metrics, clock: Callable[[], float], secret: bytes
    ) -> None:
        self._store, self._ledger, self._metrics, self._clock = store, ledger, metrics, clock
        self._secret = secret

    def hash(self, number: str) -> str:
        """What stands for a number in the audit, however it is written."""
        return self._hash(canonical(number))

    def hashes(self, number: str) -> tuple[str, ...]:
        """The same, and what stands for the number in rows that an earlier version wrote."""
        return (self.hash(number), *map(self._hash, earlier_forms(number)))

    def _hash(self, form: str) -> str:
        return blake2b(form.encode(), digest_size=16, key=self._secret).hexdigest()

    def exposure(self, row: Row, side: str, reader: str, reason: str, request_id: str = "") -> Exposure:
        """The number of one side of a binding, to be handed out now."""
        binding = row.binding
        return Exposure(
            subs_id=binding.subs_id,
            generation=binding.generation,
            pool_key=binding.pool_key,
            reader=reader,
            side=side,
            reason=reason,
            request_id=request_id,
            at=self._clock(),
            number_hash=self.hash(binding.number_a if side == "a" else binding.number_b),
        )

    async def write(self, exposures: Sequence[Exposure], fold: float = FOLD) -> None:
        """Write them down: all, or none. Raises StoreUnavailable, and then nothing of them may be handed out."""
        if not self._ledger.saving:
            raise StoreUnavailable("the database does not take the audit")
        try:
            await self._store.expose(*exposures, fold=fold)
        except StoreUnavailable as error:
            log.error("audit.unavailable", exposures=len(exposures), error=str(error))
            self._ledger.doubt()
            raise

    def count(self, exposures: Iterable[Exposure]) -> None:
        """They were handed out."""
        for exposure in exposures:
            self._metrics.exposures.labels(self._metrics.pool(exposure.pool_key)).inc()

    async def hand_out(self, rows: Iterable[Row], reader: str, reason: str, fold: float = FOLD) -> None:
        """Write down, and count, that the numbers of both sides of these bindings are handed out. As `write`."""
        exposures = [
            self.exposure(row, side, reader, reason)
            for row in rows
            for side in ("a", "b")
            if side == "a" or row.binding.number_b
        ]
        await self.write(exposures, fold)
        self.count(exposures)
