"""Decisions that can be looked at again: reviews, evaluation sets, and how a dataset is encoded."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evaluation_sets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_evaluation_sets_project_id_projects")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation_sets")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_evaluation_sets_project_id_name")),
    )
    op.create_index(
        op.f("ix_evaluation_sets_project_id_evaluation_sets_id"), "evaluation_sets", ["project_id", "id"], unique=False
    )
    op.create_table(
        "evaluation_items",
        sa.Column("set_id", sa.Text(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["set_id"],
            ["evaluation_sets.id"],
            name=op.f("fk_evaluation_items_set_id_evaluation_sets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("set_id", "place", name=op.f("pk_evaluation_items")),
    )
    op.create_table(
        "reviews",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("done_rows", sa.Integer(), nullable=False),
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
        sa.CheckConstraint("kind IN ('refilter', 'decontamination', 'reencoding')", name=op.f("ck_reviews_kind")),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'pausing', 'paused', 'cancelling', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_reviews_status"),
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_reviews_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_reviews_project_id_projects")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_reviews_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
    )
    op.create_index(op.f("ix_reviews_dataset_id_reviews_id"), "reviews", ["dataset_id", "id"], unique=False)
    op.create_index(op.f("ix_reviews_project_id_reviews_id"), "reviews", ["project_id", "id"], unique=False)
    op.create_table(
        "decisions",
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("decision", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("nearest_id", sa.Text(), nullable=True),
        sa.Column("nearest_text", sa.Text(), nullable=True),
        sa.Column("replaced_by", sa.Text(), nullable=False),
        sa.Column("replaced_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["record_id"], ["records.id"], name=op.f("fk_decisions_record_id_records"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("record_id", "decision", name=op.f("pk_decisions")),
    )
    op.create_index(op.f("ix_decisions_replaced_by"), "decisions", ["replaced_by"], unique=False)
    op.create_table(
        "matches",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("review_id", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("set_id", sa.Text(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("field", sa.Text(), nullable=True),
        sa.Column("start", sa.Integer(), nullable=True),
        sa.Column("end", sa.Integer(), nullable=True),
        sa.Column("span", sa.Text(), nullable=True),
        sa.Column("item_text", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('ngram', 'embedding')", name=op.f("ck_matches_kind")),
        sa.ForeignKeyConstraint(
            ["record_id"], ["records.id"], name=op.f("fk_matches_record_id_records"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["review_id"], ["reviews.id"], name=op.f("fk_matches_review_id_reviews"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_matches")),
    )
    op.create_index(op.f("ix_matches_record_id"), "matches", ["record_id"], unique=False)
    op.create_index(op.f("ix_matches_review_id_matches_id"), "matches", ["review_id", "id"], unique=False)
    op.create_table(
        "new_embeddings",
        sa.Column("review_id", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("embedding", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["record_id"], ["records.id"], name=op.f("fk_new_embeddings_record_id_records"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["review_id"], ["reviews.id"], name=op.f("fk_new_embeddings_review_id_reviews"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("review_id", "record_id", name=op.f("pk_new_embeddings")),
    )
    op.add_column("datasets", sa.Column("scope", sa.Text(), server_default="instruction", nullable=False))
    op.add_column(
        "datasets", sa.Column("encoding", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True)
    )
    op.add_column("datasets", sa.Column("pool_version", sa.Integer(), server_default="0", nullable=False))
    op.add_column("records", sa.Column("decision", sa.Integer(), server_default="1", nullable=False))
    op.add_column("runs", sa.Column("saturation_window", sa.Integer(), server_default="300", nullable=False))
    op.add_column("runs", sa.Column("saturation_share", sa.Double(), server_default="0.02", nullable=False))
    op.create_check_constraint(
        op.f("ck_datasets_scope"), "datasets", "scope IN ('instruction', 'instruction_input', 'row')"
    )
    # Whatever was encoded before this revision was encoded so; other encoders say it when they next encode.
    op.execute("""
        UPDATE datasets SET encoding = jsonb_build_object(
            'name', 'all-MiniLM-L6-v2', 'backend', 'torch', 'dtype', 'float32', 'pooling', 'mean', 'dimensions', 384,
            'revision', 'sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db')
        WHERE encoder = 'all-MiniLM-L6-v2'
            AND EXISTS (SELECT 1 FROM records WHERE dataset_id = datasets.id AND embedding IS NOT NULL)
    """)


def downgrade() -> None:
    op.drop_column("runs", "saturation_share")
    op.drop_column("runs", "saturation_window")
    op.drop_column("records", "decision")
    op.drop_column("datasets", "pool_version")
    op.drop_column("datasets", "encoding")
    op.drop_column("datasets", "scope")
    op.drop_table("new_embeddings")
    op.drop_index(op.f("ix_matches_review_id_matches_id"), table_name="matches")
    op.drop_index(op.f("ix_matches_record_id"), table_name="matches")
    op.drop_table("matches")
    op.drop_index(op.f("ix_decisions_replaced_by"), table_name="decisions")
    op.drop_table("decisions")
    op.drop_index(op.f("ix_reviews_project_id_reviews_id"), table_name="reviews")
    op.drop_index(op.f("ix_reviews_dataset_id_reviews_id"), table_name="reviews")
    op.drop_table("reviews")
    op.drop_table("evaluation_items")
    op.drop_index(op.f("ix_evaluation_sets_project_id_evaluation_sets_id"), table_name="evaluation_sets")
    op.drop_table("evaluation_sets")
