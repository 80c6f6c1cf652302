"""The health of a run's teacher: what its newest proposals became."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    empty = sa.text("'{}'")
    column = sa.Column("health", postgresql.JSONB(astext_type=sa.Text()), server_default=empty, nullable=False)
    op.add_column("runs", column)
    # A run that has rows already has shown that its teacher is usable.
    op.execute("""UPDATE runs SET health = '{"has_usable": true}' WHERE accepted > 0""")


def downgrade() -> None:
    op.drop_column("runs", "health")
