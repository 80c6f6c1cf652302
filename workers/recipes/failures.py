"""The failures of a fine-tune that its owner can mend, with messages for that person."""

import errno

MEMORY_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "alloc_failed",
    "bad_alloc",
    "can't start new thread",
)
STORAGE_SIGNS = ("no space left on device", "disk quota exceeded", "file too large")


class Failure(Exception):
    """A fine-tune cannot go on, and the reason is known.

    Attributes:
        kind: invalid_job, empty_train, base_model_not_found, not_enough_memory, storage_full or diverged.
        message: What was wrong and what to do, without secrets and without paths of this machine.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def classify_error(error: BaseException) -> Failure | None:
    """Return the failure behind an exception of a library, or None if it is an unexpected one."""
    if isinstance(error, Failure):
        return error
    # Libraries wrap errors in classes of their own (torch reports memory as a RuntimeError, safetensors copies the
    # text of the operating system), so the text counts as much as the class.
    text = str(error).lower()
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
        sign in text for sign in STORAGE_SIGNS
    ):
        return Failure(
            "storage_full",
            "The disk became full while the artifacts were written, or a limit on files was reached. "
            "Free space and start again.",
        )
    if isinstance(error, MemoryError) or any(sign in text for sign in MEMORY_SIGNS):
        return Failure(
            "not_enough_memory",
            "The model and one batch do not fit into memory. "
            "Choose a smaller batch_size or max_length, or a smaller base model.",
        )
    return None
