"""What is pinned, what is refused because it is not, and where it may come from."""

import tomllib
from pathlib import Path

import pytest

from builder.assemble import locate
from builder.errors import BuildError
from builder.pins import HubModel, Mirrors, PackageProfile, load_profile

ROOT = Path(__file__).parents[3]


def demo() -> PackageProfile:
    profile = load_profile("demo")
    assert isinstance(profile, PackageProfile)
    return profile


def test_demo_extra_installs_the_versions_that_are_pinned() -> None:
    """The `demo` and `worker` extras and models.toml must not drift apart."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {*extras["optional-dependencies"]["demo"], *extras["optional-dependencies"]["worker"]}
    pins = {n: d.version for n, d in demo().distributions.items() if n != "builder"}
    assert {f"{name}=={version}" for name, version in pins.items()} <= wanted


def test_weights_in_this_repository_are_the_pinned_ones() -> None:
    """Whoever retrains the aligner must pin the new weights."""
    profile = demo()
    ours = [f for m in profile.models for f in m.files if f.package == "builder"]
    assert len(ours) == 6
    for file in ours:
        locate(file, profile.distributions)


def test_multilingual_model_is_chosen_only_when_asked_for() -> None:
    """It adds 145 MB."""
    assert "base" not in {m.name for m in demo().chosen(multilingual=False)}
    assert "base" in {m.name for m in demo().chosen(multilingual=True)}


@pytest.mark.parametrize("revision", ["main", "v1.0", "EDAA852EC7E145841D8FFDB056A99866B5F0A478"])
def test_revision_that_is_no_commit_is_refused(revision: str) -> None:
    """A branch or a tag moves."""
    with pytest.raises(ValueError, match="revision"):
        HubModel(kind="whisper", name="x", licence="MIT", repo="a/b", revision=revision)


def test_plain_file_is_pinned_by_its_own_checksum_alone() -> None:
    """A checksum of another file pins nothing."""
    model = HubModel(kind="align", name="x", licence="MIT", file="a.pt", sha256={"b.pt": "0" * 64})
    assert not model.is_pinned
    assert model.model_copy(update={"sha256": {"a.pt": "0" * 64}}).is_pinned


@pytest.mark.parametrize("source", [{}, {"repo": "a/b", "file": "c.pt"}])
def test_model_comes_from_one_place(source: dict[str, str]) -> None:
    """Neither from none nor from two."""
    with pytest.raises(ValueError, match="either a repo or a file"):
        HubModel.model_validate({"kind": "align", "name": "x", "licence": "MIT"} | source)


def test_unknown_profile_is_named() -> None:
    """The choices are part of the message."""
    with pytest.raises(BuildError, match="'staging'.*demo, production"):
        load_profile("staging")


def test_unknown_key_in_the_file_is_named(tmp_path: Path) -> None:
    """A misspelt key would otherwise be a pin that is not there."""
    broken = (ROOT / "builder" / "models.toml").read_text().replace("languages =", "language =", 1)
    path = tmp_path / "models.toml"
    path.write_text(broken)
    with pytest.raises(BuildError, match="language"):
        load_profile("demo", path)


def test_mirror_replaces_one_url_and_this_machine_may_speak_http() -> None:
    """Tests and caches do."""
    mirrors = Mirrors(hub="https://hub.example", torchaudio="https://t.example", nltk="https://n.x")
    changed = mirrors.overridden({"TORCHAUDIO_MODELS_URL": "http://127.0.0.1:8080/models/"})
    assert changed == mirrors.model_copy(update={"torchaudio": "http://127.0.0.1:8080/models"})


@pytest.mark.parametrize(
    "url", ["http://hub.example", "ftp://hub.example", "hub.example", "https://u:p@hub.example"]
)
def test_mirror_that_would_get_the_token_in_the_clear_is_refused(url: str) -> None:
    """Or record a password in the image."""
    mirrors = Mirrors(hub="https://hub.example", torchaudio="https://t.example", nltk="https://n.x")
    with pytest.raises(BuildError, match="HF_ENDPOINT must be an https URL"):
        mirrors.overridden({"HF_ENDPOINT": url})
