"""What an answer of a teacher that is no success means: one table over status, code, message and parameter.

A fault has a scope:

- *prompt*: this prompt can't be answered (moderated, too long). It costs its proposal, and no other.
- *call*: this call failed and another may succeed (throttled, overloaded, timed out). It is tried again.
- *teacher*: no call can succeed (credentials, credit, model). It ends or pauses the run.
- *unknown*: a refusal that the table does not know. Two other prompts are tried before it counts as the teacher's.

The rows stand in the order in which they are looked up; the first that fits decides. Codes and phrases come from the
references of the servers and from public reports: OpenAI and Azure (content_filter, content_policy_violation),
OpenRouter (403 with moderation reasons, 402), DashScope (data_inspection_failed), Gemini (SAFETY, PROHIBITED_CONTENT),
vLLM and SGLang ("maximum context length"), llama.cpp (exceed_context_size_error), Groq and Mistral (498 and 429 of a
rate limit), Zhipu (1301, 1302).
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

Scope = Literal["prompt", "call", "teacher", "unknown"]


@dataclass(frozen=True)
class TeacherFault:
    """An answer that is no success.

    Attributes:
        status: The HTTP status, or the one that a body of a success names.
        code: The code or the type of the error in the body; "" where it has none.
        message: The message of the server.
        parameter: The request's parameter that the server complains about; "" where it names none.
    """

    status: int
    code: str = ""
    message: str = ""
    parameter: str = ""


@dataclass(frozen=True)
class FaultRule:
    """A row of the table. All conditions that are set must hold; codes and phrases are compared in lower case.

    Attributes:
        scope: What the fault concerns.
        reason: The reason of a rejection (prompt), or the stop reason of a run (teacher).
        message: What is said to people, before the server's own message.
        statuses: HTTP statuses; empty for any.
        codes: Codes, of which the fault's must be one; empty for any.
        phrases: A regular expression that the message must contain; "" for any.
        throttled: The teacher asks for fewer calls.
    """

    scope: Scope
    reason: str
    message: str
    statuses: Collection[int] = ()
    codes: Collection[str] = ()
    phrases: str = ""
    throttled: bool = False
    pattern: re.Pattern = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", re.compile(self.phrases, re.IGNORECASE))

    def fits(self, fault: TeacherFault) -> bool:
        """Return whether the row decides on this fault."""
        return (
            (not self.statuses or fault.status in self.statuses)
            and (not self.codes or fault.code.lower() in self.codes)
            and (not self.phrases or self.pattern.search(fault.message) is not None)
        )


CLIENT_ERRORS = range(400, 500)
_MODERATED = {
    *("content_filter", "content_policy_violation", "contentfilter", "data_inspection_failed", "datainspectionfailed"),
    *("responsibleaipolicyviolation", "safety", "prohibited_content", "blocklist", "moderation_blocked", "sensitive"),
    *("content_filtered", "content_moderation", "input_moderation", "1301", "policy_violation"),
}
_TOO_LONG = {
    *("context_length_exceeded", "exceed_context_size_error", "string_above_max_length", "prompt_too_long"),
    *("context_window_exceeded", "model_context_window_exceeded", "request_too_large", "input_too_long"),
}
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "insufficient_balance", "quota_exceeded_permanently"}
_THROTTLED = {
    *("rate_limit_exceeded", "rate_limit_error", "too_many_requests", "ratelimitexceeded", "resource_exhausted"),
    *("overloaded_error", "throttling", "tokens_limit_exceeded", "1302", "1305"),
}

FAULT_TABLE: tuple[FaultRule, ...] = (
    # A code says more than a status: Azure filters with 400, OpenRouter with 403, others inside a success.
    FaultRule("prompt", "moderated", "the teacher's content filter refused the prompt", codes=_MODERATED),
    FaultRule(
        "prompt",
        "moderated",
        "the teacher's content filter refused the prompt",
        statuses=CLIENT_ERRORS,
        phrases=r"content (management )?policy|content[ _]filter|flagged|moderation|safety (system|filter|polic)|"
        r"inappropriate content|prohibited content",
    ),
    FaultRule("prompt", "prompt_too_long", "the prompt is too long for the teacher", codes=_TOO_LONG),
    FaultRule("prompt", "prompt_too_long", "the prompt is too long for the teacher", statuses={413}),
    FaultRule(
        "prompt",
        "prompt_too_long",
        "the prompt is too long for the teacher",
        statuses=CLIENT_ERRORS,
        phrases=r"maximum context length|context (length|window|size)|prompt is too long|input is too long|"
        r"too many (input )?tokens|must have less than \d+ tokens|"
        r"exceeds? the (model'?s )?max(imum)?( (input|context|sequence))? (length|tokens)",
    ),
    FaultRule("teacher", "quota_exhausted", "the teacher's account has no credit left", codes=_NO_CREDIT),
    FaultRule("teacher", "quota_exhausted", "the teacher's account has no credit left", statuses={402}),
    FaultRule(
        "teacher",
        "quota_exhausted",
        "the teacher's account has no credit left",
        statuses=CLIENT_ERRORS,
        phrases=r"usage limit|credit balance is too low|insufficient (balance|credits?|quota|funds)|"
        r"exceeded your current quota",
    ),
    FaultRule("call", "throttled", "the teacher asks to slow down", codes=_THROTTLED, throttled=True),
    FaultRule("call", "throttled", "the teacher asks to slow down", statuses={429, 503, 529}, throttled=True),
    FaultRule(
        "call",
        "throttled",
        "the teacher asks to slow down",
        statuses={400, 403, 498},
        phrases=r"rate limit|too many requests|capacity exceeded|overloaded",
        throttled=True,
    ),
    FaultRule("teacher", "credentials_refused", "the teacher refused the credentials", statuses={401, 403}),
    FaultRule(
        "teacher",
        "credentials_refused",
        "the teacher refused the credentials",
        statuses={400},
        phrases=r"api key (not valid|expired)|invalid api key|api_key_invalid",
    ),
    # Models that are loaded at the first call answer 404 or 400 until they are there.
    FaultRule(
        "call", "loading", "the teacher loads its model", statuses={400, 404, 409}, phrases=r"model is (still )?loading"
    ),
    FaultRule(
        "teacher", "model_unknown", "the teacher does not know the model or the address", statuses={404, 405, 410}
    ),
    FaultRule(
        "teacher",
        "model_unknown",
        "the teacher does not know the model or the address",
        statuses={400, 422},
        phrases=r"model\b.{0,80}(not found|does not exist|not supported|not a valid model|unknown model)|"
        r"(unknown|invalid) model|no (such )?model|not a valid model",
    ),
    FaultRule("call", "failed", "the teacher failed", statuses={408, 409, 421, 423, 425, 460, 499}),
    FaultRule("call", "failed", "the teacher failed", statuses=range(500, 600)),
    FaultRule("unknown", "request_refused", "the teacher did not accept the request"),
)


def rule_of(fault: TeacherFault) -> FaultRule:
    """Return the row of the table that decides on the fault. The last row fits any fault."""
    return next(rule for rule in FAULT_TABLE if rule.fits(fault))


def fault_in_body(body: object, status: int = 200) -> TeacherFault | None:
    """Return the fault that the body of an answer names, also of one with a status of success; None without one.

    Aggregators and proxies answer 200 with {"error": {"code": 401, ...}}, with the code as a number or as a text.

    Args:
        body: The parsed JSON.
        status: The HTTP status of the answer.
    """
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str) and error:
        return TeacherFault(_status_in(status, None), "", error)
    if not isinstance(error, dict) or not error:
        return None
    code = error.get("code")
    details = error.get("metadata") if isinstance(error.get("metadata"), dict) else {}
    message = str(error.get("message") or error.get("detail") or error)
    # OpenRouter hides the message of the server behind its own.
    raw = details.get("raw")
    if raw and str(raw) not in message:
        message = f"{message}: {raw}"
    if details.get("reasons"):
        return TeacherFault(_status_in(status, code), "moderation_blocked", message)
    name = code if isinstance(code, str) and not code.isdecimal() else error.get("type") or error.get("status")
    return TeacherFault(_status_in(status, code), str(name or ""), message, str(error.get("param") or ""))


def _status_in(status: int, code: object) -> int:
    """Return the status that the code of the body names; that of the answer, or 500, where it names none."""
    number = int(code) if isinstance(code, str) and code.isdecimal() else code
    if isinstance(number, int) and not isinstance(number, bool) and 400 <= number <= 599:
        return number
    return status if status >= 400 else 500
