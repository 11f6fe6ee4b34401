"""The secret in a webhook's path: RunPod signs nothing, so who knows it may call.

Takes a file or a setting; raises `NotConfigured` for what is missing or too weak.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

from edge_client.errors import NotConfigured
from edge_client.redaction import register

FRESH_BYTES = 32
_FORM = re.compile(r"[A-Za-z0-9_-]{16,128}")
_MAKE_ONE = "`edge-client webhook secret` makes one"


class Secret:
    """A secret that can be looked for in a path; never shown.

    Args:
        value: 16 to 128 characters of A–Z, a–z, 0–9, ``-`` and ``_``: none that a proxy encodes.

    Raises:
        NotConfigured: It has another form.
    """

    def __init__(self, value: str) -> None:
        if not _FORM.fullmatch(value):
            raise NotConfigured(
                "the webhook's secret must have 16 to 128 characters of A-Z a-z 0-9 - _: "
                + _MAKE_ONE
            )
        register(value)
        self._digest = _digest(value)

    def place_in(self, segments: Sequence[str]) -> int | None:
        """Return which segment is the secret, None if none is.

        Every segment is compared, and only digests of one length are: how long it takes tells
        nothing about the secret.
        """
        same = [hmac.compare_digest(_digest(segment), self._digest) for segment in segments]
        return same.index(True) if any(same) else None


def fresh() -> str:
    """Return a new secret."""
    return secrets.token_urlsafe(FRESH_BYTES)


def load(file: Path | None, setting: SecretStr | None) -> Secret:
    """Return the secret to use.

    Args:
        file: Holds it; goes before the setting.
        setting: WEBHOOK_SECRET.

    Raises:
        NotConfigured: There is none, or it is unfit.
    """
    if file is not None:
        try:
            return Secret(file.read_text("utf-8").strip())
        except (OSError, UnicodeDecodeError) as exc:
            raise NotConfigured(f"cannot read {file} ({type(exc).__name__}): {_MAKE_ONE}") from exc
    if setting is None:
        raise NotConfigured(f"not set: WEBHOOK_SECRET, or --secret-file: {_MAKE_ONE}")
    return Secret(setting.get_secret_value())


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
