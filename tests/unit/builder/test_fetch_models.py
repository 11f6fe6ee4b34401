"""What a build takes; the demo folder appears at once, complete, or not at all."""

import ast
from importlib.metadata import distribution
from pathlib import Path

import pytest

from builder.errors import ChoiceError
from builder.fetch_models import choose, main
from builder.pins import HubProfile, load_profile


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        (["production"], 3, "accept its licence at https://huggingface.co/pyannote/"),
        (["production", "--languages", "nl"], 2, "--allow-unpinned xlsr-53-dutch"),
        (["production", "--pins", "/nowhere.toml"], 1, "give an existing file with --pins"),
        (["demo"], 1, "choose another place with --into"),  # its parent is a file
        (["demo", "--into", "."], 1, "choose another folder"),  # it is somebody's
    ],
)
def test_what_cannot_be_fetched_is_refused_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    code: int,
    named: str,
) -> None:
    """With the remedy and an exit code of its own; nothing is written, nobody is asked."""
    for variable in ("HF_TOKEN", "HF_TOKEN_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    into = tmp_path / ("file/m" if options == ["demo"] else "m")
    assert main(["--into", str(into), "--profile", *options]) == code
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert named in message
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


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
        if isinstance(node, ast.Assign) and "DEFAULT_ALIGN" in ast.unparse(node.targets[0]):
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
    assert {m.kind for m in chosen} == {"whisper", "align", "diarization", "nltk_data"}
    assert {m.languages for m in chosen if m.kind == "align"} == {("en",)}
    assert all(m.is_pinned and m.sha256 for m in chosen)
    assert not [m for m in chosen if "NC" in m.licence]


def test_every_whisper_model_is_pinned_by_its_weights(production: HubProfile) -> None:
    """Any of them may be chosen; the first that is named stays first and becomes the default."""
    whisper = [m for m in production.models if m.kind == "whisper"]
    assert len(whisper) == 12
    assert all(m.revision and set(m.sha256) == {"model.bin"} for m in whisper)
    chosen = choose(production, ("small.en", "large-v3", "small.en"), ())
    assert [m.name for m in chosen if m.kind == "whisper"] == ["small.en", "large-v3"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"whisper": ("huge",)}, "no Whisper model 'huge': choose from large-v3"),
        ({"whisper": ()}, "--whisper names no model"),
        ({"languages": ("xx",)}, "language 'xx': choose from en"),
        ({"allowed": ["xlsr-54"]}, "--allow-unpinned xlsr-54"),
        ({"languages": ("nl", "pt"), "allowed": ["xlsr-53-dutch"]}, "pt xlsr-53-portuguese"),
    ],
)
def test_model_that_is_unknown_or_not_pinned_is_refused_with_what_helps(
    production: HubProfile, options: dict[str, tuple[str, ...]], named: str
) -> None:
    """A typing error bakes no image without a language; consent to one model is for that one."""
    with pytest.raises(ChoiceError, match=named):
        choose(production, **options)
