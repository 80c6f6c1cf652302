"""A judgement's report: outcomes, cost by step, and the scores of the judged rows in numbers."""

from sqlalchemy.orm import Session

from app.api.schemas import SIMULATED_NOTE
from app.calls import service as accounts
from app.calls import store as accounts_store
from app.judgements import store
from app.judgements.schemas import JudgementReport
from app.synth.quality.report import quality_report
from app.tables.judgements import Judgement

# So many rows give the shares and means within about two percentage points.
MAX_SAMPLED_ROWS = 2000


def build_report(session: Session, row: Judgement) -> JudgementReport:
    """Return the report; its scores are those of a fixed sample where more rows were judged."""
    account = accounts_store.account(session, row.project_id, row.account_id)
    sample = store.sample_judged_rows(session, row.id, MAX_SAMPLED_ROWS)
    return JudgementReport(
        judgement_id=row.id,
        rows=row.rows,
        done_rows=row.done_rows,
        outcomes=row.outcomes,
        rejected=row.rejected,
        economy=accounts.report(session, account),
        sampled_rows=len(sample),
        quality=quality_report(sample, None, None),
        simulated=account.simulated,
        note=SIMULATED_NOTE if account.simulated else None,
    )
