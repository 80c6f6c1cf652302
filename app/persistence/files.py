"""Snapshots and artifacts as files: a local directory by default, any fsspec address by configuration."""

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

CHUNK = 1 << 20
# The errno values that mean a full disk, and those that mean a path that can't be written.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


@dataclass(frozen=True)
class StoredFile:
    name: str
    bytes: int
    sha256: str


def _resolve(path: str):
    """The file system and the full path. Raises ValueError for a path that leaves the storage root."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"not a storage path: {path!r}")
    system, root = fsspec.core.url_to_fs(config.settings().files)
    return system, posixpath.join(root, path)


class _Digesting:
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
def writing(path: str) -> Iterator[_Digesting]:
    """Write a file that appears whole under its name, or not at all."""
    system, full = _resolve(path)
    system.makedirs(posixpath.dirname(full), exist_ok=True)
    part = f"{full}.{os.getpid()}-{os.urandom(4).hex()}.part"
    try:
        with system.open(part, "wb") as raw:
            out = _Digesting(raw)
            yield out
            if isinstance(system, LocalFileSystem):
                # Without fsync a power failure after the rename can leave an empty file under the final name.
                raw.flush()
                os.fsync(raw.fileno())
        system.mv(part, full)
    except BaseException:
        if system.exists(part):
            system.rm(part)
        raise


def copy_in(local: str, path: str) -> StoredFile:
    with open(local, "rb") as source, writing(path) as out:
        while chunk := source.read(CHUNK):
            out.write(chunk)
    return StoredFile(posixpath.basename(path), out.bytes, out.sha256)


def copy_out(path: str, local: str) -> str:
    """Fetch a file to a local path and return its sha256."""
    digest = hashlib.sha256()
    os.makedirs(os.path.dirname(local), exist_ok=True)
    with opened(path) as source, open(local, "wb") as out:
        while chunk := source.read(CHUNK):
            out.write(chunk)
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def opened(path: str):
    system, full = _resolve(path)
    with system.open(full, "rb") as source:
        yield source


def local_path(path: str) -> str | None:
    """Where a stored file lies on this machine; None when the storage is no local directory."""
    system, full = _resolve(path)
    return full if isinstance(system, LocalFileSystem) else None


def size(path: str) -> int:
    system, full = _resolve(path)
    return system.size(full)


def delete(path: str) -> None:
    """Delete a file or a folder. A missing path is no error."""
    system, full = _resolve(path)
    if system.exists(full):
        system.rm(full, recursive=True)
