"""A teacher's Files and Batches endpoints: many requests in one file, answered within a day at a lower price."""

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import openai
from openai import OpenAI

from app.providers.adapters.openai.client import CONNECT_SECONDS
from app.providers.adapters.openai.meaning import meaning_of_error, served_of
from app.providers.remote_batches import Line, Remote
from app.providers.teacher import Endpoint, Served
from app.synth.prompting.repairs import repair_reply
from app.synth.teacher_errors import TryAgain
from app.synth.thoughts import separate_thought
from app.synth.usage_check import with_believable_usage

MARK = "seedbed_batch"
LATEST = 100
Result = TypeVar("Result")
OVER = ("completed", "failed", "expired", "cancelled")


class OpenAIBatches:
    """The remote batches of one endpoint, by the client of OpenAI."""

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        self._client = OpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            max_retries=0,
            timeout=openai.Timeout(endpoint.timeout_seconds, connect=CONNECT_SECONDS),
            default_headers=endpoint.settings.extra_headers,
            default_query=endpoint.settings.query,
        )

    def __enter__(self) -> "OpenAIBatches":
        return self

    def __exit__(self, *_) -> None:
        self._client.close()

    def submit(self, mark: str, requests: Sequence[tuple[str, dict]]) -> str:
        """Send these (key, request) as one batch, and return its remote id.

        `mark` is our name for the batch. A batch that the teacher has under this name already is returned instead, so
        that a lost answer doesn't buy everything twice.
        """
        lines = [
            {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": _without_stream(request)}
            for key, request in requests
        ]
        content = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)

        def create() -> str:
            existing = self._marked(mark)
            if existing is not None:
                return existing
            file = self._client.files.create(file=(f"{mark}.jsonl", io.BytesIO(content)), purpose="batch")
            made = self._client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={MARK: mark},
            )
            return made.id

        return self._call(create)

    def find(self, mark: str) -> str | None:
        """The remote id of the batch that has this mark; None if the teacher has none."""
        return self._call(lambda: self._marked(mark))

    def _call(self, call: Callable[[], Result]) -> Result:
        """Make a call of the client.

        Raises:
            TryAgain: The call failed and may succeed later.
            TeacherRefused: No call of this kind can succeed.
        """
        try:
            return call()
        except openai.APIError as error:
            meaning = meaning_of_error(error)
            raised = TryAgain(str(error)) if isinstance(meaning, Served) else meaning
        except (ValueError, RecursionError) as error:
            raised = TryAgain(f"the answer was not JSON: {error}")
        # The exception of the client holds the request with its headers.
        raised.args = (self.endpoint.mask(str(raised)),)
        raise raised

    def _marked(self, mark: str) -> str | None:
        batches = self._client.batches.list(limit=LATEST).data
        return next((batch.id for batch in batches if (batch.metadata or {}).get(MARK) == mark), None)

    def look(self, remote_id: str) -> Remote:
        """Return the state of a batch."""
        found = self._call(lambda: self._client.batches.retrieve(remote_id))
        faults = found.errors.data if found.errors and found.errors.data else []
        return Remote(
            id=found.id,
            over=found.status in OVER,
            failed=found.status == "failed",
            words=self.endpoint.mask("; ".join(str(one.message) for one in faults[:3])),
            files=tuple(file for file in (found.output_file_id, found.error_file_id) if file),
        )

    def cancel(self, remote_id: str) -> None:
        """Ask the teacher to end a batch early; what is answered by then is paid for."""
        self._call(lambda: self._client.batches.cancel(remote_id))

    def answers(self, file: str, asked: dict[str, dict]) -> Iterator[Line]:
        """The lines of a file of answers to these requests. A line that can't be read answers nothing."""
        content = self._call(lambda: self._client.files.content(file).content)
        for line in content.split(b"\n"):
            try:
                row = json.loads(line)
                key = row["custom_id"]
                if key in asked:
                    yield _line(key, row, asked[key])
            except (ValueError, KeyError, TypeError):
                continue


def _without_stream(request: dict) -> dict:
    """Return the request without the fields of a stream, which a file of requests may not have."""
    return {name: value for name, value in request.items() if name not in ("stream", "stream_options")}


def _line(key: str, row: dict, request: dict) -> Line:
    response = row.get("response")
    if response and response["status_code"] == 200:
        served = served_of(request["messages"], response["body"])
        # What `complete` does with the reply to a call of its own.
        reply = repair_reply(separate_thought(served.reply, _schema_keys(request)), _schema_of(request))
        reply, is_replaced = with_believable_usage(reply, request["messages"])
        return Line(key, replace(served, reply=reply, usage_estimated=served.usage_estimated or is_replaced))
    body = (response or {}).get("body") or {}
    words = str((row.get("error") or body.get("error") or {}).get("message", "no answer"))
    status = (response or {}).get("status_code", 500)
    return Line(key, None, words, refused=400 <= status < 500 and status not in (408, 409, 429))


def _schema_keys(request: dict) -> list[str]:
    """Return the names of the parts that the request asks for: of its schema, or the tags that its messages show."""
    schema = _schema_of(request)
    if schema:
        return list(schema.get("properties", ()))
    return re.findall(r"<(\w+)>", request["messages"][0]["content"])


def _schema_of(request: dict) -> dict | None:
    """Return the JSON schema that the request carries; None where the teacher is asked by words alone."""
    return request.get("response_format", {}).get("json_schema", {}).get("schema")
