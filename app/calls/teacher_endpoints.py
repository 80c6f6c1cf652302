"""A configured teacher as it is called: its address, key and prices, and how its requests are written."""

from app import config
from app.config import LOCAL_PROTOCOL, TeacherConfig
from app.providers.request_settings import RequestSettings
from app.providers.teacher import Endpoint, LocalModel
from app.synth.prices import Prices
from app.synth.reply_forms import ReplyForm


def endpoint(configured: TeacherConfig, replies: ReplyForm) -> Endpoint:
    """Return the endpoint of a configured teacher, with its API key and prices, and how its requests are written.

    Args:
        configured: The teacher of the configuration file.
        replies: The form of replies that the teacher supports.

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
        thought_tokens=configured.thought_tokens or 0,
        opens_thought=bool(configured.opens_thought),
        local_model=_local_model(configured),
        settings=_request_settings(configured),
    )


def _request_settings(configured: TeacherConfig) -> RequestSettings:
    return RequestSettings(
        extra_body=configured.extra_body,
        extra_headers=configured.headers(),
        query=configured.query,
        sampling=configured.sampling,
        stop=configured.stop,
        max_tokens_name=configured.max_tokens_name or "max_tokens",
        system_turn=configured.system_turn or "own",
        streams=bool(configured.streams),
        drops=configured.drops,
    )


def _local_model(configured: TeacherConfig) -> LocalModel | None:
    if configured.protocol != LOCAL_PROTOCOL:
        return None
    model = config.base_models()[configured.model]
    return LocalModel(model.kind, model.path or model.hub or model.gguf, model.revision)
