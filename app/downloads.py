"""Serving immutable files: a strong ETag, `If-None-Match`, one `Range`, and gzip for whole files."""

import re
import zlib
from collections.abc import Iterator

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from app import storage
from app.errors import AppError

_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")


def serve(request: Request, path: str, name: str, size: int, sha256: str) -> Response:
    """The stored file, or the part that was asked for. `sha256` is its ETag: the bytes never change."""
    etag = f'"{sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, immutable, max-age=31536000",
        "Content-Disposition": f'attachment; filename="{name.rsplit("/", 1)[-1]}"',
        "Vary": "Accept-Encoding",
    }
    wanted = request.headers
    if _matches(wanted.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    part = _range(wanted.get("range"), size) if wanted.get("if-range") in (None, etag) else None
    media_type = _media_type(name)
    if part is not None:
        first, last = part
        headers |= {"Content-Range": f"bytes {first}-{last}/{size}", "Content-Length": str(last - first + 1)}
        return StreamingResponse(_read(path, first, last + 1), 206, headers, media_type)
    if "gzip" in wanted.get("accept-encoding", "") and name.endswith((".jsonl", ".json", ".md", ".txt")):
        # Another representation, so another tag.
        headers |= {"Content-Encoding": "gzip", "ETag": f'"{sha256}-gzip"'}
        return StreamingResponse(_gzip(_read(path, 0, size)), 200, headers, media_type)
    return StreamingResponse(_read(path, 0, size), 200, headers | {"Content-Length": str(size)}, media_type)


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return "*" in tags or etag in tags or f'{etag[:-1]}-gzip"' in tags


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of one range. Several ranges, or another unit, are answered with the whole file."""
    found = _RANGE.match(header.strip()) if header else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        first, last = max(0, size - int(last)), size - 1
    else:
        first, last = int(first), min(int(last), size - 1) if last else size - 1
    if first >= size or first > last:
        raise AppError(
            416,
            "range-not-satisfiable",
            f"The file has {size} bytes; the range {header!r} lies outside.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return first, last


def _read(path: str, start: int, end: int) -> Iterator[bytes]:
    with storage.opened(path) as source:
        source.seek(start)
        while start < end and (chunk := source.read(min(storage.CHUNK, end - start))):
            start += len(chunk)
            yield chunk


def _gzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=31)
    for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()


def _media_type(name: str) -> str:
    types = {".jsonl": "application/jsonl", ".json": "application/json", ".md": "text/markdown; charset=utf-8"}
    return next((kind for end, kind in types.items() if name.endswith(end)), "application/octet-stream")
