"""The bodies of the OpenAI protocol: the request we read, the completion and the errors we write."""

import hashlib
import json
import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

MODEL = "seedbed-simulated"
_STARTED = int(time.time())


class Content(BaseModel):
    type: str
    text: str = ""


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Content] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class NamedSchema(BaseModel):
    name: str
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")


class ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


class ChatRequest(BaseModel):
    """The fields that shape a reply; others are taken and change the reply only through the request's hash."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[Message] = Field(min_length=1)
    response_format: ResponseFormat | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    n: int | None = Field(default=None, ge=1, le=16)
    seed: int | None = None
    stream: bool | None = None

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def prompt(self) -> str:
        return "\n".join(f"{message.role}\n{message.text}" for message in self.messages)


class ApiError(Exception):
    """An answer other than a completion. `kind` is its `type`, `outcome` the name under which it is counted."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        outcome: str = "invalid_request",
    ):
        super().__init__(message)
        self.status, self.headers, self.outcome = status, headers or {}, outcome
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def read_request(raw: bytes) -> tuple[ChatRequest, str]:
    """The request and the hash of its canonical body. Raises ApiError for what is not one."""
    try:
        body = json.loads(raw)
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not JSON: {error}") from error
    try:
        request = ChatRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        raise ApiError(400, f"{param or 'body'}: {first['msg']}", param=param) from error
    if request.stream:
        message = "This server does not stream; send the request without `stream`."
        raise ApiError(400, message, code="unsupported_value", param="stream")
    form = request.response_format
    if form and form.type == "json_schema" and form.json_schema is None:
        message = "response_format.json_schema: is missing."
        raise ApiError(400, message, code="missing_required_parameter", param="response_format")
    check_model(request.model)
    return request, hashlib.sha256(canonical.encode()).hexdigest()


def check_form(request: ChatRequest, most: str) -> None:
    """Refuse a form of reply beyond what this server was told to understand."""
    known = {"json_schema": ("text", "json_object", "json_schema"), "json_object": ("text", "json_object")}
    asked = request.response_format.type if request.response_format else "text"
    if asked not in known.get(most, ("text",)):
        message = f"response_format: this server does not support `{asked}`."
        raise ApiError(400, message, code="unsupported_value", param="response_format")


def check_model(name: str) -> None:
    if name != MODEL:
        message = f"The model `{name}` does not exist; this server has `{MODEL}`."
        raise ApiError(404, message, code="model_not_found", param="model")


def model_card() -> dict:
    return {"id": MODEL, "object": "model", "created": _STARTED, "owned_by": "seedbed"}


def completion_body(id: str, choices: list[dict], prompt: int, completion: int, cached: int) -> dict:
    return {
        "id": id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "system_fingerprint": "simulated",
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }


def choice(index: int, content: str | None, finish_reason: str, refusal: str | None) -> dict:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {"index": index, "message": message, "finish_reason": finish_reason, "logprobs": None}


def json_response(body: dict, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    return Response(content, status, headers=headers, media_type="application/json")
