"""The size of a model's context, as the list of models of an OpenAI-compatible server tells it."""

import openai
from openai import AsyncOpenAI

from app.providers.teacher import Endpoint

SECONDS = 10
# vLLM and SGLang; OpenRouter, Together and Fireworks; Groq; Mistral; LM Studio; llama.cpp inside `meta`.
_NAMES = (
    *("max_model_len", "context_length", "context_window", "max_context_length", "loaded_context_length"),
    *("n_ctx", "n_ctx_train"),
)


async def context_tokens(endpoint: Endpoint) -> int | None:
    """Return the tokens of prompt and reply together; None where the server does not say it."""
    client = AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=endpoint.api_key,
        max_retries=0,
        timeout=min(SECONDS, endpoint.timeout_seconds),
        default_headers=endpoint.settings.extra_headers,
        default_query=endpoint.settings.query,
    )
    try:
        async with client:
            answer = await client.get("/models", cast_to=object)
    except (openai.APIError, ValueError):
        # Many servers have no such list: the size is then unknown, and no fault.
        return None
    models = answer.get("data") if isinstance(answer, dict) else None
    models = [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []
    model = next((model for model in models if model.get("id") == endpoint.model), None)
    if model is None and len(models) == 1:
        model = models[0]
    return _size_of(model or {})


def _size_of(model: dict) -> int | None:
    meta = model.get("meta")
    for holder in (model, meta if isinstance(meta, dict) else {}):
        for name in _NAMES:
            size = holder.get(name)
            if isinstance(size, int) and 0 < size < 10**9:
                return size
    return None
