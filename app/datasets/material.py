"""Material that runs draw from: labelled rows of a task, and documents that are cut into passages.

Material is no row of the dataset: it is not compared, not encoded, and not exported.
"""

from collections import Counter
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator
from sqlalchemy.orm import Session

from app.datasets import store
from app.persistence.ids import new_id
from app.synth.methods import task_families
from app.synth.methods.passages import passages
from app.synth.text import clean, content_hash, normalise, storable


class LabelledRow(RootModel[dict]):
    """One labelled row: the fields of its task, and no other fields."""

    @field_validator("root")
    @classmethod
    def clean_texts(cls, row: dict) -> dict:
        """Remove characters that Postgres refuses."""
        return storable(row)


class Document(BaseModel):
    """A text about which runs ask questions."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: str = Field(default="", max_length=1000)
    text: str = Field(min_length=1, max_length=10_000_000)

    @field_validator("title", "text")
    @classmethod
    def storable(cls, value: str) -> str:
        """Normalise the text, and remove characters that Postgres refuses."""
        return clean(value)

    @field_validator("text")
    @classmethod
    def not_blank(cls, value: str) -> str:
        """Raise a ValueError for a text that is empty after the cleaning."""
        if not value:
            raise ValueError("the text is blank: send a text with characters other than spaces")
        return value


@dataclass
class StoredCounts:
    """How many uploaded rows were stored, and how many were rejected for each reason."""

    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


def check_labelled(task: str, row: dict) -> None:
    """Raise a ValueError, with a message for the user, for a row whose fields are not those of its task."""
    task_families.check_fields(task, row)


def store_labelled(session: Session, dataset_id: str, import_id: str, task: str, rows: list[dict]) -> StoredCounts:
    """Store labelled rows of the task, except exact copies of rows that the dataset has."""
    sources = [_build_source(dataset_id, import_id, "labelled", task, row, _hash_labelled(task, row)) for row in rows]
    return _insert(session, sources)


def store_documents(session: Session, dataset_id: str, import_id: str, rows: list[dict]) -> StoredCounts:
    """Store the documents and their passages, except exact copies of documents that the dataset has.

    The `start` and `end` of a passage are character offsets in its document.
    """
    counts = StoredCounts()
    for row in rows:
        document = _build_source(dataset_id, import_id, "document", "", row, content_hash(row["title"], row["text"]))
        inserted = _insert(session, [document])
        counts.accepted += inserted.accepted
        counts.rejected += inserted.rejected
        # A document that the dataset has already has its passages, too.
        if inserted.accepted:
            title = row["title"] or normalise(row["text"])[:80]
            _insert(session, [_build_passage(document, title, *passage) for passage in passages(row["text"])])
    return counts


def _build_passage(document: dict, title: str, start: int, text: str) -> dict:
    fields = {"document": document["id"], "title": title, "text": text, "start": start, "end": start + len(text)}
    # Not of its text: a document may contain two passages with the same text.
    identity = content_hash(document["id"], str(start))
    return _build_source(document["dataset_id"], document["import_id"], "passage", "", fields, identity)


def _build_source(dataset_id: str, import_id: str, kind: str, task: str, fields: dict, identity: bytes) -> dict:
    return {
        "id": new_id("src"),
        "dataset_id": dataset_id,
        "import_id": import_id,
        "kind": kind,
        "task": task,
        "fields": fields,
        "content_hash": identity,
    }


def _hash_labelled(task: str, row: dict) -> bytes:
    return content_hash(task, *(f"{name} {row[name]}" for name in sorted(row)))


def _insert(session: Session, rows: list[dict]) -> StoredCounts:
    """Insert the rows, and reject exact copies of rows that the dataset has already."""
    inserted = store.insert_sources(session, rows)
    return StoredCounts(
        inserted, Counter({"duplicate_exact": len(rows) - inserted}) if inserted < len(rows) else Counter()
    )
