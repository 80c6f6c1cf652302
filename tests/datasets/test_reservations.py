"""Texts that are being paid for: also those of a batch that is tried again in the same process."""

import numpy as np

from app.datasets.reservations import PrefilterRequest, Reservations
from app.synth.novelty.pool import Pool, Thresholds

TEXT = "Explain how tides follow the moon"
VECTOR = np.eye(4, dtype=np.float32)[0]


def test_a_text_that_is_reserved_again_under_its_id_is_compared_again():
    pool, reservations = Pool(Thresholds()), Reservations()
    first = PrefilterRequest("bat_1/0", TEXT, VECTOR)
    assert reservations.check_and_reserve(pool, first) is None
    assert reservations.check_and_reserve(pool, PrefilterRequest("bat_2/0", TEXT, VECTOR)) is not None
    reservations.release(["bat_1/0"])
    assert reservations.check_and_reserve(pool, first) is None
    assert reservations.check_and_reserve(pool, PrefilterRequest("bat_2/0", TEXT, VECTOR)) is not None
