"""seedbed teachers check: which form of structured reply a teacher supports."""

import asyncio
from typing import Annotated

import typer

from app import config
from app.calls.teacher_endpoints import endpoint
from app.cli.database import use_database
from app.cli.session import DEFAULT_STATE_DIR, CommandError, StateDirOption
from app.config import TeacherConfig
from app.persistence import db
from app.providers.checking import check
from app.providers.profile import TeacherProfile
from app.runs.teachers import UNCHECKED, store_check

_THOUGHTS = {
    "none": "none",
    "tags": "between tags in the text",
    "field": "in a field of its own",
    "opened": "before a closing tag: the template opens it in the prompt",
}


def check_teachers(
    name: Annotated[str | None, typer.Argument(help="The name of a teacher. The default is all teachers.")] = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Request small replies in each form, and store the best form that the teacher supports."""
    with use_database(state_dir):
        configured = config.teachers()
        if name is not None and name not in configured:
            raise CommandError(f"No teacher {name!r} is configured; there are: {', '.join(configured) or 'none'}.")
        names = [name] if name else list(configured)
        failed = [name for name in names if not check_teacher(configured[name])]
    if failed:
        raise CommandError(f"No form of reply worked with {', '.join(failed)}. The answers are printed above.")


def check_teacher(teacher: TeacherConfig) -> bool:
    """Check one teacher, print each attempt, store the form of its replies, and return whether any form worked.

    Each attempt is a paid call.
    """
    result = asyncio.run(check(endpoint(teacher, UNCHECKED)))
    print(f"{teacher.name}: {teacher.model} at {teacher.address}")
    for attempt in result.attempts:
        tokens = (
            f", {attempt.usage.prompt} + {attempt.usage.completion} tokens" if attempt.usage else ", no usage reported"
        )
        outcome = f"{attempt.message} ({attempt.seconds:.1f} s{tokens if attempt.model else ''})"
        print(f"  {'works' if attempt.works else 'fails':6} {attempt.form:12} {outcome}")
    for form in result.impossible_forms:
        print(f"  none   {form:12} the protocol {teacher.protocol} can't ask for it")
    if not teacher.has_remote_batches:
        print(f"  none   {'batch mode':12} the protocol {teacher.protocol} has no remote batches")
    # A form that does not work would make every later call fail, so nothing is stored.
    if result.replies is None:
        return False
    with db.transaction() as session:
        store_check(session, teacher, result.replies, result.profile.to_json())
    _print_profile(result.profile)
    # The operator's setting has priority over the result of the check.
    chosen = result.replies if teacher.replies == "auto" else teacher.replies
    print(f"  used   {chosen:12} " + ("as checked" if teacher.replies == "auto" else "as configured"))
    return True


def _print_profile(profile: TeacherProfile) -> None:
    unknown = {None: "not known", True: "yes", False: "no"}
    answers = {
        "limit of tokens": f"as {profile.max_tokens_name}",
        "fields refused": ", ".join(profile.drops) or "none of those that were sent",
        "system text": "in a message of its own" if profile.system_turn == "own" else "before the text of the user",
        "streams": "required" if profile.streams else "not required",
        "several replies": unknown[profile.honours_n],
        "log probabilities": unknown[profile.has_logprobs],
        "thought": _THOUGHTS[profile.thought],
        "usage": "believed" if profile.usage_trusted else "missing or impossible, so tokens are estimated",
        "context": "not known" if profile.context_tokens is None else f"{profile.context_tokens} tokens",
    }
    for question, answer in answers.items():
        print(f"  {question:18} {answer}")
    print(f"  {len(profile.evidence)} calls:")
    for item in profile.evidence:
        received = " ".join(item.received.split())
        print(f"    {item.question} ({item.sent}): {received} ({item.seconds:.1f} s)")
