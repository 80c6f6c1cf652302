"""What other slices read of the row of a run. They have the row from functions of this slice."""

from typing import Protocol


class RunRow(Protocol):
    """A run. The columns are explained in app/tables/runs.py."""

    id: str
    project_id: str
    dataset_id: str
    account_id: str
    method: str
    options: dict
    target: int
    status: str
    ended: bool
