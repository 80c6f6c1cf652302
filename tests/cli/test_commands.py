"""The command line as a person calls it: quick help, one readable line for a fault, no traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import main, teachers
from app.cli.lazy import LazyCommand, load_command
from app.cli.session import Session
from tests.waiting import PROCESS_SECONDS

SEEDBED = Path(sys.executable).with_name("seedbed")


def seedbed(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    env = {"PATH": "/usr/bin:/bin", "COLUMNS": "100", **environment}
    return subprocess.run(
        [SEEDBED, *arguments], capture_output=True, text=True, cwd=cwd, env=env, timeout=PROCESS_SECONDS
    )


def test_the_help_names_every_command(tmp_path):
    completed = seedbed("--help", cwd=tmp_path)
    assert completed.returncode == 0
    for name in ("up", "demo", "simulate-teacher", "datasets", "runs", "records", "snapshots", "finetunes", "keys"):
        assert name in completed.stdout


def test_the_help_loads_nothing_heavy():
    heavy = {"httpx", "pydantic", "sqlalchemy", "celery", "app.client", "app.cli.session"}
    code = (
        "import sys; from app.cli.main import app; app(['--help'], standalone_mode=False); "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert completed.stdout.endswith("\n[]\n"), completed.stderr


def lazy_commands() -> list[tuple[str, LazyCommand]]:
    return [*main.Commands.lazy_commands.items(), *teachers.Commands.lazy_commands.items()]


@pytest.mark.parametrize(("name", "lazy"), lazy_commands())
def test_a_command_loads_by_its_name_and_the_list_shows_its_own_help(name, lazy):
    command = load_command(name, lazy)
    assert " ".join(command.help.split("\n\n")[0].split()) == lazy.help


def test_a_group_with_one_command_stays_a_group(tmp_path):
    assert "create" in seedbed("keys", "--help", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("line", "completion"),
    [
        ("seedbed ru", "runs"),
        ("seedbed runs st", "start"),
        ("seedbed teachers ch", "check"),
        ("seedbed up --po", "--port"),
    ],
)
def test_the_shell_completes_commands_and_options(tmp_path, line, completion):
    completed = seedbed(
        cwd=tmp_path, _SEEDBED_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(line.split()) - 1)
    )
    assert completion in completed.stdout.split(), completed.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("datasets", "list"), "No stack runs on .seedbed"),
        (("runs", "show", "run_1", "--url", "http://127.0.0.1:9", "--key", "k"), "can't be reached"),
        (("runs", "show", "1", "--url", "http://127.0.0.1:9", "--key", "k"), "not an id"),
        (("runs", "list", "--url", "http://127.0.0.1:9"), "needs a key"),
        (("keys", "create"), "DATABASE_URL"),
        (("demo", "--language", "fr"), "no bundled seeds"),
        (("datasets", "create", "x", "--bundled", "english", "--seeds", "f.jsonl"), "either --bundled or --seeds"),
    ],
)
def test_a_fault_is_one_readable_line(tmp_path, arguments, expected):
    completed = seedbed(*arguments, cwd=tmp_path)
    assert completed.returncode == 1
    assert completed.stdout == ""
    assert expected in completed.stderr
    assert len(completed.stderr.splitlines()) == 1


def test_a_configuration_that_is_broken_stops_the_stack_before_it_starts(tmp_path):
    (tmp_path / "seedbed.toml").write_text("teachers = [")
    completed = seedbed("up", cwd=tmp_path, SEEDBED_CONFIG="seedbed.toml", DATABASE_URL="x", REDIS_URL="x")
    assert completed.returncode == 1
    assert "seedbed.toml is not valid TOML" in completed.stderr
    assert "Traceback" not in completed.stderr


@pytest.mark.parametrize("arguments", [("migrate",), ("keys", "create"), ("up",)])
def test_a_database_that_is_away_is_told_without_a_traceback(tmp_path, arguments):
    addresses = {"DATABASE_URL": "postgresql://nobody:x@127.0.0.1:9/x", "REDIS_URL": "redis://127.0.0.1:9"}
    completed = seedbed(*arguments, cwd=tmp_path, **addresses)
    assert completed.returncode == 1
    assert "Connection refused" in completed.stderr
    assert "Traceback" not in completed.stderr


def test_a_second_stack_on_a_home_names_the_first(tmp_path):
    from app.stack import Stack

    with Stack(tmp_path / ".seedbed", only=("redis",)) as first:
        first.state_dir.write_state(first.state_dir.read_state() | {"url": "http://127.0.0.1:4321"})
        completed = seedbed("up", cwd=tmp_path)
    assert completed.returncode == 1
    assert "already runs" in completed.stderr
    assert "http://127.0.0.1:4321" in completed.stderr


def test_json_prints_the_raw_resource(tmp_path, capsys):
    resource = {"id": "ds_1", "counts": {"seeds": 3}, "more": ["한국어"]}
    Session(tmp_path, json=True).show(resource, ("id",))
    assert json.loads(capsys.readouterr().out) == resource
    Session(tmp_path).show(resource, ("id", "counts", "absent"))
    assert capsys.readouterr().out.split() == ["id", "ds_1", "counts", "seeds", "3"]
