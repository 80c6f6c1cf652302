"""Serving immutable files: a strong ETag, `If-None-Match`, one `Range`, and gzip for whole files."""

import re
import zlib
from collections.abc import Iterator

from fastapi import Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.errors import AppError
from app.persistence import files

_RANGE = re.compile(r"^bytes=([0-9]*)-([0-9]*)$")
# A number with more digits lies behind the end of every file. int() raises for more than 4,300 digits.
MAX_DIGITS = 18


def serve(request: Request, path: str, name: str, size: int, sha256: str) -> Response:
    """Return the response with a stored file, or with the range of it that the request asks for (RFC 9110, section 14).

    Args:
        request: The request, with its conditional headers.
        path: The path of the file inside the storage.
        name: The name under which a client saves the file; its ending decides the media type.
        size: The size of the file in bytes.
        sha256: The digest of the file in hexadecimal. The bytes never change, so that it is the ETag.

    Raises:
        AppError: A 416 for a range outside the file.
    """
    etag = f'"{sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, immutable, max-age=31536000",
        "Content-Disposition": f'attachment; filename="{name.rsplit("/", 1)[-1]}"',
        "Vary": "Accept-Encoding",
    }
    request_headers = request.headers
    if _matches(request_headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    # If-Range with another ETag: the client has the start of other bytes, and needs the whole file.
    part = _range(request_headers.get("range"), size) if request_headers.get("if-range") in (None, etag) else None
    media_type = _media_type(name)
    if part is None and _is_gzipped(request_headers.get("accept-encoding", ""), name):
        # A strong ETag identifies exact bytes, so the compressed bytes need another one.
        headers |= {"Content-Encoding": "gzip", "ETag": f'"{sha256}-gzip"'}
        return StreamingResponse(_gzip(_read(path, 0, size)), 200, headers, media_type)
    local = files.local_path(path)
    if local is not None:
        return LocalFileResponse(local, part, headers=headers, media_type=media_type)
    if part is not None:
        first, last = part
        headers |= {"Content-Range": f"bytes {first}-{last}/{size}", "Content-Length": str(last - first + 1)}
        return StreamingResponse(_read(path, first, last + 1), 206, headers, media_type)
    return StreamingResponse(_read(path, 0, size), 200, headers | {"Content-Length": str(size)}, media_type)


class LocalFileResponse(FileResponse):
    """The response with a file of this machine, or with one part of it.

    `serve` has evaluated `Range` and `If-Range` by rules that are the same for every storage. Starlette would read
    these headers again by its own rules, so it gets a `Range` with the result instead.

    Args:
        path: The path on this machine.
        part: The first and the last byte; None: the whole file.
        headers: The headers of the response.
        media_type: The media type of the file.
    """

    def __init__(self, path: str, part: tuple[int, int] | None, headers: dict[str, str], media_type: str) -> None:
        super().__init__(path, headers=headers, media_type=media_type)
        self.part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file or the part."""
        headers = [(name, value) for name, value in scope["headers"] if name not in (b"range", b"if-range")]
        if self.part is not None:
            headers.append((b"range", b"bytes=%d-%d" % self.part))
        await super().__call__(scope | {"headers": headers}, receive, send)


def _is_gzipped(accept_encoding: str, name: str) -> bool:
    # Only texts: the weights of a model hardly become smaller, and their compression takes long.
    return "gzip" in accept_encoding and name.endswith((".jsonl", ".json", ".md", ".txt"))


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    # If-None-Match compares weakly (RFC 9110, section 13.1.2): a tag with W/ stands for the same file.
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return "*" in tags or etag in tags or f'{etag[:-1]}-gzip"' in tags


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first and the last byte of a range; None: the whole file, also for several ranges or another unit."""
    match = _RANGE.match(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        first, last = max(0, size - _bounded(last, size)), size - 1
    else:
        first, last = _bounded(first, size), min(_bounded(last, size), size - 1) if last else size - 1
    if first >= size or first > last:
        raise AppError(
            416,
            "range-not-satisfiable",
            f"The file has {size} bytes; the range {header!r} lies outside.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return first, last


def _bounded(digits: str, size: int) -> int:
    """Return the number, or the size of the file where the number has too many digits."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= MAX_DIGITS else size


def _read(path: str, start: int, end: int) -> Iterator[bytes]:
    with files.open_stored(path) as source:
        source.seek(start)
        while start < end and (chunk := source.read(min(files.CHUNK, end - start))):
            start += len(chunk)
            yield chunk


def _gzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    # 31: the largest window (15), and a header of gzip (16).
    packer = zlib.compressobj(wbits=31)
    for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()


def _media_type(name: str) -> str:
    types = {".jsonl": "application/jsonl", ".json": "application/json", ".md": "text/markdown; charset=utf-8"}
    return next(
        (media_type for suffix, media_type in types.items() if name.endswith(suffix)), "application/octet-stream"
    )
