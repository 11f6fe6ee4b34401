"""Keep bearer secrets out of everything that people read: text, log records, error lines.

A presigned URL's query is the permission itself. `scrub` masks it, keys and registered secrets in
any text; the filter and the formatter do so for log records.
"""

from __future__ import annotations

import logging
import re

_NOISY = ("boto3", "botocore", "s3transfer", "urllib3", "requests", "http.client", "stamina")
_QUERY = re.compile(r"(\?[^\s'\"<>)\]}]+)")
_WORD_END = re.compile(r"[\s?'\"<>]")
_SIGNED = re.compile(r"X-Amz-|signature|\bsig=", re.IGNORECASE)
_PATTERNS = (
    (re.compile(r"(X-Amz-(?:Signature|Credential|Security-Token)(?:['\"]?\s*[=:]\s*['\"]?|%3D))"
                r"[^\s&,'\"<>)\]}]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"(Bearer\s+)\S+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\brpa_[A-Za-z0-9]+"), "rpa_***"),
)  # fmt: skip
_LONGEST = 65536
_known: set[str] = set()


def register(secret: str | None) -> None:
    """Remember a secret's value for `scrub`; not under 8 characters: it would mask words."""
    if secret and len(secret) >= 8:
        _known.add(secret)


def scrub(text: str) -> str:
    """Return ``text`` without URL queries, signatures, keys and registered secrets; in linear time.

    Every pattern here begins where no other match of it can, so that no text is read twice.
    """
    parts = _QUERY.split(text)  # text, query, text, query, …
    for i in range(1, len(parts), 2):
        if "://" in _WORD_END.split(parts[i - 1])[-1] or _SIGNED.search(parts[i]):
            parts[i] = "?***"
    text = "".join(parts)
    for pattern, masked in _PATTERNS:
        text = pattern.sub(masked, text)
    for secret in _known:
        text = text.replace(secret, "***")
    return text


def visible(text: str) -> str:
    r"""Return scrubbed ``text`` with all that cannot be seen written out, such as ``\x1b``."""
    seen = scrub(text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in seen)


def one_line(text: str, limit: int = 300) -> str:
    """Return scrubbed ``text`` as one printable line of at most ``limit`` characters."""
    if len(text) > _LONGEST:  # the last word may be a part of a secret
        head, _, word = text[:_LONGEST].rpartition(" ")
        text = head or word
    line = visible(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


class ScrubFilter(logging.Filter):
    """Masks secrets in log records, exceptions included."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; never drops one."""
        record.msg, record.args = scrub(record.getMessage()), None
        if record.exc_info and record.exc_info[1]:
            error = record.exc_info[1]
            record.msg += f" ({type(error).__name__}: {scrub(str(error))})"
            record.exc_info, record.exc_text = None, None
        return True


class ScrubbingFormatter(logging.Formatter):
    """Formats a record as one line, and its traceback below it; all of it scrubbed and visible."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the finished text."""
        message = " ".join(record.getMessage().split())
        flat = logging.makeLogRecord({**record.__dict__, "msg": message, "args": None})
        return "\n".join(map(visible, super().format(flat).split("\n")))


def configure_logging(level: int) -> None:
    """Send log lines to stderr, scrubbed; below WARNING, HTTP libraries tell what they retry."""
    handler = logging.StreamHandler()
    handler.setFormatter(ScrubbingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("edge_client").setLevel(level)
    others = logging.WARNING if level < logging.WARNING else logging.ERROR
    for name in _NOISY:
        logging.getLogger(name).setLevel(others)
