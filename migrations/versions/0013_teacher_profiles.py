"""What a check has learnt about a teacher, beside the form of its replies."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("teacher_checks", sa.Column("profile", column, server_default=sa.text("'{}'"), nullable=False))


def downgrade() -> None:
    op.drop_column("teacher_checks", "profile")
