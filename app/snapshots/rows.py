"""What other slices read of the row of a snapshot. They have the row from functions of this slice."""

from typing import Protocol


class SnapshotRow(Protocol):
    """A snapshot. The columns are explained in app/tables/snapshots.py."""

    id: str
    status: str
    files: list | None
    simulated: bool | None
