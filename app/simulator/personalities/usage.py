"""Usage that is missing or can't be true. The server bills the true numbers all the same."""

from collections.abc import Callable

from app.simulator.personalities.personality import Bill, Personality


def _drop(body: dict, bill: Bill) -> None:
    del body["usage"]


def _set_usage(value: object) -> Callable[[dict, Bill], None]:
    def shape(body: dict, bill: Bill) -> None:
        body["usage"] = value

    return shape


def _set_counts(count: object) -> Callable[[dict, Bill], None]:
    return _set_usage({"prompt_tokens": count, "completion_tokens": count, "total_tokens": count})


def _write_as_texts(body: dict, bill: Bill) -> None:
    body["usage"] = {name: str(count) for name, count in body["usage"].items() if isinstance(count, int)}


PERSONALITIES = (
    Personality("usage_missing", "older llama.cpp, many proxies", shape_body=_drop),
    Personality("usage_null", "vLLM behind proxies that stream", shape_body=_set_usage(None)),
    Personality("usage_zeros", "proxies that do not count", shape_body=_set_counts(0)),
    Personality("usage_absurd", "faulty proxies", shape_body=_set_counts(10**12)),
    Personality("usage_negative", "faulty proxies", shape_body=_set_counts(-5)),
    Personality("usage_of_texts", "faulty proxies", shape_body=_write_as_texts),
)
