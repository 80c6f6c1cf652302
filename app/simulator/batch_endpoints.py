"""The Files and Batches endpoints: a client uploads a file of requests and later downloads a file of answers.

Each request gets the reply that it would get as a single call, and is billed when the batch reaches it.
"""

import asyncio
import email.parser
import email.policy
import itertools
import json
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from app.simulator.protocol import ApiError, json_response

AnswerRequest = Callable[[dict], Awaitable[tuple[int, dict]]]
"""A function from the body of a request to the status and the body of its response."""


class BatchEndpoints:
    """The state of all files and batches, kept in memory.

    Args:
        answer: Answers one request of a batch.
        check_key: Raises ApiError for a wrong API key.
        seconds: How long a batch takes.
        expired_share: The share of a batch's requests that are not processed in time, from 0 to 1.
    """

    def __init__(
        self, answer: AnswerRequest, check_key: Callable[[Request], None], seconds: float, expired_share: float
    ):
        self._answer_request, self._check_key, self._seconds, self._expired_share = (
            answer,
            check_key,
            seconds,
            expired_share,
        )
        self._ids = itertools.count(1)
        self._files: dict[str, bytes] = {}
        self._batches: dict[str, dict] = {}
        self._tasks: dict[str, asyncio.Task] = {}

    async def upload(self, request: Request) -> Response:
        """Answer POST /v1/files."""
        self._check_key(request)
        content = _extract_upload(request.headers["content-type"], await request.body())
        return json_response(self._store_file(content))

    async def content(self, request: Request) -> Response:
        """Answer GET /v1/files/{id}/content."""
        self._check_key(request)
        return Response(self._get_file(request.path_params["id"]), media_type="application/octet-stream")

    async def create(self, request: Request) -> Response:
        """Answer POST /v1/batches and start to process the batch."""
        self._check_key(request)
        settings = await request.json()
        lines = self._get_file(settings["input_file_id"]).splitlines()
        id = f"batch_{next(self._ids)}"
        self._batches[id] = {
            "id": id,
            "object": "batch",
            "endpoint": settings["endpoint"],
            "completion_window": settings["completion_window"],
            "input_file_id": settings["input_file_id"],
            "status": "validating",
            "created_at": int(time.time()),
            "metadata": settings.get("metadata"),
            "output_file_id": None,
            "error_file_id": None,
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        }
        self._tasks[id] = asyncio.create_task(self._process(self._batches[id], lines))
        return json_response(self._batches[id])

    async def list_all(self, request: Request) -> Response:
        """Answer GET /v1/batches."""
        self._check_key(request)
        # Newest first, as the real endpoint lists them: a client looks for its batch on the first page.
        newest = list(self._batches.values())[::-1][: int(request.query_params.get("limit", 20))]
        return json_response({"object": "list", "data": newest, "has_more": len(newest) < len(self._batches)})

    async def show(self, request: Request) -> Response:
        """Answer GET /v1/batches/{id}."""
        self._check_key(request)
        return json_response(self._get_batch(request))

    async def cancel(self, request: Request) -> Response:
        """Answer POST /v1/batches/{id}/cancel."""
        self._check_key(request)
        batch = self._get_batch(request)
        # A batch that has ended stays as it is: cancelling it is no error.
        if batch["status"] in ("validating", "in_progress"):
            batch["status"] = "cancelling"
        return json_response(batch)

    async def _process(self, batch: dict, lines: list[bytes]) -> None:
        batch["status"] = "in_progress"
        completed, failed, counts = [], [], batch["request_counts"]
        # The last requests expire, as they would if the completion window ended before them.
        processed_count = len(lines) - round(self._expired_share * len(lines))
        for number, line in enumerate(lines):
            # The time is spread over the requests, so that a client can see partial counts and cancel in between.
            await asyncio.sleep(self._seconds / max(1, len(lines)))
            if batch["status"] == "cancelling" or number >= processed_count:
                break
            request = json.loads(line)
            status, body = await self._answer_request(request["body"])
            response = {"status_code": status, "request_id": f"req_{number}", "body": body}
            row = {"id": f"batch_req_{number}", "custom_id": request["custom_id"], "response": response, "error": None}
            (completed if status == 200 else failed).append(row)
            counts["completed" if status == 200 else "failed"] += 1
        unprocessed = lines[len(completed) + len(failed) :]
        failed += [_expired_row(json.loads(line)["custom_id"]) for line in unprocessed]
        batch["output_file_id"] = self._store_file(_to_json_lines(completed))["id"] if completed else None
        batch["error_file_id"] = self._store_file(_to_json_lines(failed))["id"] if failed else None
        final_status = "expired" if unprocessed else "completed"
        batch["status"] = "cancelled" if batch["status"] == "cancelling" else final_status

    def _store_file(self, content: bytes) -> dict:
        id = f"file-{next(self._ids)}"
        self._files[id] = content
        return {"id": id, "object": "file", "bytes": len(content), "purpose": "batch", "filename": "batch.jsonl"} | {
            "created_at": int(time.time()),
            "status": "processed",
        }

    def _get_file(self, id: str) -> bytes:
        if id not in self._files:
            raise ApiError(404, f"No such File object: {id}")
        return self._files[id]

    def _get_batch(self, request: Request) -> dict:
        id = request.path_params["id"]
        if id not in self._batches:
            raise ApiError(404, f"No batch found with id '{id}'.")
        return self._batches[id]


def _expired_row(custom_id: str) -> dict:
    message = "This request could not be executed before the completion window expired."
    error = {"code": "batch_expired", "message": message}
    return {"id": "batch_req", "custom_id": custom_id, "response": None, "error": error}


def _to_json_lines(rows: list[dict]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _extract_upload(content_type: str, body: bytes) -> bytes:
    """Return the part named `file` of a multipart body.

    The email parser reads it, so that the simulator needs no library for uploads.

    Raises:
        ApiError: The body has no such part.
    """
    header = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(header + body)
    for part in message.iter_parts():
        if part.get_param("name", header="content-disposition") == "file":
            return part.get_payload(decode=True)
    raise ApiError(400, "No file in the upload.", param="file")
