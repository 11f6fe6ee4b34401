"""Which models of the production profile a build takes.

Takes what was asked for; returns pins. Raises `ChoiceError` for a name that is not there, and for
a model whose bytes nobody has pinned, unless its name was given too.
"""

from collections.abc import Iterable, Sequence

from builder.errors import ChoiceError
from builder.pins import HubModel, HubProfile

DEFAULT_WHISPER = ("large-v3",)
DEFAULT_LANGUAGES = ("en",)
"""The other aligners of torchaudio are CC-BY-NC: who may use them asks for them."""


def choose(
    profile: HubProfile,
    whisper: Sequence[str] = DEFAULT_WHISPER,
    languages: Sequence[str] = DEFAULT_LANGUAGES,
    allowed: Iterable[str] = (),
) -> tuple[HubModel, ...]:
    """Choose models.

    Args:
        profile: All there are.
        whisper: Names; the first becomes the one that is used unless another is asked for.
        languages: ISO 639-1, those to have an aligner.
        allowed: Names of models that may be taken without a pin.

    Returns:
        Whisper models, then aligners, then everything that every build has.
    """
    by_name = {m.name: m for m in profile.models if m.kind == "whisper"}
    by_language = {
        language: m for m in profile.models if m.kind == "align" for language in m.languages or ()
    }
    if not whisper:
        raise ChoiceError("--whisper names no model: give at least one")
    chosen = (
        *_pick(by_name, whisper, "Whisper model"),
        *_pick(by_language, languages, "aligner for the language"),
        *(m for m in profile.models if m.kind not in {"whisper", "align"}),
    )
    _check_pins(profile, chosen, frozenset(allowed))
    return chosen


def _pick(known: dict[str, HubModel], names: Sequence[str], what: str) -> list[HubModel]:
    for name in names:
        if name not in known:
            raise ChoiceError(f"there is no {what} {name!r}: choose from {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def _check_pins(profile: HubProfile, chosen: tuple[HubModel, ...], allowed: frozenset[str]) -> None:
    if unknown := allowed - {m.name for m in profile.models}:
        raise ChoiceError(f"--allow-unpinned {min(unknown)} names no model of models.toml")
    loose = [m for m in chosen if not m.is_pinned and m.name not in allowed]
    if loose:
        options = " ".join(f"--allow-unpinned {m.name}" for m in loose)
        named = ", ".join(f"{m.kind} {'/'.join(m.languages or ())} {m.name}" for m in loose)
        raise ChoiceError(
            f"not pinned: {named}: leave them out, pin them in models.toml, or take what there is "
            f"today with {options}"
        )
