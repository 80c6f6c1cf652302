"""SQLAlchemy models, one file per slice. Importing this package registers every table."""

from app.tables import (
    access,
    accounts,
    datasets,
    finetunes,
    judgements,
    likelihood_scores,
    maintenance,
    runs,
    snapshots,
    teachers,
)
from app.tables.jobs import Table

__all__ = [
    "Table",
    "access",
    "accounts",
    "datasets",
    "finetunes",
    "judgements",
    "likelihood_scores",
    "maintenance",
    "runs",
    "snapshots",
    "teachers",
]
