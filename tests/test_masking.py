"""Secrets never stand in a message or a log line."""

import logging

import pytest

from app.masking import mask_logs, mask_secrets, secrets_of_url

KEY, URL = "canary-3f9a7c21", "http://teacher.internal:8080/v1"


@pytest.mark.parametrize(
    "message",
    [
        f"Incorrect API key provided: {KEY}",
        f"401: header 'Authorization: Bearer {KEY}'",
        f"no connection to {URL}/chat/completions",
        "upstream teacher.internal:8080 failed",
        "Incorrect API key provided: sk-proj-abcdef1234567890",
        "sent {'authorization': 'Bearer eyJhbGciOi.payload.sign'}",
        "x-api-key: 0123456789abcdef",
        "postgresql://seedbed:verysecret@db:5432/seedbed refused",
        "AIzaSyA1234567890abcdefghijk is not valid",
        "POST http://10.0.3.7/v1 failed: teacher.internal",
        "POST http://vllm-0/v1/chat failed, http://teacher.internal:80",
        "see https://gateway.svc.cluster.local/v1",
    ],
)
def test_keys_and_addresses_are_masked(message):
    masked = mask_secrets(message, [KEY, *secrets_of_url(URL)])
    assert "***" in masked
    for secret in (
        KEY,
        "teacher.internal",
        "abcdef1234567890",
        "eyJhbGciOi",
        "0123456789abcdef",
        "verysecret",
        "AIza",
        "10.0.3.7",
        "vllm-0",
        "gateway",
    ):
        assert secret not in masked


@pytest.mark.parametrize(
    "message",
    [
        "see https://platform.openai.com/account/api-keys.",
        "The model `x` does not exist",
        "asked to slow down: task-force bearer of news",
        "key: value",
        "no answer in 120 s",
    ],
)
def test_ordinary_messages_stay_as_they_are(message):
    assert mask_secrets(message, ["none", "", "abc"]) == message


def test_log_lines_and_tracebacks_are_masked():
    lines = []
    handler = logging.StreamHandler()
    handler.emit = lambda record: lines.append(handler.format(record))
    logger, factory = logging.getLogger("masking"), logging.getLogRecordFactory()
    logger.addHandler(handler)
    try:
        mask_logs([KEY])
        try:
            raise ValueError(f"the key {KEY} is wrong")
        except ValueError:
            logger.exception("a call with %s failed", KEY)
    finally:
        logging.setLogRecordFactory(factory)
        logger.removeHandler(handler)
    (line,) = lines
    assert "ValueError: the key *** is wrong" in line and KEY not in line


def test_a_line_whose_arguments_do_not_fit_is_written_and_masked(caplog):
    factory = logging.getLogRecordFactory()
    try:
        mask_logs([KEY])
        logging.getLogger("masking").warning("two %s %s", KEY)
    finally:
        logging.setLogRecordFactory(factory)
    assert KEY not in caplog.text and "two" in caplog.text
