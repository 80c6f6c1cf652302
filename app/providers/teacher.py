"""The interface of a teacher for all protocols, and the preparation of its replies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from app.masking import mask_secrets, secrets_of_url
from app.providers.request_settings import RequestSettings
from app.synth.prices import Prices, estimate
from app.synth.prompting.repairs import repair_reply
from app.synth.reply_forms import ReplyForm
from app.synth.teacher_errors import TeacherRefused, TryAgain
from app.synth.thoughts import separate_thought
from app.synth.types import Prompt, Reply
from app.synth.usage_check import with_believable_usage

MAX_REPLY_CHARACTERS = 8 * 2**20
# The finish reasons with which the text of a reply is, or may be, an error message of the server.
SERVER_MESSAGE_REASONS = ("context_length", "content_filter", "unreadable")


@dataclass(frozen=True)
class LocalModel:
    """Where the weights of a model are that answers in the process of the worker.

    Attributes:
        kind: What `source` is: a folder, a name on the model hub, or a GGUF file.
        source: The folder, the name or the file; a file of an installed package is "package:PACKAGE/FILE".
        revision: The revision on the hub.
    """

    kind: Literal["path", "hub", "gguf"]
    source: str
    revision: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """Where a teacher answers, and how it is to be called.

    Attributes:
        name: The name in the operator's configuration.
        base_url: The address; "" for a function or a local model.
        model: The name of the model.
        api_key: The key of the address; "none" without one.
        prices: US dollars per million tokens.
        in_flight: The most calls at once.
        requests_per_minute: Of all workers together; 0 is no limit.
        tokens_per_minute: Of all workers together; 0 is no limit.
        timeout_seconds: The timeout of one call.
        replies: The form in which the teacher gives a reply that has parts.
        protocol: The name of an adapter, see `app.providers.protocols`.
        function: "module:function" of the protocol `callable`; "" otherwise.
        thought_tokens: Tokens that a call may take for its thought, beside those of its answer.
        opens_thought: The template of the model opens the thought in the prompt, so that a reply that was cut may be a
            thought without any markup.
        local_model: The weights of the protocol `local`; None otherwise.
        settings: How the requests are written.
    """

    name: str
    base_url: str
    model: str
    api_key: str
    prices: Prices
    in_flight: int = 32
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    timeout_seconds: float = 120
    replies: ReplyForm = "json_schema"
    protocol: str = "openai"
    function: str = ""
    thought_tokens: int = 0
    opens_thought: bool = False
    local_model: LocalModel | None = None
    settings: RequestSettings = RequestSettings()

    def mask(self, message: str) -> str:
        """Return the message without the key, the address, and the values of headers and parameters."""
        return mask_secrets(message, [self.api_key, *secrets_of_url(self.base_url), *self.settings.secrets])

    @property
    def address(self) -> str:
        """Return what tells this teacher from another one of the same name and model: its URL or its function."""
        return self.base_url or self.function or self.protocol


@dataclass(frozen=True)
class Served:
    """A reply with what the ledger keeps of it: the model that the teacher named, and whether usage is an estimate.

    `choices` counts the replies that came, and `has_logprobs` says whether they have log probabilities.
    """

    reply: Reply
    model: str
    usage_estimated: bool
    choices: int = 1
    has_logprobs: bool = False


def with_thought_allowance(prompt: Prompt, endpoint: Endpoint) -> Prompt:
    """Return the prompt with tokens enough for the thought of this teacher and the answer of this step."""
    return replace(prompt, max_tokens=prompt.max_tokens + endpoint.thought_tokens)


async def complete(teacher: "Teacher", prompt: Prompt) -> Served:
    """Make one call, and prepare its reply for the parsers. The replies of a remote batch are prepared by its adapter.

    The thought is taken out of the text, the JSON is repaired, and usage that can't be true is replaced.

    Raises:
        TryAgain: The call failed and may succeed later.
        TeacherRefused: No call of this kind can succeed.
    """
    endpoint = teacher.endpoint
    try:
        served = await teacher.complete(prompt)
    except (TryAgain, TeacherRefused) as error:
        error.args = (endpoint.mask(str(error)),)
        # `from None`: the exception of the HTTP client has the request with its headers, and the API key among them.
        raise error from None
    reply = served.reply
    if reply.finish_reason in SERVER_MESSAGE_REASONS:
        return replace(served, reply=replace(reply, text=endpoint.mask(reply.text)))
    reply = separate_thought(reply, prompt.schema_keys, endpoint.opens_thought)
    reply, is_replaced = with_believable_usage(repair_reply(reply, prompt.schema), prompt.messages(endpoint.replies))
    return replace(served, reply=reply, usage_estimated=served.usage_estimated or is_replaced)


class Teacher(Protocol):
    """A teacher that is open for calls. It belongs to the event loop in which it was opened."""

    # It is replaced when the teacher refuses a field of a request, so that later requests are written without it.
    endpoint: Endpoint

    def request(self, prompt: Prompt) -> dict:
        """Return the request as JSON values: all that shapes the answer. The ledger's key of a call rests on it.

        The same prompt gives the same request, in this and in every later process.
        """

    async def complete(self, prompt: Prompt) -> Served:
        """Make one call, without any retry. A reply that can't be used (refused, cut, unreadable) is a Served, too.

        Raises:
            TryAgain: The call failed and may succeed later.
            TeacherRefused: No call of this kind can succeed.
        """

    async def close(self) -> None:
        """Let go of connections. Closing twice does nothing."""


def unreadable(messages: Sequence[dict], message: str) -> Served:
    """Return what is kept of an answer that could not be read: the message, and an estimate of its cost."""
    reply = Reply(message, finish_reason="unreadable", usage=estimate(messages, ""))
    return Served(reply, "", usage_estimated=True)
