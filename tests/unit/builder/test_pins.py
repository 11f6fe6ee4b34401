"""What is pinned, what is refused because it is not, and where it may come from."""

import re
import tomllib
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.pins import HubModel, Mirrors, PackageProfile, load_profile

ROOT = Path(__file__).parents[3]


def test_demo_extra_installs_the_versions_that_are_pinned(demo_profile: PackageProfile) -> None:
    """The `demo` and `worker` extras and models.toml must not drift apart."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {*extras["optional-dependencies"]["demo"], *extras["optional-dependencies"]["worker"]}
    pins = {n: d.version for n, d in demo_profile.distributions.items() if n != "builder"}
    wanted |= {*re.findall(r"^\S+==\S+", (ROOT / "requirements" / "weights.txt").read_text(), re.M)}
    assert {f"{name}=={version}" for name, version in pins.items()} <= wanted


def test_multilingual_model_is_chosen_only_when_asked_for(demo_profile: PackageProfile) -> None:
    """It adds 145 MB."""
    for asked in (False, True):
        names = {model.name for model in demo_profile.chosen(multilingual=asked)}
        assert ("base" in names) is asked


def test_one_diarization_is_chosen_the_first_unless_another_is_named(
    demo_profile: PackageProfile,
) -> None:
    for asked, got in ((None, "ge2e-centroid"), ("campplus-average", "campplus-average")):
        models = demo_profile.chosen(multilingual=False, diarization=asked)
        assert [model.name for model in models if model.kind == "diarization"] == [got]
    with pytest.raises(BuildError, match="choose one of ge2e-centroid, campplus-average"):
        demo_profile.chosen(multilingual=False, diarization="vbx")


def test_model_comes_from_one_place_at_a_commit_or_with_its_own_checksum() -> None:
    values = {"kind": "align", "name": "x", "licence": "MIT"}
    for source in ({"repo": "a/b", "revision": "main"}, {}, {"repo": "a/b", "file": "a.pt"}):
        with pytest.raises(ValueError, match="revision|either a repo or a file"):
            HubModel.model_validate(values | source)
    for name in ("a.pt", "b.pt"):
        pin = {"file": "a.pt", "sha256": {name: "0" * 64}}
        assert HubModel.model_validate(values | pin).is_pinned is (name == "a.pt")


def test_unknown_profile_or_key_is_named(tmp_path: Path) -> None:
    """A misspelt key would otherwise be a pin that is not there."""
    with pytest.raises(BuildError, match="'staging'.*demo, production"):
        load_profile("staging")
    broken = (ROOT / "builder" / "models.toml").read_text().replace("languages =", "language =", 1)
    (tmp_path / "models.toml").write_text(broken)
    with pytest.raises(BuildError, match="language"):
        load_profile("demo", tmp_path / "models.toml")


MIRRORS = Mirrors(hub="https://hub.example", torchaudio="https://t.example", nltk="https://n.x")


def test_mirror_would_not_get_the_token_in_the_clear_but_on_this_machine() -> None:
    """Nor is a password recorded in the image."""
    changed = MIRRORS.overridden({"TORCHAUDIO_MODELS_URL": "http://127.0.0.1:8080/models/"})
    assert changed == MIRRORS.model_copy(update={"torchaudio": "http://127.0.0.1:8080/models"})
    for url in ("http://hub.example", "hub.example", "https://u:p@hub.example"):
        with pytest.raises(BuildError, match="HF_ENDPOINT must be an https URL"):
            MIRRORS.overridden({"HF_ENDPOINT": url})
