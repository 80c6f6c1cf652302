"""The library's `ask` for plain functions: it reads the ledger, or else reserves, calls, stores and tries again."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from app.synth.notebook.call_account import CallAccount, CeilingReached, Reservation
from app.synth.notebook.reply_ledger import Entry, ReplyLedger, key_of
from app.synth.prompting.repairs import repair_reply
from app.synth.teacher_errors import (
    TeacherRefused,
    TryAgain,
    meaning_of_exception,
    retry_delay,
    tries_are_used_up,
)
from app.synth.teacher_functions import TeacherFunction, call_function, reply_of
from app.synth.thoughts import separate_thought
from app.synth.types import CallFailed, CallsEnded, Prompt, Reply

Sleep = Callable[[float], Awaitable[None]]

# Five failed calls one after another mean that the teacher is down: each has waited through all of its tries.
MAX_FAILED_IN_A_ROW = 5
FATAL_REFUSALS = ("credentials_refused", "quota_exhausted", "model_unknown")
"""Refusals that every other request of the growth would get, too."""


class TeacherGone(CallsEnded):
    """The teacher answers no further call. `stop_reason`: the reason for which the growth ends."""

    def __init__(self, stop_reason: str, message: str):
        super().__init__(message)
        self.stop_reason = stop_reason


class FunctionCaller:
    """Calls functions as teacher and judge.

    Args:
        functions: the function of `teacher` and of `judge`.
        account: the account that pays.
        ledger: the stored replies.
        method: the method of the growth.
        seed: the seed of the growth.
        sleep: waits for seconds; a test gives its own.

    Attributes:
        requests: calls that the method made.
        replayed: the part of `requests` that the ledger answered.
        ended: the error that ended all calls, or None.
    """

    def __init__(
        self,
        functions: Mapping[str, TeacherFunction | None],
        account: CallAccount,
        ledger: ReplyLedger,
        method: str,
        seed: int,
        sleep: Sleep,
    ) -> None:
        self._functions, self._account, self._ledger = functions, account, ledger
        self._method, self._seed, self._sleep = method, seed, sleep
        self._failed_in_a_row = 0
        self.requests = self.replayed = 0
        self.ended: CeilingReached | TeacherGone | None = None

    async def ask(self, batch: int, prompt: Prompt) -> Reply:
        """Return the reply to a call of a batch.

        Args:
            batch: the number of the batch, from 0.
            prompt: the request.

        Raises:
            CallFailed: the tries of this call are used up.
            CallsEnded: no further call will be made.
        """
        self.requests += 1
        key = key_of(prompt, self._method, self._seed, batch)
        reply = self._ledger.find(key)
        if reply is not None:
            self.replayed += 1
        else:
            reply = await self._call(key, prompt)
        return replace(reply, id=f"{batch}/{prompt.position}")

    async def _call(self, key: str, prompt: Prompt) -> Reply:
        failures = throttled = 0
        while True:
            # Each try has a reservation of its own, since a try that times out may be billed.
            reservation = await self._reserve(prompt)
            try:
                reply = await self._try(key, prompt, reservation)
            except TeacherRefused as error:
                raise self._final_error(error) from error
            except TryAgain as error:
                failures, throttled = failures + (not error.throttled), throttled + error.throttled
                if tries_are_used_up(failures, throttled, error):
                    raise self._final_error(error) from error
                await self._sleep(retry_delay(failures + throttled, error.after))
            else:
                self._failed_in_a_row = 0
                return reply

    async def _reserve(self, prompt: Prompt) -> Reservation:
        if isinstance(self.ended, TeacherGone):
            raise self.ended
        # A ceiling is checked by each call again: a smaller call may still fit under it.
        try:
            return await self._account.reserve(prompt)
        except CeilingReached as error:
            self.ended = self.ended or error
            raise

    async def _try(self, key: str, prompt: Prompt, reservation: Reservation) -> Reply:
        """Call the function once. Its exceptions are raised as TryAgain or TeacherRefused."""
        try:
            answer = await call_function(self._functions[prompt.by], prompt.messages())
            # An answer of another type is a failed try, and may be billed like any answer.
            reply, estimated = reply_of(answer, prompt.messages())
            reply = repair_reply(separate_thought(reply, prompt.schema_keys), prompt.schema)
        except Exception as error:
            meaning = meaning_of_exception(error)
            if not isinstance(meaning, Reply):
                self._cancel_try(key, reservation, isinstance(meaning, TryAgain) and meaning.paid is None)
                raise meaning from error
            return self._post_reply(key, reservation, meaning, False)
        except BaseException as error:
            # Cancelled in flight: the answer may be under way and billed.
            self._cancel_try(key, reservation, True)
            if _was_raised_by_the_function(error):
                raise TryAgain(f"the teacher raised {type(error).__name__}", paid=None) from error
            raise
        return self._post_reply(key, reservation, reply, estimated)

    def _post_reply(self, key: str, reservation: Reservation, reply: Reply, estimated: bool) -> Reply:
        usd = self._account.post(reservation, reply.usage)
        self._ledger.append(Entry(key, reply, reply.usage.prompt + reply.usage.completion, usd, estimated))
        return reply

    def _cancel_try(self, key: str, reservation: Reservation, may_be_billed: bool) -> None:
        self._account.cancel(reservation, may_be_billed)
        if may_be_billed:
            self._ledger.append(Entry(key, None, reservation.tokens, reservation.usd))

    def _final_error(self, error: TeacherRefused | TryAgain) -> CallFailed | TeacherGone:
        """Return the error of a call that has failed for good: it ends all calls, or one proposal."""
        refused = error.stop_reason if isinstance(error, TeacherRefused) else None
        self._failed_in_a_row += 1
        if refused in FATAL_REFUSALS or self._failed_in_a_row >= MAX_FAILED_IN_A_ROW:
            self.ended = TeacherGone(refused or "teacher_unavailable", str(error))
            return self.ended
        return CallFailed(refused or "call_failed", str(error))


def _was_raised_by_the_function(error: BaseException) -> bool:
    """Return whether the function ended itself, as by `sys.exit`.

    A growth that is cancelled, or Ctrl-C, goes through.
    """
    if isinstance(error, asyncio.CancelledError):
        return not asyncio.current_task().cancelling()
    return isinstance(error, SystemExit)
