"""The Python client of the REST API: one short method for each call, and files that are checked on arrival."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx

from app.errors import UserFacingError

ENDED = frozenset({"succeeded", "failed", "cancelled"})
COLLECTIONS = {
    "ds": "datasets",
    "rec": "records",
    "run": "runs",
    "acc": "accounts",
    "jdg": "judgements",
    "snap": "snapshots",
    "ft": "fine-tunes",
    "sco": "scorings",
    "rev": "reviews",
    "evs": "evaluation-sets",
}
# How long a GET waits for a service that answered before, and now restarts.
PATIENCE_SECONDS = 20.0


class SeedbedError(UserFacingError):
    """The service refused a request or can't be reached. `status` is None where no response came."""

    def __init__(self, message: str, status: int | None = None, problem: dict | None = None) -> None:
        super().__init__(message)
        self.status, self.problem = status, problem or {}


class Seedbed:
    """`with Seedbed(url, api_key) as seedbed: run = seedbed.start_run(dataset_id=…, teacher=…, target=200)`.

    `timeout` is of one request, `patience` of a GET that waits for a service which restarts; both in seconds.
    """

    def __init__(self, url: str, api_key: str, timeout: float = 60.0, patience: float = PATIENCE_SECONDS) -> None:
        self._patience = patience
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
        self._has_answered = False
        self._http = httpx.Client(base_url=f"{self.url}/v1", headers=headers, timeout=timeout)

    def __enter__(self) -> "Seedbed":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def create_dataset(self, name: str, language: str = "en", seeds: dict | None = None, **rules: object) -> dict:
        """`seeds` is {"bundled": "english"} or {"tasks": […]}."""
        return self._post("/datasets", {"name": name, "language": language, "seeds": seeds, **rules})

    def import_file(self, dataset_id: str, file: Path, kind: str = "records", task: str | None = None) -> dict:
        """Upload JSONL, streamed from the file; a document also as .txt or .md. Wait for the import it returns.

        `kind` is seeds, records, instructions, labelled (with its `task`) or documents.
        """
        plain = kind == "documents" and file.suffix in (".txt", ".md")
        params = {"kind": kind} | ({"task": task} if task else {}) | ({"title": file.stem} if plain else {})
        with file.open("rb") as content:
            headers = {"Content-Type": "text/plain" if plain else "application/jsonl"}
            path = f"/datasets/{quote(dataset_id, safe='')}/imports"
            return self._answer("POST", path, params=params, content=content, headers=headers).json()

    def sources(self, dataset_id: str, kind: str = "document", task: str | None = None) -> Iterator[dict]:
        """Uploaded material: documents, their passages, labelled rows."""
        return self._pages(f"/datasets/{quote(dataset_id, safe='')}/sources", {"kind": kind, "task": task})

    def tasks(self) -> list[dict]:
        """What labelled rows may be of, with the fields of each."""
        return self._get("/tasks")["data"]

    def methods(self) -> list[dict]:
        """The ways of making data, with the schema of their options."""
        return self._get("/methods")["data"]

    def report(self, run_id: str) -> dict:
        """A run's cost by step, survival by operation, and the quality of its rows."""
        return self._get(f"{_path(run_id)}/report")

    def account_report(self, account_id: str) -> dict:
        """Calls, tokens and dollars of an account by step, teacher and operation; and its lost calls."""
        return self._get(f"{_path(account_id)}/report")

    def release(self, account_id: str) -> dict:
        """Let lost calls hold no more of the account's ceilings than they probably cost."""
        return self.act(account_id, "release")

    def stats(self, dataset_id: str) -> dict:
        return self._get(f"/datasets/{quote(dataset_id, safe='')}/stats")

    def records(self, dataset_id: str, **filters: object) -> Iterator[dict]:
        """All matching records, page by page. `status`, `reason`, `run_id`, `origin` and more narrow them."""
        return self._pages(f"/datasets/{quote(dataset_id, safe='')}/records", filters)

    def start_run(self, **body: object) -> dict:
        return self._post("/runs", body)

    def start_snapshot(self, **body: object) -> dict:
        return self._post("/snapshots", body)

    def start_fine_tune(self, **body: object) -> dict:
        return self._post("/fine-tunes", body)

    def start_scoring(self, **body: object) -> dict:
        return self._post("/scorings", body)

    def start_judgement(self, **body: object) -> dict:
        """Judge records that are there already: `dataset_id`, `teacher`, `filter`, `options`, `reject`, ceilings."""
        return self._post("/judgements", body)

    def judgement_report(self, judgement_id: str) -> dict:
        """A judgement's outcomes, cost by step, and the scores of its rows."""
        return self._get(f"{_path(judgement_id)}/report")

    def preview_run(self, **body: object) -> dict:
        """A pilot run of a few `rows`; `dry_run=True` gives a forecast, `show_prompts=True` the first requests."""
        return self._post("/runs/preview", body)

    def forecast(self, run_id: str, target: int | None = None) -> dict | None:
        """Estimated time and cost of `target` rows, from what this run used. None while the run has too few rows."""
        return self._get(f"{_path(run_id)}/forecast", **({"target": target} if target else {}))["forecast"]

    def refilter(self, run_id: str, **body: object) -> dict:
        """Decide again on a run's candidates by other thresholds or rules. `apply=True` stores the new decisions."""
        return self._post(f"{_path(run_id)}/refilter", body)

    def add_evaluation_set(self, name: str, file: Path) -> dict:
        """Upload what a tuned model will be tested on, as JSONL."""
        headers = {"Content-Type": "application/jsonl"}
        with file.open("rb") as content:
            params = {"name": name}
            return self._answer("POST", "/evaluation-sets", params=params, content=content, headers=headers).json()

    def decontaminate(self, dataset_id: str, evaluation_sets: list[str], **body: object) -> dict:
        """Look for the items of evaluation sets in the accepted rows."""
        return self._post(f"{_path(dataset_id)}/decontaminations", {"evaluation_sets": evaluation_sets, **body})

    def matches(self, review_id: str) -> Iterator[dict]:
        """What a decontamination has found."""
        return self._pages(f"{_path(review_id)}/matches", {})

    def reencode(self, dataset_id: str, encoder: str | None = None) -> dict:
        """Encode all rows of a dataset anew."""
        return self._post(f"{_path(dataset_id)}/reencode", {"encoder": encoder})

    def neighbours(self, record_id: str, limit: int = 10) -> list[dict]:
        """The rows of the pool nearest to a record, with both scores."""
        return self._get(f"{_path(record_id)}/neighbours", limit=limit)["data"]

    def encoders(self) -> list[dict]:
        return self._get("/encoders")["data"]

    def teachers(self) -> list[dict]:
        return self._get("/teachers")["data"]

    def base_models(self) -> list[dict]:
        return self._get("/base-models")["data"]

    def find(self, collection: str, **filters: object) -> Iterator[dict]:
        """`collection` is datasets, runs, accounts, judgements, reviews, snapshots, fine-tunes or scorings."""
        return self._pages(f"/{collection}", filters)

    def imports(self, dataset_id: str) -> Iterator[dict]:
        """All imports of a dataset, newest first."""
        return self._pages(f"{_path(dataset_id)}/imports", {})

    def get(self, id: str, dataset_id: str | None = None) -> dict:
        """Any resource by its id: a dataset, a record, an account, a job. An import is named with its dataset."""
        return self._get(_path(id, dataset_id))

    def act(self, id: str, verb: str, dataset_id: str | None = None) -> dict:
        """`cancel` any job, `pause` or `resume` a run. An import is named with its dataset."""
        return self._post(f"{_path(id, dataset_id)}/{verb}", None)

    def events(self, id: str, after: int = 0, dataset_id: str | None = None) -> Iterator[dict]:
        """The job's log so far, oldest first. An import is named with its dataset."""
        return self._pages(f"{_path(id, dataset_id)}/events", {"after": after} if after else {})

    def metrics(self, fine_tune_id: str) -> Iterator[dict]:
        """The training's rows, oldest first."""
        return self._pages(f"{_path(fine_tune_id)}/metrics", {})

    def newest_metrics(self, fine_tune_id: str, after: str | None = None) -> tuple[list[dict], str | None]:
        """The last page of the training's rows, and the `after` of the next request."""
        while True:
            page = self._get(f"{_path(fine_tune_id)}/metrics", limit=200, after=after or 0)
            if not page["has_more"]:
                return page["data"], after
            after = page["next"]

    def manifest(self, snapshot_id: str) -> dict:
        return self._get(f"{_path(snapshot_id)}/manifest")

    def wait(self, job: dict, on_progress: Callable[[dict], object] = lambda job: None) -> dict:
        """Poll a run, import, snapshot or fine-tune until it has ended; `on_progress` sees every state on the way."""
        path, pause = _path(job["id"], job.get("dataset_id")), 0.1
        while job["status"] not in ENDED:
            on_progress(job)
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)
            job = self._get(path)
        on_progress(job)
        return job

    def download(self, path: str, to: Path, sha256: str | None = None) -> Path:
        """Fetch a file below /v1 into `to`. A download that breaks off goes on where it stopped.

        The bytes must have the digest `sha256`, else the one in the ETag; if not, nothing is left behind.
        """
        to.parent.mkdir(parents=True, exist_ok=True)
        part = to.with_name(to.name + ".part")
        if not sha256:
            # Without a digest nothing proves that an older part belongs to this file.
            part.unlink(missing_ok=True)
        deadline = time.monotonic() + self._patience
        while True:
            headers = _continue_headers(part, sha256)
            try:
                with self._http.stream("GET", path, headers=headers) as answer:
                    sha256 = _checked(answer, sha256)
                    if answer.status_code != 416:
                        _write(answer, part)
                break
            except httpx.TransportError as error:
                if time.monotonic() > deadline:
                    raise self._unreachable(error) from error
                time.sleep(0.5)
        if sha256 and _digest(part) != sha256:
            part.unlink()
            raise SeedbedError(f"{to.name} arrived damaged: its sha256 is not {sha256}. Download it again.")
        part.replace(to)
        return to

    def download_all(self, job: dict, folder: Path) -> Iterator[tuple[dict, Path]]:
        """Every file of a snapshot, or artifact of a fine-tune, one by one as they arrive below `folder`."""
        field = "files" if "files" in job else "artifacts"
        for file in job[field] or []:
            to = folder / file["name"]
            if not to.resolve().is_relative_to(folder.resolve()):
                raise SeedbedError(f"The service names a file outside of the folder: {file['name']!r}")
            yield file, self.download(f"{_path(job['id'])}/{field}/{quote(file['name'])}", to, file["sha256"])

    def _get(self, path: str, **params: object) -> dict:
        return self._answer("GET", path, params=params).json()

    def _post(self, path: str, body: dict | None) -> dict:
        return self._answer("POST", path, json=body).json()

    def _pages(self, path: str, filters: dict) -> Iterator[dict]:
        params = {"limit": 200, **{name: value for name, value in filters.items() if value is not None}}
        while True:
            page = self._get(path, **params)
            yield from page["data"]
            if not page["has_more"]:
                return
            params["after"] = page["next"]

    def _answer(self, method: str, path: str, **request: object) -> httpx.Response:
        """One request. A GET waits for a service that was there and restarts; nothing else is ever sent twice."""
        deadline = time.monotonic() + (self._patience if method == "GET" and self._has_answered else 0)
        while True:
            try:
                answer = self._http.request(method, path, **request)
                self._has_answered = True
                if answer.status_code != 503 or time.monotonic() > deadline:
                    break
            except httpx.TransportError as error:
                if time.monotonic() > deadline:
                    raise self._unreachable(error) from error
            time.sleep(0.3)
        if answer.is_error:
            raise _refusal(answer)
        return answer

    def _unreachable(self, error: Exception) -> SeedbedError:
        why = str(error) or type(error).__name__
        return SeedbedError(f"Seedbed at {self.url} can't be reached: {why}. Does it run? (`seedbed up`)")


def _path(id: str, dataset_id: str | None = None) -> str:
    """`dataset_id` is for imports, which are addressed below their dataset."""
    if id.startswith("imp_"):
        if dataset_id is None:
            raise SeedbedError(f"{id!r} is an import: name its dataset, too (dataset_id).")
        return f"{_path(dataset_id)}/imports/{quote(id, safe='')}"
    collection = COLLECTIONS.get(id.partition("_")[0])
    if collection is None:
        kinds = ", ".join(f"{prefix}_…" for prefix in COLLECTIONS)
        raise SeedbedError(f"{id!r} is not an id of Seedbed's ({kinds}).")
    return f"/{collection}/{quote(id, safe='')}"


def _refusal(answer: httpx.Response) -> SeedbedError:
    """The error of a problem document: its detail, and a line for each field at fault."""
    try:
        problem = answer.json()
    except json.JSONDecodeError:
        problem = {}
    if not isinstance(problem, dict) or "detail" not in problem:
        return SeedbedError(f"{answer.request.url} answered {answer.status_code}", answer.status_code)
    lines = [str(problem["detail"])]
    for fault in problem.get("errors", []):
        line = f"{fault['pointer']}: {fault['detail']}"
        if line != lines[0]:
            lines.append(f"  {line}")
    return SeedbedError("\n".join(lines), answer.status_code, problem)


def _continue_headers(part: Path, sha256: str | None) -> dict[str, str]:
    # The parts are of the file's own bytes, which a compressed answer would not be.
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if sha256 and part.exists() and (size := part.stat().st_size):
        headers |= {"Range": f"bytes={size}-", "If-Range": f'"{sha256}"'}
    return headers


def _checked(answer: httpx.Response, sha256: str | None) -> str | None:
    """The digest that the file should have. A 416 means that the file is complete; other errors are raised."""
    if answer.is_error and answer.status_code != 416:
        answer.read()
        raise _refusal(answer)
    tag = answer.headers.get("etag", "").strip('"')
    return sha256 or (tag if len(tag) == 64 else None)


def _write(answer: httpx.Response, part: Path) -> None:
    with part.open("ab" if answer.status_code == 206 else "wb") as file:
        # No chunk size: with one, httpx holds the last bytes of a broken response back, and they are lost.
        for chunk in answer.iter_bytes():
            file.write(chunk)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
