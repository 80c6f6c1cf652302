"""Paid calls belong to accounts.

Each run gets an account with its ceilings and counters. What was charged for calls whose answer never came is taken
out of the cost and becomes lost calls, one for each request. Where the request was answered later, the answer's own
cost was added to the charge: it is estimated by its tokens, at the mean price of a token in the run's other answers of
the step.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MONEY = sa.Numeric(precision=18, scale=9)
TIME = postgresql.TIMESTAMP(timezone=True)


def _counters(names: str, type_: sa.types.TypeEngine) -> list[sa.Column]:
    return [sa.Column(name, type_, nullable=False) for name in names.split()]


def upgrade() -> None:
    _create_accounts()
    _create_lost_calls()
    _add_columns()
    _move_to_accounts()
    _drop_from_runs()


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.Text(), nullable=True),
        sa.Column("owner_type", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("max_requests", sa.Integer(), nullable=True),
        sa.Column("max_tokens", sa.BigInteger(), nullable=True),
        sa.Column("max_usd", MONEY, nullable=True),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        *_counters("requests lost_requests reserved_requests", sa.Integer()),
        *_counters("prompt_tokens cached_tokens completion_tokens held_tokens reserved_tokens", sa.BigInteger()),
        *_counters("cost_usd held_usd reserved_usd", MONEY),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state IN ('open', 'ending', 'stopped')", name=op.f("ck_accounts_state")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_accounts_project_id_projects")),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_accounts_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_index(op.f("ix_accounts_project_id_accounts_id"), "accounts", ["project_id", "id"])
    op.create_index(op.f("ix_accounts_dataset_id"), "accounts", ["dataset_id"])
    op.create_index(op.f("ix_accounts_owner_id"), "accounts", ["owner_id"], unique=True)


def _create_lost_calls() -> None:
    op.create_table(
        "lost_calls",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=True),
        sa.Column("teacher", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        *_counters("worst_tokens held_tokens", sa.BigInteger()),
        *_counters("worst_usd held_usd", MONEY),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state IN ('unsettled', 'priced', 'released')", name=op.f("ck_lost_calls_state")),
        sa.ForeignKeyConstraint(
            ["key"], ["completions.key"], name=op.f("fk_lost_calls_key_completions"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_lost_calls_account_id_accounts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", "number", name=op.f("pk_lost_calls")),
    )
    op.create_index(op.f("ix_lost_calls_account_id_lost_calls_created_at"), "lost_calls", ["account_id", "created_at"])


def _add_columns() -> None:
    for table in ("runs", "completions", "remote_batches"):
        op.add_column(table, sa.Column("account_id", sa.Text(), nullable=True))
    op.add_column("completions", sa.Column("answers", sa.Integer(), server_default="0", nullable=False))
    op.add_column("completions", sa.Column("lost_tries", sa.Integer(), server_default="0", nullable=False))
    op.alter_column("completions", "batch_id", new_column_name="unit_id")
    op.execute("ALTER INDEX ix_completions_batch_id RENAME TO ix_completions_unit_id")


def _move_to_accounts() -> None:
    op.execute("""
        INSERT INTO accounts
        SELECT 'acc' || substr(id, 4), project_id, dataset_id, 'run', id,
            CASE WHEN status = 'running' AND stopping IS NOT NULL THEN 'ending'
                 WHEN status IN ('queued', 'running') THEN 'open' ELSE 'stopped' END,
            max_requests, max_tokens, max_usd, simulated,
            requests, 0, reserved_requests, prompt_tokens, cached_tokens, completion_tokens, 0, reserved_tokens,
            cost_usd, 0, reserved_usd, created_at
        FROM runs
    """)
    op.execute("UPDATE runs SET account_id = 'acc' || substr(id, 4)")
    for table in ("completions", "remote_batches"):
        op.execute(f"UPDATE {table} SET account_id = 'acc' || substr(run_id, 4)")
    op.execute("UPDATE completions SET answers = 1 WHERE status = 'done' AND prompt_tokens + completion_tokens > 0")
    _part_lost_calls()
    for table in ("runs", "completions", "remote_batches"):
        op.alter_column(table, "account_id", nullable=False)
        name = op.f(f"fk_{table}_account_id_accounts")
        op.create_foreign_key(name, table, "accounts", ["account_id"], ["id"], ondelete="CASCADE")


def _part_lost_calls() -> None:
    op.execute("""
        WITH prices AS (
            SELECT account_id, step, sum(cost_usd) / sum(prompt_tokens + completion_tokens) AS usd_per_token
            FROM completions WHERE answers > 0 AND unknown_tokens = 0 GROUP BY account_id, step
        ), parted AS (
            SELECT key, unknown_tokens, c.cost_usd AS charged, answers, c.account_id, c.step, operation, teacher,
                coalesce(finished_at, created_at) AS lost_at, prompt_tokens + completion_tokens AS tokens,
                round(least(c.cost_usd, (prompt_tokens + completion_tokens) * coalesce(usd_per_token, 0)), 9) AS certain
            FROM completions c LEFT JOIN prices p ON p.account_id = c.account_id AND p.step = c.step
            WHERE unknown_tokens > 0
        )
        INSERT INTO lost_calls (key, number, account_id, step, operation, teacher, state, worst_tokens, worst_usd,
            held_tokens, held_usd, created_at)
        SELECT key, 1, account_id, step, operation, teacher,
            CASE WHEN answers > 0 THEN 'priced' ELSE 'unsettled' END, unknown_tokens, charged - certain,
            CASE WHEN answers > 0 THEN least(unknown_tokens, tokens) ELSE unknown_tokens END,
            CASE WHEN answers > 0 THEN least(charged - certain, certain) ELSE charged - certain END, lost_at
        FROM parted
    """)
    op.execute("""
        UPDATE completions c SET lost_tries = 1, cost_usd = c.cost_usd - worst_usd FROM lost_calls l WHERE l.key = c.key
    """)
    op.execute("""
        UPDATE accounts a SET lost_requests = lost, requests = requests - lost, held_tokens = tokens, held_usd = held,
            cost_usd = cost_usd - worst
        FROM (SELECT account_id, count(*) AS lost, sum(held_tokens) AS tokens, sum(held_usd) AS held,
            sum(worst_usd) AS worst FROM lost_calls GROUP BY account_id) l WHERE l.account_id = a.id
    """)


RUN_COUNTERS = {
    "requests": sa.Integer(),
    "unknown_requests": sa.Integer(),
    "prompt_tokens": sa.BigInteger(),
    "cached_tokens": sa.BigInteger(),
    "completion_tokens": sa.BigInteger(),
    "unknown_tokens": sa.BigInteger(),
    "cost_usd": MONEY,
    "reserved_requests": sa.Integer(),
    "reserved_tokens": sa.BigInteger(),
    "reserved_usd": MONEY,
    "simulated": sa.Boolean(),
}
CEILINGS = {"max_requests": sa.Integer(), "max_tokens": sa.BigInteger(), "max_usd": MONEY}


def _drop_from_runs() -> None:
    for name in (*RUN_COUNTERS, *CEILINGS):
        op.drop_column("runs", name)
    op.create_index(op.f("ix_runs_account_id"), "runs", ["account_id"], unique=True)
    op.drop_column("completions", "unknown_tokens")
    # Their indexes go with the columns.
    op.drop_column("completions", "run_id")
    op.drop_column("remote_batches", "run_id")
    indexed = ["account_id", "created_at"]
    op.create_index(op.f("ix_completions_account_id_completions_created_at"), "completions", indexed)
    indexed = ["account_id", "status"]
    op.create_index(op.f("ix_remote_batches_account_id_remote_batches_status"), "remote_batches", indexed)


def downgrade() -> None:
    for name, type_ in CEILINGS.items():
        op.add_column("runs", sa.Column(name, type_, nullable=True))
    for name, type_ in RUN_COUNTERS.items():
        zero = "false" if name == "simulated" else "0"
        op.add_column("runs", sa.Column(name, type_, nullable=False, server_default=zero))
        op.alter_column("runs", name, server_default=None)
    op.add_column("completions", sa.Column("unknown_tokens", sa.BigInteger(), nullable=False, server_default="0"))
    op.alter_column("completions", "unknown_tokens", server_default=None)
    _move_to_runs()
    _drop_accounts()


def _move_to_runs() -> None:
    op.execute("DELETE FROM accounts WHERE owner_type <> 'run'")
    op.execute("""
        UPDATE completions c SET unknown_tokens = tokens, cost_usd = cost_usd + held
        FROM (SELECT key, sum(held_tokens) AS tokens, sum(held_usd) AS held FROM lost_calls GROUP BY key) l
        WHERE l.key = c.key
    """)
    op.execute("""
        UPDATE runs r SET max_requests = a.max_requests, max_tokens = a.max_tokens, max_usd = a.max_usd,
            simulated = a.simulated, requests = a.requests + a.lost_requests, unknown_requests = a.lost_requests,
            prompt_tokens = a.prompt_tokens, cached_tokens = a.cached_tokens, completion_tokens = a.completion_tokens,
            unknown_tokens = a.held_tokens, cost_usd = a.cost_usd + a.held_usd, reserved_requests = a.reserved_requests,
            reserved_tokens = a.reserved_tokens, reserved_usd = a.reserved_usd
        FROM accounts a WHERE a.id = r.account_id
    """)
    for table in ("completions", "remote_batches"):
        op.add_column(table, sa.Column("run_id", sa.Text(), nullable=True))
        op.execute(f"UPDATE {table} t SET run_id = owner_id FROM accounts a WHERE a.id = t.account_id")
        op.alter_column(table, "run_id", nullable=False)
        op.create_foreign_key(op.f(f"fk_{table}_run_id_runs"), table, "runs", ["run_id"], ["id"], ondelete="CASCADE")


def _drop_accounts() -> None:
    op.drop_table("lost_calls")
    for table in ("runs", "completions", "remote_batches"):
        op.drop_column(table, "account_id")
    op.drop_column("completions", "answers")
    op.drop_column("completions", "lost_tries")
    op.drop_table("accounts")
    op.alter_column("completions", "unit_id", new_column_name="batch_id")
    op.execute("ALTER INDEX ix_completions_unit_id RENAME TO ix_completions_batch_id")
    op.create_index(op.f("ix_completions_run_id_completions_created_at"), "completions", ["run_id", "created_at"])
    op.create_index(op.f("ix_remote_batches_run_id_remote_batches_status"), "remote_batches", ["run_id", "status"])
