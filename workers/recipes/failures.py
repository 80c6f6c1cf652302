"""What can go wrong with a fine-tune, in words for the person who asked for it."""

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
    """A fine-tune that cannot go on for a known reason.

    kind: invalid_job, empty_train, base_model_not_found, not_enough_memory, storage_full or diverged.
    message: what was wrong and what to do, without secrets and without paths of this machine.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def classify(error: BaseException) -> Failure | None:
    """The known failure behind a library's exception, or None.

    Libraries wrap one another's errors (safetensors puts the operating system's text into an error class of its
    own, torch reports memory as a RuntimeError), so the text counts as much as the class.
    """
    if isinstance(error, Failure):
        return error
    text = str(error).lower()
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
        s in text for s in STORAGE_SIGNS
    ):
        return Failure(
            "storage_full",
            "The disk ran full while writing the artifacts, or a limit on files was met. Make room and start again.",
        )
    if isinstance(error, MemoryError) or any(s in text for s in MEMORY_SIGNS):
        return Failure(
            "not_enough_memory",
            "The model and one batch do not fit into memory. "
            "Choose a smaller batch_size or max_length, or a smaller base model.",
        )
    return None
