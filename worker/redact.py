"""Keep bearer secrets out of everything that people read.

A presigned URL's query is the permission itself. `scrub` masks it in any text, and
`ScrubFilter` does so for every log record of the process.
"""

import logging
import re

_QUERY = re.compile(r"(https?://[^\s?'\"<>]+)\?[^\s'\"<>)\]}]+")
_PATH_QUERY = re.compile(r"\?[^\s'\"<>)\]}]*X-Amz-[^\s'\"<>)\]}]*", re.IGNORECASE)
_PARAMETER = re.compile(
    r"(X-Amz-(?:Signature|Credential|Security-Token))(=|%3D|['\"]?:\s*['\"]?)[^\s&'\"<>)\]}]+",
    re.IGNORECASE,
)


def scrub(text: str) -> str:
    """Return ``text`` with the query of every URL masked."""
    text = _QUERY.sub(r"\1?***", text)
    text = _PATH_QUERY.sub("?***", text)
    return _PARAMETER.sub(r"\1\2***", text)


class ScrubFilter(logging.Filter):
    """Masks URL queries in log records, exceptions included."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; never drops one."""
        record.msg, record.args = scrub(record.getMessage()), None
        if record.exc_info and record.exc_info[1]:
            error = record.exc_info[1]
            record.msg += f" ({type(error).__name__}: {scrub(str(error))})"
            record.exc_info, record.exc_text = None, None
        return True
