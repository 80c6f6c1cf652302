"""The field's terms as names of columns and of one reason.

Only the catalogue changes for a column, so that a big table is renamed at once. Rows change where they have the reason.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

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

OLD_REASON, NEW_REASON = "surplus", "over_target"

# Tables: (old name, new name)
TABLES = (("reviews", "maintenance_jobs"), ("scorings", "likelihood_scores"))
# Columns that refer to them: (table, old name, new name)
REFERENCES = (
    ("matches", "review_id", "maintenance_job_id"),
    ("new_embeddings", "review_id", "maintenance_job_id"),
)
# (table, old stop_reason, new stop_reason)
STOP_REASONS = (("maintenance_jobs", "review_failed", "maintenance_failed"),)


def upgrade() -> None:
    _rename_reason(OLD_REASON, NEW_REASON)
    for old, new in TABLES:
        op.rename_table(old, new)
        _rename_in_names(old, new)
    for table, old, new in REFERENCES:
        op.alter_column(table, old, new_column_name=new)
        _rename_in_names(old, new)
    for table, old, new in STOP_REASONS:
        op.execute(f"UPDATE {table} SET stop_reason = '{new}' WHERE stop_reason = '{old}'")
    for table, old, new in COLUMNS:
        op.alter_column(table, old, new_column_name=new)
    for table, old, new in CONSTRAINTS:
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {old} TO {new}")
    for old, new in INDEXES:
        op.execute(f"ALTER INDEX {old} RENAME TO {new}")


def downgrade() -> None:
    for table, old, new in STOP_REASONS:
        op.execute(f"UPDATE {table} SET stop_reason = '{old}' WHERE stop_reason = '{new}'")
    for table, old, new in REFERENCES:
        op.alter_column(table, new, new_column_name=old)
        _rename_in_names(new, old)
    for old, new in TABLES:
        op.rename_table(new, old)
        _rename_in_names(new, old)
    for old, new in INDEXES:
        op.execute(f"ALTER INDEX {new} RENAME TO {old}")
    for table, old, new in CONSTRAINTS:
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {new} TO {old}")
    for table, old, new in COLUMNS:
        op.alter_column(table, new, new_column_name=old)
    _rename_reason(NEW_REASON, OLD_REASON)


def _rename_in_names(old: str, new: str) -> None:
    """Rename the constraints, and then the other indexes, whose names contain the name of a table or a column."""
    connection = op.get_bind()
    constraints = "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE conrelid <> 0"
    for table, name in connection.execute(sa.text(constraints)).all():
        if f"_{old}" in name or name.startswith(f"{old}_"):
            op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {name} TO {name.replace(old, new)}")
    indexes = "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()"
    for (name,) in connection.execute(sa.text(indexes)).all():
        if f"_{old}" in name:
            op.execute(f"ALTER INDEX {name} RENAME TO {name.replace(old, new)}")


def _rename_reason(old: str, new: str) -> None:
    """Give the reason for a rejection its other name, in rows, in counters and in the reports of refilters."""
    for table in ("records", "decisions"):
        op.execute(f"UPDATE {table} SET reason = '{new}' WHERE reason = '{old}'")
    for table in ("runs", "imports"):
        op.execute(f"""
            UPDATE {table} SET rejected_by_reason = rejected_by_reason - '{old}'
                || jsonb_build_object('{new}', rejected_by_reason -> '{old}')
            WHERE jsonb_exists(rejected_by_reason, '{old}')
        """)
    op.execute(f"""
        UPDATE judgements SET filter = jsonb_set(filter, '{{reason}}', '"{new}"') WHERE filter ->> 'reason' = '{old}'
    """)
    _rename_reason_in_refilters(old, new)


def _rename_reason_in_refilters(old: str, new: str) -> None:
    """A refilter's report counts by reason, and by changes such as `surplus -> too_long`; its examples have both."""
    connection, name = op.get_bind(), lambda reason: new if reason == old else reason
    refilters = connection.execute(
        sa.text("SELECT id, result FROM reviews WHERE kind = 'refilter' AND result::text LIKE :old"),
        {"old": f"%{old}%"},
    ).all()
    update = sa.text("UPDATE reviews SET result = :result WHERE id = :id").bindparams(
        sa.bindparam("result", type_=JSONB)
    )
    for id, result in refilters:
        for field in result.keys() & {"moved_out", "moved_in"}:
            result[field] = {name(reason): rows for reason, rows in result[field].items()}
        if "other_reason" in result:
            result["other_reason"] = {
                " -> ".join(map(name, change.split(" -> "))): rows for change, rows in result["other_reason"].items()
            }
        for example in result.get("examples", ()):
            example |= {"from": name(example["from"]), "to": name(example["to"])}
        connection.execute(update, {"id": id, "result": result})
