"""Every way of making data: dialogues, scores, sources, preference pairs, scorings, and what teachers can do."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "teacher_checks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("replies", sa.Text(), nullable=False),
        sa.Column("checked_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_teacher_checks")),
    )
    op.create_table(
        "scorings",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("base_model", sa.Text(), nullable=False),
        sa.Column("max_length", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("done_rows", sa.Integer(), nullable=False),
        sa.Column("summary", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'pausing', 'paused', 'cancelling', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_scorings_status"),
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_scorings_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_scorings_project_id_projects")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scorings")),
    )
    op.create_index(op.f("ix_scorings_project_id_scorings_id"), "scorings", ["project_id", "id"], unique=False)
    op.create_index(op.f("ix_scorings_status"), "scorings", ["status"], unique=False)
    op.create_table(
        "sources",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.Text(), nullable=False),
        sa.Column("import_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("fields", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('labelled', 'document', 'passage')", name=op.f("ck_sources_kind")),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_sources_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["import_id"], ["imports.id"], name=op.f("fk_sources_import_id_imports"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint("dataset_id", "kind", "content_hash", name=op.f("uq_sources_dataset_id_kind_content_hash")),
    )
    op.create_index(
        op.f("ix_sources_dataset_id_sources_kind_sources_task_sources_id"),
        "sources",
        ["dataset_id", "kind", "task", "id"],
        unique=False,
    )
    op.create_table(
        "preferences",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("chosen", sa.Text(), nullable=False),
        sa.Column("rejected", sa.Text(), nullable=False),
        sa.Column("margin", sa.Double(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('best_worst', 'evolution')", name=op.f("ck_preferences_kind")),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_preferences_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["record_id"], ["records.id"], name=op.f("fk_preferences_record_id_records"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_preferences")),
    )
    op.create_index(op.f("ix_preferences_dataset_id_preferences_id"), "preferences", ["dataset_id", "id"], unique=False)
    op.create_index(op.f("ix_preferences_record_id"), "preferences", ["record_id"], unique=False)
    op.add_column("completions", sa.Column("operation", sa.Text(), nullable=True))
    op.add_column("imports", sa.Column("task", sa.Text(), nullable=True))
    op.add_column(
        "records", sa.Column("messages", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True)
    )
    op.add_column("records", sa.Column("reasoning", sa.Text(), server_default="", nullable=False))
    op.add_column("records", sa.Column("round", sa.Integer(), nullable=True))
    op.add_column(
        "records",
        sa.Column("scores", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column(
        "records",
        sa.Column("tags", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column(
        "records", sa.Column("source", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True)
    )
    op.create_index(
        "ix_records_head_text",
        "records",
        ["dataset_id", sa.literal_column("md5(instruction)")],
        unique=False,
        postgresql_where=sa.text("seq IS NOT NULL AND family = id"),
    )
    op.create_index(
        op.f("ix_records_lineage"),
        "records",
        ["lineage"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"lineage": "jsonb_path_ops"},
    )
    op.add_column("runs", sa.Column("judge", sa.Text(), nullable=True))
    op.add_column(
        "runs",
        sa.Column("cursor", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.alter_column("runs", "teacher", existing_type=sa.TEXT(), nullable=True)
    op.drop_constraint(op.f("ck_imports_kind"), "imports")
    op.create_check_constraint(
        op.f("ck_imports_kind"), "imports", "kind IN ('seeds', 'records', 'instructions', 'labelled', 'documents')"
    )


def downgrade() -> None:
    # What the older schema has no word for goes: uploads of the new kinds, and runs without a teacher.
    op.execute("DELETE FROM imports WHERE kind NOT IN ('seeds', 'records')")
    op.execute("DELETE FROM runs WHERE teacher IS NULL")
    op.drop_constraint(op.f("ck_imports_kind"), "imports")
    op.create_check_constraint(op.f("ck_imports_kind"), "imports", "kind IN ('seeds', 'records')")
    op.alter_column("runs", "teacher", existing_type=sa.TEXT(), nullable=False)
    op.drop_column("runs", "cursor")
    op.drop_column("runs", "judge")
    op.drop_index(
        op.f("ix_records_lineage"),
        table_name="records",
        postgresql_using="gin",
        postgresql_ops={"lineage": "jsonb_path_ops"},
    )
    op.drop_index(
        "ix_records_head_text", table_name="records", postgresql_where=sa.text("seq IS NOT NULL AND family = id")
    )
    op.drop_column("records", "source")
    op.drop_column("records", "tags")
    op.drop_column("records", "scores")
    op.drop_column("records", "round")
    op.drop_column("records", "reasoning")
    op.drop_column("records", "messages")
    op.drop_column("imports", "task")
    op.drop_column("completions", "operation")
    op.drop_index(op.f("ix_preferences_record_id"), table_name="preferences")
    op.drop_index(op.f("ix_preferences_dataset_id_preferences_id"), table_name="preferences")
    op.drop_table("preferences")
    op.drop_index(op.f("ix_sources_dataset_id_sources_kind_sources_task_sources_id"), table_name="sources")
    op.drop_table("sources")
    op.drop_index(op.f("ix_scorings_status"), table_name="scorings")
    op.drop_index(op.f("ix_scorings_project_id_scorings_id"), table_name="scorings")
    op.drop_table("scorings")
    op.drop_table("teacher_checks")
