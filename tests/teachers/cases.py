"""The teachers that Seedbed is tested with. docs/teachers.md shows this table; test_document.py compares them."""

from app.synth.quality.options import ASPECTS
from tests.teachers.case import ONE_CALL, TWO_STAGES, Case

ANSWERS = {"parents": {"origin": "seed"}, "answers": 2}
OWN_CLASSIFICATION = TWO_STAGES | {"classification": "own_call"}
EVOLUTION = {"parents": {"origin": "seed"}, "rounds": 1}
_WITHOUT_ROWS = {"stop_reason": "max_requests", "outcome": "empty", "max_requests": 6}
JUDGED = frozenset({"not_selected", "low_judge_score", *(f"low_{aspect}" for aspect in ASPECTS)})
NO_CHINESE = {"name": "pattern", "pattern": r"\p{Han}", "label": "other_script"}
_SEPARATED = "separates the thought from the answer"
_UNUSABLE = {"status": "paused", "stop_reason": None, "outcome": None, "max_requests": 60}
_READS = "repairs the reply"


def _markup(name: str, is_long: bool = True, **settings) -> Case:
    return Case(name, settings.pop("seedbed", _SEPARATED), thinks=True, is_long=is_long, **settings)


def _repair(name: str, repair: str = "", **settings) -> Case:
    return Case(name, _READS, repairs=frozenset({repair or name}), **settings)


def _refused(name: str, stop_reason: str, error: str, seedbed: str, **settings) -> Case:
    """A teacher that refuses every request: the run ends, and its error has the text of the server."""
    may_reject = frozenset({"request_refused"} if stop_reason == "request_refused" else ())
    ending = {"status": "failed", "stop_reason": stop_reason, "outcome": "empty", "error": error}
    return Case(name, seedbed, may_reject=may_reject, **ending, **settings)


def _unusable(name: str, reason: str, cure: str, seedbed: str, **settings) -> Case:
    """A teacher of whose replies none can be used: the run waits for a person, and says what is likely to help."""
    return Case(name, f"{seedbed}; pauses the run", reasons=frozenset({reason}), cure=cure, **(_UNUSABLE | settings))


def _set(name: str, settings: str, **others) -> Case:
    """A teacher that refuses every request unless its configuration has these settings."""
    return Case(name, f"works with `{settings}`", settings=settings, **others)


def _dropped(name: str, change: str, **others) -> Case:
    """A teacher that refuses a field during the run: later requests are written without it, and one event says so."""
    return Case(name, f"writes requests otherwise from the first refusal on: {change}", change=change, **others)


def _checked(name: str, learned: str, **others) -> Case:
    """A teacher whose habit is learned by a check before the run."""
    return Case(name, f"works after `seedbed teachers check`, which learns {learned}", is_checked=True, **others)


def _retried(name: str, seedbed: str, **settings) -> Case:
    return Case(name, seedbed, options=TWO_STAGES, max_requests=60, **settings)


THINKING = (
    _markup("think", is_long=False),
    _markup("think_escaped"),
    _markup("think_brackets"),
    _markup("think_seed"),
    _markup("think_kimi"),
    _markup("think_solution"),
    _markup("think_command_a"),
    _markup("think_apertus"),
    _markup("think_gemma"),
    _markup("think_thinking"),
    _markup("think_thought"),
    _markup("think_reasoning"),
    _markup("think_ant"),
    _markup("think_details"),
    _markup("think_granite", is_long=False),
    _markup("think_harmony", is_long=False),
    _markup("think_harmony_bare"),
    _markup("think_opened_by_template", is_long=False),
    _markup("think_twice"),
    _markup("think:0.999", options=TWO_STAGES, max_requests=40, seedbed="has a thought in every step", is_long=False),
    _markup(
        "think:0.996",
        seedbed="has room for the thought of each step with `thought_tokens = 2000`",
        options=TWO_STAGES,
        max_requests=40,
        settings="thought_tokens = 2000",
        is_long=False,
    ),
    Case("think:0.5", "separates the thought of each reply that has one", options=TWO_STAGES, max_requests=40),
    _markup("think:0.998", method="evol_instruct", options=EVOLUTION, max_requests=60, is_long=False),
    _markup("think_reasoning:0.999", method="responses", options=ANSWERS, max_requests=60, may_reject=JUDGED),
    _markup(
        "think:0.997",
        method="dialogue",
        options={"max_turns": 2},
        target=2,
        max_requests=60,
        may_reject=frozenset({"too_few_turns"}),
    ),
    _markup("think_reasoning:0.998", replies="tagged"),
    _markup("code_fence+think", repairs=frozenset({"surrounding_text"}), replies="json_object", is_long=False),
    _markup("reasoning_content", is_long=False),
    _markup("reasoning"),
    _markup("reasoning_details"),
    _markup("reasoning_parts", is_long=False),
    _markup("reasoning_tokens_inside", is_long=False, seedbed="counts the thought once"),
    _markup("reasoning_tokens_beside", is_long=False, seedbed="adds the thought to the completion, as it is billed"),
    _unusable(
        "think_cut",
        "cut_in_thought",
        "raise thought_tokens",
        "rejects: the thought took all tokens, and no draft in it is a row",
    ),
    _unusable("think_cut_apart", "cut_in_thought", "raise thought_tokens", "rejects: the thought took all tokens"),
)
JSON_HABITS = (
    _repair("code_fence", "surrounding_text"),
    _repair("chatter", "surrounding_text"),
    _repair("trailing_commas"),
    _repair("single_quotes"),
    _repair("raw_line_breaks"),
    _repair("python_literals"),
    _repair("comments"),
    _repair("unquoted_keys", is_long=True),
    _repair("bare_list"),
    _repair("other_key"),
    _repair("key_case", "key_names"),
    _repair("objects_for_texts", "item_objects", options=OWN_CLASSIFICATION, max_requests=40),
    _repair("texts_for_values", "value_types", options=TWO_STAGES, max_requests=40),
    _repair("double_encoded"),
    _repair("tool_call"),
    Case("code_fence:0.4", _READS, options=TWO_STAGES, max_requests=40, may_repair=frozenset({"surrounding_text"})),
    _unusable(
        "ignores_json_schema",
        "malformed_reply",
        "teachers check",
        "rejects what holds no JSON",
        may_reject=frozenset({"empty_reply"}),
        # Rows with JSON or code in them stand in the prose.
        may_repair=frozenset({"surrounding_text", "bare_list"}),
    ),
)
CONTENTS = (
    _unusable("null_content", "empty_reply", "replies are empty", "rejects the reply"),
    _unusable("empty_content", "empty_reply", "replies are empty", "rejects the reply", is_long=True),
    Case("empty_content:0.3", "rejects the reply and goes on", may_reject=frozenset({"empty_reply"}), is_long=True),
    Case("content_parts", "joins the parts"),
    _unusable("content_filter_finish", "moderated", "content filter", "rejects the proposal, which is paid for"),
    Case("cut_reply", "takes the whole items, rejects the rest", reasons=frozenset({"cut_off"}), max_requests=40),
    Case(
        "cut_with_stop",
        "takes the whole items, rejects the rest",
        reasons=frozenset({"malformed_reply"}),
        max_requests=40,
    ),
    Case("repeats:0.5", "takes the whole items, rejects the rest", may_reject=frozenset({"cut_off"}), max_requests=40),
    Case("finish_missing", "reads the reply"),
    Case("finish_eos", "reads the reply"),
    _unusable("refuses_with_text", "malformed_reply", "teachers check", "rejects the reply"),
    _unusable(
        "refuses_in_field", "refused", "declines these prompts", "rejects the reply with the text of the refusal"
    ),
    Case(
        "other_language",
        "takes the rows, unless a rule of the run rejects the script (`pattern`)",
        options=ONE_CALL | {"rules": [NO_CHINESE]},
        reasons=frozenset({"rule:other_script"}),
        **_WITHOUT_ROWS,
    ),
)
USAGE = (
    Case("usage_missing", "estimates the tokens from the texts", usage="estimated"),
    Case("usage_null", "estimates the tokens from the texts", usage="estimated", is_long=True),
    Case("usage_zeros", "estimates the tokens from the texts", usage="estimated"),
    Case("usage_absurd", "estimates the tokens from the texts", usage="estimated"),
    Case("usage_negative", "estimates the tokens from the texts", usage="estimated"),
    Case("usage_of_texts", "estimates the tokens from the texts", usage="estimated"),
    Case("usage_missing+think", "estimates the tokens of thought and answer", usage="estimated", thinks=True),
)
REFUSALS = (
    _refused(
        "no_json_schema",
        "request_refused",
        "response_format.*seedbed teachers check",
        "ends the run and says what to do",
    ),
    Case(
        "no_json_schema+chatter",
        'works with `replies = "json_object"`',
        replies="json_object",
        repairs=frozenset({"surrounding_text"}),
    ),
    _dropped("refuses_max_tokens", "max_completion_tokens in place of max_tokens"),
    _dropped("refuses_temperature", "no temperature"),
    _dropped("refuses_seed", "no seed"),
    _dropped("refuses_top_p", "no top_p", options=ONE_CALL | {"top_p": 0.9}),
    _dropped("refuses_system_role", "the system text before that of the user"),
    _set("refuses_max_tokens:0.999", 'max_tokens_name = "max_completion_tokens"'),
    _set("refuses_temperature:0.999", 'drops = ["temperature"]'),
    _set("refuses_seed:0.999", 'drops = ["seed"]', is_long=True),
    _set("refuses_top_p:0.999", 'drops = ["top_p"]', options=ONE_CALL | {"top_p": 0.9}, is_long=True),
    _set("refuses_system_role:0.999", 'system_turn = "folded"'),
    _checked("no_json_schema:0.998", "the form of replies"),
    _checked("refuses_max_tokens:0.998", "the name of the field"),
    _checked("refuses_temperature:0.998", "not to send the field"),
    _checked("refuses_seed:0.998", "not to send the field", is_long=True),
    _checked("refuses_top_p:0.998", "not to send the field", options=ONE_CALL | {"top_p": 0.9}, is_long=True),
    _checked("refuses_system_role:0.998", "to put the system text before that of the user"),
    Case(
        "content_filter:0.15",
        "rejects the proposal, goes on",
        options=TWO_STAGES,
        target=8,
        max_requests=120,
        may_reject=frozenset({"moderated"}),
    ),
    _unusable("content_filter", "moderated", "content filter", "rejects each proposal"),
    _unusable("inspection_failed", "moderated", "content filter", "rejects each proposal", is_long=True),
    _unusable(
        "moderation", "moderated", "content filter", "rejects each proposal: this 403 is none of the credentials"
    ),
    _unusable("context_length", "prompt_too_long", "too long", "rejects each proposal"),
    Case(
        "context_length:0.3",
        "rejects the proposal, goes on",
        options=TWO_STAGES,
        max_requests=120,
        may_reject=frozenset({"prompt_too_long"}),
        is_long=True,
    ),
    Case(
        "unknown_400:0.1",
        "rejects the proposal, goes on",
        options=TWO_STAGES,
        max_requests=120,
        may_reject=frozenset({"request_refused"}),
    ),
    _refused("unknown_400", "request_refused", "error 4711", "ends the run after three prompts"),
    _refused("no_credit", "quota_exhausted", "Insufficient Balance", "ends the run"),
    _refused(
        "quota_429", "quota_exhausted", "exceeded your current quota", "ends the run: this 429 is none of the rate"
    ),
    _refused("model_404", "model_unknown", 'model "llama9" not found', "ends the run"),
    _refused(
        "echoes_key", "credentials_refused", r"Authorization: .*\*\*\*", "ends the run; key and address are masked"
    ),
    _refused("error_401_in_200", "credentials_refused", "User not found", "ends the run"),
    _refused("error_402_in_200", "quota_exhausted", "Insufficient credits", "ends the run"),
    Case("error_429_in_200:0.4", "tries again"),
    Case("error_502_in_200:0.4", "tries again"),
    _retried("throttled:0.2", "waits as long as the server asks, then tries again"),
    _retried("throttled_without_time:0.2", "waits a little longer each time", is_long=True),
    _retried("error_500:0.2", "tries again"),
    _retried("error_502:0.2", "tries again"),
    _retried("error_503:0.2", "slows down and tries again"),
    _retried("error_529:0.2", "slows down and tries again"),
)
TRANSPORT = (
    _unusable(
        "html_with_200", "unreadable_reply", "teachers check", "rejects the reply, estimates its cost", usage="unread"
    ),
    _unusable(
        "empty_body", "unreadable_reply", "teachers check", "rejects the reply, estimates its cost", usage="unread"
    ),
    _unusable(
        "truncated_body", "unreadable_reply", "teachers check", "rejects the reply, estimates its cost", usage="unread"
    ),
    Case("wrong_content_type", "reads the body"),
    Case("streams_unasked", "joins the chunks"),
    Case(
        "streams_unasked:0.999",
        "joins the chunks of the stream that `streams = true` asks for",
        settings="streams = true",
    ),
    _markup("reasoning_content:0.999", seedbed="joins the chunks of thought and text", settings="streams = true"),
    Case(
        "error_in_choice:0.3",
        "tries again; the answer that broke off is a possible cost",
        usage="lost",
        options=TWO_STAGES,
        max_requests=60,
    ),
    Case("slow:0.3", "waits", options=TWO_STAGES, max_requests=40),
    Case(
        "stalls:0.1",
        "gives the call up at its timeout, tries again",
        usage="lost",
        options=TWO_STAGES,
        max_requests=60,
        timeout_seconds=8,
    ),
)
CASES = (*THINKING, *JSON_HABITS, *CONTENTS, *USAGE, *REFUSALS, *TRANSPORT)
