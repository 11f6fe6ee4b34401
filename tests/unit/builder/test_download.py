"""One file, over connections that break."""

from __future__ import annotations

import errno
from pathlib import Path
from threading import Event

import pytest

from builder.download import ATTEMPTS, Cancelled, RemoteFile, download, list_files
from builder.errors import AccessDenied, DiskFull, Unreachable, WrongBytes
from builder.pins import HubModel, Places
from tests.unit.builder.loopback_hub import LoopbackHub, commit_of
from tests.unit.builder.stand_ins import COMMUNITY, WEIGHTS_BYTES, WHISPER, noise

NAME = f"{WHISPER}/model.bin"


def remote(hub: LoopbackHub, name: str = "model.bin") -> RemoteFile:
    """Whisper's weights, as the hub lists them."""
    model = HubModel(
        kind="whisper", name="large-v3", licence="MIT", repo=WHISPER, revision=commit_of(WHISPER)
    )
    places = Places(hub=hub.url, torchaudio=hub.url, nltk=hub.url)
    listing = list_files(model, places, None, no_wait)
    return next(file for file in listing.files if file.name == name)


def no_wait(seconds: float) -> None:
    """Do not wait."""
    del seconds


def fetch(file: RemoteFile, path: Path, stop: Event | None = None) -> int:
    """Download, and return how many bytes were counted."""
    counted: list[int] = []
    stop = stop or Event()
    download(file, path, None, on_bytes=counted.append, sleep=no_wait, stop=stop)
    return sum(counted)


def test_cut_connection_is_gone_on_with(hub: LoopbackHub, tmp_path: Path) -> None:
    """Three cuts: no byte is sent twice."""
    content = hub.repos[WHISPER]["model.bin"]
    hub.cuts[NAME] = [300_000, 200_000, 250_001]
    assert fetch(remote(hub), tmp_path / "part") == len(content)
    assert (tmp_path / "part").read_bytes() == content
    assert hub.sent[NAME] == len(content)
    ranges = [seen.range for seen in hub.bodies if seen.host == "localhost"]
    assert ranges == [None, "bytes=300000-", "bytes=500000-", "bytes=750001-"]
    assert len(hub.bodies) == 4 * 2  # each is redirected from the hub to its CDN


def test_connection_that_always_brings_something_is_not_given_up(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    """However often it breaks."""
    hub.cuts[NAME] = [40_000] * (2 * ATTEMPTS)
    fetch(remote(hub), tmp_path / "part")
    assert hub.sent[NAME] == WEIGHTS_BYTES


def test_reset_connection_is_gone_on_with(hub: LoopbackHub, tmp_path: Path) -> None:
    """What was under way is lost with it, what was on the disk is not."""
    hub.cuts[NAME], hub.resets = [600_000, 100_000], True
    fetch(remote(hub), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == hub.repos[WHISPER]["model.bin"]


def test_earlier_run_is_gone_on_with(hub: LoopbackHub, tmp_path: Path) -> None:
    """A part that another process left."""
    content = hub.repos[WHISPER]["model.bin"]
    (tmp_path / "part").write_bytes(content[:700_000])
    assert fetch(remote(hub), tmp_path / "part") == len(content)
    assert hub.sent[NAME] == len(content) - 700_000


def test_part_that_is_already_whole_is_not_asked_for(hub: LoopbackHub, tmp_path: Path) -> None:
    """A run that was ended between the last byte and the checksum."""
    (tmp_path / "part").write_bytes(hub.repos[WHISPER]["model.bin"])
    fetch(remote(hub), tmp_path / "part")
    assert hub.bodies == []


def test_server_without_ranges_begins_anew(hub: LoopbackHub, tmp_path: Path) -> None:
    """A proxy that answers 200 to a range must not be appended."""
    content = hub.repos[WHISPER]["model.bin"]
    hub.cuts[NAME], hub.ignores_ranges = [500_000], True
    assert fetch(remote(hub), tmp_path / "part") == len(content)
    assert hub.sent[NAME] == 500_000 + len(content)
    assert (tmp_path / "part").read_bytes() == content


def test_part_longer_than_the_file_is_dropped(hub: LoopbackHub, tmp_path: Path) -> None:
    """The server has no byte there."""
    (tmp_path / "part").write_bytes(noise("other", WEIGHTS_BYTES + 1))
    fetch(remote(hub), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == hub.repos[WHISPER]["model.bin"]


@pytest.mark.parametrize("name", ["model.bin", "config.json"])
def test_wrong_bytes_are_refused_and_removed(hub: LoopbackHub, tmp_path: Path, name: str) -> None:
    """SHA-256 of a large file, git's id of a small one."""
    content = hub.repos[WHISPER][name]
    hub.tampered[f"{WHISPER}/{name}"] = content[:-1] + b"\x00"
    with pytest.raises(WrongBytes, match=rf"whisper/large-v3/{name} .*removed"):
        fetch(remote(hub, name), tmp_path / "part")
    assert list(tmp_path.iterdir()) == []


def test_wrong_length_is_refused_before_it_is_read(hub: LoopbackHub, tmp_path: Path) -> None:
    """An error page has another length than weights."""
    hub.tampered[NAME] = b"<html>Sign in to this hotel's network</html>"
    with pytest.raises(WrongBytes, match="the server has 44 bytes, 900000 are expected"):
        fetch(remote(hub), tmp_path / "part")
    assert list(tmp_path.iterdir()) == []


def test_connection_that_brings_nothing_is_given_up(hub: LoopbackHub, tmp_path: Path) -> None:
    """What arrived before is kept for the next run."""
    hub.cuts[NAME] = [500_000, *[0] * 100]
    with pytest.raises(Unreachable, match=f"{ATTEMPTS} times"):
        fetch(remote(hub), tmp_path / "part")
    assert len([s for s in hub.bodies if s.host == "localhost"]) == ATTEMPTS
    assert (tmp_path / "part").stat().st_size > 0


def test_busy_server_is_waited_for(hub: LoopbackHub, tmp_path: Path) -> None:
    """429 and 503 pass."""
    file = remote(hub)
    hub.busy = [429, 503, 500]
    fetch(file, tmp_path / "part")
    assert (tmp_path / "part").stat().st_size == WEIGHTS_BYTES


def test_messages_hold_no_signed_query(hub: LoopbackHub, tmp_path: Path) -> None:
    """The CDN's URL is a secret while it lives."""
    hub.cuts[NAME] = [0] * 100
    with pytest.raises(Unreachable) as failure:
        fetch(remote(hub), tmp_path / "part")
    assert "s1gnature" not in str(failure.value)
    assert any(seen.host == "localhost" for seen in hub.bodies)


def test_gated_file_without_token_names_the_licence(hub: LoopbackHub, tmp_path: Path) -> None:
    """Should a pin forget to say that its model is gated."""
    model = HubModel(
        kind="diarization", name="c", licence="x", repo=COMMUNITY, revision=commit_of(COMMUNITY)
    )
    places = Places(hub=hub.url, torchaudio=hub.url, nltk=hub.url)
    file = list_files(model, places, None, no_wait).files[0]
    with pytest.raises(AccessDenied, match=f"https://huggingface.co/{COMMUNITY}.*HF_TOKEN"):
        fetch(file, tmp_path / "part")


def test_stop_ends_a_download(hub: LoopbackHub, tmp_path: Path) -> None:
    """Another one failed: gigabytes are not waited for."""
    stop = Event()
    stop.set()
    with pytest.raises(Cancelled):
        fetch(remote(hub), tmp_path / "part", stop)


def test_disk_that_fills_up_is_named(hub: LoopbackHub, small_disk: Path) -> None:
    """A real full disk, met in the middle of a file."""
    with pytest.raises(DiskFull, match=f"the disk of {small_disk} is full: free some space"):
        fetch(remote(hub), small_disk / "part")


def test_full_disk_is_named_wherever_tests_run(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, where nothing can be mounted."""

    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("builder.download._write", write)
    with pytest.raises(DiskFull, match="is full: free some space"):
        fetch(remote(hub), tmp_path / "part")
