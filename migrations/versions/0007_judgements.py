"""Judgements of records that are there already."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)
STATES = "'queued', 'running', 'pausing', 'paused', 'cancelling', 'succeeded', 'failed', 'cancelled'"


def upgrade() -> None:
    op.create_table(
        "judgements",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("teacher", sa.Text(), nullable=False),
        sa.Column("filter", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("newest_record_id", sa.Text(), nullable=False),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("reject", sa.Boolean(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("done_rows", sa.Integer(), nullable=False),
        sa.Column("outcomes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.Column("paused_for", sa.Text(), nullable=True),
        sa.Column("resume_at", TIME, nullable=True),
        sa.Column("teacher_gone_since", TIME, nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("retry_at", TIME, nullable=True),
        sa.Column("cancel_requested_at", TIME, nullable=True),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", TIME, nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(f"status IN ({STATES})", name=op.f("ck_judgements_status")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_judgements_project_id_projects")),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_judgements_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_judgements_account_id_accounts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judgements")),
    )
    op.create_index(op.f("ix_judgements_project_id_judgements_id"), "judgements", ["project_id", "id"])
    op.create_index(op.f("ix_judgements_status"), "judgements", ["status"])
    op.create_index(op.f("ix_judgements_dataset_id"), "judgements", ["dataset_id"])
    op.create_index(op.f("ix_judgements_account_id"), "judgements", ["account_id"], unique=True)
    op.create_table(
        "judged_rows",
        sa.Column("judgement_id", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("judged_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["judgement_id"], ["judgements.id"], name=op.f("fk_judged_rows_judgement_id_judgements"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["record_id"], ["records.id"], name=op.f("fk_judged_rows_record_id_records"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("judgement_id", "record_id", name=op.f("pk_judged_rows")),
    )
    op.create_index(op.f("ix_judged_rows_record_id"), "judged_rows", ["record_id"])


def downgrade() -> None:
    op.drop_table("judged_rows")
    op.drop_table("judgements")
    # Their completions go with them.
    op.execute("DELETE FROM accounts WHERE owner_type = 'judgement'")
