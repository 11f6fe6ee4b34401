"""The Hugging Face token: read where the builder was told to look, shown to nobody.

It comes from ``HF_TOKEN``, from the file that ``HF_TOKEN_FILE`` names, or from the place where a
container build mounts its secrets; never from the command line, which every process can read, and
never from a token that somebody else left in a home directory. It is sent to the hub alone, and
for gated models alone.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from builder.errors import AccessDenied

VARIABLE = "HF_TOKEN"
FILE_VARIABLE = "HF_TOKEN_FILE"
BUILD_SECRET = Path("/run/secrets/hf_token")
HOW = f"in {VARIABLE}, or in a file named by {FILE_VARIABLE}, or as the build secret hf_token"


def read_token(environment: Mapping[str, str], secret: Path = BUILD_SECRET) -> SecretStr | None:
    """Return the token, or None where there is none.

    Raises:
        AccessDenied: A file that was named cannot be read, or what is there is no token.
    """
    if found := environment.get(VARIABLE, "").strip():
        return _checked(found, VARIABLE)
    if named := environment.get(FILE_VARIABLE):
        return _read(Path(named), FILE_VARIABLE)
    return _read(secret, str(secret)) if secret.is_file() else None


def _read(path: Path, source: str) -> SecretStr:
    try:
        return _checked(path.read_text(encoding="utf-8").strip(), source)
    except (OSError, UnicodeDecodeError) as exc:
        raise AccessDenied(f"the token's file cannot be read ({source}): check its path") from exc


def _checked(token: str, source: str) -> SecretStr:
    """Refuse what could not be sent: an HTTP library would print it in its complaint."""
    if not token or not all("!" <= character <= "~" for character in token):
        raise AccessDenied(f"{source} holds no token: give it one line, as the hub shows it")
    return SecretStr(token)
