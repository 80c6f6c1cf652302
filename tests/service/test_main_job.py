"""The main job over HTTP with real workers: seeds, a run, a snapshot, a fine-tune; and what goes with it."""

import hashlib
import json
import uuid

import httpx
import pytest

from tests.rest import post, rows_of
from tests.waiting import HTTP_SECONDS, until_ended

# Rows enough for a fine-tune that learns.
TARGET = 60


@pytest.fixture(scope="module")
def dataset(api) -> dict:
    created_dataset, location = post(api, "/v1/datasets", 201, name=f"job {uuid.uuid4()}", seeds={"bundled": "english"})
    # A worker may have encoded the seeds by now, and said how.
    assert api.get(location).json() | {"encoding": None} == created_dataset
    return created_dataset


@pytest.fixture(scope="module")
def run(api, dataset) -> dict:
    _, location = post(api, "/v1/runs", 202, dataset_id=dataset["id"], teacher="simulated", target=TARGET)
    return until_ended(api, location)


@pytest.fixture(scope="module")
def snapshot(api, dataset, run) -> dict:
    _, location = post(api, "/v1/snapshots", 202, dataset_id=dataset["id"])
    return until_ended(api, location)


@pytest.fixture(scope="module")
def fine_tune(api, snapshot) -> dict:
    # The recipe's own number of epochs: after one over so few rows the validation loss may still be above its start.
    _, location = post(api, "/v1/fine-tunes", 202, snapshot_id=snapshot["id"])
    return until_ended(api, location, 300)


def test_the_bundled_seeds(dataset):
    assert dataset["counts"]["seeds"] >= 175


def test_the_run_has_exactly_its_target_and_its_counts_are_rows(api, dataset, run):
    assert (run["status"], run["stop_reason"]) == ("succeeded", "target_reached")
    accepted = rows_of(api, dataset, run_id=run["id"], status="accepted")
    rejected = rows_of(api, dataset, run_id=run["id"], status="rejected")
    counts = run["counts"]
    assert (len(accepted), len(rejected)) == (TARGET, counts["rejected"]) == (counts["accepted"], counts["rejected"])
    assert counts["offered"] == TARGET + len(rejected)
    for reason, count in counts["rejected_by_reason"].items():
        assert count == len([row for row in rejected if row["reason"] == reason])
    assert float(run["usage"]["cost_usd"]) > 0


def test_every_row_is_marked_and_every_rejection_explained(api, dataset, run):
    rows = rows_of(api, dataset, run_id=run["id"])
    texts = {row["instruction"] for row in rows}
    for row in rows:
        assert row["simulated"]
        if row["status"] == "rejected":
            assert row["reason"]
            if row["reason"].startswith("duplicate"):
                assert row["nearest_text"] and row["detail"]["value"]
                # Without an id it was near to one that was in flight at the same time, and decided later.
                assert row["nearest_id"] or row["nearest_text"] in texts
    assert run["simulated"] and "teaches a model nothing" in run["note"]
    assert not any(row["simulated"] for row in rows_of(api, dataset, origin="seed"))


def test_a_record_shows_what_it_grew_from(api, dataset, run):
    row = rows_of(api, dataset, run_id=run["id"], status="accepted")[-1]
    whole = api.get(f"/v1/records/{row['id']}").json()
    assert [completion["step"] for completion in whole["completions"]] == [
        "instructions",
        "instances",
    ]
    assert len(whole["parents"]) == 8
    assert len(whole["templates"]) == 2
    parent = api.get(f"/v1/records/{whole['parents'][0]['id']}").json()
    assert row["id"] in [child["id"] for child in parent["children"]] or len(parent["children"]) == 50


def test_no_two_accepted_rows_are_near_duplicates(api, dataset, run):
    from app.synth.novelty.pool import Pool

    pool = Pool()
    for row in sorted(rows_of(api, dataset, status="accepted"), key=lambda row: row["pool_position"]):
        if row["origin"] == "generated":
            assert pool.check_lexical(row["instruction"]) is None
        if row["group_id"] == row["id"]:
            pool.add(row["id"], row["instruction"], None)


def test_the_snapshot_reads_back(api, run, snapshot):
    assert (snapshot["status"], snapshot["rows"], snapshot["simulated"]) == ("succeeded", TARGET, True)
    assert sum(snapshot["splits"].values()) == TARGET
    lines = {}
    for file in snapshot["files"]:
        answer = api.get(f"/v1/snapshots/{snapshot['id']}/files/{file['name']}")
        assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
        assert len(answer.content) == file["bytes"]
        lines[file["name"]] = [json.loads(line) for line in answer.content.splitlines()]
        assert len(lines[file["name"]]) == file["rows"]
        assert all(line["simulated"] for line in lines[file["name"]])
    assert len(lines) == 9
    alpaca, messages, sharegpt = (lines[f"train.{form}.jsonl"][0] for form in ("alpaca", "messages", "sharegpt"))
    assert messages["messages"][-1]["content"] == sharegpt["conversations"][-1]["value"] == alpaca["output"]
    trained = {row["instruction"] for row in lines["train.alpaca.jsonl"]}
    assert not trained & {row["instruction"] for row in lines["test.alpaca.jsonl"]}


def test_a_second_snapshot_of_the_same_rows_is_the_same_bytes(api, dataset, snapshot):
    _, location = post(api, "/v1/snapshots", 202, dataset_id=dataset["id"])
    again = until_ended(api, location)
    assert again["id"] != snapshot["id"]
    assert again["digest"] == snapshot["digest"]
    assert [file["sha256"] for file in again["files"]] == [file["sha256"] for file in snapshot["files"]]
    manifest = api.get(f"/v1/snapshots/{again['id']}/manifest").json()
    assert manifest["digest"] == snapshot["digest"]
    assert "teaches a model nothing" in json.dumps(manifest)


def test_downloads_resume_and_are_cached(api, snapshot):
    file = next(item for item in snapshot["files"] if item["name"] == "train.alpaca.jsonl")
    location = f"/v1/snapshots/{snapshot['id']}/files/{file['name']}"
    plain = {"accept-encoding": "identity"}
    whole = api.get(location, headers=plain)
    assert whole.headers["etag"] == f'"{file["sha256"]}"'
    rest = api.get(location, headers=plain | {"range": "bytes=100-"})
    assert (rest.status_code, rest.content) == (206, whole.content[100:])
    assert rest.headers["content-range"] == f"bytes 100-{file['bytes'] - 1}/{file['bytes']}"
    assert api.get(location, headers=plain | {"range": f"bytes={file['bytes']}-"}).status_code == 416
    assert api.get(location, headers=plain | {"range": "bytes=-5"}).content == whole.content[-5:]
    other = plain | {"range": "bytes=0-9", "if-range": '"another"'}
    assert api.get(location, headers=other).status_code == 200
    assert api.get(location, headers={"if-none-match": whole.headers["etag"]}).status_code == 304
    packed = api.get(location, headers={"accept-encoding": "gzip"})
    assert (packed.headers["content-encoding"], packed.content) == ("gzip", whole.content)


def test_a_snapshot_never_changes(api, dataset, snapshot):
    _, location = post(api, "/v1/runs", 202, dataset_id=dataset["id"], teacher="simulated", target=5, seed=9)
    assert until_ended(api, location)["counts"]["accepted"] == 5
    assert api.get(f"/v1/snapshots/{snapshot['id']}").json() == snapshot
    assert api.delete(f"/v1/datasets/{dataset['id']}").status_code == 409


def test_the_fine_tune_learns_and_leaves_an_adapter(api, snapshot, fine_tune):
    assert (fine_tune["status"], fine_tune["stop_reason"]) == ("succeeded", "completed"), fine_tune
    assert fine_tune["summary"]["loss_after"] < fine_tune["summary"]["loss_before"]
    assert fine_tune["simulated"]
    metrics = api.get(f"/v1/fine-tunes/{fine_tune['id']}/metrics").json()["data"]
    assert metrics and all("loss" in row["values"] for row in metrics)
    names = {artifact["name"]: artifact for artifact in fine_tune["artifacts"]}
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "base/model.safetensors"} <= set(names)
    adapter = api.get(f"/v1/fine-tunes/{fine_tune['id']}/artifacts/adapter_model.safetensors")
    assert hashlib.sha256(adapter.content).hexdigest() == names["adapter_model.safetensors"]["sha256"]
    header = json.loads(adapter.content[8 : 8 + int.from_bytes(adapter.content[:8], "little")])
    assert any("lora_A" in name for name in header)
    card = api.get(f"/v1/fine-tunes/{fine_tune['id']}/artifacts/README.md").text
    assert "simulated" in card


def stream(api: httpx.Client, path: str, last: str | None = None) -> list[dict]:
    headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
    results = []
    with api.stream("GET", path, headers=headers, timeout=HTTP_SECONDS) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                results.append(json.loads(line[6:]))
    return results


@pytest.mark.parametrize("kind", ["runs", "fine-tunes"])
def test_events_as_a_list_and_as_a_stream_that_resumes(api, run, fine_tune, kind):
    location = f"/v1/{kind}/{(run if kind == 'runs' else fine_tune)['id']}/events"
    whole = stream(api, location)
    assert [event["data"]["status"] for event in whole if event["type"] == "status"] == [
        "queued",
        "running",
        "succeeded",
    ]
    assert {event["type"] for event in whole} >= {"status"}
    listed, after = [], 0
    while True:
        page = api.get(location, params={"limit": 7, "after": after}).json()
        listed += page["data"]
        if not page["has_more"]:
            break
        after = page["next"]
    assert listed == whole
    middle = len(whole) // 2
    assert stream(api, location, str(whole[middle]["seq"])) == whole[middle + 1 :]


def test_the_stream_of_a_run_under_way_ends_with_the_run(api, dataset):
    _, location = post(api, "/v1/runs", 202, dataset_id=dataset["id"], teacher="simulated", target=3, seed=11)
    assert stream(api, f"{location}/events")[-1]["data"]["status"] == "succeeded"


def test_lists_page_without_gaps_or_repeats(api, dataset, run):
    ids, after = [], None
    while True:
        page = api.get(
            f"/v1/datasets/{dataset['id']}/records", params={"limit": 13, **({"after": after} if after else {})}
        ).json()
        ids += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            assert page["next"] is None
            break
        after = page["next"]
    stats = api.get(f"/v1/datasets/{dataset['id']}/stats").json()
    assert len(ids) == len(set(ids)) == sum(stats["by_status"].values())
    assert ids == sorted(ids, reverse=True)


def test_korean_end_to_end(api):
    created_dataset, _ = post(
        api, "/v1/datasets", 201, name=f"한국어 {uuid.uuid4()}", language="ko", seeds={"bundled": "korean"}
    )
    _, location = post(api, "/v1/runs", 202, dataset_id=created_dataset["id"], teacher="simulated", target=20)
    run = until_ended(api, location)
    assert run["counts"]["accepted"] == 20, run
    assert not {"opens_with_punctuation", "too_short"} & set(run["counts"]["rejected_by_reason"])
    rows = rows_of(api, created_dataset, run_id=run["id"], status="accepted")
    assert all(any("가" <= character <= "힣" for character in row["instruction"]) for row in rows)


def test_rows_are_imported_through_admission(api, dataset):
    seed = rows_of(api, dataset, origin="seed")[0]
    fresh = f"Describe {uuid.uuid4()} in the words of a sailor"
    lines = [
        {"instruction": fresh, "input": None, "output": "Aye."},
        {"instruction": seed["instruction"], "input": "another input", "output": "x"},
        {"instruction": f"{seed['instruction']} Now", "input": "", "output": "x"},
        {"instruction": fresh.upper(), "input": "", "output": "Aye."},
        {"instruction": "Say it again", "input": "same", "output": "same"},
    ]
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
    answer = api.post(
        f"/v1/datasets/{dataset['id']}/imports", content=content, headers={"content-type": "application/jsonl"}
    )
    assert answer.status_code == 202, answer.text
    done = until_ended(api, answer.headers["location"])
    assert (done["status"], done["rows"], done["accepted"], done["rejected"]) == ("succeeded", 5, 2, 3)
    assert done["rejected_by_reason"] == {"duplicate_lexical": 1, "duplicate_exact": 1, "output_equals_input": 1}
    # Existing data joins the group of its instruction: many inputs may stand under one.
    joined, kept = rows_of(api, dataset, import_id=done["id"], status="accepted")
    assert joined["group_id"] == seed["group_id"]
    assert (kept["instruction"], kept["simulated"], kept["origin"]) == (fresh, False, "imported")


def test_seeds_are_imported(api):
    created_dataset, _ = post(api, "/v1/datasets", 201, name=f"seeds {uuid.uuid4()}")
    task = {
        "instruction": "Name a red fruit",
        "instances": [{"input": "", "output": "apple"}],
        "is_classification": False,
    }
    content = json.dumps(task).encode() + b"\n" + json.dumps(task | {"id": "x", "name": "again"}).encode()
    answer = api.post(
        f"/v1/datasets/{created_dataset['id']}/imports?kind=seeds",
        content=content,
        headers={"content-type": "application/jsonl"},
    )
    done = until_ended(api, answer.headers["location"])
    assert (done["accepted"], done["rejected_by_reason"]) == (1, {"duplicate_exact": 1})
    assert api.get(f"/v1/datasets/{created_dataset['id']}").json()["counts"]["seeds"] == 1


def test_what_the_operator_configured(api, service):
    (teacher,) = api.get("/v1/teachers").json()["data"]
    assert teacher["name"] == "simulated"
    assert "127.0.0.1" not in json.dumps(teacher)
    assert "tiny" in [base_model["name"] for base_model in api.get("/v1/base-models").json()["data"]]


def test_health_and_documentation(service):
    assert httpx.get(service.url + "/healthz", timeout=HTTP_SECONDS).json() == {"status": "alive"}
    assert httpx.get(service.url + "/readyz", timeout=HTTP_SECONDS).json()["status"] == "ready"
    assert httpx.get(service.url + "/docs", timeout=HTTP_SECONDS).status_code == 200
    document = httpx.get(service.url + "/openapi.json", timeout=HTTP_SECONDS).json()
    assert document["openapi"].startswith("3.1")
    operations = [item for path in document["paths"].values() for item in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids)) and all("_" not in item for item in ids)


def test_the_replies_behind_a_record_are_shown_as_they_came(api, dataset, run):
    for status in ("accepted", "rejected"):
        row = rows_of(api, dataset, status=status, run_id=run["id"])[0]
        replies = api.get(f"/v1/records/{row['id']}/replies").json()["data"]
        lineage = api.get(f"/v1/records/{row['id']}").json()["completions"]
        assert [reply["key"] for reply in replies] == [completion["key"] for completion in lineage]
        assert replies and all(reply["text"] and reply["request"]["messages"] for reply in replies)
