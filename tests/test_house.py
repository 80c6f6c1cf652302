"""The house keeps its own rules: import direction, no torch in the API, migrations that match the tables."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from alembic import command

from app.persistence import migrate
from tests.waiting import PROCESS_SECONDS

ROOT = Path(__file__).parent.parent
HEAVY = "torch", "transformers", "sentence_transformers", "peft", "trl", "openai", "anthropic"


def python(code: str, **environment) -> subprocess.CompletedProcess:
    env = {"PATH": "/usr/bin:/bin", "DATABASE_URL": "postgresql://x", "REDIS_URL": "redis://x", **environment}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=PROCESS_SECONDS
    )


RULES = tomllib.loads((ROOT / "import_rules.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
DENY_LISTS = [rule for rule in RULES if rule["type"] == "forbidden" and "app.cli" in rule["forbidden_modules"]]
# The rooms that a room with a deny-list may import, beside itself.
ALLOWED = {
    "app.synth": set(),
    "app.training_jobs": set(),
    "app.providers": {"app.synth", "app.masking"},
    "app.simulator": set(),
    "workers.recipes": {"app.training_jobs"},
}


def rooms() -> set[str]:
    """Every module and package directly below `app`."""
    paths = [path for path in (ROOT / "app").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    return {f"app.{path.stem}" for path in paths} - {"app.__init__"}


def layered() -> set[str]:
    """The packages whose modules all stand in a layer."""
    return {name for rule in RULES if rule.get("exhaustive") for name in rule["containers"]}


def test_every_package_has_its_layers():
    packages = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (*ROOT.glob("app/**/*.py"), *ROOT.glob("workers/**/*.py"))
        if path.name != "__init__.py"
    }
    # The adapters are as many as there are protocols; a contract of their own keeps them apart.
    assert packages - layered() == {"app.providers.adapters"}


@pytest.mark.parametrize("rule", DENY_LISTS, ids=lambda rule: rule["source_modules"][0])
def test_a_deny_list_names_every_room(rule):
    (source,) = rule["source_modules"]
    assert rooms() - set(rule["forbidden_modules"]) - {source} == ALLOWED[source]


def test_every_file_of_tables_is_imported_by_one_slice_alone():
    protected = [rule for rule in RULES if rule["type"] == "protected" and rule.get("as_packages", True)]
    importers = {module: rule["allowed_importers"] for rule in protected for module in rule["protected_modules"]}
    files = {f"app.tables.{path.stem}" for path in (ROOT / "app" / "tables").glob("*.py")} - {"app.tables.__init__"}
    assert set(importers) == files
    assert all(slice in rooms() and others == ["app.tables"] for slice, *others in importers.values())


def test_nobody_imports_the_package_of_all_tables():
    rules = [rule for rule in RULES if rule["type"] == "protected" and not rule.get("as_packages", True)]
    assert [(rule["protected_modules"], rule["allowed_importers"]) for rule in rules] == [(["app.tables"], [])]


def test_every_deny_list_is_looked_at():
    assert {rule["source_modules"][0] for rule in DENY_LISTS} == set(ALLOWED)


def test_imports_go_one_way():
    linter = Path(sys.executable).with_name("lint-imports")
    command = [linter, "--no-cache", "--config", "import_rules.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PROCESS_SECONDS)
    assert done.returncode == 0, done.stdout


def test_the_api_process_never_loads_torch():
    code = f"import sys; from app.main import create_app; create_app(); print([m for m in {HEAVY} if m in sys.modules])"
    process = python(code)
    assert process.stdout.strip() == "[]", process.stderr


def test_the_light_workers_never_load_torch():
    code = (
        "import sys, workers.exports, workers.finetuning, workers.scoring, workers.sweeper; "
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    process = python(code)
    assert process.stdout.strip() == "[]", process.stderr


def test_the_library_loads_without_the_service():
    names = ("fastapi", "sqlalchemy", "celery", "redis", *HEAVY)
    process = python(f"import sys; from app import synth; print([m for m in {names} if m in sys.modules])")
    assert process.stdout.strip() == "[]", process.stderr


def test_the_migrations_give_the_tables(database):
    command.check(migrate.alembic_config())
    assert migrate.is_current()


def test_the_migrations_go_down_and_up_again(tmp_path):
    from app.stack import Stack

    with Stack(tmp_path, only=("postgres",), durable=False) as stack:
        code = (
            "from alembic import command; from app.persistence import migrate; c = migrate.alembic_config(); "
            "command.upgrade(c, 'head'); command.downgrade(c, 'base'); command.upgrade(c, 'head'); command.check(c)"
        )
        process = python(code, DATABASE_URL=stack.database_url)
    assert process.returncode == 0, process.stderr
