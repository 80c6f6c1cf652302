"""When a job is tried again, when its cancel was requested, and which workers live."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)
JOBS = ("imports", "reviews", "snapshots", "finetunes", "scorings")


def upgrade() -> None:
    for table in JOBS:
        op.add_column(table, sa.Column("retry_at", TIME, nullable=True))
        op.add_column(table, sa.Column("cancel_requested_at", TIME, nullable=True))
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("queues", postgresql.JSONB(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("started_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("seen_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )


def downgrade() -> None:
    op.drop_table("workers")
    for table in JOBS:
        op.drop_column(table, "cancel_requested_at")
        op.drop_column(table, "retry_at")
