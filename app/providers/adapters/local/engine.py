"""One model with a thread of its own, which answers the calls of all teachers of a process in batches."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue

from app.providers.adapters.local.generation import Call, generate
from app.providers.adapters.local.model import LoadedModel, load_model
from app.providers.teacher import LocalModel

# A token costs about as much for several calls as for one, since the weights are read once for all of them.
MAX_BATCH = 8
# The calls of one batch of work come one after another. Without a wait the first would be answered alone.
GATHER_SECONDS = 0.05


class Engine:
    """Loads the model once, and answers what waits in the order in which it came.

    Args:
        source: Where the weights are.
        load: Loads them.
    """

    def __init__(self, source: LocalModel, load: Callable[[LocalModel], LoadedModel] = load_model):
        self.source = source
        self._load = load
        self._loading: Future[LoadedModel] | None = None
        self._lock = threading.Lock()
        self._waiting: SimpleQueue[Call] = SimpleQueue()
        # One thread: a model's tokenizer is not safe to share, and two calls at once would compete for the same cores.
        self._thread = ThreadPoolExecutor(1, "local-teacher")

    def load(self) -> "Future[LoadedModel]":
        """Start to load the model unless it is loaded or loading. A failed load is tried again by the next call."""
        with self._lock:
            failed = self._loading is not None and self._loading.done() and self._loading.exception() is not None
            if self._loading is None or failed:
                self._loading = self._thread.submit(self._load, self.source)
            return self._loading

    def submit(self, call: Call) -> Future:
        """Return the future Answer of the call. `load` must have ended well."""
        self._waiting.put(call)
        self._thread.submit(self._answer_waiting)
        return call.future

    def run(self, function: Callable, *arguments: object) -> Future:
        """Run a function in the thread of the model, so that no call is answered meanwhile."""
        return self._thread.submit(function, *arguments)

    def _answer_waiting(self) -> None:
        calls = [call for call in self._take_calls() if call.future.set_running_or_notify_cancel()]
        if not calls:
            return
        try:
            answers = generate(self._loading.result(), calls)
        except Exception as error:
            for call in calls:
                call.future.set_exception(error)
            return
        for call, answer in zip(calls, answers, strict=True):
            call.future.set_result(answer)

    def _take_calls(self) -> list[Call]:
        """Return the calls that wait; none when the batch before took them all."""
        calls: list[Call] = []
        with suppress(Empty):
            calls.append(self._waiting.get_nowait())
            while len(calls) < MAX_BATCH:
                calls.append(self._waiting.get(timeout=GATHER_SECONDS))
        return calls


_engines: dict[LocalModel, Engine] = {}
_engines_lock = threading.Lock()


def engine_of(source: LocalModel) -> Engine:
    """Return the engine of the model, one for each model and process."""
    with _engines_lock:
        if source not in _engines:
            _engines[source] = Engine(source)
        return _engines[source]
