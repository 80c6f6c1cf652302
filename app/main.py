"""The API process: `uvicorn --factory app.main:create_app`."""

import logging

from fastapi import FastAPI

from app import config
from app.api import health, problems
from app.api.deprecation import old_paths
from app.calls import endpoints as accounts
from app.datasets import endpoints as datasets
from app.finetunes import endpoints as finetunes
from app.judgements import endpoints as judgements
from app.likelihood_scores import endpoints as likelihood_scores
from app.maintenance import endpoints as maintenance
from app.masking import mask_logs
from app.runs import endpoints as runs
from app.snapshots import endpoints as snapshots

DESCRIPTION = """
Grow instruction-tuning data from seed tasks, look at what was accepted and why the rest was not,
freeze it into a snapshot, and fine-tune a model on it.

Send your key as `Authorization: Bearer sb_…`. Creating POSTs take an `Idempotency-Key`. Long work answers
202 with a `Location` to poll. Errors are `application/problem+json` and name the field at fault.
"""


def create_app() -> FastAPI:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    mask_logs(config.secrets())
    app = FastAPI(title="Seedbed", version="0.1.0", description=DESCRIPTION)
    app.add_middleware(problems.BodySizeLimit, max_bytes=config.limits().request_body)
    problems.register_error_handlers(app)
    for endpoints in (datasets, runs, accounts, judgements, maintenance, snapshots, finetunes, likelihood_scores):
        app.include_router(endpoints.router)
    app.include_router(old_paths(maintenance.router, "/v1/reviews", "/v1/maintenance-jobs"))
    app.include_router(old_paths(likelihood_scores.router, "/v1/scorings", "/v1/likelihood-scores"))
    app.include_router(health.router)
    return app
