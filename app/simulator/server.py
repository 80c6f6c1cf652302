"""The endpoints of the simulated teacher. `replies` composes what they answer, and `faults` decides how they fail."""

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from app.simulator import faults, protocol, rate_limits, streams, tokens
from app.simulator.batch_endpoints import BatchEndpoints
from app.simulator.completions import CompletionWriter, Settings
from app.simulator.personalities.personality import Call, Personality
from app.simulator.protocol import ApiError, json_response
from app.simulator.usage_counter import UsageCounter

MAX_HANG_SECONDS = 600
Sleep = Callable[[float], Awaitable[object]]


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
        self.usage_counter = UsageCounter()
        self.completions = CompletionWriter(settings, self.usage_counter)
        self.requests = rate_limits.TokenBucket(settings.requests_per_minute, clock)
        self.tokens = rate_limits.TokenBucket(settings.tokens_per_minute, clock)

    async def complete(self, request: Request) -> Response:
        """Answer POST /v1/chat/completions.

        Raises:
            ApiError: The request is refused, or its planned fault or a personality is an error response.
            RateLimitError: The request exceeds a rate limit, or this is its planned fault.
        """
        self._check_key(request)
        chat_request, request_hash = protocol.parse_chat_request(await request.body())
        protocol.check_response_format(chat_request, self.settings.replies)
        self._check_rates(tokens.estimate_tokens(chat_request.prompt))
        # Refused requests are no attempts: otherwise the plan of faults would depend on the rate limits.
        attempt = self.usage_counter.count_attempt(request_hash)
        fault = self.settings.faults.choose_fault(request_hash, attempt)
        if fault == "rate_limit":
            raise RateLimitError("Rate limit reached (a simulated fault).", 1.0, "requests", fault)
        if fault == "hang":
            return await self._hang(request)
        call = Call(chat_request, request_hash, attempt, request.headers.get("authorization", ""), str(request.url))
        personalities = self._admit(call)
        delay = faults.response_delay(
            self.settings.seed, request_hash, attempt, self.settings.latency, self.settings.latency_tail
        )
        await self._sleep(delay + sum(personality.seconds for personality in personalities))
        if fault == "server_error":
            message = "The server had an error (a simulated fault)."
            raise ApiError(500, message, "server_error", "server_error", outcome=fault)
        body = self._complete(call, fault, personalities)
        return self._encode(body, bool(chat_request.stream), fault, personalities)

    async def complete_in_batch(self, body: dict) -> tuple[int, dict]:
        """Return the status and the body of the response to one request of a batch.

        The reply is that of a single call, but without latency and rate limits. Errors are returned, not raised.
        """
        try:
            return 200, self._complete_without_connection(json.dumps(body).encode())
        except ApiError as error:
            self.usage_counter.outcomes[error.outcome] += 1
            return error.status, {"error": {"message": str(error), "type": "server_error", "code": None}}

    def _complete_without_connection(self, body_bytes: bytes) -> dict:
        chat_request, request_hash = protocol.parse_chat_request(body_bytes)
        protocol.check_response_format(chat_request, self.settings.replies)
        attempt = self.usage_counter.count_attempt(request_hash)
        fault = self.settings.faults.choose_fault(request_hash, attempt)
        # Inside a file of answers the faults of a connection can only appear as a failed request.
        if fault in ("rate_limit", "server_error", "hang", "drip", "reset", "not_utf8"):
            raise ApiError(500, "The server had an error (a simulated fault).", "server_error", outcome=fault)
        call = Call(chat_request, request_hash, attempt)
        return self._complete(call, fault, self._admit(call))

    def _admit(self, call: Call) -> list[Personality]:
        """Return the personalities of a call that none of them refuses."""
        personalities = self.completions.personalities_of(call)
        for personality in personalities:
            if personality.refuse:
                personality.refuse(call)
        return personalities

    def _complete(self, call: Call, fault: str | None, personalities: list[Personality]) -> dict:
        body, bill = self.completions.write(call, fault, personalities)
        self.tokens.take(bill.prompt + bill.completion)
        return body

    def _encode(self, body: dict, is_streamed: bool, fault: str | None, personalities: list[Personality]) -> Response:
        for personality in personalities:
            if personality.encode:
                raw = personality.encode(body)
                return Response(raw.content, headers=self._headers(), media_type=raw.media_type)
        if is_streamed:
            return Response(streams.write_events(body), headers=self._headers(), media_type=streams.MEDIA_TYPE)
        response = json_response(body, headers=self._headers())
        return faults.spoil_response(response, fault) if fault in ("drip", "reset", "not_utf8") else response

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
        headers = {**self._headers(), **error.headers}
        if error.html:
            return HTMLResponse(error.html, error.status, headers)
        return json_response(error.body, error.status, headers)

    async def http_error_response(self, request: Request, error: HTTPException) -> Response:
        """Return the response to a request for an unknown path or with a wrong method."""
        message = f"Invalid URL ({request.method} {request.url.path}): {error.detail}"
        return await self.error_response(request, ApiError(error.status_code, message))

    def _headers(self) -> dict[str, str]:
        return rate_limits.rate_limit_headers(self.requests, self.tokens)
