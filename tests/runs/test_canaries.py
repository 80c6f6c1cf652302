"""Secrets of the operator that a server echoes: no row of any table has them."""

import pytest
from sqlalchemy import text

from app import config
from app.calls.caller import RetryPolicy
from app.persistence.db import transaction
from app.runs.worker import run_slice
from app.tables import Table
from tests.fakes import ScriptedSelfInstruct, error

KEY = "canary-7f3e9a5c21d8"
INNER_URL = f"http://user:{KEY}@inner.example:9000/v1"
ECHO = f"header 'Authorization: Bearer {KEY}' sent to {INNER_URL} by way of {{address}}"


@pytest.fixture
def start_with_key(start, monkeypatch, tmp_path):
    """Start a run whose teacher needs a key and echoes it with this status; gives the run's id, tools and address."""

    def begin(status: int, code: str) -> tuple[str, run_slice.Tools, str]:
        script = ScriptedSelfInstruct(lambda body, count: (status, {}, error(code, ECHO.format(address=addresses[0]))))
        addresses: list[str] = []
        id, tools = start(script, target=3)
        path = tmp_path / "seedbed.toml"
        addresses.append(config.teachers()["t"].base_url)
        path.write_text(path.read_text().replace('name = "t"\n', 'name = "t"\napi_key_env = "CANARY_KEY"\n', 1))
        monkeypatch.setenv("CANARY_KEY", KEY)
        config.file_config.cache_clear()
        return id, tools, addresses[0]

    return begin


async def no_delay(seconds: float) -> None:
    """Between two tries of a call, where only the number of tries matters."""


def find_in_tables(secrets: list[str]) -> list[tuple[str, str]]:
    """Return (table, secret) for each table with a row that contains a secret."""
    with transaction() as session:
        rows = {
            name: "\n".join(session.scalars(text(f'SELECT row_to_json(t)::text FROM "{name}" t')))
            for name in Table.metadata.tables
        }
    return [(name, secret) for name, content in rows.items() for secret in secrets if secret in content]


@pytest.mark.parametrize(
    ("status", "code", "status_of_run"),
    [
        (401, "invalid_api_key", "failed"),
        (400, "context_length_exceeded", "paused"),
        (400, "content_filter", "paused"),
        (418, "teapot", "failed"),
        (500, "server_error", "paused"),
    ],
)
def test_a_secret_that_the_server_echoes_is_masked_everywhere(start_with_key, status, code, status_of_run):
    id, tools, address = start_with_key(status, code)
    tools = run_slice.Tools(tools.pools, tools.teacher, tools.shutdown, retry=RetryPolicy(sleep=no_delay))
    run_slice.run_slice(id, tools)
    with transaction() as session:
        rows = session.execute(text("SELECT status, error, health::text FROM runs WHERE id = :id"), {"id": id}).one()
    assert rows.status == status_of_run
    assert find_in_tables([KEY, "inner.example", address.removeprefix("http://").removesuffix("/v1")]) == []


def test_the_search_finds_what_is_there(database):
    with transaction() as session:
        session.execute(text("INSERT INTO projects (id, name) VALUES ('prj_canary', :name)"), {"name": KEY})
    try:
        assert find_in_tables([KEY]) == [("projects", KEY)]
    finally:
        with transaction() as session:
            session.execute(text("DELETE FROM projects WHERE id = 'prj_canary'"))
