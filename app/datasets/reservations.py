"""Reservations: the texts that a process pays for at this moment, so that no second batch pays for the same text."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from app.synth.novelty.pool import Pool
from app.synth.types import Rejection

# Reservations that have ended stay in the index, and are excluded from comparisons. The index is rebuilt when more than
# this number have ended, and more than are still reserved.
MIN_ENDED = 64


@dataclass(frozen=True)
class PrefilterRequest:
    """An instruction that is compared with the pool before an answer to it is paid for.

    Attributes:
        reservation: the id under which its text is reserved, unless it is rejected.
        text: the text that the dataset's scope compares.
        vector: the unit vector of the text.
        excluding: the ids of records, and of reservations, that it may resemble.
    """

    reservation: str
    text: str
    vector: np.ndarray
    excluding: Collection[str] = ()


class Reservations:
    """The reserved texts of one dataset: this process pays for them, and admission has not decided on them yet."""

    def __init__(self):
        self._reserved: dict[str, tuple[str, np.ndarray]] = {}
        # A pool has no removal, so reservations that have ended are excluded from each comparison instead.
        self._ended_ids: set[str] = set()
        self._index: Pool | None = None

    def check_and_reserve(self, pool: Pool, request: PrefilterRequest) -> Rejection | None:
        """Return the rejection by a reserved text that is a near-duplicate; else reserve the text and return None.

        Args:
            pool: the pool of the dataset, whose thresholds also hold between texts in flight.
            request: the text, and what it may resemble.
        """
        # A batch that is tried again in this process reserves under an id that has ended: it counts again.
        is_again = request.reservation in self._ended_ids
        if self._index is None or is_again or len(self._ended_ids) > max(MIN_ENDED, len(self._reserved)):
            self._rebuild(pool)
        rejection = self._index.check(request.text, request.vector, self._ended_ids | set(request.excluding))
        if rejection is not None:
            # The reserved text has no record yet, so the rejection names it by its text and not by an id.
            return replace(rejection, nearest_id=None)
        # A batch that is tried again reserves the same texts under the same ids.
        if request.reservation not in self._reserved:
            self._reserved[request.reservation] = (request.text, request.vector)
            self._index.add(request.reservation, request.text, request.vector)
        return None

    def release(self, reservations: Collection[str]) -> None:
        """End reservations. Ids that are not reserved are no error."""
        for reservation in reservations:
            if self._reserved.pop(reservation, None) is not None:
                self._ended_ids.add(reservation)

    def _rebuild(self, pool: Pool) -> None:
        self._index, self._ended_ids = Pool(pool.thresholds, pool.mode), set()
        for reservation, (text, vector) in self._reserved.items():
            self._index.add(reservation, text, vector)
