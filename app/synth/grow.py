"""A whole run in one process, for a notebook: seeds and a function of one's own in, rows out."""

import asyncio
import inspect
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from app.synth import self_instruct
from app.synth.pool import Pool, Thresholds
from app.synth.types import Candidate, Demonstration, Encode, Instance, Prompt, Rejection, Reply

Teacher = Callable[[list[dict]], str | Awaitable[str]]
"""Chat messages in, the text of the reply out; a plain or an async function."""


@dataclass
class Growth:
    """What came out: accepted rows, and the rest with its reasons."""

    accepted: list[Candidate] = field(default_factory=list)
    rejected: list[Candidate] = field(default_factory=list)
    stop_reason: str = ""
    calls: int = 0

    def reasons(self) -> dict[str, int]:
        return dict(Counter(row.rejection.reason for row in self.rejected).most_common())


METHODS = {"self_instruct": self_instruct}


def grow(
    method: str,
    seeds: Sequence[Demonstration],
    teacher: Teacher,
    target: int,
    *,
    language: str = "en",
    encode: Encode | None = None,
    options: dict | None = None,
    max_calls: int | None = None,
    seed: int = 0,
    parallel: int = 4,
    progress: Callable[[Growth], None] = lambda growth: None,
) -> Growth:
    """Run a method until `target` rows are accepted, or `max_calls` (30 a row unless given) are made.

    Without `encode` only lexical novelty is asked for. Raises whatever `teacher` raises, and
    ValueError for an unknown method or without seeds. Works where an event loop already runs.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; there are {', '.join(METHODS)}")
    if not seeds:
        raise ValueError("at least one seed is needed")
    growing = _Growing(seeds, teacher, target, language, encode, options or {}, seed)
    growing.limit = max_calls or 30 * target
    growing.progress = progress
    return _run(growing.work(parallel))


def _run(work: Awaitable[Growth]) -> Growth:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    return _run_in_thread(work)


def _run_in_thread(work: Awaitable[Growth]) -> Growth:
    """A notebook's loop is busy with the cell that called us."""
    outcome: dict = {}

    def target() -> None:
        try:
            outcome["value"] = asyncio.run(work)
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


class _Growing:
    def __init__(self, seeds, teacher, target, language, encode, options, seed):
        self.seeds, self.teacher, self.target = list(seeds), teacher, target
        self.language, self.encode, self.seed = language, encode, seed
        self.options = self_instruct.Options.model_validate(options)
        self.growth = Growth()
        self.pool = Pool(Thresholds())
        self.batches = 0
        vectors = encode([s.instruction for s in self.seeds]) if encode else [None] * len(self.seeds)
        for one, vector in zip(self.seeds, vectors, strict=True):
            self.pool.add(one.id, one.instruction, vector)

    async def work(self, parallel: int) -> Growth:
        while not self.growth.stop_reason:
            plans = [self._plan() for _ in range(parallel)]
            for batch in asyncio.as_completed([self_instruct.propose(p, self._ask, self._screen) for p in plans]):
                self._admit((await batch).candidates)
        return self.growth

    def _plan(self) -> self_instruct.Batch:
        rng = random.Random(f"{self.seed}-{self.batches}")
        self.batches += 1
        pool = [_as_demonstration(row, str(n)) for n, row in enumerate(self.growth.accepted)]
        return self_instruct.Batch(
            self_instruct.mix_demonstrations(self.seeds, pool, self.options, rng),
            tuple(self.seeds),
            self.language,
            rng.randrange(2**31),
            self.options,
        )

    async def _ask(self, prompt: Prompt) -> Reply:
        self.growth.calls += 1
        # A plain function may block for seconds: in a thread, other chains go on meanwhile.
        answer = await asyncio.to_thread(self.teacher, prompt.messages())
        text = await answer if inspect.isawaitable(answer) else answer
        return Reply(text or "")

    async def _screen(self, instruction: str) -> Rejection | None:
        return self.pool.screen(instruction)

    def _admit(self, candidates: Sequence[Candidate]) -> None:
        growth, fresh = self.growth, [c for c in candidates if c.rejection is None]
        growth.rejected += [c for c in candidates if c.rejection is not None]
        vectors = self.encode([c.instruction for c in fresh]) if self.encode and fresh else [None] * len(fresh)
        families: dict[str, Rejection | None] = {}
        for candidate, vector in zip(fresh, vectors, strict=True):
            text = candidate.instruction
            if text not in families:
                families[text] = self.pool.check(text, vector)
                if families[text] is None:
                    self.pool.add(str(len(self.pool)), text, vector)
            found = families[text] or (Rejection("surplus") if len(growth.accepted) >= self.target else None)
            (growth.rejected if found else growth.accepted).append(replace(candidate, rejection=found))
        if len(growth.accepted) >= self.target:
            growth.stop_reason = "target_reached"
        elif growth.calls >= self.limit:
            growth.stop_reason = "max_calls"
        self.progress(growth)


def _as_demonstration(row: Candidate, id: str) -> Demonstration:
    return Demonstration(id, row.instruction, (Instance(row.input, row.output),), row.is_classification)
