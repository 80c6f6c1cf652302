"""Token counts of a server, checked against what was sent and what came."""

from collections.abc import Sequence
from dataclasses import replace

from app.synth.prices import estimate
from app.synth.types import Reply, Usage

# A byte-level tokeniser makes at most one token of a byte. A server adds its chat template, the schema and,
# at some providers, a system prompt of its own.
MAX_ADDED_TOKENS = 20_000
# More than any model writes in one reply, its thought among it; some servers bill a thought that they do not show.
MAX_COMPLETION_TOKENS = 2_000_000


def with_believable_usage(reply: Reply, messages: Sequence[dict]) -> tuple[Reply, bool]:
    """Return the reply with usage that can be true, and whether a count had to be replaced by an estimate.

    Args:
        reply: A reply with the usage that its server reported.
        messages: The request, as chat messages.
    """
    own_count, has_text = estimate(messages, reply.text + reply.thought), bool(reply.text or reply.thought)
    if reply.usage == Usage():
        # Nothing is billed for a refusal of the request; a text without usage is a server that does not count.
        is_uncounted = has_text and _is_answer(reply)
        return (replace(reply, usage=own_count), True) if is_uncounted else (reply, False)
    prompt_bytes = sum(len(message["content"].encode("utf-8", "surrogatepass")) for message in messages)
    usage = reply.usage
    if not 0 < usage.prompt <= prompt_bytes + MAX_ADDED_TOKENS:
        usage = replace(usage, prompt=own_count.prompt, cached=0)
    if not (0 < usage.completion <= MAX_COMPLETION_TOKENS or (usage.completion == 0 and not has_text)):
        usage = replace(usage, completion=own_count.completion, thought=0)
    if usage.cached > usage.prompt or usage.thought > usage.completion:
        usage = replace(usage, cached=min(usage.cached, usage.prompt), thought=min(usage.thought, usage.completion))
    return (reply, False) if usage == reply.usage else (replace(reply, usage=usage), True)


def _is_answer(reply: Reply) -> bool:
    return reply.finish_reason not in ("context_length", "content_filter", "unreadable")
