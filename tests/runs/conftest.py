"""A run against a scripted teacher over HTTP, worked on in the test's process."""

import threading
import time

import pytest

from app import config
from app.access import service as access
from app.access.service import Caller
from app.datasets import service as datasets
from app.datasets.pools import Pools
from app.datasets.schemas import DatasetCreate
from app.persistence.db import transaction
from app.runs import service
from app.runs.schemas import RunCreate
from app.runs.worker import run_slice
from tests.fakes import ScriptedServer, encoders
from workers.generation import teacher

SELF_INSTRUCT_FUNCTION = "tests.providers.teacher_functions:self_instruct"


@pytest.fixture
def start(database, tmp_path, monkeypatch):
    """Start a run against a scripted teacher; gives its id and the tools to work on it."""
    servers = []

    def begin(script, **body) -> tuple[str, run_slice.Tools]:
        server = ScriptedServer(script).__enter__()
        servers.append(server)
        path = tmp_path / "seedbed.toml"
        path.write_text(
            f'[[teachers]]\nname = "t"\nbase_url = "{server.url}"\nmodel = "m"\n'
            'prompt_price = "0.15"\ncompletion_price = "0.60"\ntimeout_seconds = 600\n'
            f'[[teachers]]\nname = "j"\nbase_url = "{server.url}"\nmodel = "judge"\nprompt_price = "15"\n'
            f'[[teachers]]\nname = "f"\nprotocol = "callable"\nfunction = "{SELF_INSTRUCT_FUNCTION}"\n'
            '[[teachers]]\nname = "missing"\nprotocol = "callable"\nfunction = "no_such_module_here:teacher"\n'
        )
        monkeypatch.setenv("SEEDBED_CONFIG", str(path))
        config.settings.cache_clear(), config.file_config.cache_clear()
        with transaction() as session:
            project = access.ensure_project(session, "slices")
            caller = Caller(project.id, "k")
            body_of_dataset = DatasetCreate(name=f"set {time.time_ns()}", seeds={"bundled": "korean"})
            dataset = datasets.create(session, caller, body_of_dataset)
            run = service.start(session, caller, RunCreate(dataset_id=dataset.id, **{"teacher": "t"} | body))
        return run.id, run_slice.Tools(Pools(encoders()), teacher, threading.Event())

    yield begin
    for server in servers:
        server.__exit__()
    monkeypatch.undo()
    config.settings.cache_clear(), config.file_config.cache_clear()
