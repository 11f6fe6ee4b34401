"""Files of a hub, over connections that break; listings; where the token goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.download import ATTEMPTS, Downloader, read_token
from builder.errors import AccessDenied, Unreachable, WrongBytes
from builder.folders import Digest
from builder.pins import HubModel, Mirrors
from tests.fakes.hub import TOKEN, Hub, commit_of, git_blob
from tests.unit.builder.tiny_profile import (
    COMMUNITY,
    GERMAN_FILE,
    JAPANESE,
    WEIGHTS_BYTES,
    WHISPER,
    fill,
    noise,
    profile_of,
    sha256,
)

WEIGHTS = f"{WHISPER}/model.bin"
GERMAN = f"torchaudio/{GERMAN_FILE}"
of_hub_and_of_plain_url = pytest.mark.parametrize(
    ("name", "source"), [(WEIGHTS, WHISPER), (GERMAN, GERMAN_FILE)], ids=["hub", "plain"]
)


@pytest.fixture
def downloader(hub: Hub, tmp_path: Path, lines: list[str]) -> Downloader:
    """Asks the hub, with a token."""
    mirrors = Mirrors(hub=hub.url, torchaudio=f"{hub.url}/torchaudio", nltk=f"{hub.url}/nltk")
    token = read_token({"HF_TOKEN": TOKEN})
    return Downloader(tmp_path / "store", tmp_path / "older", mirrors, token, lines.append)


def model(source: str, **changes: object) -> HubModel:
    """One of the tiny profile, by its repository or its file."""
    with Hub() as hub:
        fill(hub)
        (found,) = [m for m in profile_of(hub).models if source in (m.repo, m.file)]
    return found.model_copy(update=changes)


def fetch(downloader: Downloader, source: str, **changes: object) -> dict[str, bytes]:
    found = downloader.fetch([downloader.list_files(model(source, **changes))])
    return {to: path.read_bytes() for to, path in found.items()}


def bodies(hub: Hub, name: str) -> list[str | None]:
    return [s.range for s in hub.seen if s.method == "GET" and s.path.endswith(name)]


@of_hub_and_of_plain_url
def test_cut_connection_is_resumed_as_long_as_something_arrives(
    downloader: Downloader, hub: Hub, lines: list[str], name: str, source: str
) -> None:
    """Then given up, in a line without the signed URL of the CDN; the next run resumes it.

    What had arrived in whole chunks is not sent again.
    """
    hub.cuts[name] = [45_000] * (2 * ATTEMPTS) + [0] * 100
    with pytest.raises(Unreachable, match=f"{ATTEMPTS} times: check the network") as failure:
        fetch(downloader, source)
    assert len(bodies(hub, name)) == len(lines) == 3 * ATTEMPTS - 1
    assert "s1gnature" not in f"{failure.value}{lines}"
    hub.cuts.clear()
    assert noise(source, WEIGHTS_BYTES) in fetch(downloader, source).values()
    assert bodies(hub, name)[-1] == f"bytes={40_000 * 2 * ATTEMPTS}-"
    assert hub.sent[name] < 1.1 * WEIGHTS_BYTES


@pytest.mark.parametrize("name", ["model.bin", "config.json"])
def test_wrong_bytes_are_refused_and_removed(downloader: Downloader, hub: Hub, name: str) -> None:
    """SHA-256 of a large file, git's id of a small one; another length never arrives."""
    content = hub.repos[WHISPER][name]
    hub.tampered[f"{WHISPER}/{name}"] = content[:-1] + b"\x00"
    with pytest.raises(WrongBytes, match=rf"whisper/large-v3/{name} has .* it was removed"):
        fetch(downloader, WHISPER)
    assert not [p for p in downloader.store.rglob(name) if p.is_file()]
    hub.tampered.clear()
    assert content in fetch(downloader, WHISPER).values()


@of_hub_and_of_plain_url
@pytest.mark.parametrize("length", [44, WEIGHTS_BYTES + 1])
def test_another_length_is_refused_and_does_not_spoil_the_next_run(
    downloader: Downloader, hub: Hub, name: str, source: str, length: int
) -> None:
    """A hotel's page instead of weights."""
    hub.tampered[name] = noise("other", length)
    with pytest.raises(Unreachable, match="does not arrive in the listed length"):
        fetch(downloader, source)
    hub.tampered.clear()
    fetch(downloader, source)


def test_unpinned_file_never_begins_with_an_older_part(downloader: Downloader, hub: Hub) -> None:
    """Nothing would tell that the beginning is of another file."""
    hub.cuts[GERMAN] = [500_000, *[0] * 100]
    with pytest.raises(Unreachable):
        fetch(downloader, GERMAN_FILE, sha256={})
    hub.cuts.clear()
    hub.plain[GERMAN] = noise("newer", WEIGHTS_BYTES)
    assert [*fetch(downloader, GERMAN_FILE, sha256={}).values()] == [hub.plain[GERMAN]]


def test_busy_hub_is_waited_for_as_it_asks(
    downloader: Downloader, hub: Hub, lines: list[str]
) -> None:
    """And given up at last; 429 and 503 alike."""
    hub.busy = [429, 503]
    fetch(downloader, WHISPER)
    assert lines[0].endswith("answers 429: trying again in 7 s")
    hub.busy = [503] * 1000
    with pytest.raises(Unreachable, match="answers 503, 6 times"):
        downloader.list_files(model(WHISPER))


@pytest.mark.parametrize(
    ("accepted", "token", "message"),
    [
        (True, None, "is gated: accept its licence at https://huggingface.co/.*HF_TOKEN"),
        (False, TOKEN, "account may not have it: accept its licence"),
        (True, "hf_other", "the hub rejects the token: give another"),
    ],
)
def test_gated_model_says_what_is_wanted_before_gigabytes(
    downloader: Downloader, hub: Hub, accepted: bool, token: str | None, message: str
) -> None:
    """The hub lists gated repositories to everybody and refuses only their files."""
    hub.accepted = accepted
    downloader.token = read_token({"HF_TOKEN": token} if token else {})
    with pytest.raises(AccessDenied, match=message) as failure:
        downloader.list_files(model(COMMUNITY))
    assert failure.value.exit_code == 3
    assert hub.sent == {}


def test_token_goes_to_the_hub_for_the_gated_model_and_nowhere_else(
    downloader: Downloader, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not to the CDN; nothing of a home directory is sent, neither ~/.netrc nor a saved token."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1\nlogin me\npassword secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_somebody_elses")
    wanted = (COMMUNITY, WHISPER, GERMAN_FILE)
    downloader.fetch([downloader.list_files(model(source)) for source in wanted])
    with_token = [seen for seen in hub.seen if seen.authorization]
    assert {(seen.host, seen.authorization) for seen in with_token} == {
        ("127.0.0.1", f"Bearer {TOKEN}")
    }
    assert all(COMMUNITY in seen.path for seen in with_token)
    assert any(seen.host == "localhost" and COMMUNITY in seen.path for seen in hub.seen)


def test_unpinned_model_is_listed_at_one_commit_with_checksums(
    downloader: Downloader, hub: Hub
) -> None:
    """Not at `main`, which may move; and no name that climbs out of the model's folder."""
    files = hub.repos[COMMUNITY]
    files["segmentation/../../../x.bin"] = b"x"
    listing = downloader.list_files(model(COMMUNITY, revision=None))
    assert listing.revision == commit_of(COMMUNITY)
    digests = {file.name: file.digest for file in listing.files}
    assert digests["plda/plda.npz"] == Digest("sha256", sha256(files["plda/plda.npz"]))
    assert digests["config.yaml"] == Digest("git", git_blob(files["config.yaml"]))
    assert not [name for name in digests if ".." in name]


@pytest.mark.parametrize(
    ("wanted", "answer", "error", "message"),
    [
        ({"sha256": {"pytorch_model.bin": "0" * 64}}, None, WrongBytes, "is listed with .*000"),
        ({"sha256": {"lost.bin": "0" * 64}}, None, Unreachable, r"has no lost\.bin"),
        ({"revision": "f" * 40}, None, Unreachable, "is not on the hub .RevisionNotFound."),
        ({"repo": "no/body"}, None, Unreachable, "is not on the hub .RepoNotFound."),
        ({}, {"hello": "world"}, Unreachable, "check HF_ENDPOINT"),
        ({}, {"id": "x", "sha": "e" * 40}, WrongBytes, f"revision {'e' * 40}, not"),
        ({}, {"id": "x", "siblings": []}, Unreachable, "check HF_ENDPOINT"),
    ],
)
def test_listing_that_does_not_keep_the_pin_is_refused(
    downloader: Downloader,
    hub: Hub,
    wanted: dict[str, object],
    answer: dict[str, object] | None,
    error: type[Exception],
    message: str,
) -> None:
    hub.listing = answer
    with pytest.raises(error, match=message):
        downloader.list_files(model(JAPANESE, **wanted))


def test_no_network_is_not_taken_for_a_finished_download(downloader: Downloader, hub: Hub) -> None:
    """The client returns a folder that is there when it cannot ask."""
    listing = downloader.list_files(model(WHISPER))
    downloader.fetch([listing])["whisper/large-v3/model.bin"].unlink()
    hub.busy = [503] * 1000
    with pytest.raises(Unreachable, match="sends no"):
        downloader.fetch([listing])


def test_token_comes_from_the_variable_then_a_named_file_then_the_secret(tmp_path: Path) -> None:
    """What cannot be a token is refused: an HTTP library would print it; it never shows itself."""
    file, secret = tmp_path / "a", tmp_path / "b"
    named = {"HF_TOKEN_FILE": str(file)}
    file.write_text("hf_file\n")
    secret.write_text("hf_mounted\n")
    found = [
        read_token({"HF_TOKEN": " hf_set\n"} | named, secret),
        read_token(named, secret),
        read_token({}, secret),
    ]
    assert [x and x.get_secret_value() for x in found] == ["hf_set", "hf_file", "hf_mounted"]
    assert "hf_" not in repr(found)
    assert read_token({}, tmp_path / "none") is None
    for content in ("", "hf_one\nhf_two", "hf_ü", None):
        file.write_text(content) if content is not None else file.unlink()
        with pytest.raises(AccessDenied, match="HF_TOKEN_FILE") as failure:
            read_token(named)
        assert "hf_" not in str(failure.value)
