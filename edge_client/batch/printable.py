"""Names, messages and amounts as text that is safe and short on any terminal. Pure.

Keys in S3 are other people's: a name can hold escape sequences that rewrite a terminal, markup,
and characters that turn a line around.
"""

from __future__ import annotations

from edge_client.redaction import one_line

MESSAGE_CHARS = 300


def visible(text: str, encoding: str = "utf-8") -> str:
    r"""Return ``text`` with everything that cannot be seen written out, such as ``\x1b``.

    Args:
        text: Anybody's.
        encoding: What it lacks is written out, too: the text is as wide as it looks.
    """
    seen = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return seen.encode(encoding, "backslashreplace").decode(encoding)


def safe_line(text: str, encoding: str = "utf-8", limit: int = MESSAGE_CHARS) -> str:
    """Return a message as one safe line, without secrets."""
    return visible(one_line(text, limit), encoding)


def clock_time(seconds: float) -> str:
    """Return a span as ``h:mm:ss``."""
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def audio_length(seconds: float) -> str:
    """Return how much audio, in minutes below two hours, else in hours."""
    if seconds < 7200:
        return f"{seconds / 60:,.1f} min of audio"
    return f"{seconds / 3600:,.1f} h of audio"
