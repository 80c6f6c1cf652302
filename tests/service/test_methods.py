"""Every method as a recorded run over REST with real workers, English and Korean, held against its own invariants."""

import json
import uuid
from collections import Counter

import httpx
import pytest

from app.synth.methods.operations import OPERATIONS, WEIGHTS
from tests.rest import post, rows_of
from tests.waiting import until_ended

LANGUAGES = {"en": "english", "ko": "korean"}
DOCUMENT = {
    "en": "The harbour of {n} was built by {k} families in {y}. Cranes lift {k} tons there, and {y} ships call a year.",
    "ko": "{n}번 항구는 {y}년에 {k}가구가 함께 지었다. 이곳의 기중기는 {k}톤을 들고, 해마다 배 {y}척이 들어온다.",
}


# Korean is in the long form: its prompts, rules and templates have tests of their own in tests/synth, and
# test_main_job makes a Korean run.
@pytest.fixture(scope="module", params=["en", pytest.param("ko", marks=pytest.mark.long)])
def dataset(api, request) -> dict:
    """A dataset of a language with seeds, labelled rows, a document, and instructions that have no answer."""
    language = request.param
    seeds = {"bundled": LANGUAGES[language]}
    created_dataset, _ = post(
        api, "/v1/datasets", 201, name=f"{language} {uuid.uuid4()}", language=language, seeds=seeds
    )
    labelled = [{"text": f"{'좋아요' if language == 'ko' else 'Lovely'} {n}", "label": n % 2} for n in range(60)]
    upload(api, created_dataset, [json.dumps(row) for row in labelled], kind="labelled", task="sentiment")
    text = " ".join(DOCUMENT[language].format(n=n, k=3 + n, y=1800 + n) for n in range(60))
    upload(api, created_dataset, [json.dumps({"title": "Harbours", "text": text})], kind="documents")
    return created_dataset


def upload(api: httpx.Client, dataset: dict, lines: list[str], **query) -> dict:
    answer = api.post(
        f"/v1/datasets/{dataset['id']}/imports",
        params=query,
        content="\n".join(lines).encode(),
        headers={"content-type": "application/jsonl"},
    )
    assert answer.status_code == 202, answer.text
    done = until_ended(api, f"/v1/datasets/{dataset['id']}/imports/{answer.json()['id']}")
    assert done["status"] == "succeeded", done
    return done


def grow(api, dataset, method: str, target: int, status: str = "target_reached", **body) -> tuple[dict, list, list]:
    """(run, accepted rows, rejected rows)"""
    teacher = {} if method == "templates" else {"teacher": "simulated"}
    options = body.pop("options", {})
    given = {"dataset_id": dataset["id"], "method": method, "target": target, "options": options, "seed": 3}
    _, location = post(api, "/v1/runs", 202, **given, **teacher, **body)
    run = until_ended(api, location)
    assert (run["status"], run["stop_reason"]) == ("succeeded", status), run
    accepted = rows_of(api, dataset, run_id=run["id"], status="accepted")
    rejected = rows_of(api, dataset, run_id=run["id"], status="rejected")
    assert len(accepted) == run["counts"]["accepted"] and len(rejected) == run["counts"]["rejected"]
    assert all(row["reason"] for row in rejected)
    assert all(set(row["scores"]) >= {"rule.relevance", "rule.safe_words"} for row in accepted)
    if dataset["language"] == "ko" and method != "documents":
        assert all(korean(row["instruction"] + row["output"]) for row in accepted)
    return run, accepted, rejected


def korean(text: str) -> bool:
    return any("가" <= character <= "힣" for character in text)


def record(api, id: str) -> dict:
    return api.get(f"/v1/records/{id}").json()


def test_self_instruct_shows_six_seeds_and_two_records(api, dataset):
    run, accepted, _ = grow(api, dataset, "self_instruct", 30)
    origins = Counter()
    for row in accepted[:8]:
        shown = record(api, row["id"])["parents"]
        assert len(shown) == 8
        origins[sum(item["origin"] == "seed" for item in shown)] += 1
    # The first batches have no records yet to show.
    assert set(origins) <= {6, 7, 8} and origins[6] > 0
    steps = {step["name"]: step["calls"] for step in report(api, run)["economy"]["steps"]}
    assert set(steps) == {"instructions", "instances"}
    assert steps["instances"] <= 1.3 * len(accepted)
    assert run["usage"]["tokens_per_accepted"] > 0


def test_self_instruct_in_one_call_with_topics_and_quotas(api, dataset):
    topics, types = ["trains", "kitchens"], {"rewriting": 1, "brainstorming": 3}
    options = {"variant": "one_call", "topics": topics, "task_types": types, "sampling": "coverage"}
    run, accepted, _ = grow(api, dataset, "self_instruct", 24, options=options | {"instructions_per_call": 2})
    assert {row["tags"]["topic"] for row in accepted} <= set(topics)
    counts = Counter(row["tags"]["task_type"] for row in accepted)
    assert set(counts) == set(types) and counts["brainstorming"] > counts["rewriting"]
    assert [item["name"] for item in report(api, run)["economy"]["steps"]] == ["items"]
    assert all(len(record(api, row["id"])["parents"]) == 3 for row in accepted[:3])


def test_evolution_keeps_its_shares_its_depth_and_its_reasons(api, dataset):
    run, accepted, rejected = grow(
        api, dataset, "evol_instruct", 40, options={"parents": {"origin": "seed"}, "rounds": 3}
    )
    by_id = {row["id"]: row for row in accepted + rejected}
    for row in accepted:
        parent = record(api, row["id"])["parents"][0]
        assert row["round"] == (1 if parent["origin"] == "seed" else by_id[parent["id"]]["round"] + 1)
        assert 1 <= row["round"] <= 3
    assert any(row["round"] > 1 for row in accepted)
    drawn = Counter(row["operation"] for row in accepted + rejected)
    assert set(drawn) <= set(OPERATIONS)
    in_breadth = [name for name, kind in OPERATIONS.items() if kind == "breadth"]
    breadth = sum(drawn[name] for name in in_breadth) / drawn.total()
    assert breadth == pytest.approx(sum(WEIGHTS[name] for name in in_breadth) / sum(WEIGHTS.values()), abs=0.14)
    known = {"not_evolved", "over_target", "hard_to_answer", "only_stop_words", "leaks_prompt", "too_long"}
    assert {row["reason"] for row in rejected} <= known | {"duplicate_lexical", "duplicate_semantic", "duplicate_exact"}
    for operation in report(api, run)["operations"]:
        assert operation["offered"] == operation["accepted"] + sum(operation["rejected"].values())
        assert operation["calls"] > 0 and float(operation["cost_usd"]) > 0
    assert sum(item["judged_equal"]["equal"] for item in report(api, run)["operations"]) > 0


def test_answers_are_given_once_and_the_best_of_several_leaves_a_pair(api, dataset):
    requests = [json.dumps({"instruction": text}) for text in QUESTIONS[dataset["language"]]]
    came = upload(api, dataset, requests, kind="instructions")["accepted"]
    _, answered, _ = grow(api, dataset, "responses", 50, "exhausted", options={"steps_share": 1.0})
    assert 0 < len(answered) <= came
    assert all(row["reasoning"] and row["operation"] == "steps" for row in answered)
    # Nothing is left to answer.
    grow(api, dataset, "responses", 50, "exhausted")
    best = {"parents": {"origin": "seed"}, "answers": 3}
    _, accepted, rejected = grow(api, dataset, "responses", 6, options=best)
    assert {"not_selected", "low_judge_score"} & {row["reason"] for row in rejected}
    pairs = [pair for row in accepted for pair in record(api, row["id"])["preferences"]]
    assert pairs and all(pair["kind"] == "best_worst" and 0 < pair["margin"] <= 1 for pair in pairs)
    assert all(row["scores"]["judge.overall"] >= 3.5 for row in accepted)


@pytest.mark.parametrize("options", [{}, {"topics": ["bread", "bridges", "owls"]}], ids=["records", "topics"])
def test_the_turns_of_a_dialogue_alternate(api, dataset, options):
    _, accepted, _ = grow(api, dataset, "dialogue", 8, options=options | {"min_turns": 2, "max_turns": 3})
    for row in accepted:
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"] * row["tags"]["turns"]
        assert 2 <= row["tags"]["turns"] <= 3
        assert row["output"] == row["messages"][-1]["content"]


def test_templates_ask_nobody_and_hold_many_inputs_under_one_instruction(api, dataset):
    run, accepted, rejected = grow(api, dataset, "templates", 300, "exhausted", options={"uses": 2, "inverse_share": 0})
    assert run["usage"]["requests"] == 0 and run["teacher"] is None
    assert len(accepted) + len(rejected) == 120 and {row["reason"] for row in rejected} <= {"duplicate_exact"}
    groups = Counter(row["group_id"] for row in accepted)
    assert len(groups) == len({row["instruction"] for row in accepted}) >= 6
    assert max(groups.values()) > 5


def test_documents_give_grounded_rows(api, dataset):
    _, accepted, rejected = grow(api, dataset, "documents", 6)
    (document,) = api.get(f"/v1/datasets/{dataset['id']}/sources").json()["data"]
    text = document["fields"]["text"]
    for row in accepted:
        location = row["source"]
        assert location["document"] == document["id"]
        assert text[location["start"] : location["end"]] == location["quote"]
        assert row["input"] in text and row["scores"]["judge.faithfulness"] >= 4
    assert {row["reason"] for row in rejected} <= {
        *(
            "unfaithful",
            "duplicate_lexical",
            "duplicate_semantic",
            "output_equals_input",
            "over_target",
            "quote_not_found",
        ),
        *("too_short", "repeated_in_reply"),
    }


def test_safety_gives_the_share_that_was_asked_for(api, dataset):
    counts = api.get(f"/v1/datasets/{dataset['id']}").json()["counts"]
    run, accepted, _ = grow(api, dataset, "safety", None, options={"share": 0.05})
    assert len(accepted) == run["target"]
    assert len(accepted) / (counts["accepted"] + len(accepted)) == pytest.approx(0.05, abs=0.01)
    assert all(row["tags"]["task_type"] == "refusal" for row in accepted)
    again = {"dataset_id": dataset["id"], "method": "safety", "teacher": "simulated", "options": {"share": 0.05}}
    refused = api.post("/v1/runs", json=again)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/options/share")


def test_a_snapshot_of_all_of_it(api, dataset):
    forms = ["alpaca", "messages", "sharegpt", "dpo"]
    _, location = post(api, "/v1/snapshots", 202, dataset_id=dataset["id"], forms=forms, reasoning="include")
    ended_job = until_ended(api, location)
    assert ended_job["status"] == "succeeded", ended_job
    files = {file["name"]: file for file in ended_job["files"]}
    talks, pairs = (
        [json.loads(line) for line in api.get(f"{location}/files/train.{form}.jsonl").text.splitlines()]
        for form in ("messages", "dpo")
    )
    assert len(talks) == files["train.messages.jsonl"]["rows"]
    assert any(len(talk["messages"]) > 2 for talk in talks)
    assert len(pairs) == files["train.dpo.jsonl"]["rows"] > 0
    assert all(item["chosen"] != item["rejected"] and item["margin"] > 0 for item in pairs)
    few = {"selection": {"method": "facility_location", "k": 10}, "splits": {"train": 1.0}}
    _, location = post(api, "/v1/snapshots", 202, dataset_id=dataset["id"], **few)
    assert until_ended(api, location)["rows"] == 10
    top = {"selection": {"method": "top_k", "k": 3}, "splits": {"train": 1.0}}
    _, location = post(api, "/v1/snapshots", 202, dataset_id=dataset["id"], **top)
    assert until_ended(api, location)["rows"] == 3
    mix = {"mix": {"weights": {"safety": 1, "evol_instruct": 1}}, "splits": {"train": 1.0}}
    _, location = post(api, "/v1/snapshots", 202, dataset_id=dataset["id"], **mix)
    manifest = api.get(f"{until_ended(api, location) and location}/manifest").json()
    assert manifest["methods"]["safety"] == manifest["methods"]["evol_instruct"]


def report(api, run: dict) -> dict:
    return api.get(f"/v1/runs/{run['id']}/report").json()


QUESTIONS = {
    "en": (
        *("Why does bread rise?", "Describe the work of a ferry pilot.", "What is a good name for a chess club?"),
        *("How are bells tuned?", "Compare two ways to store apples.", "Which trees grow near rivers?"),
    ),
    "ko": (
        *("빵은 왜 부풀까요?", "나룻배 사공의 하루를 설명하세요.", "바둑 동아리의 이름을 지어 주세요."),
        *("종의 음은 어떻게 맞추나요?", "사과를 보관하는 두 방법을 견주세요.", "강가에는 어떤 나무가 자라나요?"),
    ),
}
