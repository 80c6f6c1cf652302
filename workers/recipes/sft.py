"""Supervised fine-tuning of a causal language model: `python -m workers.recipes.sft job.json`.

It runs in its own child process: it reads the job and its files, writes `output_dir/artifacts`, and reports its
progress as JSON lines on stdout (app/training_jobs/jobs.py defines the job, events.py the lines). It reads no secrets
and no database. The training is in fine_tune.py; process.py defines the exit status.
"""

import sys

from app.training_jobs.jobs import FineTuneJob
from workers.recipes.process import start_recipe

if __name__ == "__main__":
    sys.exit(start_recipe(sys.argv[1:], FineTuneJob, "workers.recipes.fine_tune"))
