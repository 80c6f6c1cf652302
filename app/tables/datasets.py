"""A dataset is a pool with its rules. Seeds and accepted records share one order (`pool_position`) inside it."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.jobs import GENERATION, LeasedJob, Table, status_check


class Dataset(Table):
    """A pool of rows, the settings by which rows are admitted to it, and the counts of its rows."""

    __tablename__ = "datasets"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    language: Mapped[str]
    lexical_threshold: Mapped[float]
    lexical_mode: Mapped[str]
    semantic_threshold: Mapped[float]
    # Which text of a row is compared in the search for near-duplicates.
    scope: Mapped[str] = mapped_column(default="instruction", server_default="instruction")
    encoder: Mapped[str]
    # How the vectors were made: name, backend, revision, dtype, pooling, dimensions. Set by the first who encodes.
    encoding: Mapped[dict | None] = mapped_column(JSONB(none_as_null=True))
    # It grows when rows are removed from the pool or are encoded anew: pools in memory are then read again from the
    # start.
    pool_version: Mapped[int] = mapped_column(default=0, server_default="0")
    last_pool_position: Mapped[int] = mapped_column(BigInteger, default=0)
    seed_count: Mapped[int] = mapped_column(default=0)
    accepted_count: Mapped[int] = mapped_column(default=0)
    rejected_count: Mapped[int] = mapped_column(default=0)
    simulated: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint("scope IN ('instruction', 'instruction_input', 'row')", name="scope"),
        UniqueConstraint("project_id", "name"),
        Index(None, "project_id", "id"),
    )


class Record(Table):
    """One row: a seed, or a candidate that was accepted or rejected, and why.

    A row of the pool has a `pool_position`, which it gets under the dataset's lock. Rows of one instruction share a
    `group_id`. `embedding` (float32, little-endian, unit length, filled in by a worker) is that of the text
    which the dataset's scope compares; where this is the instruction, only the representative of a group carries it.
    """

    __tablename__ = "records"
    id: Mapped[str] = mapped_column(primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    origin: Mapped[str]
    status: Mapped[str]
    pool_position: Mapped[int | None] = mapped_column(BigInteger)
    group_id: Mapped[str]
    instruction: Mapped[str]
    input: Mapped[str]
    output: Mapped[str]
    is_classification: Mapped[bool | None]
    language: Mapped[str]
    # The turns of a dialogue, [{role, content}]; its instruction and output are the first and the last of them.
    messages: Mapped[list | None] = mapped_column(JSONB(none_as_null=True))
    reasoning: Mapped[str] = mapped_column(default="", server_default="")
    # What the teacher considered before it wrote the output. No rule, score or judge reads it.
    thought: Mapped[str] = mapped_column(default="", server_default="")
    content_hash: Mapped[bytes] = mapped_column(LargeBinary)
    embedding: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    simulated: Mapped[bool] = mapped_column(default=False)
    reason: Mapped[str | None]
    detail: Mapped[dict | None]
    nearest_id: Mapped[str | None]
    nearest_text: Mapped[str | None]
    # How many decisions there were on the row. The table `decisions` keeps the earlier ones.
    decision: Mapped[int] = mapped_column(default=1, server_default="1")
    run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    batch_id: Mapped[str | None]
    import_id: Mapped[str | None] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"))
    method: Mapped[str | None]
    operation: Mapped[str | None]
    round: Mapped[int | None]
    teacher: Mapped[str | None]
    # `scores`: numbers by name (rule.…, judge.…, local.…). `tags`: texts by name (topic, task_type, …). `source`: the
    # span of the document that the row was made from.
    scores: Mapped[dict] = mapped_column(default=dict, server_default=text("'{}'"))
    tags: Mapped[dict] = mapped_column(default=dict, server_default=text("'{}'"))
    source: Mapped[dict | None] = mapped_column(JSONB(none_as_null=True))
    lineage: Mapped[dict] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint("origin IN ('seed', 'generated', 'imported')", name="origin"),
        CheckConstraint("status IN ('accepted', 'rejected')", name="status"),
        CheckConstraint("(status = 'accepted') = (pool_position IS NOT NULL)", name="pool_position"),
        CheckConstraint("(status = 'rejected') = (reason IS NOT NULL)", name="reason"),
        Index(
            "uq_records_pool_position",
            "dataset_id",
            "pool_position",
            unique=True,
            postgresql_where=text("pool_position IS NOT NULL"),
        ),
        # The backstop of exact admission: no text twice in a pool, whatever the code above it does.
        Index(
            "uq_records_pool_content",
            "dataset_id",
            "content_hash",
            unique=True,
            postgresql_where=text("status = 'accepted'"),
        ),
        Index(None, "dataset_id", "id"),
        Index(None, "run_id", "id"),
        Index(None, "import_id", "id"),
        Index(None, "dataset_id", "reason", "id", postgresql_where=text("status = 'rejected'")),
        # The children of a record; and the group of an instruction, which a new answer to it joins.
        Index(None, "lineage", postgresql_using="gin", postgresql_ops={"lineage": "jsonb_path_ops"}),
        Index(
            "ix_records_representative_text",
            "dataset_id",
            func.md5(text("instruction")),
            postgresql_where=text("pool_position IS NOT NULL AND group_id = id"),
        ),
    )


class Decision(Table):
    """A decision on a record that a later one has replaced. `replaced_by`: the maintenance job that replaced it."""

    __tablename__ = "decisions"
    record_id: Mapped[str] = mapped_column(ForeignKey("records.id", ondelete="CASCADE"), primary_key=True)
    decision: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    reason: Mapped[str | None]
    detail: Mapped[dict | None]
    nearest_id: Mapped[str | None]
    nearest_text: Mapped[str | None]
    replaced_by: Mapped[str]
    replaced_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (Index(None, "replaced_by"),)


class Preference(Table):
    """Two answers to a record's instruction and input: its own, and a worse one that was paid for anyway."""

    __tablename__ = "preferences"
    id: Mapped[str] = mapped_column(primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    record_id: Mapped[str] = mapped_column(ForeignKey("records.id", ondelete="CASCADE"))
    kind: Mapped[str]
    chosen: Mapped[str]
    rejected: Mapped[str]
    margin: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint("kind IN ('best_worst', 'evolution')", name="kind"),
        Index(None, "record_id"),
        Index(None, "dataset_id", "id"),
    )


class Source(Table):
    """Uploaded material that runs draw from: a labelled row of a task, a document, or a passage of one."""

    __tablename__ = "sources"
    id: Mapped[str] = mapped_column(primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    import_id: Mapped[str] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"))
    kind: Mapped[str]
    task: Mapped[str]
    fields: Mapped[dict]
    content_hash: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint("kind IN ('labelled', 'document', 'passage')", name="kind"),
        UniqueConstraint("dataset_id", "kind", "content_hash"),
        Index(None, "dataset_id", "kind", "task", "id"),
    )


class Import(Table, LeasedJob):
    """Existing data on its way through admission. The uploaded lines lie in storage until it has ended."""

    __tablename__ = "imports"
    queue_name = GENERATION
    changes_pool = True
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    kind: Mapped[str]
    task: Mapped[str | None]
    file: Mapped[str]
    rows: Mapped[int]
    done_rows: Mapped[int] = mapped_column(default=0)
    accepted: Mapped[int] = mapped_column(default=0)
    rejected: Mapped[int] = mapped_column(default=0)
    rejected_by_reason: Mapped[dict] = mapped_column(default=dict)
    __table_args__ = (
        status_check(),
        CheckConstraint("kind IN ('seeds', 'records', 'instructions', 'labelled', 'documents')", name="kind"),
        Index(None, "dataset_id", "id"),
    )
