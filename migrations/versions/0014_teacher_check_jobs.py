"""Checks of teachers as jobs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_STATES = "'queued', 'running', 'pausing', 'paused', 'cancelling', 'succeeded', 'failed', 'cancelled'"


def upgrade() -> None:
    time, json = postgresql.TIMESTAMP(timezone=True), postgresql.JSONB(astext_type=sa.Text())
    op.create_table(
        "teacher_check_jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("teacher", sa.Text(), nullable=False),
        sa.Column("profile", json, nullable=False),
        sa.Column("retry_at", time, nullable=True),
        sa.Column("cancel_requested_at", time, nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", time, server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", time, nullable=True),
        sa.Column("finished_at", time, nullable=True),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", time, nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(f"status IN ({_STATES})", name=op.f("ck_teacher_check_jobs_status")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_teacher_check_jobs_project_id_projects")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_teacher_check_jobs")),
    )
    name = op.f("ix_teacher_check_jobs_project_id_teacher_check_jobs_id")
    op.create_index(name, "teacher_check_jobs", ["project_id", "id"])


def downgrade() -> None:
    op.drop_table("teacher_check_jobs")
