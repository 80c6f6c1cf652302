"""What the poller of the generation worker calls while no wake-ups arrive."""

import pytest

from workers.generation import WORK_BY_QUERY


@pytest.mark.parametrize("work", list(dict.fromkeys(WORK_BY_QUERY.values())), ids=lambda work: work.__name__)
def test_a_job_that_was_deleted_since_it_was_listed_is_no_error(database, work):
    work("job_that_was_deleted")
