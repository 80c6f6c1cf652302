"""A configured teacher as it is called: its address, key and prices, and how its requests are written."""

from typing import TypeVar

from app import config
from app.config import LOCAL_PROTOCOL, TeacherConfig
from app.providers.profile import TeacherProfile
from app.providers.request_settings import RequestSettings
from app.providers.teacher import Endpoint, LocalModel
from app.synth.prices import Prices
from app.synth.reply_forms import ReplyForm

UNCHECKED_PROFILE = TeacherProfile()
Value = TypeVar("Value")


def endpoint(configured: TeacherConfig, replies: ReplyForm, profile: TeacherProfile = UNCHECKED_PROFILE) -> Endpoint:
    """Return the endpoint of a configured teacher, with its API key and prices, and how its requests are written.

    Args:
        configured: The teacher of the configuration file.
        replies: The form of replies that the teacher supports.
        profile: What a check has learnt. The configuration has priority over it.

    Raises:
        ConfigurationError: An environment variable with the API key or a header is not set.
    """
    # Without a price of its own a cached token costs as much as any other: an estimate must not be too low.
    cached = configured.prompt_price if configured.cached_price is None else configured.cached_price
    return Endpoint(
        name=configured.name,
        base_url=configured.base_url,
        model=configured.model,
        api_key=configured.api_key(),
        prices=Prices(configured.prompt_price, cached, configured.completion_price),
        in_flight=configured.in_flight,
        requests_per_minute=configured.requests_per_minute,
        tokens_per_minute=configured.tokens_per_minute,
        timeout_seconds=configured.timeout_seconds,
        replies=replies,
        protocol=configured.protocol,
        function=configured.function,
        thought_tokens=_first_set(configured.thought_tokens, profile.thought_tokens),
        opens_thought=_first_set(configured.opens_thought, profile.thought == "opened"),
        local_model=_local_model(configured),
        settings=_request_settings(configured, profile),
    )


def _first_set(configured: Value | None, learnt: Value) -> Value:
    return learnt if configured is None else configured


def _request_settings(configured: TeacherConfig, profile: TeacherProfile) -> RequestSettings:
    return RequestSettings(
        extra_body=configured.extra_body,
        extra_headers=configured.headers(),
        query=configured.query,
        sampling=configured.sampling,
        stop=configured.stop,
        max_tokens_name=configured.max_tokens_name or profile.max_tokens_name,
        system_turn=configured.system_turn or profile.system_turn,
        streams=_first_set(configured.streams, profile.streams),
        drops=tuple(dict.fromkeys((*configured.drops, *profile.drops))),
    )


def _local_model(configured: TeacherConfig) -> LocalModel | None:
    if configured.protocol != LOCAL_PROTOCOL:
        return None
    model = config.base_models()[configured.model]
    return LocalModel(model.kind, model.path or model.hub or model.gguf, model.revision)
