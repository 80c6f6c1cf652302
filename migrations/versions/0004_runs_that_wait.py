"""Runs that wait for their teacher, pilots, and remote batches."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "remote_batches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("teacher", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("remote_id", sa.Text(), nullable=True),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("status IN ('preparing', 'submitted', 'ended')", name=op.f("ck_remote_batches_status")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_remote_batches_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_remote_batches")),
    )
    op.create_index(
        op.f("ix_remote_batches_run_id_remote_batches_status"), "remote_batches", ["run_id", "status"], unique=False
    )
    op.add_column("completions", sa.Column("remote_batch_id", sa.Text(), nullable=True))
    op.create_index(
        op.f("ix_completions_remote_batch_id"),
        "completions",
        ["remote_batch_id"],
        unique=False,
        postgresql_where=sa.text("remote_batch_id IS NOT NULL"),
    )
    op.add_column("runs", sa.Column("mode", sa.Text(), server_default="direct", nullable=False))
    op.add_column("runs", sa.Column("pilot_for", sa.Integer(), nullable=True))
    op.add_column("runs", sa.Column("paused_for", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("resume_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.add_column("runs", sa.Column("teacher_gone_since", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.add_column("runs", sa.Column("in_flight", sa.Integer(), server_default="0", nullable=False))
    op.create_check_constraint(op.f("ck_runs_mode"), "runs", "mode IN ('direct', 'batch')")
    _states("batches", "'pending', 'leased', 'waiting', 'done', 'failed', 'dropped'")
    _states("completions", "'waiting', 'sent', 'done', 'failed'")


def _states(table: str, states: str) -> None:
    op.drop_constraint(op.f(f"ck_{table}_status"), table)
    op.create_check_constraint(op.f(f"ck_{table}_status"), table, f"status IN ({states})")


def downgrade() -> None:
    op.drop_column("runs", "in_flight")
    op.drop_column("runs", "teacher_gone_since")
    op.drop_column("runs", "resume_at")
    op.drop_column("runs", "paused_for")
    op.drop_column("runs", "pilot_for")
    op.drop_column("runs", "mode")
    op.drop_index(
        op.f("ix_completions_remote_batch_id"),
        table_name="completions",
        postgresql_where=sa.text("remote_batch_id IS NOT NULL"),
    )
    op.drop_column("completions", "remote_batch_id")
    op.drop_index(op.f("ix_remote_batches_run_id_remote_batches_status"), table_name="remote_batches")
    op.drop_table("remote_batches")
    _states("completions", "'sent', 'done', 'failed'")
    _states("batches", "'pending', 'leased', 'done', 'failed', 'dropped'")
