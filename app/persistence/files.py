"""Files of snapshots and models: in a local directory by default, at any fsspec address by configuration."""

import errno
import hashlib
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import fsspec
from fsspec.implementations.local import LocalFileSystem

from app import config

# Bytes of one read: large enough for the throughput of an object store, small beside the memory of a process.
CHUNK = 1 << 20
# The errno values that mean a full disk, and those that mean a path that can't be written.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


@dataclass(frozen=True)
class StoredFile:
    """A file in the storage: its name without folders, its size in bytes, and its SHA-256 in hexadecimal."""

    name: str
    bytes: int
    sha256: str


def _resolve(path: str):
    """Return the file system and the full path. Raises ValueError for a path outside the storage root."""
    # The last guard: names in paths are made by this service, and still none may reach a file outside the storage.
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} is no path inside the storage: it must be relative, without `..`")
    system, root = fsspec.core.url_to_fs(config.settings().files)
    return system, posixpath.join(root, path)


class _DigestingWriter:
    """Writes to a file, and computes the size and the SHA-256 of what it writes."""

    def __init__(self, raw):
        self._raw, self._sha, self.bytes = raw, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self._raw.write(data)
        self._sha.update(data)
        self.bytes += len(data)

    @property
    def sha256(self) -> str:
        return self._sha.hexdigest()


@contextmanager
def write_atomically(path: str) -> Iterator[_DigestingWriter]:
    """Write a file that appears under its name when it is complete, or not at all.

    Args:
        path: The path inside the storage.

    Yields:
        A writer with the attributes `bytes` and `sha256` of what it has written.
    """
    system, full = _resolve(path)
    system.makedirs(posixpath.dirname(full), exist_ok=True)
    # A random part: two attempts at one job may write the same file at the same time.
    part = f"{full}.{os.getpid()}-{os.urandom(4).hex()}.part"
    try:
        with system.open(part, "wb") as raw:
            out = _DigestingWriter(raw)
            yield out
            if isinstance(system, LocalFileSystem):
                # Without fsync a power failure after the rename can leave an empty file under the final name.
                raw.flush()
                os.fsync(raw.fileno())
        system.mv(part, full)
    except BaseException:
        # Also for a cancel: nobody looks for a part that is left, and it would fill the storage.
        if system.exists(part):
            system.rm(part)
        raise


def store_file(local: str, path: str) -> StoredFile:
    """Copy a local file into the storage.

    Args:
        local: The local path.
        path: The path inside the storage.
    """
    with open(local, "rb") as source, write_atomically(path) as out:
        while chunk := source.read(CHUNK):
            out.write(chunk)
    return StoredFile(posixpath.basename(path), out.bytes, out.sha256)


def fetch_file(path: str, local: str) -> str:
    """Copy a file of the storage to a local path and return its SHA-256 in hexadecimal.

    Args:
        path: The path inside the storage.
        local: The local path; missing folders are made.
    """
    digest = hashlib.sha256()
    os.makedirs(os.path.dirname(local), exist_ok=True)
    with open_stored(path) as source, open(local, "wb") as out:
        while chunk := source.read(CHUNK):
            out.write(chunk)
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def open_stored(path: str):
    """Open a file of the storage for reading bytes. Raises FileNotFoundError for one that does not exist."""
    system, full = _resolve(path)
    with system.open(full, "rb") as source:
        yield source


def local_path(path: str) -> str | None:
    """Return the path of a stored file on this machine; None when the storage is no local directory."""
    system, full = _resolve(path)
    return full if isinstance(system, LocalFileSystem) else None


def size(path: str) -> int:
    """Return the size of a stored file in bytes."""
    system, full = _resolve(path)
    return system.size(full)


def delete(path: str) -> None:
    """Delete a file or a folder. A missing path is no error."""
    system, full = _resolve(path)
    if system.exists(full):
        system.rm(full, recursive=True)
