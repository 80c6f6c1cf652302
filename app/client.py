"""The Python client of the REST API: a method for each request, and downloads whose digests are checked.

Every method raises SeedbedError if the service refuses the request or can't be reached. Resources are dictionaries, as
the API returns them.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx

from app.deprecation import message
from app.errors import UserFacingError

ENDED = frozenset({"succeeded", "failed", "cancelled"})
# The prefix of an id names its type, so `get` and `act` need no further argument.
COLLECTIONS = {
    "ds": "datasets",
    "rec": "records",
    "run": "runs",
    "acc": "accounts",
    "jdg": "judgements",
    "snap": "snapshots",
    "ft": "fine-tunes",
    "sco": "likelihood-scores",
    "rev": "maintenance-jobs",
    "evs": "evaluation-sets",
    "chk": "teacher-checks",
}
# The ids keep their form, since lists are in the order of the ids.
OLD_COLLECTIONS = {"reviews": "maintenance-jobs", "scorings": "likelihood-scores"}
# A service restarts within this time. Waiting longer would hide that it has stopped.
PATIENCE_SECONDS = 20.0


class SeedbedError(UserFacingError):
    """The service refused a request or can't be reached.

    Attributes:
        status: The HTTP status, or None if there was no response.
        problem: The problem document of the response (RFC 9457), or an empty dictionary.
    """

    def __init__(self, message: str, status: int | None = None, problem: dict | None = None) -> None:
        super().__init__(message)
        self.status, self.problem = status, problem or {}


class Seedbed:
    """A client of one service: `with Seedbed(url, api_key) as seedbed: seedbed.start_run(dataset_id=…, target=200)`.

    Args:
        url: The address of the service, without /v1.
        api_key: The API key of a project.
        timeout: The most seconds of one request.
        patience: The most seconds that a GET waits for a service that restarts.
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
        """Create a dataset.

        Args:
            name: The name, which must be new in the project.
            language: The language of the rows, such as en or ko.
            seeds: {"bundled": "english"}, {"tasks": […]} or None.
            **rules: Further fields of the request: `scope`, thresholds, `encoder`.
        """
        return self._post("/datasets", {"name": name, "language": language, "seeds": seeds, **rules})

    def import_file(self, dataset_id: str, file: Path, kind: str = "records", task: str | None = None) -> dict:
        """Upload a file and return the import, which the caller has to wait for. The file is streamed.

        Args:
            dataset_id: The dataset.
            file: A JSONL file; a document may also be a .txt or .md file.
            kind: seeds, records, instructions, labelled or documents.
            task: The task of labelled rows.
        """
        plain = kind == "documents" and file.suffix in (".txt", ".md")
        params = {"kind": kind} | ({"task": task} if task else {}) | ({"title": file.stem} if plain else {})
        with file.open("rb") as content:
            headers = {"Content-Type": "text/plain" if plain else "application/jsonl"}
            path = f"/datasets/{quote(dataset_id, safe='')}/imports"
            return self._answer("POST", path, params=params, content=content, headers=headers).json()

    def sources(self, dataset_id: str, kind: str = "document", task: str | None = None) -> Iterator[dict]:
        """Yield the uploaded material of a dataset: documents, passages of documents, or labelled rows."""
        return self._pages(f"/datasets/{quote(dataset_id, safe='')}/sources", {"kind": kind, "task": task})

    def tasks(self) -> list[dict]:
        """Return the tasks for labelled rows, with their fields."""
        return self._get("/tasks")["data"]

    def methods(self) -> list[dict]:
        """Return the methods of a run, with the schema of their options."""
        return self._get("/methods")["data"]

    def report(self, run_id: str) -> dict:
        """Return the report of a run: cost of each step, survival of each operation, quality of the rows."""
        return self._get(f"{_path(run_id)}/report")

    def account_report(self, account_id: str) -> dict:
        """Return the calls, tokens and dollars of an account by step, teacher and operation, and its lost calls."""
        return self._get(f"{_path(account_id)}/report")

    def release(self, account_id: str) -> dict:
        """Reduce the amount that lost calls reserve under the ceilings of an account to their estimated cost."""
        return self.act(account_id, "release")

    def stats(self, dataset_id: str) -> dict:
        """Return the counts of a dataset's records by status and reason."""
        return self._get(f"/datasets/{quote(dataset_id, safe='')}/stats")

    def records(self, dataset_id: str, **filters: object) -> Iterator[dict]:
        """Yield all records that match the filters: `status`, `reason`, `run_id`, `origin` and others of the API."""
        return self._pages(f"/datasets/{quote(dataset_id, safe='')}/records", filters)

    def start_run(self, **body: object) -> dict:
        """Start a run: `dataset_id`, `method`, `teacher`, `target`, `options`, ceilings."""
        return self._post("/runs", body)

    def start_snapshot(self, **body: object) -> dict:
        """Start the export of a snapshot: `dataset_id`, `forms`, `splits`, `selection` and others."""
        return self._post("/snapshots", body)

    def start_fine_tune(self, **body: object) -> dict:
        """Start a fine-tune: `snapshot_id`, `base_model`, `hyperparameters`, `seed`."""
        return self._post("/fine-tunes", body)

    def start_likelihood_scores(self, **body: object) -> dict:
        """Start a job that scores rows: `dataset_id`, `base_model`, `run_id`, `max_length`."""
        return self._post("/likelihood-scores", body)

    def start_scoring(self, **body: object) -> dict:
        """Start likelihood scores by the old name of the method."""
        _warn("start_scoring()", "start_likelihood_scores()")
        return self.start_likelihood_scores(**body)

    def start_judgement(self, **body: object) -> dict:
        """Start a judgement of existing records: `dataset_id`, `teacher`, `filter`, `options`, `reject`, ceilings."""
        return self._post("/judgements", body)

    def judgement_report(self, judgement_id: str) -> dict:
        """Return the outcomes, the cost of each step, and the scores of a judgement."""
        return self._get(f"{_path(judgement_id)}/report")

    def preview_run(self, **body: object) -> dict:
        """Start a preview run of a few `rows`. `dry_run=True` returns a forecast, `show_prompts=True` the requests."""
        return self._post("/runs/preview", body)

    def forecast(self, run_id: str, target: int | None = None) -> dict | None:
        """Return the estimated time and cost of `target` rows from a run's usage, or None if it has too few rows."""
        return self._get(f"{_path(run_id)}/forecast", **({"target": target} if target else {}))["forecast"]

    def refilter(self, run_id: str, **body: object) -> dict:
        """Start new decisions on a run's candidates by other thresholds or rules; `apply=True` stores the decisions."""
        return self._post(f"{_path(run_id)}/refilter", body)

    def add_evaluation_set(self, name: str, file: Path) -> dict:
        """Upload a JSONL file of test questions. `decontaminate` searches datasets for them."""
        headers = {"Content-Type": "application/jsonl"}
        with file.open("rb") as content:
            params = {"name": name}
            return self._answer("POST", "/evaluation-sets", params=params, content=content, headers=headers).json()

    def decontaminate(self, dataset_id: str, evaluation_sets: list[str], **body: object) -> dict:
        """Start a search for the items of evaluation sets (by id) in the accepted rows of a dataset."""
        return self._post(f"{_path(dataset_id)}/decontaminations", {"evaluation_sets": evaluation_sets, **body})

    def matches(self, maintenance_job_id: str = "", *, review_id: str = "") -> Iterator[dict]:
        """Yield the matches of a decontamination."""
        if review_id:
            _warn("matches(review_id=...)", "matches(maintenance_job_id=...)")
        return self._pages(f"{_path(maintenance_job_id or review_id)}/matches", {})

    def reencode(self, dataset_id: str, encoder: str | None = None) -> dict:
        """Start the computation of new vectors for all rows of a dataset; `encoder` replaces its encoder."""
        return self._post(f"{_path(dataset_id)}/reencode", {"encoder": encoder})

    def neighbours(self, record_id: str, limit: int = 10) -> list[dict]:
        """Return the accepted rows that are most similar to a record, with the lexical and the semantic score."""
        return self._get(f"{_path(record_id)}/neighbours", limit=limit)["data"]

    def replies(self, record_id: str) -> list[dict]:
        """Return the teacher's replies behind a record: request, text, thought, and the raw text as it came."""
        return self._get(f"{_path(record_id)}/replies")["data"]

    def encoders(self) -> list[dict]:
        """Return the configured encoders."""
        return self._get("/encoders")["data"]

    def teachers(self) -> list[dict]:
        """Return the configured teachers, with their prices and limits."""
        return self._get("/teachers")["data"]

    def base_models(self) -> list[dict]:
        """Return the configured base models."""
        return self._get("/base-models")["data"]

    def find(self, collection: str, **filters: object) -> Iterator[dict]:
        """Yield the matching resources, newest first.

        `collection` is datasets, runs, accounts, judgements, maintenance-jobs, snapshots, fine-tunes or
        likelihood-scores.
        """
        if collection in OLD_COLLECTIONS:
            _warn(f'find("{collection}")', f'find("{OLD_COLLECTIONS[collection]}")')
        return self._pages(f"/{OLD_COLLECTIONS.get(collection, collection)}", filters)

    def imports(self, dataset_id: str) -> Iterator[dict]:
        """Yield all imports of a dataset, newest first."""
        return self._pages(f"{_path(dataset_id)}/imports", {})

    def get(self, id: str, dataset_id: str | None = None) -> dict:
        """Return the dataset, record, account or job with this id. An import needs its dataset's id, too."""
        return self._get(_path(id, dataset_id))

    def act(self, id: str, verb: str, dataset_id: str | None = None) -> dict:
        """Change a job and return it: `verb` is cancel, or for runs and judgements pause or resume.

        An import needs its dataset's id, too.
        """
        return self._post(f"{_path(id, dataset_id)}/{verb}", None)

    def events(self, id: str, after: int = 0, dataset_id: str | None = None) -> Iterator[dict]:
        """Yield the events of a job so far, oldest first. An import needs its dataset's id, too."""
        return self._pages(f"{_path(id, dataset_id)}/events", {"after": after} if after else {})

    def metrics(self, fine_tune_id: str) -> Iterator[dict]:
        """Yield the metrics of a training, oldest first."""
        return self._pages(f"{_path(fine_tune_id)}/metrics", {})

    def newest_metrics(self, fine_tune_id: str, after: str | None = None) -> tuple[list[dict], str | None]:
        """Return the newest page of a training's metrics, and the `after` of the next call."""
        while True:
            page = self._get(f"{_path(fine_tune_id)}/metrics", limit=200, after=after or 0)
            if not page["has_more"]:
                return page["data"], after
            after = page["next"]

    def manifest(self, snapshot_id: str) -> dict:
        """Return the manifest of a snapshot: its files, digests and settings."""
        return self._get(f"{_path(snapshot_id)}/manifest")

    def wait(self, job: dict, on_progress: Callable[[dict], object] = lambda job: None) -> dict:
        """Poll a job until it has ended, and return its last state. `on_progress` is called with every state.

        A run that paused because its teacher gives nothing usable is returned, too: it goes on when it is resumed.
        """
        # Short jobs are noticed soon, and long jobs cost few requests.
        path, pause = _path(job["id"], job.get("dataset_id")), 0.1
        while job["status"] not in ENDED and not _needs_a_person(job):
            on_progress(job)
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)
            job = self._get(path)
        on_progress(job)
        return job

    def download(self, path: str, to: Path, sha256: str | None = None) -> Path:
        """Download a file and return its path. A download that breaks off is resumed.

        Args:
            path: The path of the file below /v1.
            to: The local file to write.
            sha256: The expected digest in hexadecimal; by default the digest in the ETag.

        Raises:
            SeedbedError: The service refuses the download or can't be reached, or the digest differs. No file is left.
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
                    sha256 = _expected_digest(answer, sha256)
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
        # The file gets its name only when it is complete and checked.
        part.replace(to)
        return to

    def download_all(self, job: dict, folder: Path) -> Iterator[tuple[dict, Path]]:
        """Download all files of a snapshot, or all artifacts of a fine-tune, and yield (entry, path) of each.

        Args:
            job: The snapshot or the fine-tune.
            folder: The files are written below this folder.

        Raises:
            SeedbedError: As in `download`, or a file's name leads out of the folder.
        """
        field = "files" if "files" in job else "artifacts"
        for file in job[field] or []:
            to = folder / file["name"]
            # A name such as ../x from a wrong service must not overwrite other files.
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
            # The service pages by a cursor, so rows that are added meanwhile do not shift the pages.
            params["after"] = page["next"]

    def _answer(self, method: str, path: str, **request: object) -> httpx.Response:
        """Make one request. A GET is repeated while the service restarts, if the service has answered before."""
        # A POST is never repeated: the service may have executed it before the connection broke.
        # A service that never answered is probably not running, and the user should learn that at once.
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
            raise _error_of_response(answer)
        return answer

    def _unreachable(self, error: Exception) -> SeedbedError:
        why = str(error) or type(error).__name__
        return SeedbedError(f"Seedbed at {self.url} can't be reached: {why}. Does it run? (`seedbed up`)")


def _warn(old: str, new: str) -> None:
    """Warn the caller of the method that has the old name."""
    warnings.warn(message(old, new), DeprecationWarning, stacklevel=3)


def _needs_a_person(job: dict) -> bool:
    return job["status"] == "paused" and job.get("paused_for") == "teacher_unusable"


def _path(id: str, dataset_id: str | None = None) -> str:
    """Return the path of a resource below /v1. Only an import needs `dataset_id`: its path begins with the dataset."""
    if id.startswith("imp_"):
        if dataset_id is None:
            raise SeedbedError(f"{id!r} is an import. Its dataset_id is needed, too.")
        return f"{_path(dataset_id)}/imports/{quote(id, safe='')}"
    collection = COLLECTIONS.get(id.partition("_")[0])
    if collection is None:
        kinds = ", ".join(f"{prefix}_…" for prefix in COLLECTIONS)
        raise SeedbedError(f"{id!r} is not an id of Seedbed. Ids begin with: {kinds}.")
    return f"/{collection}/{quote(id, safe='')}"


def _error_of_response(answer: httpx.Response) -> SeedbedError:
    """Return the error for a response: the detail of its problem document, and a line for each faulty field."""
    try:
        problem = answer.json()
    except json.JSONDecodeError:
        problem = {}
    if not isinstance(problem, dict) or "detail" not in problem:
        return SeedbedError(f"{answer.request.url} answered {answer.status_code}", answer.status_code)
    # A problem with one faulty field repeats it in `errors`, which would print the same line twice.
    lines = [str(problem["detail"])]
    for fault in problem.get("errors", []):
        line = f"{fault['pointer']}: {fault['detail']}"
        if line != lines[0]:
            lines.append(f"  {line}")
    return SeedbedError("\n".join(lines), answer.status_code, problem)


def _continue_headers(part: Path, sha256: str | None) -> dict[str, str]:
    # A range counts the bytes of the file, so the response must not be compressed.
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if sha256 and part.exists() and (size := part.stat().st_size):
        headers |= {"Range": f"bytes={size}-", "If-Range": f'"{sha256}"'}
    return headers


def _expected_digest(answer: httpx.Response, sha256: str | None) -> str | None:
    """Return the digest that the file should have, or None. Status 416 means that the part is already complete."""
    if answer.is_error and answer.status_code != 416:
        answer.read()
        raise _error_of_response(answer)
    tag = answer.headers.get("etag", "").strip('"')
    return sha256 or (tag if len(tag) == 64 else None)


def _write(answer: httpx.Response, part: Path) -> None:
    # 206 answers the requested range. With 200 the service sends the whole file again.
    with part.open("ab" if answer.status_code == 206 else "wb") as file:
        # No chunk size: with one, httpx holds the last bytes of a broken response back, and they are lost.
        for chunk in answer.iter_bytes():
            file.write(chunk)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
