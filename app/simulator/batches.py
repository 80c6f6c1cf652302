"""The Files and Batches endpoints: a file of requests in, after a while a file of answers out.

What each request is answered is decided as for a single call; it is billed when the batch comes to it.
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

Answer = Callable[[dict], Awaitable[tuple[int, dict]]]
"""The body of a request in, status and body of the answer out."""


class BatchDesk:
    """`seconds`: how long a batch takes. `expire`: the share of requests that are left when its time is over."""

    def __init__(self, answer: Answer, check_key: Callable[[Request], None], seconds: float, expire: float):
        self._answer, self._check_key, self._seconds, self._expire = answer, check_key, seconds, expire
        self._numbers = itertools.count(1)
        self._files: dict[str, bytes] = {}
        self._batches: dict[str, dict] = {}
        self._working: dict[str, asyncio.Task] = {}

    async def upload(self, request: Request) -> Response:
        self._check_key(request)
        content = _file_of(request.headers["content-type"], await request.body())
        return json_response(self._keep(content))

    async def content(self, request: Request) -> Response:
        self._check_key(request)
        return Response(self._file(request.path_params["id"]), media_type="application/octet-stream")

    async def create(self, request: Request) -> Response:
        self._check_key(request)
        asked = await request.json()
        lines = self._file(asked["input_file_id"]).splitlines()
        id = f"batch_{next(self._numbers)}"
        self._batches[id] = {
            "id": id,
            "object": "batch",
            "endpoint": asked["endpoint"],
            "completion_window": asked["completion_window"],
            "input_file_id": asked["input_file_id"],
            "status": "validating",
            "created_at": int(time.time()),
            "metadata": asked.get("metadata"),
            "output_file_id": None,
            "error_file_id": None,
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        }
        self._working[id] = asyncio.create_task(self._work(self._batches[id], lines))
        return json_response(self._batches[id])

    async def list_all(self, request: Request) -> Response:
        self._check_key(request)
        newest = list(self._batches.values())[::-1][: int(request.query_params.get("limit", 20))]
        return json_response({"object": "list", "data": newest, "has_more": len(newest) < len(self._batches)})

    async def show(self, request: Request) -> Response:
        self._check_key(request)
        return json_response(self._batch(request))

    async def cancel(self, request: Request) -> Response:
        self._check_key(request)
        batch = self._batch(request)
        if batch["status"] in ("validating", "in_progress"):
            batch["status"] = "cancelling"
        return json_response(batch)

    async def _work(self, batch: dict, lines: list[bytes]) -> None:
        batch["status"] = "in_progress"
        done, failed, counts = [], [], batch["request_counts"]
        # The last of them are not reached before its time is over.
        reached = len(lines) - round(self._expire * len(lines))
        for number, line in enumerate(lines):
            await asyncio.sleep(self._seconds / max(1, len(lines)))
            if batch["status"] == "cancelling" or number >= reached:
                break
            asked = json.loads(line)
            status, body = await self._answer(asked["body"])
            response = {"status_code": status, "request_id": f"req_{number}", "body": body}
            row = {"id": f"batch_req_{number}", "custom_id": asked["custom_id"], "response": response, "error": None}
            (done if status == 200 else failed).append(row)
            counts["completed" if status == 200 else "failed"] += 1
        left = lines[len(done) + len(failed) :]
        failed += [_not_reached(json.loads(line)["custom_id"]) for line in left]
        batch["output_file_id"] = self._keep(_lines(done))["id"] if done else None
        batch["error_file_id"] = self._keep(_lines(failed))["id"] if failed else None
        over = "expired" if left else "completed"
        batch["status"] = "cancelled" if batch["status"] == "cancelling" else over

    def _keep(self, content: bytes) -> dict:
        id = f"file-{next(self._numbers)}"
        self._files[id] = content
        return {"id": id, "object": "file", "bytes": len(content), "purpose": "batch", "filename": "batch.jsonl"} | {
            "created_at": int(time.time()),
            "status": "processed",
        }

    def _file(self, id: str) -> bytes:
        if id not in self._files:
            raise ApiError(404, f"No such File object: {id}")
        return self._files[id]

    def _batch(self, request: Request) -> dict:
        id = request.path_params["id"]
        if id not in self._batches:
            raise ApiError(404, f"No batch found with id '{id}'.")
        return self._batches[id]


def _not_reached(custom_id: str) -> dict:
    words = "This request could not be executed before the completion window expired."
    error = {"code": "batch_expired", "message": words}
    return {"id": "batch_req", "custom_id": custom_id, "response": None, "error": error}


def _lines(rows: list[dict]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _file_of(content_type: str, body: bytes) -> bytes:
    """The part named `file` of a multipart body."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    for part in message.iter_parts():
        if part.get_param("name", header="content-disposition") == "file":
            return part.get_payload(decode=True)
    raise ApiError(400, "No file in the upload.", param="file")
