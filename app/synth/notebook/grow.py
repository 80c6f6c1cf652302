"""A whole run in one process, for a notebook: from material and a teacher function to accepted rows."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from app.synth.decide import InMemoryPool
from app.synth.methods.registry import METHODS
from app.synth.notebook.call_account import CallAccount, Ceilings
from app.synth.notebook.function_caller import FunctionCaller, Sleep
from app.synth.notebook.growing import Growing, Growth, encode_all
from app.synth.notebook.in_memory_material import InMemoryMaterial, as_parents, as_passages, as_sources
from app.synth.notebook.reply_ledger import ReplyLedger
from app.synth.novelty.pool import Scope, Thresholds, comparison_text
from app.synth.prices import Prices
from app.synth.teacher_functions import TeacherFunction
from app.synth.types import Candidate, Demonstration, Encode, Parent

# The ceiling of calls per target row by default: a growth that rejects nearly everything ends.
CALLS_PER_ROW = 30


def grow(
    method: str,
    seeds: Sequence[Demonstration],
    teacher: TeacherFunction | None,
    target: int,
    *,
    records: Iterable[Parent] | None = None,
    labelled: dict[str, Iterable[dict]] | None = None,
    documents: Iterable[str | tuple[str, str]] = (),
    judge: TeacherFunction | None = None,
    language: str = "en",
    encode: Encode | None = None,
    scope: Scope = "instruction",
    thresholds: Thresholds | None = None,
    options: dict | None = None,
    max_calls: int | None = None,
    max_tokens: int | None = None,
    max_usd: float | str | Decimal | None = None,
    prices: Prices | None = None,
    judge_prices: Prices | None = None,
    ledger: str | Path | None = None,
    seed: int = 0,
    parallel: int = 4,
    progress: Callable[[Growth], None] = lambda growth: None,
    sleep: Sleep = asyncio.sleep,
) -> Growth:
    """Run a method until `target` rows are accepted, or a ceiling is reached.

    `records` are what evolution, answers and dialogues grow from (the seeds unless given), `labelled` rows by task
    what templates fill in, `documents` what questions are asked on. Without `encode` only lexical novelty is asked
    for. The judge is the teacher unless another one is given.

    Ceilings hold for every call, before it is made: `max_calls` (30 a row unless given), `max_tokens`, and `max_usd`
    at `prices` (`synth.Prices.per_million(prompt, completion)`; the judge's are the teacher's unless given). A call's
    worst case is reserved: a token for each byte of its messages, and the step's most tokens (an option of the
    method) for the reply, which a teacher should keep to. A teacher that returns a text is counted by an estimate:
    four bytes a token. One that returns a `synth.Reply` with its `usage` is counted exactly.

    A call that raises is tried again as in the service, by the status, code and headers of the exception; after
    its tries it costs one proposal, which is rejected as `call_failed` or `request_refused` with the message.
    Refused credentials, no credit or an unknown model end the growth, and so do 5 failed calls in a row. The accepted
    rows are returned in any case, also after Ctrl-C; see `Growth.stop_reason`.

    `ledger`: a file that keeps every reply. A second growth with the same arguments finds the replies and makes
    only the calls that are missing; name another file for another teacher, since a function has no name to go by.
    With the same replies the same rows come out, in whatever order the replies arrive: batches are planned in rounds
    of up to `parallel`, and admitted in their order.

    It works where an event loop already runs.

    Raises:
        ValueError: arguments do not go together: an unknown method, nothing to start from, a filter that no record
            fits. An error of `encode` for the seeds is raised as it is.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; there are {', '.join(METHODS)}")
    if (max_usd is not None or judge_prices is not None) and prices is None:
        raise ValueError("max_usd and judge_prices need prices: give prices=synth.Prices.per_million(…)")
    valid_options = METHODS[method].options.model_validate(options or {})
    parents = as_parents(seeds)
    record_list = parents if records is None else [_with_group(record) for record in records]
    material = InMemoryMaterial(seeds, record_list, as_sources(labelled or {}), as_passages(documents))
    missing = material.find_missing_material(method, valid_options)
    if missing is None and METHODS[method].asks_teacher and teacher is None:
        missing = f"{method} needs a teacher"
    if missing is not None:
        raise ValueError(missing)
    # Seeds and records are in the pool before the first batch, so that no row repeats one of them.
    pool = InMemoryPool(scope, thresholds or Thresholds())
    _fill(pool, {row.id: row for row in (*parents, *record_list)}, encode)
    # Everything that can be refused is checked before the ledger is opened and a call is made.
    limit = CALLS_PER_ROW * target if max_calls is None else max_calls
    ceilings = Ceilings(limit, max_tokens, None if max_usd is None else _dollars(max_usd))
    account = CallAccount(ceilings, {"teacher": prices, "judge": judge_prices or prices} if prices else {})
    # What the file holds was paid for under the same ceilings, so it counts before the first call.
    with ReplyLedger(ledger) as reply_ledger:
        for entry in reply_ledger.entries:
            account.add(1, entry.tokens, entry.usd)
        caller = FunctionCaller(
            {"teacher": teacher, "judge": judge or teacher}, account, reply_ledger, method, seed, sleep
        )
        return Growing(
            method, valid_options, language, seed, target, parallel, material, pool, encode, caller, account, progress
        ).run()


def _dollars(value: float | str | Decimal) -> Decimal:
    try:
        dollars = Decimal(str(value))
    except ArithmeticError as error:
        raise ValueError(f"max_usd is a number of dollars, not {value!r}") from error
    if not dollars.is_finite() or dollars < 0:
        raise ValueError(f"max_usd is a number of dollars, 0 or more, not {value!r}")
    return dollars


def _with_group(record: Parent) -> Parent:
    """Return the record as one of its group: what evolves from it may be near to the representative."""
    if record.id.startswith(("row-", "rejected-")):
        raise ValueError(f"a record can't have the id {record.id!r}: new rows are named so; give it another id")
    group_id = record.group_id or record.id
    return replace(record, group_id=group_id, ancestors=tuple(dict.fromkeys([*record.ancestors, group_id])))


def _fill(pool: InMemoryPool, parents: dict[str, Parent], encode: Encode | None) -> None:
    rows = {id: Candidate(parent.instruction, parent.input, parent.output) for id, parent in parents.items()}
    vectors = encode_all(encode, [comparison_text(pool.scope, row) for row in rows.values()])
    for (id, row), vector in zip(rows.items(), vectors, strict=True):
        pool.add_existing(id, row, vector)
