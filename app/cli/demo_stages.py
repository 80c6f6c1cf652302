"""The stages of the demo: each is a job that is followed to its end."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from app.cli import progress
from app.cli.readback import read_back
from app.cli.session import CommandError
from app.client import Seedbed, SeedbedError

CANCEL_SECONDS = 4


@dataclass
class DemoStages:
    """One walk through the service. `jobs` holds each stage's last state, `seconds` what it took.

    `files` holds each downloaded file, with a description of what it contains.
    """

    client: Seedbed
    stamp: str
    out: Path
    jobs: dict[str, dict] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    files: list[tuple[str, Path]] = field(default_factory=list)

    def run(self, name: str, title: str, begin: Callable[[], dict], measure: Callable) -> dict:
        """Start a job and follow it to its end. One that did not succeed ends the demo; Ctrl-C cancels it."""
        start = time.monotonic()
        job = begin()
        try:
            with progress.stage(title, measure) as update:
                job = self.client.wait(job, update)
        except KeyboardInterrupt:
            self._cancel(job)
            raise
        self.jobs[name], self.seconds[name] = job, time.monotonic() - start
        if job["status"] != "succeeded":
            why = job.get("error") or job.get("stop_reason")
            raise CommandError(f"{title} ended {job['status']}: {why} ({job['id']})")
        return job

    def _cancel(self, job: dict) -> None:
        try:
            job = self.client.act(job["id"], "cancel")
            # What is in flight needs a moment; the stack ends after it.
            until = time.monotonic() + CANCEL_SECONDS
            while job["status"] == "cancelling" and time.monotonic() < until:
                time.sleep(0.2)
                job = self.client.get(job["id"])
            print(f"\n{job['id']} is {job['status']}.", flush=True)
        except SeedbedError as error:
            print(f"\n{job['id']} could not be cancelled: {error}", flush=True)

    def download(self) -> None:
        """Fetch every file and read it back: rows counted and parsed, the adapter's header opened."""
        start = time.monotonic()
        for name in ("snapshot", "fine-tune"):
            for file, path in self.client.download_all(self.jobs[name], self.out / name):
                self.files.append((read_back(path, file.get("rows")), path))
        if not any(path.name.endswith(".safetensors") for _, path in self.files):
            raise CommandError(f"{self.jobs['fine-tune']['id']} left no adapter.")
        self.seconds["download"] = time.monotonic() - start
