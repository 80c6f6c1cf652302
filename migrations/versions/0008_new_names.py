"""The field's terms as names of columns. Only the catalogue changes, so that a big table is renamed at once."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# (table, old name, new name)
COLUMNS = (
    ("records", "seq", "pool_position"),
    ("records", "family", "group_id"),
    ("datasets", "last_seq", "last_pool_position"),
    ("snapshots", "through_seq", "through_pool_position"),
    ("runs", "stopping", "pending_stop_reason"),
    ("runs", "pilot_for", "preview_target"),
)
CONSTRAINTS = (("records", "ck_records_seq", "ck_records_pool_position"),)
# (old name, new name)
INDEXES = (
    ("uq_records_pool_seq", "uq_records_pool_position"),
    ("ix_records_head_text", "ix_records_representative_text"),
)


def upgrade() -> None:
    for table, old, new in COLUMNS:
        op.alter_column(table, old, new_column_name=new)
    for table, old, new in CONSTRAINTS:
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {old} TO {new}")
    for old, new in INDEXES:
        op.execute(f"ALTER INDEX {old} RENAME TO {new}")


def downgrade() -> None:
    for old, new in INDEXES:
        op.execute(f"ALTER INDEX {new} RENAME TO {old}")
    for table, old, new in CONSTRAINTS:
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {new} TO {old}")
    for table, old, new in COLUMNS:
        op.alter_column(table, new, new_column_name=old)
