"""The generated reference is what the command line says."""

from pathlib import Path

import edge_client
from tools.cli_reference import reference

ROOT = Path(edge_client.__file__).parent.parent


def test_committed_reference_is_current() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == reference(), (
        "run: python -m tools.cli_reference > docs/cli.md"
    )
