"""Each old name works beside the new one, and says that it is deprecated (docs/deprecations.md)."""

import psycopg
import pytest

from app.judgements.schemas import RecordFilter
from app.main import create_app
from tests.rest import post, rows_of

SCHEMAS = create_app().openapi()["components"]["schemas"]


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
