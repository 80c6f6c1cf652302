"""SQLAlchemy models, one file per slice. Importing this package registers every table."""

from app.tables import access, datasets, finetunes, reviews, runs, scorings, snapshots, teachers
from app.tables.jobs import Table

__all__ = ["Table", "access", "datasets", "finetunes", "reviews", "runs", "scorings", "snapshots", "teachers"]
