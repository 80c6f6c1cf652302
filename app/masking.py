"""Secrets of the operator, masked in every text that people or logs get: keys, addresses, headers.

A server may echo what it was sent: a 401 that quotes the Authorization header, a proxy that names its inner URL. Its
messages go to tenants, who must not read them.
"""

import logging
import re
import traceback
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

MASK = "***"
# A shorter value is no secret, and masking it would blacken ordinary words.
MIN_SECRET_LENGTH = 6
_NOT_SECRET = {"none", "localhost", "EMPTY", "ollama", "lm-studio"}
# Keys that begin as those of known services do, whoever sent them; and what follows the name of a header with a key.
_KEY_PATTERNS = re.compile(
    r"(?P<header>\b(?:bearer|basic)\s+|\b(?:authorization|x-api-key|api[-_]key|apikey|access[-_]token)\b[\"']?\s*[:=]\s*"
    r"[\"']?(?:bearer\s+|basic\s+)?)[\w.~+/=*-]{6,}"
    r"|\b(?:sk|pk|rk|gsk|xai|hf|nvapi|ghp|glpat)[-_][\w*-]{6,}"
    r"|\bAIza[\w-]{20,}",
    re.IGNORECASE,
)
# Addresses of a network inside: with a port, with credentials, by number, or by a name that no public registry has.
_REST = r"[^\s\"'<>]*"
_INNER_URL = re.compile(
    rf"\bhttps?://(?:[^\s/@\"'<>]+@{_REST}"
    rf"|[^\s/:\"'<>]+:\d+{_REST}"
    rf"|(?:\d{{1,3}}\.){{3}}\d{{1,3}}{_REST}"
    rf"|[\w.-]+\.(?:internal|local|lan|svc|intra|corp|home|cluster)\b{_REST}"
    rf"|[\w-]+(?=[/\s\"'<>]|$){_REST})",
    re.IGNORECASE,
)
_URL_USER = re.compile(r"(?<=://)[^/\s@]+(?=@)")


def secrets_of_url(url: str) -> list[str]:
    """Return the parts of an address that are masked: the address, its host with the port, and its credentials."""
    parts = urlsplit(url)
    secrets = [url.rstrip("/"), parts.netloc, parts.hostname or "", parts.password or ""]
    return [part for part in secrets if part]


def mask_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text with these secrets, and with everything that looks like a key, replaced by `***`.

    Args:
        text: A message for people.
        secrets: Values that must not stand in it. Short ones and placeholders are left.
    """
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= MIN_SECRET_LENGTH and secret not in _NOT_SECRET:
            text = text.replace(secret, MASK)
    text = _INNER_URL.sub(MASK, text)
    text = _URL_USER.sub(MASK, text)
    return _KEY_PATTERNS.sub(lambda match: f"{match['header'] or ''}{MASK}", text)


def mask_logs(secrets: Sequence[str]) -> None:
    """Mask these secrets in every log line of this process, in tracebacks too, whatever handler writes it."""
    make_record = logging.LogRecord

    def make_masked_record(*arguments: object, **settings: object) -> logging.LogRecord:
        record = make_record(*arguments, **settings)
        try:
            message = record.getMessage()
        except Exception:
            # Arguments that do not fit the message: the handler would report it, and must not be kept from the line.
            message = f"{record.msg} {record.args}"
        record.msg, record.args = mask_secrets(message, secrets), None
        if record.exc_info and record.exc_info[0] is not None:
            # A formatter writes this text where there is one, and does not format the exception again.
            lines = traceback.format_exception(*record.exc_info)
            record.exc_text = mask_secrets("".join(lines).rstrip("\n"), secrets)
        return record

    logging.setLogRecordFactory(make_masked_record)
