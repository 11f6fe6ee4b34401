"""A production folder of tiny files, from a hub on loopback: complete, or as it was before."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import AccessDenied, DiskFull, FolderError, Unreachable, WrongBytes
from builder.fetch_models import Bake, choose
from tests.unit.builder.loopback_hub import TOKEN, LoopbackHub, commit_of
from tests.unit.builder.stand_ins import (
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

ALL = ("ja", "nl", "de")


@pytest.fixture
def lines() -> list[str]:
    """The build log."""
    return []


@pytest.fixture
def bake(hub: LoopbackHub, tmp_path: Path, lines: list[str], no_sleep: list[float]) -> Bake:
    """A build of everything."""
    profile = profile_of(hub)
    models = choose(profile, ("large-v3", "small.en"), ALL, ["xlsr-53-dutch"])
    environment = hub.environment(HF_TOKEN=TOKEN)
    into = tmp_path / "models"
    return Bake(profile, models, into, environment, write=lines.append, sleep=no_sleep.append)


def files_of(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def beside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())


def test_whole_profile_is_fetched_and_laid_out(bake: Bake, hub: LoopbackHub) -> None:
    """What the worker reads, nothing that it does not, every byte as the hub has it."""
    assert "complete in" in bake.run()
    whisper = ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
    aligner = ("config.json", "preprocessor_config.json", "vocab.json", "special_tokens_map.json")
    pipeline = {f"diarization/{name}" for name in hub.repos[COMMUNITY] if name != "README.md"}
    assert files_of(bake.into) == {
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
            assert (bake.into / "whisper" / name / file).read_bytes() == hub.repos[repo][file]
    assert beside(bake.into) == ["models"]


def test_worker_finds_everything_by_the_profile(bake: Bake) -> None:
    """The table of contents is the demo profile's, plus bundles of torchaudio."""
    bake.run()
    profile = Profile.read(bake.into)
    assert profile.profile == "production"
    assert profile.whisper.default == "large-v3"
    assert profile.whisper.models["small.en"].languages == ("en",)
    assert profile.align["de"].name == "VOXPOPULI_ASR_BASE_10K_DE"
    assert {language: a.kind for language, a in profile.align.items()} == {
        "ja": "huggingface",
        "nl": "huggingface",
        "de": "torchaudio",
    }
    paths = [profile.vad.path, profile.diarization.path, profile.nltk_data]
    paths += [entry.path for entry in (*profile.align.values(), *profile.whisper.models.values())]
    assert all((bake.into / path).exists() for path in paths)


def test_folder_says_what_it_was_made_from(bake: Bake, hub: LoopbackHub) -> None:
    """Revision, licence and checksum of every file; an inventory of all there is."""
    bake.run()
    document = json.loads((bake.into / "profile.json").read_text())
    source = document["provenance"]["whisper/large-v3"]
    assert source["revision"] == commit_of(WHISPER)
    assert source["licence"] == "MIT"
    checksums = {entry["file"]: entry["sha256"] for entry in source["sources"]}
    assert checksums["model.bin"] == sha256(hub.repos[WHISPER]["model.bin"])
    assert document["provenance"]["align/nl"]["pinned"] is False
    assert files_of(bake.into) - set(document["files"]) == {"profile.json"}
    assert hub.url not in json.dumps(document)


def test_what_is_not_pinned_is_told_as_a_pin(bake: Bake, lines: list[str]) -> None:
    """The line can be copied into models.toml."""
    bake.run()
    told = [line for line in lines if "not pinned" in line]
    assert told == [
        f'xlsr-53-dutch was not pinned; this build took revision = "{commit_of(DUTCH)}"'
    ]


def test_second_run_asks_nobody(bake: Bake, hub: LoopbackHub) -> None:
    """Not even with a token, nor for what is not pinned."""
    bake.run()
    hub.seen.clear()
    again = replace(bake, environment=hub.environment())
    assert again.run().endswith("is complete already")
    assert hub.seen == []


def test_damaged_file_alone_is_fetched_again(bake: Bake, hub: LoopbackHub) -> None:
    """And the archive that the folder does not keep."""
    bake.run()
    damaged = bake.into / "whisper" / "small.en" / "model.bin"
    right = damaged.read_bytes()
    damaged.write_bytes(b"x" + right[1:])
    hub.sent.clear()
    bake.run()
    assert damaged.read_bytes() == right
    assert set(hub.sent) == {f"{SMALLER}/model.bin", f"nltk/{PUNKT_FILE}"}


def test_another_language_does_not_fetch_the_rest_again(bake: Bake, hub: LoopbackHub) -> None:
    """A folder grows by what is new."""
    fewer = replace(bake, models=choose(bake.profile, ("large-v3", "small.en"), ("ja",)))
    fewer.run()
    hub.sent.clear()
    bake.run()
    origins = {name.rpartition("/")[0] for name in hub.sent}
    assert origins == {DUTCH, "torchaudio", "nltk/tokenizers"}


def test_file_that_two_models_share_is_fetched_once(bake: Bake, hub: LoopbackHub) -> None:
    """Whisper models have few different tokenizers."""
    bake.run()
    tokenizers = [s for s in hub.bodies if s.path.endswith("tokenizer.json") and "cache" in s.path]
    assert len(tokenizers) == 1


def test_kept_downloads_serve_the_next_build(bake: Bake, hub: LoopbackHub, tmp_path: Path) -> None:
    """A cache mount of a container build: the folder is gone, the downloads are not."""
    kept = replace(bake, downloads=tmp_path / "kept")
    kept.run()
    shutil.rmtree(kept.into)
    hub.sent.clear()
    kept.run()
    assert (kept.into / "profile.json").is_file()
    assert hub.sent == {}


def test_wrong_checksum_is_refused_removed_and_named(bake: Bake, hub: LoopbackHub) -> None:
    """What arrived stays for the next run, except the file that was wrong."""
    name = f"{WHISPER}/model.bin"
    hub.tampered[name] = noise("evil", len(hub.repos[WHISPER]["model.bin"]))
    with pytest.raises(WrongBytes, match=r"whisper/large-v3/model\.bin from .* it was removed"):
        replace(bake, jobs=1).run()
    assert beside(bake.into) == [".models.downloads"]
    wrong = sha256(hub.tampered[name])
    stored = [path.read_bytes() for path in bake.into.with_name(".models.downloads").iterdir()]
    assert wrong not in map(sha256, stored)
    assert stored != []


def test_run_after_a_failure_fetches_only_what_is_missing(
    bake: Bake, hub: LoopbackHub, lines: list[str]
) -> None:
    """Gigabytes that arrived are not asked for twice."""
    hub.tampered[f"torchaudio/{GERMAN_FILE}"] = b"short"
    one = replace(bake, jobs=1)
    with pytest.raises(WrongBytes, match=GERMAN_FILE):
        one.run()
    assert hub.sent[f"{WHISPER}/model.bin"] == len(hub.repos[WHISPER]["model.bin"])
    assert lines[-1].startswith(f"what arrived stays in {bake.into.parent}")
    hub.tampered.clear()
    hub.sent.clear()
    one.run()
    assert f"{WHISPER}/model.bin" not in hub.sent
    assert hub.sent[f"torchaudio/{GERMAN_FILE}"] == len(hub.plain[f"torchaudio/{GERMAN_FILE}"])
    assert beside(bake.into) == ["models"]


def test_failure_leaves_the_old_folder_as_it_was(bake: Bake, hub: LoopbackHub) -> None:
    """A build that fails must not cost the last one that worked."""
    replace(bake, models=choose(bake.profile, ("large-v3",), ("ja",))).run()
    before = files_of(bake.into)
    hub.tampered[f"torchaudio/{GERMAN_FILE}"] = b"short"
    with pytest.raises(WrongBytes):
        bake.run()
    assert files_of(bake.into) == before


def test_gated_model_without_token_is_refused_before_anything_is_fetched(
    bake: Bake, hub: LoopbackHub
) -> None:
    """The message has the licence page and the variable."""
    with pytest.raises(AccessDenied) as refusal:
        replace(bake, environment=hub.environment()).run()
    message = str(refusal.value)
    assert f"accept its licence at https://huggingface.co/{COMMUNITY}" in message
    assert "HF_TOKEN" in message
    assert "\n" not in message
    assert refusal.value.exit_code == 3
    assert hub.seen == []


def test_licence_that_was_not_accepted_is_found_before_gigabytes(
    bake: Bake, hub: LoopbackHub
) -> None:
    """The hub lists gated repositories to everybody and refuses only their files."""
    hub.accepted = False
    with pytest.raises(AccessDenied, match=f"accept its licence at https://.*/{COMMUNITY}"):
        bake.run()
    assert hub.sent == {}


def test_token_that_the_hub_does_not_know_is_named_as_such(bake: Bake, hub: LoopbackHub) -> None:
    """Accepting a licence would not help."""
    with pytest.raises(AccessDenied, match="takes the token for invalid"):
        replace(bake, environment=hub.environment(HF_TOKEN="hf_other")).run()


def test_token_goes_to_the_hub_for_the_gated_model_and_nowhere_else(
    bake: Bake, hub: LoopbackHub
) -> None:
    """Not to the CDN that the hub redirects to, not for models that everybody may have."""
    bake.run()
    with_token = [seen for seen in hub.seen if seen.authorization]
    assert {seen.host for seen in with_token} == {"127.0.0.1"}
    assert all(COMMUNITY in seen.path for seen in with_token)
    assert any(seen.host == "localhost" and COMMUNITY in seen.path for seen in hub.seen)


def test_repository_that_is_gone_is_named(bake: Bake, hub: LoopbackHub) -> None:
    """A model that its author took away."""
    del hub.repos[DUTCH]["vocab.json"]
    with pytest.raises(Unreachable, match=rf"{DUTCH} has no vocab\.json"):
        bake.run()
    assert hub.sent == {}


def test_hub_that_does_not_answer_is_tried_six_times(
    bake: Bake, hub: LoopbackHub, no_sleep: list[float]
) -> None:
    """One line, with what to look at."""
    hub.busy.extend([503] * 1000)
    with pytest.raises(Unreachable, match=r"answers 503, 6 times: check the network"):
        replace(bake, jobs=1).run()
    assert no_sleep[:5] == [7.0] * 5  # as the server asks


def test_folder_of_somebody_else_is_left_alone(bake: Bake, hub: LoopbackHub) -> None:
    """Before anything is fetched."""
    bake.into.mkdir()
    (bake.into / "thesis.tex").write_text("…")
    with pytest.raises(FolderError, match="choose another folder"):
        bake.run()
    assert hub.seen == []


def test_models_that_do_not_fit_are_refused_before_anything_is_fetched(
    bake: Bake, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how much is needed and how much there is."""
    usage = shutil.disk_usage(bake.into.parent)
    tight = usage._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: tight)
    with pytest.raises(DiskFull, match=r"2\.\d MB are to be fetched .* has 1\.0 MB free"):
        bake.run()
    assert hub.sent == {}
    assert beside(bake.into) == []


def test_disk_that_fills_up_leaves_nothing(bake: Bake, hub: LoopbackHub, small_disk: Path) -> None:
    """A real one, filled by somebody else once the build had found room: it gets it all back."""
    free = shutil.disk_usage(small_disk).free
    fits = replace(bake, into=small_disk / "models", models=bake.models[2:])

    def fill_disk(name: str) -> None:
        if name.endswith("pytorch_model.bin"):
            left = shutil.disk_usage(small_disk).free
            (small_disk / "ballast").write_bytes(bytes(max(left - 20_000, 0)))

    hub.before_sending = fill_disk
    hub.repos = {k: v for k, v in hub.repos.items() if k not in (WHISPER, SMALLER)}
    with pytest.raises(DiskFull, match=f"the disk of {small_disk}.* is full"):
        replace(fits, models=tuple(m for m in fits.models if not m.torchaudio_bundle)).run()
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast"]
    (small_disk / "ballast").unlink()
    assert shutil.disk_usage(small_disk).free == free


def test_licences_are_in_the_build_log(bake: Bake, lines: list[str]) -> None:
    """Some of them do not allow every use."""
    bake.run()
    assert "licence CC-BY-NC-4.0: VOXPOPULI_ASR_BASE_10K_DE" in lines


def test_archive_cannot_write_outside_the_folder(bake: Bake) -> None:
    """It holds an entry that would."""
    bake.run()
    assert not list(bake.into.parent.rglob("escaped.txt"))
