"""The client against a small HTTP server that answers from a script: messages of errors, retries, downloads."""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.client import Seedbed, SeedbedError

CONTENT = bytes(range(256)) * 8
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Scripted(ThreadingHTTPServer):
    """Answers each request with the next (status, headers, body) of `answers`, and keeps the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, dict, bytes]] = []
        self.requests: list[tuple[str, str, dict, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        chunked = self.headers.get("transfer-encoding") == "chunked"
        body = self._chunks() if chunked else self.rfile.read(length)
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        status, headers, content = self.server.answers.pop(0)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        if int(headers.get("Content-Length", 0)) > len(content):
            # Shut down, not only closed: the reading file still holds the socket.
            self.connection.shutdown(socket.SHUT_RDWR)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as scripted:
        thread = threading.Thread(target=scripted.serve_forever, args=(0.01,))
        thread.start()
        yield scripted
        scripted.shutdown()
        thread.join()


@pytest.fixture
def seedbed(server) -> Iterator[Seedbed]:
    with Seedbed(server.url, "sb_a_b") as client:
        yield client


def answer(body: object, status: int = 200) -> tuple[int, dict, bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(body).encode()


def test_a_problem_is_told_with_every_field_it_names(server, seedbed):
    faults = [{"pointer": "/target", "detail": "must be at least 1"}, {"pointer": "/teacher", "detail": "unknown"}]
    server.answers = [answer({"type": "urn:x", "detail": "The body has 2 faults.", "errors": faults}, 422)]
    with pytest.raises(SeedbedError) as error:
        seedbed.start_run(target=0)
    assert error.value.status == 422
    assert str(error.value).splitlines() == [
        "The body has 2 faults.",
        "  /target: must be at least 1",
        "  /teacher: unknown",
    ]
    assert server.requests[0][2]["Authorization"] == "Bearer sb_a_b"


def test_an_answer_that_is_no_problem_is_told_by_its_status(server, seedbed):
    server.answers = [(502, {}, b"<html>bad gateway</html>")]
    with pytest.raises(SeedbedError, match="answered 502"):
        seedbed.get("run_1")


def test_a_get_waits_for_a_service_that_restarts_and_a_post_does_not(server, seedbed):
    server.answers = [answer({"data": []}), (503, {}, b""), answer({"data": [{"name": "one"}]}), (503, {}, b"")]
    assert seedbed.teachers() == []
    assert seedbed.teachers() == [{"name": "one"}]
    with pytest.raises(SeedbedError, match="503"):
        seedbed.start_run()
    assert len(server.requests) == 4


def test_a_service_that_is_not_there_is_told_at_once():
    with Seedbed("http://127.0.0.1:9", "key") as nowhere, pytest.raises(SeedbedError, match="can't be reached"):
        nowhere.teachers()


def test_an_id_of_another_kind_is_refused_before_asking(server, seedbed):
    with pytest.raises(SeedbedError, match="not an id"):
        seedbed.get("../keys")
    assert server.requests == []


def test_lists_are_read_page_by_page(server, seedbed):
    server.answers = [
        answer({"data": [{"id": "a"}, {"id": "b"}], "has_more": True, "next": "b"}),
        answer({"data": [{"id": "c"}], "has_more": False, "next": None}),
    ]
    assert [row["id"] for row in seedbed.records("ds_1", status="rejected", reason=None)] == ["a", "b", "c"]
    assert "after=b" in server.requests[1][1]
    assert "status=rejected" in server.requests[0][1] and "reason" not in server.requests[0][1]


def test_waiting_shows_every_state_and_returns_the_last(server, seedbed):
    states = [{"id": "run_1", "status": status} for status in ("running", "succeeded")]
    server.answers = [answer(state) for state in states]
    seen = []
    job = seedbed.wait({"id": "run_1", "status": "queued"}, lambda job: seen.append(job["status"]))
    assert job["status"] == "succeeded"
    assert seen == ["queued", "running", "succeeded"]


def test_an_import_is_cancelled_with_its_dataset(server, seedbed):
    server.answers = [answer({"id": "imp_1", "dataset_id": "ds_1", "status": "cancelling"})]
    assert seedbed.act("imp_1", "cancel", "ds_1")["status"] == "cancelling"
    assert server.requests[0][:2] == ("POST", "/v1/datasets/ds_1/imports/imp_1/cancel")
    with pytest.raises(SeedbedError, match="dataset_id"):
        seedbed.act("imp_1", "cancel")


def test_an_import_is_streamed_from_its_file(server, seedbed, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"instruction": "x"}\n' * 100)
    server.answers = [answer({"id": "imp_1", "dataset_id": "ds_1", "status": "queued"}, 202)]
    seedbed.import_file("ds_1", file, "seeds")
    method, path, headers, body = server.requests[0]
    assert (method, path) == ("POST", "/v1/datasets/ds_1/imports?kind=seeds")
    assert headers["Content-Type"] == "application/jsonl"
    assert body == file.read_bytes()


def test_a_file_is_checked_against_its_tag(server, seedbed, tmp_path):
    server.answers = [(200, {"ETag": f'"{DIGEST}"'}, CONTENT)]
    assert seedbed.download("/snapshots/s/files/f", tmp_path / "f").read_bytes() == CONTENT


def test_a_damaged_file_is_refused_and_not_kept(server, seedbed, tmp_path):
    server.answers = [(200, {"ETag": f'"{DIGEST}"'}, b"damaged")]
    with pytest.raises(SeedbedError, match="damaged"):
        seedbed.download("/snapshots/s/files/f", tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


def test_a_broken_download_goes_on_where_it_stopped(server, seedbed, tmp_path):
    headers = {"ETag": f'"{DIGEST}"', "Content-Length": str(len(CONTENT))}
    server.answers = [(200, headers, CONTENT[:1000]), (206, {"ETag": f'"{DIGEST}"'}, CONTENT[1000:])]
    assert seedbed.download("/snapshots/s/files/f", tmp_path / "f").read_bytes() == CONTENT
    second = server.requests[1][2]
    assert second["Range"] == "bytes=1000-"
    assert second["If-Range"] == f'"{DIGEST}"'


@pytest.mark.parametrize("content", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_whole_already_is_kept_only_if_it_is_the_file(server, seedbed, tmp_path, content):
    (tmp_path / "f.part").write_bytes(content)
    server.answers = [(416, {}, b"")]
    if content == CONTENT:
        assert seedbed.download("/x", tmp_path / "f", DIGEST).read_bytes() == CONTENT
    else:
        with pytest.raises(SeedbedError, match="damaged"):
            seedbed.download("/x", tmp_path / "f", DIGEST)


def test_every_file_of_a_job_is_fetched_below_the_folder(server, seedbed, tmp_path):
    file = {"name": "base/f", "sha256": DIGEST}
    server.answers = [(200, {}, CONTENT)]
    job = {"id": "ft_1", "artifacts": [file]}
    assert list(seedbed.download_all(job, tmp_path)) == [(file, tmp_path / "base" / "f")]
    assert server.requests[0][1] == "/v1/fine-tunes/ft_1/artifacts/base/f"
    outside = {"id": "snap_1", "files": [{"name": "../f", "sha256": DIGEST}]}
    with pytest.raises(SeedbedError, match="outside"):
        list(seedbed.download_all(outside, tmp_path))


def test_a_refused_download_leaves_nothing(server, seedbed, tmp_path):
    server.answers = [answer({"detail": "No snapshot with that id."}, 404)]
    with pytest.raises(SeedbedError, match="No snapshot"):
        seedbed.download("/x", tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


def test_a_download_gives_up_on_a_service_that_stays_away(tmp_path):
    with (
        Seedbed("http://127.0.0.1:9", "key", patience=0) as nowhere,
        pytest.raises(SeedbedError, match="can't be reached"),
    ):
        nowhere.download("/x", tmp_path / "f")
