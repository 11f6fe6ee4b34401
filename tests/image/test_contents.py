"""What is in the image, and what is not."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from image.engine import run
from image.requirements import read_left_out
from tests.image.conftest import ROOT, SECRET, Image, build_from
from tests.image.listing import account, describe_contents, describe_layers, list_layers

pytestmark = pytest.mark.timeout(1500)

COMPILERS = ("gcc", "cc", "g++", "clang", "make", "ld", "nvcc", "ptxas", "pip", "pip3", "uv")
PUBLIC_INDEX = b".".join((b"pypi", b"org"))  # no committed file names a package index
OURS = ("app", "opt/requirements", "opt/numba", "etc")


def files_of(folder: Path) -> Iterator[Path]:
    """All files below, by the file system's own account."""
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where, name)
            if path.is_file() and not path.is_symlink():
                yield path


def holds(path: Path, wanted: bytes) -> bool:
    """Whether a file has these bytes anywhere."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(wanted) >= 0


def test_the_image_is_at_most_a_twentieth_larger_than_what_it_must_hold(image: Image) -> None:
    contents = account(image.root, image.layers)
    sys.stdout.write(f"{describe_layers(image.layers)}\n\n{describe_contents(contents)}\n")
    assert 0 <= contents.excess <= 0.05


def test_wheels_that_nothing_imports_are_not_installed(image: Image) -> None:
    installed = json.loads(
        image.python(
            "import json, re; from importlib.metadata import distributions as d;"
            "print(json.dumps([re.sub(r'[-_.]+', '-', x.metadata['Name']).lower() for x in d()]))"
        )
    )
    assert set(read_left_out()) & set(installed) == set()
    assert {"torch", "whisperx", "runpod"} <= set(installed)


def test_there_is_no_compiler_no_installer_and_nothing_of_ours_but_the_worker(image: Image) -> None:
    folders = [image.root / "usr/bin", image.root / "usr/local/bin", image.root / "opt/venv/bin"]
    assert [n for n in COMPILERS for folder in folders if (folder / n).exists()] == []
    assert sorted(p.name for p in (image.root / "app").iterdir() if p.name != "__pycache__") == [
        "LICENSE", "bucketscribe_contract", "bucketscribe_render", "handler.py", "test_input.json",
        "worker",
    ]  # fmt: skip
    assert list((image.root / "var/cache").glob("uv/*")) == []
    assert list((image.root / "tmp").iterdir()) == []


def test_each_cuda_library_is_there_once_and_found_by_its_name(image: Image) -> None:
    told = image.python(
        "import ctypes\n"
        "for name in ('libcublas.so.12', 'libcublasLt.so.12', 'libcudnn.so.9'):\n"
        "    ctypes.CDLL(name)\n"
        "import torch\n"
        "print(*sorted({l.split()[-1] for l in open('/proc/self/maps')"
        " if 'libcublas' in l or 'libcudnn.so' in l}), sep='\\n')"
    ).split()
    assert [Path(path).name for path in told] == [
        "libcublas.so.12", "libcublasLt.so.12", "libcudnn.so.9",
    ]  # fmt: skip
    assert all("/site-packages/nvidia/" in path for path in told)
    names = [p.name for p in files_of(image.root) if p.name.startswith(("libcublas", "libcudnn"))]
    assert len(names) == len(set(names))


def test_no_secret_and_no_address_of_this_machine_is_in_any_layer(image: Image) -> None:
    token = SECRET.encode()
    assert any(holds(path, b"libcudnn") for path in files_of(image.layers[2].folder))  # it can find
    for layer in image.layers:
        assert [str(p) for p in files_of(layer.folder) if holds(p, token)] == []
    kept = [path for folder in OURS for path in files_of(image.root / folder)]
    for wanted in (b"AWS_SECRET_ACCESS_KEY=", b"AWS_ACCESS_KEY_ID=", b"index-url", PUBLIC_INDEX):
        assert [str(path) for path in kept if holds(path, wanted)] == []
    assert not (image.root / "etc/pip.conf").exists()
    assert list((image.root / "run").glob("secrets/*")) == []
    assert SECRET not in json.dumps(image.config)
    assert "AWS" not in json.dumps(image.config)


def test_everything_can_be_read_by_the_worker_and_written_by_nobody_but_root(image: Image) -> None:
    for folder in ("app", "models", "opt"):
        for path in files_of(image.root / folder):
            found = path.stat()
            access = found.st_mode & (stat.S_IROTH | stat.S_IWOTH)
            assert (found.st_uid, access) == (0, stat.S_IROTH), path
            assert folder != "models" or found.st_nlink == 1, f"{path}: nltk refuses hard links"


def test_changed_code_ships_its_own_layer_alone(image: Image, tmp_path: Path) -> None:
    packages = ("bucketscribe_contract", "bucketscribe_render", "worker", "builder")
    for name in (*packages, "requirements", "image"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("Dockerfile", ".dockerignore", "handler.py", "test_input.json", "LICENSE"):
        shutil.copy2(ROOT / name, tmp_path / name)
    with (tmp_path / "worker" / "pipeline.py").open("a", encoding="utf-8") as source:
        source.write("\n# changed\n")
    tag = "localhost/bucketscribe:changed"
    build_from(tmp_path, tag)
    before = [layer.digest for layer in image.layers]
    after = [layer.digest for layer in list_layers(tag)]
    run("buildah", "rmi", tag)
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]
