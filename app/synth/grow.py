"""A whole run in one process, for a notebook: material and a function of one's own in, rows out."""

import asyncio
import inspect
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from app.synth.methods import METHODS
from app.synth.pool import Pool, Thresholds, identity
from app.synth.supply import Supply, as_parents, as_passages, as_sources
from app.synth.types import Candidate, Demonstration, Encode, Instance, Parent, Prompt, Rejection, Reply

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


def grow(
    method: str,
    seeds: Sequence[Demonstration],
    teacher: Teacher | None,
    target: int,
    *,
    records: Iterable[Parent] | None = None,
    labelled: dict[str, Iterable[dict]] | None = None,
    documents: Iterable[str | tuple[str, str]] = (),
    judge: Teacher | None = None,
    language: str = "en",
    encode: Encode | None = None,
    options: dict | None = None,
    max_calls: int | None = None,
    seed: int = 0,
    parallel: int = 4,
    progress: Callable[[Growth], None] = lambda growth: None,
) -> Growth:
    """Run a method until `target` rows are accepted, or `max_calls` (30 a row unless given) are made.

    `records` are what evolution, answers and dialogues grow from (the seeds unless given), `labelled` rows by task
    what templates fill in, `documents` what questions are asked on. Without `encode` only lexical novelty is asked
    for. The judge is the teacher unless another one is given. Raises whatever they raise, and ValueError for an
    unknown method, or without what it starts from. Works where an event loop already runs.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; there are {', '.join(METHODS)}")
    checked = METHODS[method].options.model_validate(options or {})
    supply = Supply(
        seeds=list(seeds),
        records=as_parents(seeds) if records is None else list(records),
        labelled=as_sources(labelled or {}),
        passages=as_passages(documents),
    )
    missing = supply.missing(method, checked)
    if missing:
        raise ValueError(missing)
    if METHODS[method].asks_teacher and teacher is None:
        raise ValueError(f"{method} needs a teacher")
    growing = _Growing(method, supply, {"teacher": teacher, "judge": judge or teacher}, target, language, encode)
    growing.options, growing.seed = checked, seed
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
    def __init__(self, method: str, supply: Supply, teachers: dict, target: int, language: str, encode: Encode | None):
        self.method, self.supply, self.teachers, self.target = method, supply, teachers, target
        self.language, self.encode = language, encode
        self.growth = Growth()
        self.pool = Pool(Thresholds())
        self.batches = 0
        self.copies: set[bytes] = set()
        known = {one.id: one.instruction for one in (*supply.seeds, *supply.records)}
        for (id, text), vector in zip(known.items(), self._vectors(list(known.values())), strict=True):
            self.pool.add(id, text, vector)

    async def work(self, parallel: int) -> Growth:
        while not self.growth.stop_reason:
            plans = [plan for plan in (self._plan() for _ in range(parallel)) if plan is not None]
            propose = METHODS[self.method].propose
            batches = [asyncio.ensure_future(propose(plan, self._ask, self._screen)) for plan in plans]
            try:
                for batch in asyncio.as_completed(batches):
                    self._admit((await batch).candidates)
            finally:
                # When one fails, the others come home before the error goes on.
                await asyncio.gather(*batches, return_exceptions=True)
            if not plans and not self.growth.stop_reason:
                self.growth.stop_reason = "exhausted"
        return self.growth

    def _plan(self):
        self.batches += 1
        return self.supply.batch(self.method, self.options, self.language, self.batches - 1, self.seed)

    async def _ask(self, prompt: Prompt) -> Reply:
        self.growth.calls += 1
        id = f"call-{self.growth.calls}"
        # A plain function may block for seconds: in a thread, other chains go on meanwhile.
        answer = await asyncio.to_thread(self.teachers[prompt.by], prompt.messages())
        text = await answer if inspect.isawaitable(answer) else answer
        return Reply(text or "", id=id)

    async def _screen(self, draft: Candidate) -> Rejection | None:
        return self.pool.check_lexical(draft.instruction, draft.resembles)

    def _vectors(self, texts: Sequence[str]) -> list[np.ndarray | None]:
        return list(self.encode(texts)) if self.encode and texts else [None] * len(texts)

    def _admit(self, candidates: Sequence[Candidate]) -> None:
        growth, fresh = self.growth, [c for c in candidates if c.rejection is None]
        growth.rejected += [c for c in candidates if c.rejection is not None]
        names: dict[str, str] = {}
        families: dict[str, Rejection | None] = {}
        for row, vector in zip(fresh, self._vectors([c.instruction for c in fresh]), strict=True):
            id = f"row-{len(growth.accepted)}"
            names[row.name or id] = id
            row = replace(row, **{field: _renamed(getattr(row, field), names) for field in ("parents", "resembles")})
            found = self._found(row, id, vector, families)
            if found is None and len(growth.accepted) >= self.target:
                found = Rejection("surplus")
            if found is not None:
                growth.rejected.append(replace(row, rejection=found))
                continue
            self.copies.add(identity(row))
            growth.accepted.append(row)
            self._keep(row, id, vector)
        if len(growth.accepted) >= self.target:
            growth.stop_reason = "target_reached"
        elif growth.calls >= self.limit:
            growth.stop_reason = "max_calls"
        self.progress(growth)

    def _found(self, row: Candidate, id: str, vector, families: dict[str, Rejection | None]) -> Rejection | None:
        if identity(row) in self.copies:
            return Rejection("duplicate_exact", 1.0, 1.0, nearest_text=row.instruction)
        if row.scope == "row":
            return None
        text = row.instruction
        if text not in families:
            families[text] = self.pool.check(text, vector, row.resembles)
            if families[text] is None:
                self.pool.add(id, text, vector)
        return families[text]

    def _keep(self, row: Candidate, id: str, vector) -> None:
        shown = Demonstration(id, row.instruction, (Instance(row.input, row.output),), row.is_classification)
        self.supply.made.append(shown)
        self.supply.vectors.append(vector)
        self.supply.task_types[row.tags.get("task_type", "")] += 1


def _renamed(given: Sequence[str], names: dict[str, str]) -> tuple[str, ...]:
    return tuple(names.get(one, one) for one in given)
