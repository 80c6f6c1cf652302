"""Errors instead of a reply: parameters that a server does not know, filters, limits, credentials, and failures.

The texts are those of the servers that are named with each.
"""

from collections.abc import Callable

from app.simulator.personalities.personality import Call, Personality
from app.simulator.protocol import ApiError

_HTML = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr>nginx</body></html>"


def _error(name: str, status: int, message: str, http_status: int | None = None, **fields: object) -> Callable:
    """Return a step that refuses every call. `http_status`: of the response, where the body names another."""

    def refuse(call: Call) -> None:
        error = ApiError(http_status or status, message, outcome=name)
        error.body["error"] |= fields if http_status is None else {"code": status, **fields}
        raise error

    return refuse


def _throttle(name: str, status: int, message: str, seconds: int | None) -> Callable[[Call], None]:
    def refuse(call: Call) -> None:
        headers = {} if seconds is None else {"retry-after": str(seconds)}
        raise ApiError(status, message, "rate_limit_error", headers=headers, outcome=name)

    return refuse


def _html_error(name: str, status: int, title: str) -> Callable[[Call], None]:
    def refuse(call: Call) -> None:
        error = ApiError(status, title, outcome=name)
        error.html = _HTML.format(title)
        raise error

    return refuse


def _refuse_schema(call: Call) -> None:
    if call.request.response_format and call.request.response_format.type == "json_schema":
        message = "This response_format type is unavailable now"
        raise ApiError(400, message, "invalid_request_error", "invalid_request_error", outcome="no_json_schema")


def _refuse_parameter(field: str, message: str, code: str) -> Callable[[Call], None]:
    def refuse(call: Call) -> None:
        if getattr(call.request, field) is not None:
            raise ApiError(400, message, code=code, param=field, outcome=f"refuses_{field}")

    return refuse


def _refuse_system_role(call: Call) -> None:
    if any(message.role == "system" for message in call.request.messages):
        raise ApiError(400, "System role not supported", "BadRequestError", outcome="refuses_system_role")


def _echo_key(call: Call) -> None:
    message = f"POST {call.url} was refused. Headers: Authorization: {call.authorization}"
    raise ApiError(401, message, code="invalid_api_key", outcome="echoes_key")


_AZURE = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
    "Please modify your prompt and retry."
)
_MAX_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)
_TEMPERATURE = (
    "Unsupported value: 'temperature' does not support this value with this model. "
    "Only the default (1) value is supported."
)
_CONTEXT = (
    "This model's maximum context length is 2048 tokens. However, you requested 3411 tokens. "
    "Please reduce the length of the messages."
)

PERSONALITIES = (
    Personality("no_json_schema", "DeepSeek", refuse=_refuse_schema),
    Personality(
        "refuses_max_tokens",
        "OpenAI o-series and GPT-5",
        refuse=_refuse_parameter("max_tokens", _MAX_TOKENS, "unsupported_parameter"),
    ),
    Personality(
        "refuses_temperature",
        "OpenAI o-series and GPT-5",
        refuse=_refuse_parameter("temperature", _TEMPERATURE, "unsupported_value"),
    ),
    Personality(
        "refuses_seed",
        "Mistral (422 for extra fields), Gemini",
        refuse=_refuse_parameter("seed", 'Invalid JSON payload received. Unknown name "seed": Cannot find field.', ""),
    ),
    Personality(
        "refuses_top_p",
        "OpenAI o-series, Claude beside temperature",
        refuse=_refuse_parameter("top_p", "Unsupported parameter: 'top_p' is not supported with this model.", ""),
    ),
    Personality("refuses_system_role", "Gemma on vLLM", refuse=_refuse_system_role),
    Personality(
        "content_filter",
        "Azure OpenAI",
        refuse=_error("content_filter", 400, _AZURE, code="content_filter", param="prompt"),
    ),
    Personality(
        "inspection_failed",
        "DashScope (Qwen)",
        refuse=_error(
            "inspection_failed", 400, "Input data may contain inappropriate content.", code="data_inspection_failed"
        ),
    ),
    Personality(
        "moderation",
        "OpenRouter",
        refuse=_error(
            *("moderation", 403, "Your chosen model requires moderation and your input was flagged"),
            code=403,
            metadata={"reasons": ["violence"], "flagged_input": "...", "provider_name": "OpenAI"},
        ),
    ),
    Personality(
        "context_length",
        "OpenAI, vLLM",
        refuse=_error("context_length", 400, _CONTEXT, code="context_length_exceeded", param="messages"),
    ),
    Personality("unknown_400", "any server", refuse=_error("unknown_400", 400, "Bad request: error 4711")),
    Personality("no_credit", "DeepSeek", refuse=_error("no_credit", 402, "Insufficient Balance")),
    Personality(
        "quota_429",
        "OpenAI",
        refuse=_error(
            *("quota_429", 429, "You exceeded your current quota, please check your plan and billing details."),
            code="insufficient_quota",
            type="insufficient_quota",
        ),
    ),
    Personality(
        "model_404", "Ollama", refuse=_error("model_404", 404, 'model "llama9" not found, try pulling it first')
    ),
    Personality("echoes_key", "proxies that show what they were sent", refuse=_echo_key),
    # Errors with the status of a success.
    Personality("error_401_in_200", "OpenRouter", refuse=_error("error_401_in_200", 401, "User not found.", 200)),
    Personality("error_402_in_200", "OpenRouter", refuse=_error("error_402_in_200", 402, "Insufficient credits", 200)),
    Personality(
        "error_429_in_200",
        "OpenRouter",
        refuse=_error("error_429_in_200", 429, "Provider returned error: rate limited upstream", 200),
        by_attempt=True,
    ),
    Personality(
        "error_502_in_200",
        "OpenRouter",
        refuse=_error("error_502_in_200", 502, "Provider returned error", 200),
        by_attempt=True,
    ),
    # Failures of a moment.
    Personality(
        "throttled",
        "Groq, OpenAI",
        refuse=_throttle("throttled", 429, "Rate limit reached for requests", 1),
        by_attempt=True,
    ),
    Personality(
        "throttled_without_time",
        "vLLM behind a gateway",
        refuse=_throttle("throttled_without_time", 429, "Too Many Requests", None),
        by_attempt=True,
    ),
    Personality(
        "error_500",
        "any server",
        refuse=_error("error_500", 500, "Internal server error", type="server_error"),
        by_attempt=True,
    ),
    Personality("error_502", "nginx", refuse=_html_error("error_502", 502, "502 Bad Gateway"), by_attempt=True),
    Personality(
        "error_503",
        "Hugging Face endpoints, vLLM at its start",
        refuse=_html_error("error_503", 503, "503 Service Temporarily Unavailable"),
        by_attempt=True,
    ),
    Personality(
        "error_529",
        "Anthropic and its proxies",
        refuse=_error("error_529", 529, "Overloaded", type="overloaded_error"),
        by_attempt=True,
    ),
)
