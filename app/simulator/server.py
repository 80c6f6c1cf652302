"""The endpoints of the simulated teacher. `replies` composes what they answer, and `faults` decides how they fail."""

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.simulator import faults, protocol, rate_limits, tokens
from app.simulator.batch_endpoints import BatchEndpoints
from app.simulator.faults import FaultPlan
from app.simulator.protocol import ApiError, ChatRequest, json_response
from app.simulator.replies import Composer
from app.simulator.usage_counter import UsageCounter

MAX_HANG_SECONDS = 600
Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True)
class Settings:
    """The settings of one simulated teacher.

    `latency` is a median in seconds and `latency_tail` the sigma of a log-normal distribution around it (0: none).
    Rates of 0 mean no limit; `near_duplicates` and `batch_expire` are shares from 0 to 1.
    """

    seed: int = 0
    latency: float = 0.0
    latency_tail: float = 0.0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    api_key: str | None = None
    near_duplicates: float = 0.0
    replies: str = "json_schema"
    batch_seconds: float = 1.0
    batch_expire: float = 0.0
    faults: FaultPlan = field(default_factory=FaultPlan)


def build_server(
    settings: Settings, clock: Callable[[], float] = time.monotonic, sleep: Sleep = asyncio.sleep
) -> Starlette:
    """Return the ASGI application of one simulated teacher.

    Args:
        settings: The options of the command line.
        clock: Returns the time of the rate limits in seconds.
        sleep: Waits for the latency of a response, given in seconds.
    """
    teacher_server = TeacherServer(settings, clock, sleep)
    batches = BatchEndpoints(
        teacher_server.complete_in_batch, teacher_server._check_key, settings.batch_seconds, settings.batch_expire
    )
    return Starlette(
        routes=[
            Route("/v1/chat/completions", teacher_server.complete, methods=["POST"]),
            Route("/v1/files", batches.upload, methods=["POST"]),
            Route("/v1/files/{id}/content", batches.content),
            Route("/v1/batches", batches.create, methods=["POST"]),
            Route("/v1/batches", batches.list_all),
            Route("/v1/batches/{id}", batches.show),
            Route("/v1/batches/{id}/cancel", batches.cancel, methods=["POST"]),
            Route("/v1/models", teacher_server.list_models),
            Route("/v1/models/{model:path}", teacher_server.show_model),
            Route("/healthz", teacher_server.health),
            Route("/stats", teacher_server.stats),
        ],
        exception_handlers={ApiError: teacher_server.error_response, HTTPException: teacher_server.http_error_response},
    )


class RateLimitError(ApiError):
    """A response with status 429 that asks the client to wait for some seconds."""

    def __init__(self, message: str, wait_seconds: float, error_type: str, outcome: str):
        headers = rate_limits.retry_headers(wait_seconds)
        super().__init__(429, message, error_type, "rate_limit_exceeded", headers=headers, outcome=outcome)


class TeacherServer:
    """The state of one simulated teacher: its rate limits, its prompt cache and its usage counter."""

    def __init__(self, settings: Settings, clock: Callable[[], float], sleep: Sleep):
        self.settings, self._sleep = settings, sleep
        self.composer = Composer(settings.seed, settings.near_duplicates)
        self.usage_counter = UsageCounter()
        self.prompt_cache = tokens.PromptCache()
        self.requests = rate_limits.TokenBucket(settings.requests_per_minute, clock)
        self.tokens = rate_limits.TokenBucket(settings.tokens_per_minute, clock)

    async def complete(self, request: Request) -> Response:
        """Answer POST /v1/chat/completions.

        Raises:
            ApiError: The request is refused, or its planned fault is an error response.
            RateLimitError: The request exceeds a rate limit, or this is its planned fault.
        """
        self._check_key(request)
        chat_request, request_hash = protocol.parse_chat_request(await request.body())
        protocol.check_response_format(chat_request, self.settings.replies)
        prompt_tokens = tokens.estimate_tokens(chat_request.prompt)
        self._check_rates(prompt_tokens)
        # Refused requests are no attempts: otherwise the plan of faults would depend on the rate limits.
        attempt = self.usage_counter.count_attempt(request_hash)
        fault = self.settings.faults.choose_fault(request_hash, attempt)
        if fault == "rate_limit":
            raise RateLimitError("Rate limit reached (a simulated fault).", 1.0, "requests", fault)
        if fault == "hang":
            return await self._hang(request)
        delay = faults.response_delay(
            self.settings.seed, request_hash, attempt, self.settings.latency, self.settings.latency_tail
        )
        await self._sleep(delay)
        if fault == "server_error":
            message = "The server had an error (a simulated fault)."
            raise ApiError(500, message, "server_error", "server_error", outcome=fault)
        return self._complete(chat_request, request_hash, prompt_tokens, fault)

    async def complete_in_batch(self, body: dict) -> tuple[int, dict]:
        """Return the status and the body of the response to one request of a batch.

        The reply is that of a single call, but without latency and rate limits. Errors are returned, not raised.
        """
        try:
            response = self._complete_without_connection(json.dumps(body).encode())
        except ApiError as error:
            self.usage_counter.outcomes[error.outcome] += 1
            return error.status, {"error": {"message": str(error), "type": "server_error", "code": None}}
        return 200, json.loads(response.body)

    def _complete_without_connection(self, body_bytes: bytes) -> Response:
        chat_request, request_hash = protocol.parse_chat_request(body_bytes)
        protocol.check_response_format(chat_request, self.settings.replies)
        fault = self.settings.faults.choose_fault(request_hash, self.usage_counter.count_attempt(request_hash))
        # Inside a file of answers the faults of a connection can only appear as a failed request.
        if fault in ("rate_limit", "server_error", "hang", "drip", "reset", "not_utf8"):
            raise ApiError(500, "The server had an error (a simulated fault).", "server_error", outcome=fault)
        return self._complete(chat_request, request_hash, tokens.estimate_tokens(chat_request.prompt), fault)

    def _complete(
        self, chat_request: ChatRequest, request_hash: str, prompt_tokens: int, fault: str | None
    ) -> Response:
        choices = [self._compose_choice(chat_request, request_hash, n, fault) for n in range(chat_request.n or 1)]
        texts = [c["message"]["content"] or c["message"]["refusal"] or "" for c in choices]
        completion_tokens = sum(tokens.estimate_tokens(text) for text in texts)
        # Cached tokens are part of the prompt; both are estimates, and must not contradict each other.
        cached = min(self.prompt_cache.lookup_and_store(chat_request.prompt), prompt_tokens)
        self.tokens.take(prompt_tokens + completion_tokens)
        self.usage_counter.record_billing(request_hash, prompt_tokens, completion_tokens, cached)
        self.usage_counter.outcomes[fault or "ok"] += 1
        body = protocol.completion_body(
            f"chatcmpl-{request_hash[:24]}", choices, prompt_tokens, completion_tokens, cached
        )
        if fault == "wrong_usage":
            body["usage"] = {"prompt_tokens": -5, "completion_tokens": "many", "total_tokens": None}
        if fault == "other_model":
            body["model"] = "some-other-model"
        response = json_response(body, headers=self._headers())
        return faults.spoil_response(response, fault) if fault in ("drip", "reset", "not_utf8") else response

    def _compose_choice(self, chat_request: ChatRequest, request_hash: str, index: int, fault: str | None) -> dict:
        if fault == "empty":
            return protocol.choice_body(index, "", "stop", None)
        reply = self.composer.compose(chat_request, (request_hash, index))
        if fault == "refusal":
            text, is_structured = faults.refusal_text(reply.language), chat_request.response_format is not None
            return protocol.choice_body(index, None if is_structured else text, "stop", text if is_structured else None)
        if fault == "wrong_schema":
            return protocol.choice_body(index, '{"unexpected": [1, 2, 3]}', "stop", None)
        if fault == "huge":
            return protocol.choice_body(index, "x" * faults.HUGE_CHARACTERS, "stop", None)
        if fault == "invalid_json":
            return protocol.choice_body(index, faults.break_json(reply.content), "stop", None)
        complete_content = faults.truncate(reply.content) if fault == "cut_off" else reply.content
        content = (
            tokens.truncate(complete_content, chat_request.token_limit)
            if chat_request.token_limit
            else complete_content
        )
        is_complete = content == reply.content
        return protocol.choice_body(index, content, "stop" if is_complete else "length", None)

    async def _hang(self, request: Request) -> Response:
        """Wait until the client disconnects. The body has been read, so the next message is the disconnection."""
        self.usage_counter.outcomes["hang"] += 1
        try:
            async with asyncio.timeout(MAX_HANG_SECONDS):
                while (await request.receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            pass
        return Response(status_code=504)

    async def list_models(self, request: Request) -> Response:
        """Answer GET /v1/models."""
        self._check_key(request)
        return json_response({"object": "list", "data": [protocol.model_card()]}, headers=self._headers())

    async def show_model(self, request: Request) -> Response:
        """Answer GET /v1/models/{model}."""
        self._check_key(request)
        protocol.validate_model(request.path_params["model"])
        return json_response(protocol.model_card(), headers=self._headers())

    async def health(self, _: Request) -> Response:
        """Answer GET /healthz."""
        return json_response({"status": "ok", "simulated": True})

    async def stats(self, _: Request) -> Response:
        """Answer GET /stats with what the teacher served and billed."""
        return json_response({"seed": self.settings.seed, **self.usage_counter.summary()})

    def _check_key(self, request: Request) -> None:
        if self.settings.api_key is None:
            return
        api_key = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        # A comparison in constant time: the duration must not reveal how much of the key is right.
        if not hmac.compare_digest(api_key.encode(), self.settings.api_key.encode()):
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key", outcome="refused_key")

    def _check_rates(self, prompt_tokens: int) -> None:
        for bucket, units, name in ((self.requests, 1, "requests"), (self.tokens, prompt_tokens, "tokens")):
            wait = bucket.wait(units)
            if wait > 0:
                message = f"Rate limit reached: {bucket.per_minute} {name} per minute."
                raise RateLimitError(message, wait, name, "over_limit")
        # Refused requests use up nothing. The tokens are taken when the reply is known.
        self.requests.take()

    async def error_response(self, request: Request, error: ApiError) -> Response:
        """Return the response to a request that failed, and count its outcome."""
        if request.url.path == "/v1/chat/completions":
            self.usage_counter.outcomes[error.outcome] += 1
        return json_response(error.body, error.status, {**self._headers(), **error.headers})

    async def http_error_response(self, request: Request, error: HTTPException) -> Response:
        """Return the response to a request for an unknown path or with a wrong method."""
        message = f"Invalid URL ({request.method} {request.url.path}): {error.detail}"
        return await self.error_response(request, ApiError(error.status_code, message))

    def _headers(self) -> dict[str, str]:
        return rate_limits.rate_limit_headers(self.requests, self.tokens)
