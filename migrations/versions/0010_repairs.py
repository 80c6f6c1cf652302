"""The repairs of a reply, by name, beside the text as it came."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    empty = sa.text("'[]'")
    column = sa.Column("repairs", postgresql.JSONB(astext_type=sa.Text()), server_default=empty, nullable=False)
    op.add_column("completions", column)


def downgrade() -> None:
    op.drop_column("completions", "repairs")
