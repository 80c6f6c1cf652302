"""The state directory: one stack at a time, private secrets, and free ports."""

import os
import socket
import stat

import pytest

from app.stack.state_dir import StackError, StateDir, free_port, port_is_free, write_private


def test_a_state_directory_belongs_to_one_stack_at_a_time(tmp_path):
    first = StateDir(tmp_path).acquire_lock()
    assert first is not None
    assert StateDir(tmp_path).acquire_lock() is None
    os.close(first)
    assert StateDir(tmp_path).acquire_lock() is not None


def test_secrets_are_created_once_and_readable_by_their_owner_alone(tmp_path):
    state_dir = StateDir(tmp_path)
    assert state_dir.read_or_create_secret("word") == state_dir.read_or_create_secret("word")
    assert stat.S_IMODE((tmp_path / "word").stat().st_mode) == 0o600


def test_the_state_of_a_stack_that_has_ended_is_ignored(tmp_path):
    state_dir = StateDir(tmp_path)
    assert state_dir.read_state() == {}
    state_dir.write_state({"pid": os.getpid(), "url": "http://here"})
    assert state_dir.read_state()["url"] == "http://here"
    state_dir.write_state({"pid": 2**22 + 1, "url": "http://gone"})
    assert state_dir.read_state() == {}
    state_dir.state_file.write_text("{")
    assert state_dir.read_state() == {}


def test_a_private_file_replaces_a_public_one(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    write_private(file, "new")
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_port_with_a_listener_is_not_returned():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not port_is_free("127.0.0.1", port)
        assert free_port(preferred=port) != port
    assert port_is_free("127.0.0.1", free_port())


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(StackError):
        free_port("203.0.113.1")
