"""What README and docs show is what the commands print today."""

from pathlib import Path

from tests.e2e.conftest import Bench
from tools.examples import EXAMPLES, record, shape


def test_the_pages_show_what_the_commands_print(bench: Bench) -> None:
    printed = record(bench.stack)
    assert {path.stem for path in Path(EXAMPLES).glob("*.txt")} == set(printed)
    for name, text in printed.items():
        shown = (EXAMPLES / f"{name}.txt").read_text(encoding="utf-8")
        assert shape(text) == shape(shown), f"{name}: run `make docs`"
