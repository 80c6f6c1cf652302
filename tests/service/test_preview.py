"""Pilots and forecasts through REST."""

import uuid
from unittest.mock import ANY

import psycopg
import pytest

from tests.rest import post, rows_of
from tests.waiting import until_ended


@pytest.fixture(scope="module")
def dataset(api) -> dict:
    created_dataset, _ = post(api, "/v1/datasets", 201, name=f"preview {uuid.uuid4()}", seeds={"bundled": "english"})
    return created_dataset


def body(dataset: dict, **more) -> dict:
    # A seed and an option of its own: nothing else that the tests run is of this kind.
    options = {"instance_tokens": 777}
    return {"dataset_id": dataset["id"], "teacher": "simulated", "target": 400, "options": options, **more}


def test_a_pilot_makes_a_few_rows_and_forecasts_the_whole(api, dataset):
    empty = api.post("/v1/runs/preview", json=body(dataset, dry_run=True))
    assert (empty.status_code, empty.json()) == (200, {"forecast": None})
    preview_run, location = post(api, "/v1/runs/preview", 202, **body(dataset, rows=12))
    assert (preview_run["target"], preview_run["preview_target"]) == (12, 400)
    assert preview_run["pilot_for"] == 400  # deprecated
    done = until_ended(api, location)
    assert (done["stop_reason"], done["counts"]["accepted"]) == ("target_reached", 12)
    forecast = api.get(f"{location}/forecast").json()["forecast"]
    assert (forecast["target"], forecast["runs"]) == (400, 1)
    for name in ("yield", "requests", "tokens", "cost_usd", "seconds"):
        assert 0 < forecast[name]["low"] <= forecast[name]["estimate"] <= forecast[name]["high"], name
    half = api.get(f"{location}/forecast", params={"target": 200}).json()["forecast"]
    assert half["tokens"]["estimate"] == pytest.approx(forecast["tokens"]["estimate"] / 2, rel=0.01)

    again = api.post("/v1/runs/preview", json=body(dataset, dry_run=True)).json()["forecast"]
    assert again == forecast
    assert [run["id"] for run in api.get("/v1/runs", params={"dataset_id": dataset["id"]}).json()["data"]] == [
        preview_run["id"]
    ]

    # And the whole lies within what was forecast, give or take what a pilot can't know.
    _, location = post(api, "/v1/runs", 202, **body(dataset, target=80, seed=3))
    whole = until_ended(api, location)
    later_forecast = api.get(f"/v1/runs/{preview_run['id']}/forecast", params={"target": 80}).json()["forecast"]
    spent = whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"]
    assert 0.5 * later_forecast["tokens"]["low"] < spent < 2 * later_forecast["tokens"]["high"]


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


RHYME = {"name": "rhyme", "kind": "depth", "text": "Ask for an answer in verse, of four lines at most."}
TONE = {"name": "tone", "description": "the answer is friendly and speaks to the reader.", "minimum": 1}
EXTENDED = {
    "operations": {},
    "custom_operations": [RHYME],
    "rounds": 1,
    "rules": [{"name": "pattern", "pattern": "(?i)lorem", "on": "output", "label": "no_filler"}],
    "judging": {"answer": True, "answer_minimum": 1, "aspect_minimum": 1, "aspects": ["clarity"], "rubric": [TONE]},
    "prompts": {"answer": {"system": "You are an assistant who answers in plain words."}},
}


def test_the_requests_of_a_run_are_shown_and_nothing_is_made(api, dataset):
    request = body(dataset, method="evol_instruct", options=EXTENDED, target=None, show_prompts=True)
    before = api.get("/v1/runs").json()["data"]
    answer = api.post("/v1/runs/preview", json=request)
    assert answer.status_code == 200, answer.text
    prompts = {prompt["step"]: prompt for prompt in answer.json()["prompts"]}
    assert list(prompts) == ["evolve", "evol_equal", "answer", "judge_answer"]
    records = [row["instruction"] for row in rows_of(api, dataset, status="accepted")]
    assert RHYME["text"] in prompts["evolve"]["user"] and not prompts["evolve"]["placeholders"]
    assert any(f"<instruction>{text}</instruction>" in prompts["evolve"]["user"] for text in records)
    assert "+operation:rhyme@" in prompts["evolve"]["template"]
    assert prompts["answer"]["system"] == EXTENDED["prompts"]["answer"]["system"]
    assert prompts["answer"]["template"].startswith("custom:answer@")
    assert prompts["answer"]["reply_form"] == "text" and prompts["answer"]["reply_schema"] is None
    assert (
        prompts["answer"]["placeholders"] and "⟦instruction of the reply to evolve-0-1-0⟧" in prompts["answer"]["user"]
    )
    assert TONE["description"] in prompts["judge_answer"]["user"] and prompts["judge_answer"]["asked"] == "judge"
    assert "tone" in prompts["judge_answer"]["reply_schema"]["properties"]
    assert prompts["evolve"]["sampling"] == {"temperature": 1.0, "top_p": 0.95, "max_tokens": 1024, "seed": ANY}
    assert api.get("/v1/runs").json()["data"] == before


def test_what_a_caller_brought_in_stands_in_the_lineage_of_each_row(api, dataset):
    _, location = post(api, "/v1/runs", 202, **body(dataset, method="evol_instruct", options=EXTENDED, target=3))
    done = until_ended(api, location)
    assert done["status"] == "succeeded" and done["counts"]["accepted"] == 3, done
    listed = rows_of(api, dataset, status="accepted", operation="rhyme")
    assert len(listed) == 3
    for row in listed:
        record = api.get(f"/v1/records/{row['id']}").json()
        evolve, _, answer, judge, rules = record["templates"]
        assert "+operation:rhyme@" in evolve and answer.startswith("custom:answer@")
        assert "+rubric@" in judge and rules.startswith("rules@")
        assert record["scores"].keys() >= {"judge.clarity", "judge.tone", "judge.overall"}

    # And the rules of a caller decide again, without a call.
    request = {"rules": [{"name": "length", "max": 0, "on": "output", "label": "silent"}], "apply": False}
    _, location = post(api, f"{location}/refilter", 202, **request)
    refiltered = until_ended(api, location)
    assert refiltered["result"]["moved_out"] == {"rule:silent": 3}, refiltered


def test_a_run_from_before_an_option_existed_is_of_the_same_kind(api, service, dataset):
    _, location = post(api, "/v1/runs", 202, **body(dataset, target=5, options={"instance_tokens": 778}))
    assert until_ended(api, location)["status"] == "succeeded"
    with psycopg.connect(service.database_url) as connection:
        connection.execute("UPDATE runs SET options = options - 'prompts' WHERE id = %s", [location.rpartition("/")[2]])
    request = body(dataset, dry_run=True, options={"instance_tokens": 778})
    assert api.post("/v1/runs/preview", json=request).json()["forecast"]["runs"] == 1
    other = body(dataset, dry_run=True, options={"instance_tokens": 778, "prompts": {"judge_answer": {"system": "x"}}})
    assert api.post("/v1/runs/preview", json=other).json()["forecast"] is None


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"custom_operations": [RHYME | {"name": "deepening"}]}, "/options/custom_operations/0/name"),
        ({"custom_operations": [{"name": "rhyme"}]}, "/options/custom_operations/0/text"),
        ({"judging": {"rubric": [TONE | {"name": "clarity"}]}}, "/options/judging/rubric/0"),
        ({"prompts": {"nope": {"system": "x"}}}, "/options/prompts"),
        ({"prompts": {"answer": {"user": "{{nope}}"}}}, "/options/prompts"),
        ({"prompts": {"answer": {"system": "\u0000"}}}, "/options"),
    ],
)
def test_what_cannot_be_brought_in_is_refused_by_preview_and_run(api, dataset, options, pointer):
    request = body(dataset, method="evol_instruct", options=options)
    for location, more in (("/v1/runs", {}), ("/v1/runs/preview", {"show_prompts": True})):
        answer = api.post(location, json=request | more)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == pointer


def test_the_schema_of_the_service_shows_what_a_caller_may_bring_in(api):
    methods = {method["name"]: method["options"] for method in api.get("/v1/methods").json()["data"]}
    answered = next(item for item in api.get("/v1/methods").json()["data"] if item["name"] == "responses")
    writing, judging = ["answer", "answer_steps", "answers", "answers_steps"], ["judge_list", "judge_pair"]
    assert answered["prompts"] == [*writing, *judging, "judge_question", "judge_answer"]
    assert {"CustomOperation", "Criterion", "CustomPrompt", "Pattern"} <= set(methods["evol_instruct"]["$defs"])
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    assert "show_prompts" in schemas["PreviewCreate"]["properties"]
    assert "Pattern" in schemas and "PromptView" in schemas
