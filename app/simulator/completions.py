"""Completions of the simulated teacher: composed, changed by faults and personalities, counted and billed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.simulator import faults, protocol, seeded_random, tokens
from app.simulator.faults import FaultPlan
from app.simulator.personalities.personality import Bill, Call, Personality, WrittenReply
from app.simulator.personalities.registry import Selection, selections_of_model
from app.simulator.protocol import ApiError
from app.simulator.replies import Composer
from app.simulator.usage_counter import UsageCounter


@dataclass(frozen=True)
class Settings:
    """The settings of one simulated teacher.

    `latency` is a median in seconds and `latency_tail` the sigma of a log-normal distribution around it (0: none).
    Rates of 0 mean no limit; `near_duplicates` and `batch_expire` are shares from 0 to 1. `personalities` are those of
    the whole server; the name of a model may select more.
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
    personalities: tuple[Selection, ...] = ()


class CompletionWriter:
    """Writes the completions of one simulated teacher and bills them."""

    def __init__(self, settings: Settings, usage_counter: UsageCounter):
        self.settings, self.usage_counter = settings, usage_counter
        self.composer = Composer(settings.seed, settings.near_duplicates)
        self.prompt_cache = tokens.PromptCache()

    def personalities_of(self, call: Call) -> list[Personality]:
        """Return the personalities that change this call.

        Raises:
            ApiError: The name of the model selects an unknown personality.
        """
        try:
            selections = (*self.settings.personalities, *selections_of_model(call.request.model))
        except ValueError as error:
            message = f"The model `{call.request.model}` does not exist: {error}"
            raise ApiError(404, message, code="model_not_found", param="model") from error
        return [selection.personality for selection in selections if selection.applies_to(call, self.settings.seed)]

    def write(self, call: Call, fault: str | None, personalities: Sequence[Personality]) -> tuple[dict, Bill]:
        """Return the body of the completion and its bill, which is recorded.

        Args:
            call: The call.
            fault: The planned fault of this attempt, or None.
            personalities: Those that change the call.
        """
        choices = [self._write_choice(call, index, fault, personalities) for index in range(call.request.n or 1)]
        bill = self._bill(call, choices)
        self.usage_counter.record_billing(call.request_hash, call.request.model, bill)
        self.usage_counter.outcomes[fault or "ok"] += 1
        bodies = [choice.body(index) for index, choice in enumerate(choices)]
        id = f"chatcmpl-{call.request_hash[:24]}"
        body = protocol.completion_body(id, call.request.model, bodies, bill.prompt, bill.completion, bill.cached)
        for personality in personalities:
            if personality.shape_message:
                for choice, choice_body in zip(choices, bodies, strict=True):
                    personality.shape_message(choice_body["message"], choice.thought)
            if personality.shape_body:
                personality.shape_body(body, bill)
        if fault == "wrong_usage":
            body["usage"] = {"prompt_tokens": -5, "completion_tokens": "many", "total_tokens": None}
        if fault == "other_model":
            body["model"] = "some-other-model"
        return body, bill

    def _bill(self, call: Call, choices: Sequence["_Choice"]) -> Bill:
        prompt = tokens.estimate_tokens(call.request.prompt)
        thought = sum(tokens.estimate_tokens(choice.thought) for choice in choices)
        written = sum(tokens.estimate_tokens(choice.content or choice.refusal or "") for choice in choices)
        # Cached tokens are part of the prompt; both are estimates, and must not contradict each other.
        cached = min(self.prompt_cache.lookup_and_store(call.request.prompt), prompt)
        return Bill(prompt, cached, written + thought, thought)

    def _write_choice(
        self, call: Call, index: int, fault: str | None, personalities: Sequence[Personality]
    ) -> "_Choice":
        if fault == "empty":
            return _Choice("")
        composed = self.composer.compose(call.request, (call.request_hash, index))
        if fault == "refusal":
            text = faults.refusal_text(composed.language)
            return _Choice(None, refusal=text) if call.request.response_format else _Choice(text)
        if fault in faults.REPLACED_CONTENT:
            return _Choice(faults.REPLACED_CONTENT[fault](composed.content))
        reply = WrittenReply(faults.truncate(composed.content) if fault == "cut_off" else composed.content)
        rng = seeded_random.make_generator("personality", self.settings.seed, call.request_hash, index)
        for personality in personalities:
            reply = personality.write(reply, rng) if personality.write else reply
        limits = [call.request.token_limit or 0, *(personality.max_tokens for personality in personalities)]
        cut = _cut(reply, min((limit for limit in limits if limit), default=0))
        is_complete = cut == reply and fault != "cut_off"
        return _Choice(cut.text, "stop" if is_complete else "length", cut.thought)


@dataclass(frozen=True)
class _Choice:
    """What the server says in one choice. A text that is cut has the finish reason `length`."""

    content: str | None
    finish_reason: str = "stop"
    thought: str = ""
    refusal: str | None = None

    def body(self, index: int) -> dict:
        return protocol.choice_body(index, self.content, self.finish_reason, self.refusal)


def _cut(reply: WrittenReply, max_tokens: int) -> WrittenReply:
    """Return the reply within its limit; the thought is written first. 0 is no limit."""
    if not max_tokens:
        return reply
    thought = tokens.truncate(reply.thought, max_tokens)
    remaining = max_tokens - tokens.estimate_tokens(thought)
    return WrittenReply(tokens.truncate(reply.text, remaining) if remaining else "", thought)
