"""A production folder of tiny files from a hub on loopback: complete, or as it was before."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import IO

import pytest

from builder.errors import AccessDenied, BuildError, DiskFull, Unreachable, WrongBytes
from builder.fetch_models import ProductionBuild, choose
from tests.fakes.hub import TOKEN, Hub, commit_of
from tests.unit.builder.tiny_profile import (
    COMMUNITY,
    DUTCH,
    GERMAN_FILE,
    PUNKT_FILE,
    SMALLER,
    TABLES,
    WHISPER,
    noise,
    profile_of,
    sha256,
)
from worker.models.folder import Profile

ROOT = Path(__file__).parents[3]
WEIGHTS = f"{WHISPER}/model.bin"


@pytest.fixture
def build(hub: Hub, tmp_path: Path, lines: list[str]) -> ProductionBuild:
    """A build of everything."""
    profile = profile_of(hub)
    models = choose(profile, ("large-v3", "small.en"), ("ja", "nl", "de"), ["xlsr-53-dutch"])
    environment = hub.environment(HF_TOKEN=TOKEN)
    return ProductionBuild(profile, models, tmp_path / "models", environment, write=lines.append)


def files_of(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def beside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())


def test_whole_profile_is_fetched_and_laid_out(
    build: ProductionBuild, hub: Hub, lines: list[str]
) -> None:
    """What the worker reads, nothing else, every byte as it is; a second run asks nobody."""
    assert "complete in" in build.run()
    whisper = ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
    aligner = ("config.json", "preprocessor_config.json", "vocab.json", "special_tokens_map.json")
    pipeline = {f"diarization/{name}" for name in hub.repos[COMMUNITY] if name != "README.md"}
    assert files_of(build.into) == {
        "profile.json",
        *(f"whisper/{name}/{file}" for name in ("large-v3", "small.en") for file in whisper),
        *(f"align/{language}/{file}" for language in ("ja", "nl") for file in aligner),
        "align/ja/pytorch_model.bin",
        "align/nl/model.safetensors",
        f"align/de/{GERMAN_FILE}",
        *pipeline,
        "vad/pytorch_model.bin",
        *(f"nltk_data/tokenizers/punkt_tab/{x}/{t}" for x in ("english", "german") for t in TABLES),
    }
    for name, repo in (("large-v3", WHISPER), ("small.en", SMALLER)):
        for file in whisper:
            assert (build.into / "whisper" / name / file).read_bytes() == hub.repos[repo][file]
    assert beside(build.into) == ["models"]  # nor did NLTK's archive write beside it
    assert "licence CC-BY-NC-4.0: VOXPOPULI_ASR_BASE_10K_DE" in lines
    assert [line for line in lines if "not pinned" in line] == [
        f'xlsr-53-dutch was not pinned; this build took revision = "{commit_of(DUTCH)}"'
    ]
    check_profile(build.into, hub)
    hub.seen.clear()
    again = replace(build, environment=hub.environment())
    assert again.run().endswith("is complete already")
    assert hub.seen == []


def check_profile(folder: Path, hub: Hub) -> None:
    """What the worker reads of what is where, what it was made from, an inventory of all files."""
    profile = Profile.read(folder)
    assert (profile.profile, profile.whisper.default) == ("production", "large-v3")
    assert profile.whisper.models["small.en"].languages == ("en",)
    assert {language: (a.kind, a.name) for language, a in profile.align.items()} == {
        "ja": ("huggingface", "xlsr-53-japanese"),
        "nl": ("huggingface", "xlsr-53-dutch"),
        "de": ("torchaudio", "VOXPOPULI_ASR_BASE_10K_DE"),
    }
    paths = [profile.vad.path, profile.diarization.path, profile.nltk_data]
    paths += [entry.path for entry in (*profile.align.values(), *profile.whisper.models.values())]
    assert all((folder / path).exists() for path in paths)
    document = json.loads((folder / "profile.json").read_text())
    source = document["provenance"]["whisper/large-v3"]
    assert (source["revision"], source["licence"]) == (commit_of(WHISPER), "MIT")
    checksums = {entry["file"]: entry["sha256"] for entry in source["sources"]}
    assert checksums["model.bin"] == sha256(hub.repos[WHISPER]["model.bin"])
    assert document["provenance"]["align/nl"]["pinned"] is False
    assert files_of(folder) - set(document["files"]) == {"profile.json"}
    assert hub.url not in json.dumps(document)


def test_what_is_there_is_not_fetched_again(
    build: ProductionBuild, hub: Hub, tmp_path: Path
) -> None:
    """A language more, a damaged file, a folder that is gone while its downloads are kept."""
    replace(build, models=choose(build.profile, ("large-v3", "small.en"), ("ja",))).run()
    hub.sent.clear()
    build.run()
    archive = f"nltk/{PUNKT_FILE}"  # which the folder does not keep
    assert {n for n in hub.sent if DUTCH not in n} == {f"torchaudio/{GERMAN_FILE}", archive}
    damaged = build.into / "whisper" / "small.en" / "model.bin"
    right = damaged.read_bytes()
    damaged.write_bytes(b"x" + right[1:])
    hub.sent.clear()
    kept = replace(build, downloads=tmp_path / "kept")
    kept.run()
    assert damaged.read_bytes() == right
    assert set(hub.sent) == {f"{SMALLER}/model.bin", archive}
    shutil.rmtree(kept.into)
    kept.run()
    shutil.rmtree(kept.into)
    hub.sent.clear()
    kept.run()
    assert (kept.into / "profile.json").is_file()
    assert hub.sent == {}


def test_failure_leaves_the_old_folder_and_the_next_run_fetches_what_is_missing(
    build: ProductionBuild, hub: Hub, lines: list[str]
) -> None:
    """Gigabytes that arrived are not asked for twice; the file that was wrong is removed."""
    replace(build, models=choose(build.profile, ("large-v3",), ("ja",))).run()
    before = files_of(build.into)
    german = f"torchaudio/{GERMAN_FILE}"
    hub.tampered[german] = noise("evil", len(hub.plain[german]))
    with pytest.raises(WrongBytes, match=GERMAN_FILE):
        build.run()
    assert files_of(build.into) == before
    assert lines[-1].startswith(f"what arrived stays in {build.into.parent}")
    assert beside(build.into) == [".models.downloads", "models"]
    hub.tampered.clear()
    hub.sent.clear()
    build.run()
    assert hub.sent[german] == len(hub.plain[german])
    assert f"{SMALLER}/model.bin" not in hub.sent
    assert beside(build.into) == ["models"]


def test_nothing_is_fetched_that_could_not_be_completed(
    build: ProductionBuild, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token, somebody else's folder, a file that is gone, a disk that is too small."""
    with pytest.raises(AccessDenied, match=f"accept its licence at .*{COMMUNITY}.*HF_TOKEN"):
        replace(build, environment=hub.environment()).run()
    thesis = build.into / "thesis.tex"
    build.into.mkdir()
    thesis.write_text("…")
    with pytest.raises(BuildError, match="choose another folder"):
        build.run()
    assert hub.seen == []
    thesis.unlink()
    vocabulary = hub.repos[DUTCH].pop("vocab.json")
    with pytest.raises(Unreachable, match=rf"{DUTCH} has no vocab\.json"):
        build.run()
    hub.repos[DUTCH]["vocab.json"] = vocabulary
    tight = shutil.disk_usage(build.into.parent)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: tight)
    with pytest.raises(DiskFull, match=r"2\.\d MB have to be downloaded .* has 1\.0 MB free"):
        build.run()
    assert hub.sent == {}
    assert beside(build.into) == ["models"]


def test_disk_that_fills_up_is_named_and_gets_everything_back(
    build: ProductionBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filled by somebody else in the middle of a file, once the build had found room."""

    def write(_: str, file: IO[bytes], **__: object) -> None:
        file.write(b"x" * 1000)
        file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", write)
    with pytest.raises(DiskFull, match="the disk of .* is full: free some space"):
        build.run()
    assert beside(build.into) == []


COMMAND = """
import logging, sys
from pathlib import Path
from builder import fetch_models, pins
logging.basicConfig(level=logging.DEBUG)
profile = pins.HubProfile.model_validate_json(Path(sys.argv[1]).read_text())
fetch_models.load_profile = lambda *_: profile
sys.exit(fetch_models.main(sys.argv[2:]))
"""


@pytest.fixture
def command(hub: Hub, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A whole build in a process of its own, by a secret file, with debugging logs."""
    pins, secret, out = tmp_path / "pins.json", tmp_path / "secret", tmp_path / "out"
    pins.write_text(profile_of(hub).model_dump_json())
    secret.write_text(TOKEN + "\n")
    options = ["--profile", "production", "--into", out / "models", "--downloads", out / "d"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= hub.environment(HF_TOKEN_FILE=str(secret), HF_HUB_OFFLINE="1")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", COMMAND, pins, *options, "--languages", "ja,de"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("accepted", [True, False])
def test_token_is_in_no_output_or_file(
    hub: Hub, tmp_path: Path, accepted: bool, command: subprocess.Popen[bytes]
) -> None:
    """Nor is a signed URL in what the client says; HF_HUB_OFFLINE makes no difference."""
    hub.accepted = accepted
    lost = [WEIGHTS]

    def lose(name: str) -> None:
        if name in lost:
            lost.remove(name)
            raise ConnectionResetError("the client warns of it, with the URL")

    hub.before_sending = lose
    output, errors = command.communicate(timeout=120)
    assert command.returncode == (0 if accepted else 3), errors
    assert any(f"Bearer {TOKEN}" == seen.authorization for seen in hub.seen)
    written = [p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert bool(written) is accepted
    assert TOKEN.encode() not in b"".join([output, errors, *written])
    assert b"urllib3" in errors  # the libraries did log
    assert lost == ([] if accepted else [WEIGHTS])
    ours = [line for line in errors.splitlines() if b"urllib3" not in line]
    assert b"s1gnature" not in output + b"".join(ours)
    assert accepted or COMMUNITY.encode() in ours[-1]


def test_interrupt_ends_the_build_at_once_and_keeps_what_arrived(
    hub: Hub, tmp_path: Path, command: subprocess.Popen[bytes]
) -> None:
    """While the server holds a file back that the client would wait for."""
    held, released = Event(), Event()

    def hold(name: str) -> None:
        if name == WEIGHTS:
            held.set()
            released.wait(120)

    hub.before_sending = hold
    assert held.wait(120)
    command.send_signal(signal.SIGINT)
    errors = command.communicate(timeout=60)[1]
    released.set()
    assert command.returncode == 130
    assert f"what arrived stays in {tmp_path / 'out' / 'd'}: run again to resume" in errors.decode()
