"""A file of JSON lines that keeps every reply of a teacher, so that none is paid for twice."""

import hashlib
import json
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

from app.synth.types import Prompt, Reply, Usage

# Each line begins so: a last line with this beginning and no end was cut when its process was killed.
ENTRY_START = b'{"key": "'


@dataclass(frozen=True)
class Entry:
    """A reply with its cost.

    Attributes:
        key: the identity of the call.
        reply: None for a try whose answer never came and may have been billed.
        tokens: of prompt and reply together.
        usd: dollars.
        usage_estimated: whether the tokens are an estimate.
    """

    key: str
    reply: Reply | None
    tokens: int
    usd: Decimal
    usage_estimated: bool = False


class ReplyLedger:
    """Entries by their keys, in a file when a path is given. One growth at a time writes to a file.

    A line is written and flushed as soon as its reply has arrived. A process that is killed while it writes leaves an
    incomplete last line, which the next process removes.

    Args:
        path: the file, or None for a ledger in memory.

    Raises:
        ValueError: the file has a line that is no entry.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.entries: list[Entry] = []
        self._replies: dict[str, Reply] = {}
        self._file = None
        if path is not None:
            self._file = Path(path).open("a+b")  # noqa: SIM115 (closed by __exit__)
            self._read(str(path))

    def find(self, key: str) -> Reply | None:
        """Return the stored reply to the call with this key, or None."""
        return self._replies.get(key)

    def append(self, entry: Entry) -> None:
        """Store an entry. It is in the file before this returns, so that a killed process pays for no reply twice."""
        self._remember(entry)
        if self._file is not None:
            self._file.write(_line(entry))
            self._file.flush()

    def __enter__(self) -> "ReplyLedger":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self, path: str) -> None:
        # The file was opened for appending, so its position is the end.
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n") and line.startswith(ENTRY_START[: len(line)]):
                # A process was killed while it wrote this entry.
                break
            end += len(line)
            try:
                self._remember(_entry(line))
            except (ValueError, KeyError, TypeError, ArithmeticError) as error:
                self._file.close()
                raise ValueError(f"{path}, line {number}: no entry of a reply ledger; name another file") from error
        self._file.truncate(end)

    def _remember(self, entry: Entry) -> None:
        self.entries.append(entry)
        if entry.reply is not None:
            self._replies[entry.key] = entry.reply


def key_of(prompt: Prompt, method: str, seed: int, batch: int) -> str:
    """Return the identity of a call: a SHA-256 in hexadecimal digits.

    Args:
        prompt: the request.
        method: the method of the growth.
        seed: the seed of the growth.
        batch: the number of the batch, from 0.
    """
    # Two equal requests at two positions are two calls, since several answers to one instruction are wanted.
    request = {**asdict(prompt), "messages": prompt.messages()}
    parts = json.dumps([request, method, seed, batch, prompt.position], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()


def _line(entry: Entry) -> bytes:
    return json.dumps({**asdict(entry), "usd": str(entry.usd)}).encode() + b"\n"


def _entry(line: bytes) -> Entry:
    fields = json.loads(line)
    # A file of a person may hold anything, so each value is checked before it counts toward a ceiling.
    reply, usd = fields["reply"], Decimal(fields["usd"])
    if reply is not None:
        reply = Reply(**{**reply, "usage": Usage(**reply["usage"])})
        if not isinstance(reply.text, str):
            raise TypeError("the text of a reply is no text")
    if not isinstance(fields["tokens"], int) or fields["tokens"] < 0 or not usd.is_finite() or usd < 0:
        raise ValueError("tokens and usd are counts of 0 or more")
    return Entry(**{**fields, "reply": reply, "usd": usd})
