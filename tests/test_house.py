"""The house keeps its own rules: import direction, no torch in the API, migrations that match the tables."""

import subprocess
import sys
from pathlib import Path

from alembic import command

from app import migrate
from tests.waiting import PROCESS_SECONDS

ROOT = Path(__file__).parent.parent
HEAVY = "torch", "transformers", "sentence_transformers", "peft", "trl", "openai"


def python(code: str, **environment) -> subprocess.CompletedProcess:
    env = {"PATH": "/usr/bin:/bin", "DATABASE_URL": "postgresql://x", "REDIS_URL": "redis://x", **environment}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=PROCESS_SECONDS
    )


def test_imports_go_one_way():
    linter = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=PROCESS_SECONDS)
    assert found.returncode == 0, found.stdout


def test_the_api_process_never_loads_torch():
    code = f"import sys; from app.main import create_app; create_app(); print([m for m in {HEAVY} if m in sys.modules])"
    found = python(code)
    assert found.stdout.strip() == "[]", found.stderr


def test_the_light_workers_never_load_torch():
    code = (
        "import sys, workers.exports, workers.finetuning, workers.scoring, workers.sweeper; "
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    found = python(code)
    assert found.stdout.strip() == "[]", found.stderr


def test_the_library_loads_without_the_service():
    names = ("fastapi", "sqlalchemy", "celery", "redis", *HEAVY)
    found = python(f"import sys; from app import synth; print([m for m in {names} if m in sys.modules])")
    assert found.stdout.strip() == "[]", found.stderr


def test_the_migrations_give_the_tables(database):
    command.check(migrate.alembic_config())
    assert migrate.is_current()


def test_the_migrations_go_down_and_up_again(tmp_path):
    from app.stack import Stack

    with Stack(tmp_path, only=("postgres",), durable=False) as stack:
        code = (
            "from alembic import command; from app import migrate; c = migrate.alembic_config(); "
            "command.upgrade(c, 'head'); command.downgrade(c, 'base'); command.upgrade(c, 'head'); command.check(c)"
        )
        found = python(code, DATABASE_URL=stack.database_url)
    assert found.returncode == 0, found.stderr
