"""Ids sort by time and are UUIDs of version 7."""

import uuid

from app.persistence.ids import new_id


def test_ids_rise_and_are_uuid_7():
    ids = [new_id("rec") for _ in range(5000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 5000
    parsed = uuid.UUID(ids[0].removeprefix("rec_"))
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
