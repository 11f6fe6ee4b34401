"""What a build takes, and what it does not take without being told."""

from __future__ import annotations

import ast
from importlib.metadata import distribution
from pathlib import Path

import pytest

from builder.errors import ChoiceError
from builder.fetch_models import choose
from builder.pins import HubProfile, load_profile


@pytest.fixture(scope="module")
def production() -> HubProfile:
    """The real pins."""
    profile = load_profile("production")
    assert isinstance(profile, HubProfile)
    return profile


def whisperx_table() -> dict[str, str]:
    """Languages and models out of whisperx's source, which would import torch."""
    source = Path(str(distribution("whisperx").locate_file("whisperx/alignment.py")))
    table: dict[str, str] = {}
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith(
            "DEFAULT_ALIGN"
        ):
            table |= ast.literal_eval(node.value)
    return table


def test_aligners_are_whisperx_own_table(production: HubProfile) -> None:
    """Language by language, with nothing added or left out."""
    ours = {
        language: m.torchaudio_bundle or m.repo
        for m in production.models
        if m.kind == "align"
        for language in m.languages or ()
    }
    assert ours == whisperx_table()
    assert len(ours) == 41


def test_default_is_pinned_to_the_last_byte_of_its_weights(production: HubProfile) -> None:
    """A build without options needs no consent but the licence's, and may be used commercially."""
    chosen = choose(production)
    assert [m.name for m in chosen if m.kind == "whisper"] == ["large-v3"]
    assert {m.languages for m in chosen if m.kind == "align"} == {("en",)}
    assert {m.kind for m in chosen} == {"whisper", "align", "diarization", "nltk_data"}
    assert all(m.is_pinned and m.sha256 for m in chosen)


def test_every_whisper_model_is_pinned_by_its_weights(production: HubProfile) -> None:
    """Any of them may be chosen."""
    whisper = [m for m in production.models if m.kind == "whisper"]
    assert len(whisper) == 12
    assert all(m.revision and set(m.sha256) == {"model.bin"} for m in whisper)


def test_first_whisper_model_stays_first(production: HubProfile) -> None:
    """It becomes the default."""
    chosen = choose(production, ("small.en", "large-v3", "small.en"), ())
    assert [m.name for m in chosen if m.kind == "whisper"] == ["small.en", "large-v3"]


def test_unpinned_model_is_refused_with_the_option(production: HubProfile) -> None:
    """By language and name; the option can be copied."""
    with pytest.raises(ChoiceError, match=r"nl xlsr-53-dutch.*--allow-unpinned xlsr-53-dutch"):
        choose(production, languages=("en", "nl"))
    chosen = choose(production, languages=("en", "nl"), allowed=["xlsr-53-dutch"])
    assert "xlsr-53-dutch" in {m.name for m in chosen}


def test_consent_to_one_is_not_consent_to_another(production: HubProfile) -> None:
    """Each by its name."""
    with pytest.raises(ChoiceError, match="xlsr-53-portuguese"):
        choose(production, languages=("nl", "pt"), allowed=["xlsr-53-dutch"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"whisper": ("huge",)}, "no Whisper model 'huge': choose from large-v3"),
        ({"whisper": ()}, "--whisper names no model"),
        ({"languages": ("xx",)}, "language 'xx': choose from en"),
        ({"allowed": ["xlsr-54"]}, "--allow-unpinned xlsr-54"),
    ],
)
def test_name_that_is_not_there_is_refused_with_the_choices(
    production: HubProfile, options: dict[str, tuple[str, ...]], named: str
) -> None:
    """A typing error must not bake an image without a language."""
    with pytest.raises(ChoiceError, match=named) as failure:
        choose(production, **options)
    assert failure.value.exit_code == 2
