"""The thought of a teacher: a field of completions and records, and its tokens and dollars."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

MONEY = sa.Numeric(18, 9)


def upgrade() -> None:
    op.add_column("accounts", sa.Column("thought_tokens", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("accounts", sa.Column("thought_usd", MONEY, server_default="0", nullable=False))
    op.add_column("completions", sa.Column("thought", sa.Text(), nullable=True))
    op.add_column("completions", sa.Column("raw_text", sa.Text(), nullable=True))
    op.add_column("completions", sa.Column("thought_tokens", sa.Integer(), server_default="0", nullable=False))
    op.add_column("completions", sa.Column("thought_usd", MONEY, server_default="0", nullable=False))
    op.add_column("records", sa.Column("thought", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("records", "thought")
    for column in ("thought_usd", "thought_tokens", "raw_text", "thought"):
        op.drop_column("completions", column)
    for column in ("thought_usd", "thought_tokens"):
        op.drop_column("accounts", column)
