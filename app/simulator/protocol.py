"""The bodies of the OpenAI protocol: requests that the server reads, completions and errors that it writes."""

import hashlib
import json
import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

MODEL = "seedbed-simulated"
_STARTED = int(time.time())


class ContentPart(BaseModel):
    """A part of a message's content. Parts other than text count as empty."""

    type: str
    text: str = ""


class Message(BaseModel):
    """One message of a chat. Its content is a text or a list of parts."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None

    @property
    def text(self) -> str:
        """Return the content as plain text, whichever of the two forms of the protocol it has."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class NamedSchema(BaseModel):
    """A JSON schema with the name that the client gave it."""

    name: str
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")


class ResponseFormat(BaseModel):
    """The form in which a client requests the reply."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


class ChatRequest(BaseModel):
    """The fields that shape a reply. The server accepts all others; they change the reply through the hash alone."""

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
        """Return the most tokens that a reply may have. The older field applies where the newer one is missing."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def prompt(self) -> str:
        """Return all messages as one text, with their roles, for token counts and the prompt cache."""
        return "\n".join(f"{message.role}\n{message.text}" for message in self.messages)


class ApiError(Exception):
    """An error response. `error_type` is its `type` field; `outcome` is the name under which GET /stats counts it.

    `html`: the page that a gateway sends instead of the body; "" for the body of the protocol.
    """

    def __init__(
        self,
        status: int,
        message: str,
        error_type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        outcome: str = "invalid_request",
    ):
        super().__init__(message)
        self.status, self.headers, self.outcome, self.html = status, headers or {}, outcome, ""
        self.body = {"error": {"message": message, "type": error_type, "param": param, "code": code}}


def parse_chat_request(body_bytes: bytes) -> tuple[ChatRequest, str]:
    """Return the chat request and the SHA-256 of its canonical body.

    Raises:
        ApiError: The body is not JSON, has a bad field, asks for a stream of several choices or names another model.
    """
    try:
        body = json.loads(body_bytes)
        # Canonical: the same request has the same hash whatever the order of its keys and its white space.
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not JSON: {error}") from error
    try:
        request = ChatRequest.model_validate(body)
    except ValidationError as error:
        # The OpenAI API reports one error at a time, with the path of its field.
        first_error = error.errors()[0]
        param = ".".join(str(part) for part in first_error["loc"]) or None
        raise ApiError(400, f"{param or 'body'}: {first_error['msg']}", param=param) from error
    if request.stream and (request.n or 1) > 1:
        raise ApiError(400, "This server streams one choice.", code="unsupported_value", param="n")
    response_format = request.response_format
    if response_format and response_format.type == "json_schema" and response_format.json_schema is None:
        message = "response_format.json_schema: is missing."
        raise ApiError(400, message, code="missing_required_parameter", param="response_format")
    validate_model(request.model)
    return request, hashlib.sha256(canonical.encode()).hexdigest()


def check_response_format(request: ChatRequest, highest_format: str) -> None:
    """Raise ApiError if the request asks for a response format beyond the one that the server is set to support."""
    supported = {"json_schema": ("text", "json_object", "json_schema"), "json_object": ("text", "json_object")}
    requested = request.response_format.type if request.response_format else "text"
    if requested not in supported.get(highest_format, ("text",)):
        message = f"response_format: this server does not support `{requested}`."
        raise ApiError(400, message, code="unsupported_value", param="response_format")


def validate_model(name: str) -> None:
    """Raise ApiError (404) for any model but the simulated one, whose name may go on with `+` and personalities."""
    if name.partition("+")[0] != MODEL:
        message = f"The model `{name}` does not exist; this server has `{MODEL}`."
        raise ApiError(404, message, code="model_not_found", param="model")


def model_card() -> dict:
    """Return the entry of the simulated model in GET /v1/models."""
    return {"id": MODEL, "object": "model", "created": _STARTED, "owned_by": "seedbed"}


def completion_body(id: str, model: str, choices: list[dict], prompt: int, completion: int, cached: int) -> dict:
    """Return the body of a completion. `prompt`, `completion` and `cached` are numbers of tokens."""
    return {
        "id": id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        # Seedbed marks every row as simulated by this field, so that nobody trains on such rows unawares.
        "system_fingerprint": "simulated",
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }


def choice_body(index: int, content: str | None, finish_reason: str, refusal: str | None) -> dict:
    """Return one entry of a completion's `choices`."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {"index": index, "message": message, "finish_reason": finish_reason, "logprobs": None}


def json_response(body: dict, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with a JSON body; Korean text stays readable in it."""
    return Response(json_bytes(body), status, headers=headers, media_type="application/json")


def json_bytes(body: dict) -> bytes:
    """Return the JSON of a body. A lone surrogate in a prompt comes back as "?" and not as a server error."""
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
