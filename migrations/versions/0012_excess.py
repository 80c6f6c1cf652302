"""What a teacher's answers took beyond their worst case."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("excess_tokens", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("accounts", sa.Column("excess_usd", sa.Numeric(18, 9), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("accounts", "excess_usd")
    op.drop_column("accounts", "excess_tokens")
