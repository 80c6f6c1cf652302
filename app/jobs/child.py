"""The training child: a process group of its own, that sees no secret, and is never left behind."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
# A job that is cancelled has ended in 5 seconds: its child must have, too.
TERM_SECONDS = 2
STDERR_BYTES = 4096

# What a training needs of our environment. Everything else stays here: addresses, keys, passwords.
_ALLOWED = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "HF_HOME"}
_ALLOWED_STARTS = ("CUDA_", "NVIDIA_", "NCCL_", "HF_HUB_", "OMP_", "MKL_", "TORCH")


def environment(inherited: dict[str, str]) -> dict[str, str]:
    """The part of the environment that the child may see."""
    allowed_variables = {
        name: value
        for name, value in inherited.items()
        if name in _ALLOWED or (name.startswith(_ALLOWED_STARTS) and "TOKEN" not in name)
    }
    path = os.pathsep.join(part for part in (str(PROJECT), inherited.get("PYTHONPATH", "")) if part)
    return allowed_variables | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


class Child:
    """`python -m workers.recipes.sft job.json`, or another recipe, and the events it prints."""

    def __init__(self, job: Path, recipe: str = "workers.recipes.sft"):
        # Started from the calling thread: the child dies with the thread that made it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", recipe, str(job)],
            cwd=job.parent,
            env=environment(dict(os.environ)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._tail = b""
        self._errors = threading.Thread(target=self._read_errors, daemon=True)
        self._errors.start()
        threading.Thread(target=self._read_events, daemon=True).start()

    def _read_events(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        while chunk := self._process.stderr.read1(STDERR_BYTES):
            self._tail = (self._tail + chunk)[-STDERR_BYTES:]

    def next_event(self, seconds: float) -> dict | None:
        """The next event; {} when none came in time; None when the child has closed its output, or has ended."""
        # Looked at before the wait: what the child printed before its end has been read by the end of the wait.
        # The output itself may stay open, held by a process that the child left behind.
        ended = self._process.poll() is not None
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None if ended else {}
        if line is None:
            return None
        try:
            event = json.loads(line)
        except ValueError:
            return {}
        return event if isinstance(event, dict) else {}

    def wait(self) -> int:
        status = self._process.wait()
        # Its last words may still be on their way; whoever else holds stderr open is not waited for.
        self._errors.join(timeout=1)
        return status

    @property
    def last_words(self) -> str:
        """The end of what the child wrote on stderr, without the NUL that no store can hold."""
        return self._tail.decode("utf-8", "replace").replace("\0", "").strip()

    def end(self) -> None:
        """End the whole group, gently first. Safe to call at any time."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(TERM_SECONDS)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
