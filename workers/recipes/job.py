"""The job file, read once and checked before anything slow starts."""

import json
from pathlib import Path

from app.training_jobs.jobs import Job, JobError, parse_job
from workers.recipes.failures import Failure


def read_job(path: Path, model: type[Job]) -> Job:
    """Return the job in a file.

    Args:
        path: The job file, which contains JSON.
        model: The class of the job, FineTuneJob or ScoreJob.

    Raises:
        Failure: invalid_job; the message names the field and says what it should be.
    """
    try:
        return parse_job(json.loads(path.read_text(encoding="utf-8")), model)
    except OSError as error:
        raise Failure("invalid_job", f"The job file cannot be read: {error.strerror}.") from error
    except JobError as error:
        raise Failure("invalid_job", str(error)) from error
    except ValueError as error:
        raise Failure("invalid_job", f"The job file is not JSON: {error}.") from error
