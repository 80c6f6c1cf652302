"""Downloads from a local directory and from another store: the same answers, by the same rules."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from app import config
from app.api import downloads, problems
from app.persistence import files

CONTENT = "".join(f'{{"row": {number}, "text": "한국어"}}\n' for number in range(20_000)).encode()
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PLAIN = {"accept-encoding": "identity"}


@pytest.fixture(params=["local", "memory"])
def client(request, tmp_path: Path, monkeypatch) -> Iterator[TestClient]:
    """An API of one file, in a directory of this machine or in another file system."""
    url = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.setenv(name, "redis://unused")
    monkeypatch.setenv("SEEDBED_STORAGE_URL", url)
    config.settings.cache_clear()
    with files.write_atomically("folder/rows.jsonl") as out:
        out.write(CONTENT)
    assert (files.local_path("folder/rows.jsonl") is None) == (request.param == "memory")
    app = FastAPI()
    problems.register_error_handlers(app)

    @app.api_route("/file", methods=["GET", "HEAD"])
    def serve(http_request: Request):
        return downloads.serve(http_request, "folder/rows.jsonl", "folder/rows.jsonl", len(CONTENT), DIGEST)

    with TestClient(app, raise_server_exceptions=False) as session:
        yield session
    config.settings.cache_clear()


def test_a_whole_file_has_its_digest_as_a_strong_tag(client):
    answer = client.get("/file", headers=PLAIN)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["etag"] == f'"{DIGEST}"' and answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["accept-ranges"] == "bytes" and answer.headers["content-type"] == "application/jsonl"
    assert answer.headers["content-disposition"] == 'attachment; filename="rows.jsonl"'
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=100-", 100, len(CONTENT)),
        ("bytes=-5", len(CONTENT) - 5, len(CONTENT)),
        ("bytes=7-99999999999", 7, len(CONTENT)),
        ("bytes=0-" + "9" * 5000, 0, len(CONTENT)),
        ("bytes=-" + "9" * 5000, 0, len(CONTENT)),
        ("bytes=" + "0" * 5000 + "3-4", 3, 5),
    ],
)
def test_one_range_is_a_206(client, header, start, end):
    answer = client.get("/file", headers=PLAIN | {"range": header})
    assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(end - start) and answer.headers["etag"] == f'"{DIGEST}"'


@pytest.mark.parametrize("header", [f"bytes={len(CONTENT)}-", "bytes=-0", "bytes=5-2", f"bytes={'9' * 5000}-"])
def test_a_range_outside_is_a_problem_416_that_names_the_size(client, header):
    answer = client.get("/file", headers=PLAIN | {"range": header})
    assert answer.status_code == 416 and answer.headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("header", ["rows=0-9", "bytes=0-1,5-6", "bytes=-", "bytes=x-9", "nonsense"])
def test_a_range_that_is_not_served_gives_the_whole_file(client, header):
    answer = client.get("/file", headers=PLAIN | {"range": header})
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize(("tag", "status"), [(f'"{DIGEST}"', 206), ('"another"', 200), (f'W/"{DIGEST}"', 200)])
def test_if_range_asks_for_a_part_of_this_content_alone(client, tag, status):
    answer = client.get("/file", headers=PLAIN | {"range": "bytes=0-9", "if-range": tag})
    assert answer.status_code == status and len(answer.content) == (10 if status == 206 else len(CONTENT))


@pytest.mark.parametrize("tag", [f'"{DIGEST}"', f'W/"{DIGEST}"', f'"x", "{DIGEST}"', "*", f'"{DIGEST}-gzip"'])
def test_what_the_caller_has_is_a_304(client, tag):
    answer = client.get("/file", headers={"if-none-match": tag})
    assert (answer.status_code, answer.content) == (304, b"")


def test_a_whole_text_is_packed_and_has_another_tag_and_a_part_is_not(client):
    packed = client.get("/file", headers={"accept-encoding": "gzip"})
    assert (packed.headers["content-encoding"], packed.content) == ("gzip", CONTENT)
    assert packed.headers["etag"] == f'"{DIGEST}-gzip"'
    part = client.get("/file", headers={"accept-encoding": "gzip", "range": "bytes=0-9"})
    assert part.status_code == 206 and "content-encoding" not in part.headers


@pytest.mark.parametrize(("header", "length", "status"), [({}, len(CONTENT), 200), ({"range": "bytes=2-5"}, 4, 206)])
def test_head_gives_the_headers_alone(client, header, length, status):
    answer = client.head("/file", headers=PLAIN | header)
    assert (answer.status_code, answer.content) == (status, b"") and answer.headers["content-length"] == str(length)
