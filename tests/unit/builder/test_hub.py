"""What a listing makes of a repository."""

from __future__ import annotations

import pytest

from builder.download import Listing, list_files
from builder.errors import Unreachable, WrongBytes
from builder.pins import HubModel, Places
from tests.unit.builder.loopback_hub import LoopbackHub, commit_of, git_blob
from tests.unit.builder.stand_ins import DUTCH, JAPANESE, WHISPER, sha256


def listed(hub: LoopbackHub, **changes: object) -> Listing:
    values = {"kind": "align", "name": "x", "licence": "y", "repo": DUTCH, "revision": None}
    model = HubModel.model_validate(values | changes)
    places = Places(hub=hub.url, torchaudio=hub.url, nltk=hub.url)
    return list_files(model, places, None, lambda seconds: None)


def names(listing: Listing) -> set[str]:
    return {file.name for file in listing.files}


def test_safetensors_are_preferred_to_a_pickle(hub: LoopbackHub) -> None:
    """The same weights twice would be a gigabyte more."""
    assert "model.safetensors" in names(listed(hub))
    assert "pytorch_model.bin" not in names(listed(hub))
    assert "pytorch_model.bin" in names(listed(hub, repo=JAPANESE))


def test_what_the_worker_does_not_read_stays_behind(hub: LoopbackHub) -> None:
    """Language models, other frameworks' weights, cards."""
    assert names(listed(hub)) == {
        "config.json",
        "preprocessor_config.json",
        "vocab.json",
        "special_tokens_map.json",
        "model.safetensors",
    }


def test_unpinned_model_is_fetched_at_one_commit(hub: LoopbackHub) -> None:
    """Not at `main`, which may move between two files."""
    listing = listed(hub)
    assert listing.revision == commit_of(DUTCH)
    assert all(f"/resolve/{commit_of(DUTCH)}/" in file.url for file in listing.files)


def test_every_file_has_a_checksum(hub: LoopbackHub) -> None:
    """The hub's SHA-256 for large files, git's id for small ones."""
    by_name = {file.name: file for file in listed(hub).files}
    large, small = by_name["model.safetensors"].digest, by_name["vocab.json"].digest
    assert large is not None
    assert small is not None
    assert large.value == sha256(hub.repos[DUTCH]["model.safetensors"])
    assert (small.algorithm, small.value) == ("git", git_blob(hub.repos[DUTCH]["vocab.json"]))


def test_hub_that_lists_other_bytes_than_pinned_is_refused(hub: LoopbackHub) -> None:
    """Before they are fetched."""
    with pytest.raises(WrongBytes, match=r"model\.bin is listed with SHA-256 .*pinned is 0000"):
        listed(hub, kind="whisper", repo=WHISPER, sha256={"model.bin": "0" * 64})


def test_pinned_file_that_is_not_there_is_named(hub: LoopbackHub) -> None:
    """A pin is a promise."""
    with pytest.raises(Unreachable, match=r"has no lost\.bin"):
        listed(hub, sha256={"lost.bin": "0" * 64})


def test_unknown_revision_and_repository_are_told_apart_from_no_network(hub: LoopbackHub) -> None:
    """Neither is tried again."""
    with pytest.raises(Unreachable, match="has it not .RevisionNotFound."):
        listed(hub, revision="f" * 40)
    assert len(hub.seen) == 1


def test_other_revision_than_asked_for_is_refused(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that serves what it has."""
    wrong = "e" * 40
    monkeypatch.setattr("tests.unit.builder.loopback_hub.commit_of", lambda repo: wrong)
    hub.repos[f"{DUTCH}/revision/{'f' * 40}"] = hub.repos[DUTCH]
    monkeypatch.setattr("builder.download._json", lambda *_: {"sha": wrong, "siblings": []})
    with pytest.raises(WrongBytes, match=f"revision {wrong}, not {'f' * 40}"):
        listed(hub, revision="f" * 40)


def test_page_that_is_no_listing_names_the_variable(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_ENDPOINT set to something else that answers."""
    monkeypatch.setattr("builder.download._json", lambda *_: {"hello": "world"})
    with pytest.raises(Unreachable, match="check HF_ENDPOINT"):
        listed(hub)


def test_name_that_climbs_out_is_not_taken(hub: LoopbackHub) -> None:
    """A repository cannot write beside its folder."""
    hub.repos[DUTCH]["segmentation/../../../x.bin"] = b"x"
    hub.repos[DUTCH]["config.yaml"] = hub.repos[DUTCH]["plda/a.npz"] = b"x"
    hub.repos[DUTCH]["segmentation/a.bin"] = hub.repos[DUTCH]["embedding/a.bin"] = b"x"
    assert not [name for name in names(listed(hub, kind="diarization")) if ".." in name]
