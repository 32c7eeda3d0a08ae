"""The exposure audit: a real number is handed out only after an audit row has been written.

`core.model.Exposure` defines the row. Whether a number may be handed out at all is decided elsewhere.
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
"""Audit reasons for numbers handed out without a route that says to dial them."""

FOLD = 60.0
"""Seconds within which repeated exposures to one reader share a row."""


class ExposureAudit:
    """Writes audit rows. `secret` is the key with which numbers are hashed."""

    def __init__(
        self, store: Store, writer: Writer, metrics: Metrics, clock: Callable[[], float], secret: bytes
    ) -> None:
        self._store, self._writer, self._metrics, self._clock = store, writer, metrics, clock
        self._secret = secret

    def hash(self, number: str) -> str:
        """Return the hash of a number in the audit. All spellings of a number have the same hash."""
        return self._hash(canonical(number))

    def hashes(self, number: str) -> tuple[str, ...]:
        """Return that hash, and the ones that earlier versions wrote for this number."""
        return (self.hash(number), *map(self._hash, earlier_forms(number)))

    def _hash(self, form: str) -> str:
        return blake2b(form.encode(), digest_size=16, key=self._secret).hexdigest()

    def exposure(self, row: Row, side: str, reader: str, reason: str, request_id: str = "") -> Exposure:
        """Build the audit row for the number of one side of a binding, handed out now."""
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
        """Write all of these rows, or none. After StoreUnavailable, none of the numbers may be handed out."""
        if not self._writer.saving:
            raise StoreUnavailable("the database does not take the audit")
        try:
            await self._store.expose(*exposures, fold=fold)
        except StoreUnavailable as error:
            log.error("audit.unavailable", exposures=len(exposures), error=str(error))
            self._writer.probe_database()
            raise

    def count(self, exposures: Iterable[Exposure]) -> None:
        """Count exposures in the metrics, once the numbers were handed out."""
        for exposure in exposures:
            self._metrics.exposures.labels(self._metrics.pool(exposure.pool_key)).inc()

    async def hand_out(self, rows: Iterable[Row], reader: str, reason: str, fold: float = FOLD) -> None:
        """Audit and count the numbers of both sides of these bindings. Raises like `write`."""
        exposures = [
            self.exposure(row, side, reader, reason)
            for row in rows
            for side in ("a", "b")
            if side == "a" or row.binding.number_b
        ]
        await self.write(exposures, fold)
        self.count(exposures)
