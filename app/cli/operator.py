"""What an operator does: start a stack, look after the database, see what is configured."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.config import TeacherConfig

from app.cli.session import DEFAULT_HOME, CommandError, HomeOption, Session, connected

keys = typer.Typer(no_args_is_help=True, help="API keys (works on the database itself).")
teachers = typer.Typer(no_args_is_help=True, help="The teachers that are configured.")
base_models = typer.Typer(no_args_is_help=True, help="The base models that are configured.")


@keys.command("create")
def create_key(
    project: Annotated[str, typer.Option(help="The key's project; it is made if it is new.")] = "default",
    name: Annotated[str, typer.Option(help="A note on what it is for.")] = "seedbed keys create",
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Make an API key, and print it: nothing but its hash is kept."""
    use_database(home)
    from app import db
    from app.access import service

    with db.transaction() as session:
        key = service.create_key(session, service.ensure_project(session, project), name)
    print(key)


def migrate(home: HomeOption = DEFAULT_HOME) -> None:
    """Bring the database to the newest schema."""
    use_database(home)
    from app.migrate import upgrade

    upgrade()
    print("The database is at the newest schema.")


@teachers.command("list")
@connected
def list_teachers(session: Session) -> None:
    """Names for `--teacher`, with prices in US dollars per million tokens."""
    fields = ("name", "model", "prompt_price", "cached_price", "completion_price", "in_flight", "replies")
    session.table(session.client.teachers(), fields)


@teachers.command("check")
def check_teacher(
    name: Annotated[str | None, typer.Argument(help="One teacher; all unless given.")] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Ask a teacher for small replies, find the form it can give, and remember it (works on the database itself)."""
    use_database(home)
    from app import config

    known = config.teachers()
    if name is not None and name not in known:
        raise CommandError(f"No teacher {name!r} is configured; there are: {', '.join(known) or 'none'}.")
    failed = [one for one in ([name] if name else known) if not _checked(known[one])]
    if failed:
        raise CommandError(f"No form of reply worked with {', '.join(failed)}; what it answered stands above.")


def _checked(teacher: "TeacherConfig") -> bool:
    """Check one teacher, tell what it did, and keep what was found."""
    import asyncio

    from app import db
    from app.calls.caller import endpoint
    from app.providers.checking import check
    from app.runs.teachers import UNCHECKED, keep

    found = asyncio.run(check(endpoint(teacher, UNCHECKED)))
    print(f"{teacher.name}: {teacher.model} at {teacher.base_url}")
    for one in found.tries:
        used = f", {one.usage.prompt} + {one.usage.completion} tokens" if one.usage else ", no usage told"
        told = f"{one.words} ({one.seconds:.1f} s{used if one.model else ''})"
        print(f"  {'works' if one.works else 'fails':6} {one.form:12} {told}")
    if found.replies is None:
        return False
    with db.transaction() as session:
        keep(session, teacher, found.replies)
    chosen = found.replies if teacher.replies == "auto" else teacher.replies
    print(f"  used   {chosen:12} " + ("as found" if teacher.replies == "auto" else "as configured"))
    return True


@base_models.command("list")
@connected
def list_base_models(session: Session) -> None:
    """Names for `--base-model`."""
    session.table(session.client.base_models(), ("name", "kind", "hub", "revision"))


def use_database(home: Path) -> None:
    """Work on DATABASE_URL, else on the database of the stack that runs on the home."""
    if os.environ.get("DATABASE_URL"):
        return
    from app.stack.home import Home

    state = Home(home.resolve()).read_state()
    if not state.get("database_url"):
        raise CommandError(f"Set DATABASE_URL, or start a stack: none runs on {home}.")
    os.environ["DATABASE_URL"] = state["database_url"]
