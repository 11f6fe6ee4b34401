"""The wheel holds the edge client and the contract, and the edge client runs from these alone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("builder", "devstack", "worker", "bench", "image", "tools")
IMPORTED = f"""
import sys, edge_client.__main__
assert edge_client.__file__.startswith(sys.argv[1]), edge_client.__file__
print(sorted(name for name in sys.modules if name in {OURS}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as `pip install .` does."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*command, "--directory", str(folder)], cwd=ROOT, check=True)
    (found,) = folder.glob("*.whl")
    return found


def test_it_has_two_packages_with_their_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"bucketscribe_contract", "edge_client"}
    assert {f"{top}/py.typed" for top in tops} <= set(names)
    assert [name for name in names if name.endswith("/entry_points.txt")]


def test_the_edge_client_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", tmp_path, wheel], check=True)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [tmp_path / "bin" / "edge-client", "--help"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Usage: edge-client" in done.stdout
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, tmp_path],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"
