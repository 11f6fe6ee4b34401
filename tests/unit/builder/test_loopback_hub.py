"""The official client takes the loopback hub for a hub: what the builder is tested on is real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.unit.builder.loopback_hub import TOKEN, LoopbackHub, commit_of
from tests.unit.builder.stand_ins import COMMUNITY, WHISPER

# In a process of its own: it reads HF_ENDPOINT and its offline switch when it is imported.
SCRIPT = """
import sys
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

repo, gated, revision, gated_revision, token, folder = sys.argv[1:]
info = HfApi().model_info(repo, revision=revision, files_metadata=True)
assert info.sha == revision
for sibling in info.siblings:
    size, digest = sibling.size, sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    print(sibling.rfilename, size, digest)
for name in ("model.bin", "config.json"):
    hf_hub_download(repo, name, revision=revision, local_dir=folder)
hf_hub_download(gated, "plda/plda.npz", revision=gated_revision, local_dir=folder, token=token)
try:
    hf_hub_download(gated, "config.yaml", revision=gated_revision, local_dir=folder, token=False)
except GatedRepoError:
    print("gated")
try:
    HfApi().model_info(repo, revision="f" * 40)
except RevisionNotFoundError:
    print("no such revision")
"""


def test_official_client_gets_the_same_files(hub: LoopbackHub, tmp_path: Path) -> None:
    """Listing, resolve, redirects, ETags, sizes and refusals."""
    script = [sys.executable, "-W", "error", "-c", SCRIPT]
    arguments = [WHISPER, COMMUNITY, commit_of(WHISPER), commit_of(COMMUNITY), TOKEN]
    home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))
    }
    done = subprocess.run(
        [*script, *arguments, str(tmp_path)],
        env=environment | home | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["gated", "no such revision"]
    names = {line.split()[0] for line in done.stdout.splitlines()[:-2]}
    assert names == set(hub.repos[WHISPER])
    for name in ("model.bin", "config.json"):
        assert (tmp_path / name).read_bytes() == hub.repos[WHISPER][name]
    assert (tmp_path / "plda" / "plda.npz").read_bytes() == hub.repos[COMMUNITY]["plda/plda.npz"]
