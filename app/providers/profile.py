"""What a check has learnt about a teacher: a value that is stored as JSON, and that shapes later requests."""

from dataclasses import asdict, dataclass, replace
from typing import Literal

from app.providers.request_settings import MaxTokensName, RequestSettings, SystemTurn
from app.synth.reply_forms import ReplyForm

# Tokens of a call for the thought of a teacher that thinks, beside those of its answer.
THOUGHT_ALLOWANCE = 4096
Thought = Literal["none", "tags", "field", "opened"]


@dataclass(frozen=True)
class Evidence:
    """One call of a check.

    Attributes:
        question: What the call was to find out.
        sent: What was special about the request.
        received: What came, for people.
        seconds: The duration of the call.
    """

    question: str
    sent: str
    received: str
    seconds: float


@dataclass(frozen=True)
class TeacherProfile:
    """The abilities of a teacher at one address with one model.

    Attributes:
        replies: The strictest form of reply that works; None where none does.
        max_tokens_name: The name of the field for the most tokens of a reply.
        drops: Fields of a request that the teacher refuses.
        system_turn: Whether the teacher takes a system message, or gets its text before that of the user.
        streams: Whether the teacher answers only by streams that are requested.
        honours_n: Whether a request may ask for several replies; None where it was not tried.
        thought: Where the thought of the teacher is: nowhere, between tags, in a field of its own, or before a closing
            tag, since the template opens it in the prompt.
        usage_trusted: Whether the reported tokens can be true.
        context_tokens: The tokens of prompt and reply together; None where the server does not say it.
        has_logprobs: Whether replies have log probabilities of their tokens; None where it was not tried.
        checked_at: The time of the check, in ISO 8601; "" before it is stored.
        evidence: The calls of the check, in order.
    """

    replies: ReplyForm | None = None
    max_tokens_name: MaxTokensName = "max_tokens"
    drops: tuple[str, ...] = ()
    system_turn: SystemTurn = "own"
    streams: bool = False
    honours_n: bool | None = None
    thought: Thought = "none"
    usage_trusted: bool = True
    context_tokens: int | None = None
    has_logprobs: bool | None = None
    checked_at: str = ""
    evidence: tuple[Evidence, ...] = ()

    @property
    def thought_tokens(self) -> int:
        """Return the tokens that a call needs for the thought."""
        return 0 if self.thought == "none" else THOUGHT_ALLOWANCE

    def with_settings(self, settings: RequestSettings) -> "TeacherProfile":
        """Return the profile with what these settings say of the requests."""
        return replace(
            self,
            max_tokens_name=settings.max_tokens_name,
            drops=settings.drops,
            system_turn=settings.system_turn,
            streams=settings.streams,
        )

    def to_json(self) -> dict:
        """Return the profile as JSON values."""
        return asdict(self) | {"drops": list(self.drops), "evidence": [asdict(item) for item in self.evidence]}

    @classmethod
    def from_json(cls, values: dict) -> "TeacherProfile":
        """Return the profile that `to_json` wrote. Fields that an older version did not know have their defaults."""
        fields = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        evidence = tuple(Evidence(**item) for item in fields.pop("evidence", ()))
        return cls(**fields | {"drops": tuple(fields.get("drops", ())), "evidence": evidence})
