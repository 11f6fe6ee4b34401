"""The wheel holds edge client, contract and formats, and the edge client runs from these alone."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = ("builder", "devstack", "worker", "bench", "image", "tools")
IMPORTED = f"""
import sys, edge_client.__main__
assert edge_client.__file__.startswith(sys.argv[1]), edge_client.__file__
print(sorted(name for name in sys.modules if name in {OURS}))
"""


def test_it_has_three_packages_with_their_types_and_runs_from_these_alone(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", tmp_path / "dist"], cwd=ROOT, check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"bucketscribe_contract", "bucketscribe_render", "edge_client"}
    assert {f"{top}/py.typed" for top in tops} <= set(names)
    page = [name for name in names if name.startswith("bucketscribe_render/page/")]
    assert page == [f"bucketscribe_render/page/{name}" for name in ("__init__.py", "page.html")]

    here = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", here, wheel], check=True)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(here)}
    for command, said in (
        ([here / "bin" / "edge-client", "--help"], "Usage: edge-client"),
        ([sys.executable, "-c", IMPORTED, here], "[]\n"),
    ):
        assert said in subprocess.check_output(command, cwd=here, env=env, text=True)


def test_an_edge_box_gets_at_most_30_packages_of_less_than_100_mb() -> None:
    pins = (ROOT / "requirements" / "edge.txt").read_text("utf-8")
    total = names = 0
    for name in re.findall(r"^([a-z][\w.-]*)==", pins, re.MULTILINE):
        names += 1
        for file in importlib.metadata.files(name) or ():
            path = Path(str(file.locate()))
            compiled = 2 if path.suffix == ".py" else 1  # pip writes bytecode, about as large
            total += compiled * path.stat().st_size if path.is_file() else 0
    assert 10 < names <= 30
    assert 20e6 < total < 100e6
