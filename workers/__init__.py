"""The processes that do the long jobs: a Celery worker for each queue, and the sweeper."""
