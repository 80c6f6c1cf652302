"""seedbed accounts: how much the teacher calls of a job may cost, and how much they have cost."""

from typing import Annotated

import typer

from app.cli.session import Session, connected, print_json
from app.cli.tables import console

app = typer.Typer(no_args_is_help=True)

# The certain cost and the holds are separate columns: their sum is what a ceiling limits.
USAGE = (
    *("usage.requests", "usage.unknown_requests", "usage.in_flight"),
    *("usage.prompt_tokens", "usage.cached_tokens", "usage.completion_tokens", "usage.unknown_tokens"),
    *("usage.cost_usd", "usage.certain_usd", "usage.possible_usd", "usage.held_usd"),
)
FIELDS = (
    *("id", "owner_type", "owner_id", "dataset_id", "state", "max_requests", "max_tokens", "max_usd", *USAGE, "note"),
)
SPENDING = (
    *("name", "calls", "tries", "prompt_tokens", "completion_tokens", "unknown_requests"),
    *("cost_usd", "certain_usd", "possible_usd"),
)


@app.command("list")
@connected
def list_all(
    session: Session,
    dataset: Annotated[str | None, typer.Option(help="Only the accounts of jobs on this dataset.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only the account of this run or judgement.")] = None,
) -> None:
    """List all accounts, newest first."""
    rows = session.client.find("accounts", dataset_id=dataset, owner_id=owner)
    # A list shows the numbers to compare accounts by; `show` has all of them.
    usage_fields = ("usage.requests", "usage.certain_usd", "usage.possible_usd", "usage.held_usd")
    session.table(rows, ("id", "owner_id", "state", "max_usd", *usage_fields))


@app.command("show")
@connected
def show(session: Session, id: str) -> None:
    """Show one account: its ceilings, and how much was spent."""
    session.show(session.client.get(id), FIELDS)


@app.command("report")
@connected
def report(session: Session, id: str) -> None:
    """Show calls, tokens and dollars by step, teacher and operation, and the calls whose answer never arrived."""
    account_report = session.client.account_report(id)
    if session.json:
        print_json(account_report)
        return
    for group in ("steps", "teachers", "operations"):
        console().print(f"\n{group}")
        session.table(account_report[group], SPENDING)
    # Most accounts have no lost calls, and an empty table would look like a fault.
    if account_report["lost_calls"]:
        console().print("\nlost calls")
        fields = ("step", "teacher", "state", "worst_usd", "held_usd", "estimated_usd", "created_at")
        session.table(account_report["lost_calls"], fields)


@app.command("release")
@connected
def release(session: Session, id: str) -> None:
    """Reduce the amount that lost calls reserve under the ceilings to their estimated cost."""
    session.show(session.client.release(id), FIELDS)
