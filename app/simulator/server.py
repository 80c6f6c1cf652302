"""The endpoints. What they say is composed in `replies`; how they fail is decided in `faults`."""

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

from app.simulator import faults, limits, protocol, tokens
from app.simulator.batches import BatchDesk
from app.simulator.faults import FaultPlan
from app.simulator.protocol import ApiError, ChatRequest, json_response
from app.simulator.replies import Composer
from app.simulator.tally import Tally

LONGEST_HANG_SECONDS = 600
Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True)
class Settings:
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
    """`clock` gives seconds for the rate limits; `sleep` waits for the seconds of an answer."""
    desk = Desk(settings, clock, sleep)
    batches = BatchDesk(desk.answer_in_batch, desk._check_key, settings.batch_seconds, settings.batch_expire)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", desk.complete, methods=["POST"]),
            Route("/v1/files", batches.upload, methods=["POST"]),
            Route("/v1/files/{id}/content", batches.content),
            Route("/v1/batches", batches.create, methods=["POST"]),
            Route("/v1/batches", batches.list_all),
            Route("/v1/batches/{id}", batches.show),
            Route("/v1/batches/{id}/cancel", batches.cancel, methods=["POST"]),
            Route("/v1/models", desk.list_models),
            Route("/v1/models/{model:path}", desk.show_model),
            Route("/healthz", desk.health),
            Route("/stats", desk.stats),
        ],
        exception_handlers={ApiError: desk.say_error, HTTPException: desk.say_http_error},
    )


class Desk:
    """The state of one running teacher: its buckets, its prompt cache and its tally."""

    def __init__(self, settings: Settings, clock: Callable[[], float], sleep: Sleep):
        self.settings, self._sleep = settings, sleep
        self.composer = Composer(settings.seed, settings.near_duplicates)
        self.tally = Tally()
        self.cache = tokens.PromptCache()
        self.requests = limits.Bucket(settings.requests_per_minute, clock)
        self.tokens = limits.Bucket(settings.tokens_per_minute, clock)

    async def complete(self, request: Request) -> Response:
        self._check_key(request)
        asked, digest = protocol.read_request(await request.body())
        protocol.check_form(asked, self.settings.replies)
        prompt_tokens = tokens.count(asked.prompt)
        self._check_rates(prompt_tokens)
        sight = self.tally.see(digest)
        fault = self.settings.faults.draw(digest, sight)
        if fault == "rate_limit":
            raise _too_many("Rate limit reached (a planned fault).", 1.0, "requests", fault)
        if fault == "hang":
            return await self._hang(request)
        waited = faults.delay(self.settings.seed, digest, sight, self.settings.latency, self.settings.latency_tail)
        await self._sleep(waited)
        if fault == "server_error":
            words = "The server had an error (a planned fault)."
            raise ApiError(500, words, "server_error", "server_error", outcome=fault)
        return self._answer(asked, digest, prompt_tokens, fault)

    async def answer_in_batch(self, body: dict) -> tuple[int, dict]:
        """Status and body of one request of a batch: it fares as it would by itself, but for its time."""
        try:
            asked, digest = protocol.read_request(json.dumps(body).encode())
            protocol.check_form(asked, self.settings.replies)
            fault = self.settings.faults.draw(digest, self.tally.see(digest))
            if fault in ("rate_limit", "server_error", "hang", "drip", "reset", "not_utf8"):
                raise ApiError(500, "The server had an error (a planned fault).", "server_error", outcome=fault)
            answer = self._answer(asked, digest, tokens.count(asked.prompt), fault)
        except ApiError as error:
            self.tally.outcomes[error.outcome] += 1
            return error.status, {"error": {"message": str(error), "type": "server_error", "code": None}}
        return 200, json.loads(answer.body)

    def _answer(self, asked: ChatRequest, digest: str, prompt_tokens: int, fault: str | None) -> Response:
        choices = [self._choice(asked, digest, n, fault) for n in range(asked.n or 1)]
        said = [c["message"]["content"] or c["message"]["refusal"] or "" for c in choices]
        completion_tokens = sum(tokens.count(text) for text in said)
        cached = min(self.cache.visit(asked.prompt), prompt_tokens)
        self.tokens.take(prompt_tokens + completion_tokens)
        self.tally.bill(digest, prompt_tokens, completion_tokens, cached)
        self.tally.outcomes[fault or "ok"] += 1
        body = protocol.completion_body(f"chatcmpl-{digest[:24]}", choices, prompt_tokens, completion_tokens, cached)
        if fault == "wrong_usage":
            body["usage"] = {"prompt_tokens": -5, "completion_tokens": "many", "total_tokens": None}
        if fault == "other_model":
            body["model"] = "some-other-model"
        answer = json_response(body, headers=self._headers())
        return faults.spoiled(answer, fault) if fault in ("drip", "reset", "not_utf8") else answer

    def _choice(self, asked: ChatRequest, digest: str, index: int, fault: str | None) -> dict:
        if fault == "empty":
            return protocol.choice(index, "", "stop", None)
        written = self.composer.compose(asked, (digest, index))
        if fault == "refusal":
            words, structured = faults.refusal(written.language), asked.response_format is not None
            return protocol.choice(index, None if structured else words, "stop", words if structured else None)
        if fault == "wrong_schema":
            return protocol.choice(index, '{"unexpected": [1, 2, 3]}', "stop", None)
        if fault == "huge":
            return protocol.choice(index, "x" * faults.HUGE_CHARACTERS, "stop", None)
        if fault == "invalid_json":
            return protocol.choice(index, faults.break_json(written.content), "stop", None)
        content = faults.cut(written.content) if fault == "cut_off" else written.content
        shown = tokens.shorten(content, asked.token_limit) if asked.token_limit else content
        complete = shown == written.content
        return protocol.choice(index, shown, "stop" if complete else "length", None)

    async def _hang(self, request: Request) -> Response:
        """Until the client has gone. The body is read already, so that the next message is its departure."""
        self.tally.outcomes["hang"] += 1
        try:
            async with asyncio.timeout(LONGEST_HANG_SECONDS):
                while (await request.receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            pass
        return Response(status_code=504)

    async def list_models(self, request: Request) -> Response:
        self._check_key(request)
        return json_response({"object": "list", "data": [protocol.model_card()]}, headers=self._headers())

    async def show_model(self, request: Request) -> Response:
        self._check_key(request)
        protocol.check_model(request.path_params["model"])
        return json_response(protocol.model_card(), headers=self._headers())

    async def health(self, _: Request) -> Response:
        return json_response({"status": "ok", "simulated": True})

    async def stats(self, _: Request) -> Response:
        return json_response({"seed": self.settings.seed, **self.tally.summary()})

    def _check_key(self, request: Request) -> None:
        if self.settings.api_key is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode(), self.settings.api_key.encode()):
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key", outcome="refused_key")

    def _check_rates(self, prompt_tokens: int) -> None:
        for bucket, units, name in ((self.requests, 1, "requests"), (self.tokens, prompt_tokens, "tokens")):
            wait = bucket.wait(units)
            if wait > 0:
                message = f"Rate limit reached: {bucket.per_minute} {name} per minute."
                raise _too_many(message, wait, name, "over_limit")
        self.requests.take()

    async def say_error(self, request: Request, error: ApiError) -> Response:
        if request.url.path == "/v1/chat/completions":
            self.tally.outcomes[error.outcome] += 1
        return json_response(error.body, error.status, {**self._headers(), **error.headers})

    async def say_http_error(self, request: Request, error: HTTPException) -> Response:
        message = f"Invalid URL ({request.method} {request.url.path}): {error.detail}"
        return await self.say_error(request, ApiError(error.status_code, message))

    def _headers(self) -> dict[str, str]:
        return limits.headers(self.requests, self.tokens)


def _too_many(message: str, wait: float, kind: str, outcome: str) -> ApiError:
    headers = limits.retry_headers(wait)
    return ApiError(429, message, kind, "rate_limit_exceeded", headers=headers, outcome=outcome)
