"""The REST endpoints of accounts."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.access.dependencies import Authorized
from app.api.paging import After, Limit, Page, page
from app.api.session import Db
from app.calls import service, store
from app.calls.schemas import AccountReport, AccountView

router = APIRouter(prefix="/v1", tags=["accounts"])
Filter = Annotated[str | None, Query(max_length=100)]


@router.get("/accounts", operation_id="listAccounts", response_model=Page[AccountView])
def list_all(
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: After = None,
    owner_type: Filter = None,
    owner_id: Filter = None,
    dataset_id: Filter = None,
):
    """List the accounts, newest first: what each run and judgement may spend on teacher calls, and has spent."""
    filters = {"owner_type": owner_type, "owner_id": owner_id, "dataset_id": dataset_id}
    set_filters = {name: value for name, value in filters.items() if value is not None}
    rows = store.accounts(session, caller.project_id, set_filters, limit, after)
    views = service.views(session, rows)
    return page(rows, limit, lambda row: views[row.id])


@router.get("/accounts/{id}", operation_id="getAccount", response_model=AccountView)
def show(id: str, caller: Authorized, session: Db):
    """Return one account: the ceilings of its job's teacher calls, and what they have cost."""
    return service.show(session, caller, id)


@router.get("/accounts/{id}/report", operation_id="getAccountReport", response_model=AccountReport)
def report(id: str, caller: Authorized, session: Db):
    """Return the calls, tokens and dollars by step, teacher and operation, and the calls whose answer never came."""
    return service.report(session, store.account(session, caller.project_id, id))


@router.post("/accounts/{id}/release", operation_id="releaseAccount", response_model=AccountView)
def release(id: str, caller: Authorized, session: Db):
    """Release the worst-case holds of lost calls: from now on each holds its estimate of the ceilings.

    The calls stay visible as lost. Release them when the teacher's bill shows that they were cheaper, or not billed.
    """
    return service.release(session, caller, id)
