"""Pilots and forecasts through REST."""

import uuid

import pytest

from tests.service.test_main_job import post, wait


@pytest.fixture(scope="module")
def dataset(api) -> dict:
    made, _ = post(api, "/v1/datasets", 201, name=f"preview {uuid.uuid4()}", seeds={"bundled": "english"})
    return made


def body(dataset: dict, **more) -> dict:
    # A seed and an option of its own: nothing else that the tests run is of this kind.
    options = {"instance_tokens": 777}
    return {"dataset_id": dataset["id"], "teacher": "simulated", "target": 400, "options": options, **more}


def test_a_pilot_makes_a_few_rows_and_forecasts_the_whole(api, dataset):
    empty = api.post("/v1/runs/preview", json=body(dataset, dry_run=True))
    assert (empty.status_code, empty.json()) == (200, {"forecast": None})
    made, place = post(api, "/v1/runs/preview", 202, **body(dataset, rows=12))
    assert (made["target"], made["pilot_for"]) == (12, 400)
    done = wait(api, place)
    assert (done["stop_reason"], done["counts"]["accepted"]) == ("target_reached", 12)
    found = api.get(f"{place}/forecast").json()["forecast"]
    assert (found["target"], found["runs"]) == (400, 1)
    for name in ("yield", "requests", "tokens", "cost_usd", "seconds"):
        assert 0 < found[name]["low"] <= found[name]["estimate"] <= found[name]["high"], name
    half = api.get(f"{place}/forecast", params={"target": 200}).json()["forecast"]
    assert half["tokens"]["estimate"] == pytest.approx(found["tokens"]["estimate"] / 2, rel=0.01)

    again = api.post("/v1/runs/preview", json=body(dataset, dry_run=True)).json()["forecast"]
    assert again == found
    assert [one["id"] for one in api.get("/v1/runs", params={"dataset_id": dataset["id"]}).json()["data"]] == [
        made["id"]
    ]

    # And the whole lies within what was forecast, give or take what a pilot can't know.
    _, place = post(api, "/v1/runs", 202, **body(dataset, target=150, seed=3))
    whole = wait(api, place)
    asked = api.get(f"/v1/runs/{made['id']}/forecast", params={"target": 150}).json()["forecast"]
    spent = whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"]
    assert 0.5 * asked["tokens"]["low"] < spent < 2 * asked["tokens"]["high"]


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"rows": 0}, "/rows"),
        ({"rows": 101}, "/rows"),
        ({"teacher": "nobody"}, "/teacher"),
        ({"target": None}, "/target"),
    ],
)
def test_bad_previews_are_refused(api, dataset, more, pointer):
    answer = api.post("/v1/runs/preview", json=body(dataset) | more)
    assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == pointer
