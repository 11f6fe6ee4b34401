"""Put the transcript's page together: ``python -m tools.page``; ``--check`` fails if it is stale.

The modules of ``bucketscribe_render/page/src`` become one script: each stands behind what it
imports, and they share their names. The hashes of script and style go into the page's policy.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Iterator

from bucketscribe_render.page import PAGE

SOURCES = PAGE.parent / "src"
_IMPORT = re.compile(r'^import .* from "\./(.+)";\n', re.MULTILINE)


def modules(name: str, seen: set[str]) -> Iterator[str]:
    """Yield the text of a module behind those of all that it imports, each once."""
    if name in seen:
        return
    seen.add(name)
    text = (SOURCES / name).read_text(encoding="utf-8")
    for imported in _IMPORT.findall(text):
        yield from modules(imported, seen)
    yield re.sub("^export ", "", _IMPORT.sub("", text), flags=re.MULTILINE)


def page() -> str:
    """Return the page without a transcript."""
    script, style = "\n".join(modules("main.js", set())), (SOURCES / "style.css").read_text()
    score = re.search(r"LOW_SCORE = ([\d.]+)", script)
    parts = {
        "SCRIPT": script,
        "STYLE": style,
        "SCRIPT_HASH": _hash(script),
        "STYLE_HASH": _hash(style),
        "LOW_SCORE": score[1] if score else "",
    }
    template = (SOURCES / "template.html").read_text(encoding="utf-8")
    return re.sub(f"%({'|'.join(parts)})%", lambda place: parts[place[1]], template)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def main(arguments: list[str]) -> int:
    """Write or check the page; return the exit code."""
    if "--check" not in arguments:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.stderr.write(f"{PAGE.name} is not current: run `make docs`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
