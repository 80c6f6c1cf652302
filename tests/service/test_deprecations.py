"""Each old name works beside the new one, and says that it is deprecated (docs/deprecations.md)."""

import os
import subprocess
import sys

import psycopg
import pytest

from app.client import Seedbed
from app.judgements.schemas import RecordFilter
from app.main import create_app
from tests.rest import post, rows_of
from tests.waiting import PROCESS_SECONDS, until_ended

OPENAPI = create_app().openapi()
SCHEMAS = OPENAPI["components"]["schemas"]
OLD_PATHS = {"/v1/reviews": "/v1/maintenance-jobs", "/v1/scorings": "/v1/likelihood-scores"}


@pytest.fixture(scope="module")
def dataset(api) -> dict:
    return post(api, "/v1/datasets", 201, name="old names", language="en", seeds={"bundled": "english"})[0]


@pytest.mark.parametrize(
    ("view", "old", "new"),
    [
        ("RecordView", "seq", "pool_position"),
        ("RecordView", "family", "group_id"),
        ("RunView", "pilot_for", "preview_target"),
    ],
)
def test_the_schema_marks_old_fields_and_names_the_new_ones(view, old, new):
    properties = SCHEMAS[view]["properties"]
    assert properties[old]["deprecated"] and f"`{new}`" in properties[old]["description"]
    assert "deprecated" not in properties[new]


def test_a_record_has_its_old_fields_beside_the_new_ones(api, dataset):
    for record in rows_of(api, dataset, status="accepted"):
        assert record["seq"] == record["pool_position"] > 0
        assert record["family"] == record["group_id"]


def test_a_filter_takes_the_old_reason(api, service, dataset):
    rejected = rows_of(api, dataset)[0]["id"]
    with psycopg.connect(service.database_url, autocommit=True) as postgres:
        changes = "status = 'rejected', reason = 'over_target', pool_position = NULL"
        postgres.execute(f"UPDATE records SET {changes} WHERE id = %s", [rejected])
    for reason in ("surplus", "over_target"):
        assert [(row["id"], row["reason"]) for row in rows_of(api, dataset, reason=reason)] == [
            (rejected, "over_target")
        ]
    assert RecordFilter(reason="surplus").reason == "over_target"


@pytest.mark.parametrize(("old", "new"), OLD_PATHS.items())
def test_the_schema_has_each_old_path_beside_the_new_one_and_marks_it(old, new):
    operations = {
        start: {path.removeprefix(start): set(methods) for path, methods in OPENAPI["paths"].items() if start in path}
        for start in (old, new)
    }
    assert operations[old] == operations[new] and "" in operations[new]
    for path, methods in OPENAPI["paths"].items():
        for operation in methods.values():
            assert operation.get("deprecated", False) == any(name in path for name in OLD_PATHS)


def test_an_old_path_of_maintenance_jobs_answers_as_the_new_one_and_names_it(api, dataset):
    job, location = post(api, f"/v1/datasets/{dataset['id']}/reencode", 202)
    assert location == f"/v1/maintenance-jobs/{job['id']}"
    done = until_ended(api, location)
    for end in ("", "/events", "/matches"):
        old, new = api.get(f"/v1/reviews/{job['id']}{end}"), api.get(location + end)
        assert (old.status_code, old.json()) == (200, new.json())
        assert old.headers["deprecation"].startswith("@")
        assert old.headers["link"] == f'<{location}{end}>; rel="successor-version"'
        assert "deprecation" not in new.headers
    assert api.post(f"/v1/reviews/{job['id']}/cancel").json()["status"] == done["status"] == "succeeded"
    listed = api.get("/v1/reviews", params={"dataset_id": dataset["id"]})
    assert [row["id"] for row in listed.json()["data"]] == [job["id"]]


def test_old_names_of_the_client_warn_and_work(service, dataset):
    with Seedbed(service.url, service.api_key) as client:
        job = client.wait(client.reencode(dataset["id"]))
        with pytest.warns(DeprecationWarning, match="maintenance-jobs"):
            assert job["id"] in [row["id"] for row in client.find("reviews", dataset_id=dataset["id"])]
        with pytest.warns(DeprecationWarning, match="maintenance_job_id"):
            assert list(client.matches(review_id=job["id"])) == list(client.matches(job["id"])) == []


@pytest.mark.parametrize(("old", "new"), [("reviews", "maintenance"), ("scorings", "likelihood-scores")])
def test_an_old_command_works_and_names_the_new_one_in_one_line(service, old, new):
    environment = {**os.environ, "SEEDBED_URL": service.url, "SEEDBED_API_KEY": service.api_key}
    command = [sys.executable, "-c", "from app.cli.main import main; main()"]
    outputs = [
        subprocess.run(
            [*command, name, "list"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PROCESS_SECONDS,
            check=True,
        )
        for name in (old, new)
    ]
    assert outputs[0].stdout == outputs[1].stdout != "" and outputs[1].stderr == ""
    (line,) = outputs[0].stderr.splitlines()
    assert f"`seedbed {new}`" in line and "0.2.0" in line


def test_likelihood_scores_start_by_their_old_names(api, service):
    rows = {"name": "a", "instruction": "Name a colour.", "instances": [{"input": "", "output": "Red."}]}
    dataset, _ = post(api, "/v1/datasets", 201, name="old scorings", seeds={"tasks": [rows]})
    job, location = post(api, "/v1/scorings", 202, dataset_id=dataset["id"], max_length=64)
    assert location == f"/v1/likelihood-scores/{job['id']}"
    assert api.get(f"/v1/scorings/{job['id']}").headers["link"] == f'<{location}>; rel="successor-version"'
    with Seedbed(service.url, service.api_key) as client:
        with pytest.warns(DeprecationWarning, match="start_likelihood_scores"):
            other = client.start_scoring(dataset_id=dataset["id"], max_length=64)
        with pytest.warns(DeprecationWarning, match="likelihood-scores"):
            assert {job["id"], other["id"]} <= {row["id"] for row in client.find("scorings", dataset_id=dataset["id"])}
        for id in (job["id"], other["id"]):
            client.act(id, "cancel")
