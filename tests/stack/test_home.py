"""The folder of a stack: one stack at a time, private secrets, ports nobody has."""

import os
import socket
import stat

import pytest

from app.stack.home import Home, StackError, free_port, port_is_free, write_private


def test_a_home_belongs_to_one_stack_at_a_time(tmp_path):
    first = Home(tmp_path).lock()
    assert first is not None
    assert Home(tmp_path).lock() is None
    os.close(first)
    assert Home(tmp_path).lock() is not None


def test_secrets_are_made_once_and_read_by_their_owner_alone(tmp_path):
    home = Home(tmp_path)
    assert home.secret("word") == home.secret("word")
    assert stat.S_IMODE((tmp_path / "word").stat().st_mode) == 0o600


def test_the_state_of_a_stack_that_is_gone_is_not_believed(tmp_path):
    home = Home(tmp_path)
    assert home.read_state() == {}
    home.write_state({"pid": os.getpid(), "url": "http://here"})
    assert home.read_state()["url"] == "http://here"
    home.write_state({"pid": 2**22 + 1, "url": "http://gone"})
    assert home.read_state() == {}
    home.state_file.write_text("{")
    assert home.read_state() == {}


def test_a_private_file_replaces_a_public_one(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    write_private(file, "new")
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_taken_port_is_not_given_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not port_is_free("127.0.0.1", port)
        assert free_port(wanted=port) != port
    assert port_is_free("127.0.0.1", free_port())


def test_an_address_that_is_not_of_this_machine_is_refused():
    with pytest.raises(StackError):
        free_port("203.0.113.1")
