"""The stages of the demo. Each stage is a job that the demo follows to its end."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from app.cli import progress
from app.cli.readback import read_back
from app.cli.session import CommandError
from app.client import Seedbed, SeedbedError

# A cancel takes effect within about this time. The user waits for it after Ctrl-C.
CANCEL_SECONDS = 4


@dataclass
class DemoStages:
    """The jobs and files of one demo.

    Attributes:
        client: The client of the service.
        stamp: The date and time of the start. It makes the names of the demo unique.
        out: The folder for the downloaded files.
        jobs: The last state of each stage's job, by the name of the stage.
        seconds: The duration of each stage, by the name of the stage.
        files: A description and the path of each downloaded file.
    """

    client: Seedbed
    stamp: str
    out: Path
    jobs: dict[str, dict] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    files: list[tuple[str, Path]] = field(default_factory=list)

    def run_stage(self, name: str, title: str, begin: Callable[[], dict], measure: Callable) -> dict:
        """Start a job with `begin`, follow it to its end, and return its last state. Ctrl-C cancels the job.

        Raises:
            CommandError: The job did not succeed.
            KeyboardInterrupt: The user pressed Ctrl-C.
        """
        start = time.monotonic()
        job = begin()
        try:
            with progress.show_progress(title, measure) as update:
                job = self.client.wait(job, update)
        except KeyboardInterrupt:
            # Otherwise the run would continue to make paid calls without its user.
            self._cancel(job)
            raise
        self.jobs[name], self.seconds[name] = job, time.monotonic() - start
        if job["status"] != "succeeded":
            # A job that ended at a ceiling has no error, only a reason.
            why = job.get("error") or job.get("stop_reason")
            raise CommandError(f"{title} ended {job['status']}: {why} ({job['id']})")
        return job

    def _cancel(self, job: dict) -> None:
        try:
            job = self.client.act(job["id"], "cancel")
            # Teacher calls in flight need a moment to end. The stack stops after that, and their answers would be lost.
            deadline = time.monotonic() + CANCEL_SECONDS
            while job["status"] == "cancelling" and time.monotonic() < deadline:
                time.sleep(0.2)
                job = self.client.get(job["id"])
            print(f"\n{job['id']} is {job['status']}.", flush=True)
        except SeedbedError as error:
            print(f"\n{job['id']} could not be cancelled: {error}", flush=True)

    def download(self) -> None:
        """Download every file and check its content (`read_back`).

        Raises:
            CommandError: A file is not valid, or the fine-tune has no adapter.
        """
        start = time.monotonic()
        for name in ("snapshot", "fine-tune"):
            for file, path in self.client.download_all(self.jobs[name], self.out / name):
                self.files.append((read_back(path, file.get("rows")), path))
        # Without an adapter the demo would end well with nothing to use.
        if not any(path.name.endswith(".safetensors") for _, path in self.files):
            raise CommandError(f"The fine-tune {self.jobs['fine-tune']['id']} has no adapter among its files.")
        self.seconds["download"] = time.monotonic() - start
